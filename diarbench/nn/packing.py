"""Quantized networks in files: two 4-bit codes to a byte, and one safetensors file for any network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from diarbench.errors import InputError, MissingRequirementError
from diarbench.files import write_whole
from diarbench.nn.checkpoints import read_state
from diarbench.nn.quantized import IntWeight, install, quant_modules, quantization_in
from diarbench.nn.quantmodes import quantization_of_table
from diarbench.nn.weights import load_exactly

Module = TypeVar("Module", bound=nn.Module)
_NIBBLE_BITS = 4
_NIBBLE = 1 << _NIBBLE_BITS
_LEAST_HALVED = 1024  # weights: what is smaller stays float32, as it saves nothing


def pack_nibbles(codes: Tensor) -> Tensor:
    """Codes from -8 to 7 (int8, any shape) as bytes (half as many, rounded up): two's complement, the first one low.

    >>> pack_nibbles(torch.tensor([1, -1, 7], dtype=torch.int8)).tolist()
    [241, 7]
    """
    nibbles = (codes.flatten() & (_NIBBLE - 1)).to(torch.uint8)
    padded = torch.cat([nibbles, nibbles.new_zeros(len(nibbles) % 2)])
    return padded[0::2] | (padded[1::2] << 4)


def unpack_nibbles(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The codes (int8, `shape`) in such bytes. Raises ValueError where these are not as many as they must be.

    >>> unpack_nibbles(torch.tensor([241, 7], dtype=torch.uint8), (3,)).tolist()
    [1, -1, 7]
    """
    count = torch.Size(shape).numel()
    if packed.dtype != torch.uint8 or packed.ndim != 1 or len(packed) != (count + 1) // 2:
        raise ValueError(f"{count} codes are {(count + 1) // 2} bytes, not {tuple(packed.shape)} of {packed.dtype}")
    nibbles = torch.stack([packed & (_NIBBLE - 1), packed >> 4], dim=1).flatten()[:count].to(torch.int8)
    return torch.where(nibbles >= _NIBBLE // 2, nibbles - _NIBBLE, nibbles).reshape(shape)


@torch.no_grad()
def packed_state(network: nn.Module) -> dict[str, Tensor]:
    """The state dict as files hold it: of modules that are not quantized, float32; codes of 4 bits packed.

    Raises InputError for a module that only has a quantized network inside it.
    """
    quantized = quantization_in(network) is not None
    if not quantized and quant_modules(network):
        raise InputError(f"{type(network).__name__} only holds a quantized network: write that one")
    kept = _of_nibbles(network)
    state = {}
    for name, tensor in network.state_dict().items():
        value = pack_nibbles(tensor.cpu()) if name in kept else tensor.cpu() if quantized else tensor.float().cpu()
        state[name] = value.contiguous().clone()
    return state


def unpacked_state(network: nn.Module, state: Mapping[str, Tensor], where: object) -> dict[str, Tensor]:
    """The state dict that `network` takes, of one that came from a file; InputError where codes are not as many."""
    unpacked = dict(state)
    for name, module in _of_nibbles(network).items():
        if name in state:
            try:
                unpacked[name] = unpack_nibbles(state[name], tuple(module.codes.shape))
            except ValueError as error:
                raise InputError(f"{where}: {name}: {error}") from None
    return unpacked


def halved_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with its large matrices and kernels in float16; biases, norms and band edges stay as they are.

    Raises InputError for weights that float16 can't hold.
    """
    stored = dict(state)
    for name, tensor in state.items():
        if tensor.dtype == torch.float32 and tensor.ndim > 1 and tensor.numel() >= _LEAST_HALVED:
            stored[name] = tensor.half()
            if not stored[name].isfinite().all():
                raise InputError(f"{name}: has weights that float16 can't hold, or that are no numbers")
    return stored


def serialized(network: nn.Module, metadata: Mapping[str, str] | None = None, *, halves: bool = False) -> bytes:
    """What a safetensors file of the network holds; with `halves`, see `halved_state`.

    Raises MissingRequirementError without safetensors, InputError for weights that float16 can't hold.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise MissingRequirementError("writing weights needs safetensors: pip install safetensors") from error
    state = packed_state(network)
    return save(halved_state(state) if halves else state, metadata=dict(metadata) if metadata else None)


def save_network(path: Path, network: nn.Module, *, about: Mapping[str, Any] | None = None) -> Path:
    """Write any network, quantized or not, as one safetensors file that says what was quantized.

    `about` is kept beside it, JSON. Raises StoreError where it can't be written, ValueError where `about` is no JSON,
    MissingRequirementError without safetensors.
    """
    quantization = quantization_in(network)
    said = {"about": json.dumps(dict(about or {}), allow_nan=False)}
    if quantization is not None:
        said["quantization"] = json.dumps(quantization.as_table())
    write_whole(path, serialized(network, said))
    return path


def load_network(path: Path, network: Module) -> Module:
    """The network with the weights of such a file, ready for inference; its modules are replaced where they must be.

    `network` is one of the same shape and not quantized, on the meta device or not. Raises MissingRequirementError
    where the file is missing or doesn't fit, InputError where it is damaged: one line.
    """
    state = read_state(path)
    said = read_metadata(path)
    if "quantization" in said:
        try:
            table = json.loads(said["quantization"])
        except ValueError as error:
            raise InputError(f"{path}: quantization: no JSON: {error}") from error
        install(network, quantization_of_table(table, path), path)
    return load_exactly(network, unpacked_state(network, state, path), path)


def read_metadata(path: Path) -> Mapping[str, str]:
    """What a safetensors file says beside its weights; nothing of other files."""
    if path.suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def _of_nibbles(network: nn.Module) -> dict[str, IntWeight]:
    """The matrices of 4-bit codes, by the names of these in the state dict."""
    weights = {f"{path}.codes": module for path, module in network.named_modules() if isinstance(module, IntWeight)}
    return {name: module for name, module in weights.items() if module.bits == _NIBBLE_BITS}
