"""What a built network really holds in memory: weights and bytes by number type, quantized ones too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from diarbench.types import HeldWeights

if TYPE_CHECKING:
    from torch import Tensor

# Codes and their packed forms: no network keeps statistics, masks or tables in these, but quantized weights.
_CODES = ("int8", "uint8", "float8", "qint", "quint")
_QUANTIZED = ("int", "uint", "float8")  # number types that only quantization gives to weights
# A quantized matrix with one scale keeps it as a double, and its zero point as an int64.
_SCALE_AND_ZERO = 16  # bytes


@dataclass(slots=True)
class Holding:
    """The weights of one or several networks; what they share counts once."""

    weights: dict[str, int] = field(default_factory=dict)  # by number type
    bytes: dict[str, int] = field(default_factory=dict)  # likewise, with scales and zero points
    nonzero: int | None = 0  # weights that are not exactly zero; None where a format doesn't tell
    _seen: set[int] = field(default_factory=set)

    @property
    def total(self) -> int:
        """Weights of all number types."""
        return sum(self.weights.values())

    def as_held(self) -> dict[str, HeldWeights]:
        """By number type."""
        return {name: HeldWeights(count, self.bytes[name]) for name, count in sorted(self.weights.items())}

    def add(self, network: Any) -> int:
        """Book a torch module, and tell how many weights it brought that were not booked before.

        Booked are parameters; matrices that torch.ao has packed away; and persistent buffers of a type that only
        codes have (int8, uint8, float8, torch's quantized types), with the buffers beside them whose names speak of
        a scale or a zero point. Other buffers (BatchNorm's statistics, windows, masks) are no weights: nobody counts
        them as parameters. Packed matrices count as their elements, without what a kernel pads them with.
        """
        before = self.total
        for tensor in network.parameters():
            self._book_once(tensor)
        for module in network.modules() if hasattr(network, "modules") else ():
            for tensor, half in _packed(module):
                self._book(tensor, half=half)
            self._book_codes(module)
        return self.total - before

    def _book_once(self, tensor: Tensor) -> None:
        if id(tensor) not in self._seen:
            self._seen.add(id(tensor))
            self._book(tensor)

    def _book_codes(self, module: Any) -> None:
        """Codes that a module keeps in buffers, and their scales."""
        kept = {
            name: tensor
            for name, tensor in module.named_buffers(recurse=False)
            if name not in module._non_persistent_buffers_set and id(tensor) not in self._seen
        }
        codes = {name for name, tensor in kept.items() if _is_code(tensor)}
        if not codes:
            return
        for name, tensor in kept.items():
            self._seen.add(id(tensor))
            if name in codes:
                self._book(tensor)
            elif "scale" in name or "zero" in name:
                first = _number_type(kept[min(codes)])
                self.bytes[first] += tensor.numel() * tensor.element_size()

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
    if any(_number_type(tensor).startswith(_QUANTIZED) for tensor in network.parameters()):
        return True
    return any(
        any(_packed(module)) or any(_is_code(tensor) for tensor in module.buffers(recurse=False))
        for module in network.modules()
    )


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


def _is_code(tensor: Tensor) -> bool:
    return str(tensor.dtype).removeprefix("torch.").startswith(_CODES) or _inner(tensor) is not None


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
    codes = max(inner, key=lambda part: (str(part.dtype).removeprefix("torch.").startswith(_QUANTIZED), _bytes(part)))
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
