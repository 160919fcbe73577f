"""What a built network really holds in memory: weights and bytes by number type, quantized ones too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from diarbench.types import HeldWeights

if TYPE_CHECKING:
    from torch import Tensor

# Number types that only quantization gives to weights; wider integers are indices and tables.
_CODE_TYPES = re.compile(r"u?int[1-8]|float[48]\w*")
# A quantized matrix with one scale keeps it as a double, and its zero point as an int64.
_SCALE_AND_ZERO = 16  # bytes


@dataclass(slots=True)
class Holding:
    """The weights of one or several networks; what they share counts once."""

    weights: dict[str, int] = field(default_factory=dict)  # by number type
    bytes: dict[str, int] = field(default_factory=dict)  # likewise, with scales and zero points
    nonzero: int | None = 0  # weights that are not exactly zero; None where a format doesn't tell
    _seen: dict[int, Any] = field(default_factory=dict)  # kept alive, so that no other gets the same id

    @property
    def total(self) -> int:
        """Weights of all number types."""
        return sum(self.weights.values())

    def as_held(self) -> dict[str, HeldWeights]:
        """By number type."""
        return {name: HeldWeights(count, self.bytes[name]) for name, count in sorted(self.weights.items())}

    def add(self, network: Any) -> int:
        """Book a torch module, and tell how many weights it brought that were not booked before.

        Booked are parameters; matrices that torch.ao has packed away; and persistent buffers of codes: torch's
        quantized types, float8 and wrapped tensors, int8 and uint8 where a buffer beside them is named a scale. Scales
        and zero points beside codes count as bytes. Other buffers (BatchNorm's statistics, windows, masks) are no
        weights: nobody counts them as parameters. Packed matrices count as their elements, without what a kernel pads
        them with.
        """
        before = self.total
        for tensor in network.parameters():
            self._book_once(tensor)
        for module in network.modules() if hasattr(network, "modules") else ():
            if id(module) not in self._seen:
                self._seen[id(module)] = module
                for tensor, half in _packed(module):
                    self._book(tensor, half=half)
                self._book_codes(module)
        return self.total - before

    def _book_once(self, tensor: Tensor) -> bool:
        if id(tensor) in self._seen:
            return False
        self._seen[id(tensor)] = tensor
        self._book(tensor)
        return True

    def _book_codes(self, module: Any) -> None:
        codes = _codes(module)
        booked = [self._book_once(tensor) for tensor in codes.values()]
        if any(booked):
            name = _number_type(next(iter(codes.values())))
            self.bytes[name] += sum(_bytes(tensor) for tensor in _scales(module).values())

    def _book(self, tensor: Tensor, *, half: bool = False) -> None:
        tensor = tensor.detach()
        name = "float16" if half and tensor.ndim > 1 else _number_type(tensor)
        size = 2 * tensor.numel() if name == "float16" else _bytes(tensor)
        self.weights[name] = self.weights.get(name, 0) + tensor.numel()
        self.bytes[name] = self.bytes.get(name, 0) + size
        nonzero = _nonzero(tensor)
        self.nonzero = None if self.nonzero is None or nonzero is None else self.nonzero + nonzero


def held_weights(network: Any) -> dict[str, HeldWeights]:
    """Weights and bytes of a torch module by number type: {"float32": ..., "int8": ...}; see `Holding.add`."""
    holding = Holding()
    holding.add(network)
    return holding.as_held()


def is_quantized(network: Any) -> bool:
    """Whether any weight of a torch module is a code of an integer or 8-bit type, or packed away by torch.ao."""
    if any(_is_code(tensor) for tensor in network.parameters()):
        return True
    return any(any(_packed(module)) or _codes(module) for module in network.modules())


def _packed(module: Any) -> Iterator[tuple[Tensor, bool]]:
    """Weights and biases inside the opaque objects of torch.ao's quantized modules; True: held in float16."""
    if not type(module).__module__.startswith("torch.ao.nn"):
        return
    from torch.utils._pytree import tree_leaves

    if any(hasattr(child, "_weight_bias") for child in module.children()):
        return  # a quantized linear layer asks its child, which is visited itself
    if hasattr(module, "_weight_bias"):
        found = tree_leaves(module._weight_bias())
    else:
        found = [module._weight()] if hasattr(module, "_packed_weight") else []
    half = "torch.float16" in (str(getattr(module, "dtype", "")), str(getattr(module, "weight_dtype", "")))
    own = {id(parameter) for parameter in module.parameters()}  # these are booked already
    yield from ((tensor, half) for tensor in found if hasattr(tensor, "numel") and id(tensor) not in own)


def _codes(module: Any) -> dict[str, Tensor]:
    """The buffers of a module, without those of its submodules, that hold codes."""
    scales = _scales(module)
    return {
        name: tensor
        for name, tensor in _persistent(module).items()
        if name not in scales
        and _is_code(tensor)
        and (scales or str(tensor.dtype) not in ("torch.int8", "torch.uint8"))
    }


def _scales(module: Any) -> dict[str, Tensor]:
    """The buffers of a module that are named scales or zero points; none where no scale is among them."""
    found = {name: tensor for name, tensor in _persistent(module).items() if "scale" in name or "zero" in name}
    return found if any("scale" in name for name in found) else {}


def _persistent(module: Any) -> dict[str, Tensor]:
    kept = module.named_buffers(recurse=False)
    return {name: tensor for name, tensor in kept if name not in module._non_persistent_buffers_set}


def _is_code(tensor: Tensor) -> bool:
    return _inner(tensor) is not None or _CODE_TYPES.fullmatch(_number_type(tensor)) is not None


def _inner(tensor: Tensor) -> list[Tensor] | None:
    """The plain tensors inside a wrapper, as torchao's quantized ones are; None for a plain tensor."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return None
    found = []
    for name in tensor.__tensor_flatten__()[0]:
        part = getattr(tensor, name)
        found += _inner(part) or [part]
    return found


def _number_type(tensor: Tensor) -> str:
    """The name as torch has it; of a wrapper, that of its codes, or "int4" where two of them share a byte."""
    inner = _inner(tensor)
    if inner is None:
        name = str(tensor.dtype).removeprefix("torch.")
        return {"qint8": "int8", "quint8": "uint8", "quint4x2": "int4", "quint2x4": "int2", "qint32": "int32"}.get(
            name, name
        )
    codes = max(inner, key=lambda part: (_is_code(part), _bytes(part)))
    name = str(codes.dtype).removeprefix("torch.")
    bits = 8 * _bytes(codes) // max(1, tensor.numel())
    return f"int{bits}" if 0 < bits < 8 else "int8" if name.startswith(("int", "uint")) else name


def _bytes(tensor: Tensor) -> int:
    inner = _inner(tensor)
    if inner is not None:
        return sum(_bytes(part) for part in inner)
    name = str(tensor.dtype)
    per_byte = 2 if name == "torch.quint4x2" else 4 if name == "torch.quint2x4" else 1
    size = -(-tensor.numel() // per_byte) * tensor.element_size()
    if not tensor.is_quantized:
        return size
    if "per_tensor" in str(tensor.qscheme()):
        return size + _SCALE_AND_ZERO
    scales, zeros = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
    return size + sum(part.numel() * part.element_size() for part in (scales, zeros))


def _nonzero(tensor: Tensor) -> int | None:
    """Weights that are not exactly zero: of quantized ones, codes that are not the zero point."""
    if tensor.is_meta:
        return None
    try:
        if tensor.is_quantized or _inner(tensor) is not None:
            tensor = tensor.dequantize()
        return int((tensor.float() if "float8" in str(tensor.dtype) else tensor).count_nonzero())
    except (NotImplementedError, RuntimeError, TypeError):  # a wrapper whose codes can't be read
        return None
