"""A GE2E encoder of one's own in a file: weights of 16 bits, and of sparse matrices only those that are not zero.

A safetensors file. Its metadata:

    format         "1"
    encoder        JSON: {"units": of each layer, "kept": which of the full network's units these are, layer by layer}
    about          JSON: facts about how it was made, for people
    quantization   JSON, of a quantized one: as `diarbench.nn.quantmodes.quantization_of_table` reads it

Its tensors are those of the state dict: float16; of a matrix of which a sixteenth or more is zero, in their place
NAME.bits (a bit for each weight, row by row, the first one high: 1 where there is a value) and NAME.values (float16);
of a quantized encoder, what `diarbench.nn.packing` packs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diarbench.errors import InputError, MissingRequirementError
from diarbench.files import write_whole
from diarbench.nn.checkpoints import read_state
from diarbench.nn.ge2e import Ge2eEncoder
from diarbench.nn.packing import packed_state, read_metadata, unpacked_state
from diarbench.nn.quantized import install, quantization_in
from diarbench.nn.quantmodes import quantization_of_table
from diarbench.nn.weights import load_exactly

FORMAT = "1"
_BITS, _VALUES = ".bits", ".values"
_WORTH = 1 / 16  # of a matrix: from there on, a bit for each weight costs less than the zeros do


@dataclass(frozen=True, slots=True)
class Ge2eFile:
    """What such a file holds."""

    encoder: Ge2eEncoder  # in float32 where it is not quantized, ready for inference
    about: Mapping[str, Any]


def save_ge2e(path: Path, encoder: Ge2eEncoder, about: Mapping[str, Any] | None = None) -> Path:
    """Write an encoder, quantized or not; of the latter, weights are rounded to float16.

    Raises InputError for weights that float16 can't hold, StoreError where it can't be written, ValueError where
    `about` is no JSON, MissingRequirementError without safetensors.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise MissingRequirementError("writing weights needs safetensors: pip install safetensors") from error
    quantization = quantization_in(encoder)
    said = {
        "format": FORMAT,
        "encoder": json.dumps({"units": encoder.units, "kept": encoder.kept}),
        "about": json.dumps(dict(about or {}), allow_nan=False),
    }
    if quantization is not None:
        said["quantization"] = json.dumps(quantization.as_table())
    state = packed_state(encoder)
    write_whole(path, save(state if quantization is not None else _halves(state), metadata=said))
    return path


def load_ge2e(path: Path) -> Ge2eFile:
    """The encoder in a file that `save_ge2e` wrote.

    Raises MissingRequirementError where the file is missing or is none of these, InputError where it is damaged.
    """
    state, said = read_state(path), read_metadata(path)
    if said.get("format") != FORMAT or "encoder" not in said:
        raise MissingRequirementError(f"{path}: no GE2E encoder of diarbench's own, or one of another version")
    try:
        shape, about = json.loads(said["encoder"]), json.loads(said.get("about", "{}"))
        encoder = Ge2eEncoder(shape["units"], shape["kept"])
        quantization = json.loads(said["quantization"]) if "quantization" in said else None
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{path}: what it says of its encoder can't be read: {error}") from error
    if quantization is not None:
        install(encoder, quantization_of_table(quantization, path), path)
        state = unpacked_state(encoder, state, path)
    else:
        state = _dense(state, encoder.state_dict(), path)
    return Ge2eFile(load_exactly(encoder, state, path), about)


def _halves(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state as a file holds it."""
    stored = {}
    for name, tensor in state.items():
        half = tensor.half()
        if not half.isfinite().all():
            raise InputError(f"{name}: has weights that float16 can't hold, or that are no numbers")
        present = half != 0
        if half.ndim == 2 and 1 - present.float().mean().item() >= _WORTH:
            stored[name + _BITS] = torch.from_numpy(np.packbits(present.numpy()))
            stored[name + _VALUES] = half[present]
        else:
            stored[name] = half
    return stored


def _dense(stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The state dict of what a file holds. Raises InputError where bits and values don't fit each other."""
    state = {name: tensor.float() for name, tensor in stored.items() if not name.endswith((_BITS, _VALUES))}
    for name, tensor in wanted.items():
        bits, values = stored.get(name + _BITS), stored.get(name + _VALUES)
        if bits is None or values is None:
            continue
        present = torch.from_numpy(np.unpackbits(bits.numpy(), count=tensor.numel()).astype(bool))
        if len(bits) != -(-tensor.numel() // 8) or int(present.sum()) != len(values):
            raise InputError(f"{path}: {name}: its bits and its values don't fit each other")
        state[name] = torch.zeros(tensor.numel()).masked_scatter_(present, values.float()).reshape(tensor.shape)
    return state
