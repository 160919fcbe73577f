"""Which numbers a quantized network is made of: the modes by name, and what of a network they cover. Without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diarbench.errors import InputError, did_you_mean

KINDS = ("linear", "lstm", "conv")  # of modules that can be covered
METHODS = ("ptq", "qat")  # after training alone, or trained for it
_BITS = {"int4": 4, "int8": 8, "fp16": 16, "bf16": 16}
_INTEGERS = {"w4": "int4", "w8": "int8"}
_ACTIVATIONS = {"": "float", "a8-dynamic": "dynamic", "a8-static": "static"}
GROUP = 32  # weights of a row that share a scale where weights have 4 bits: torchao's default
MODES: Mapping[str, tuple[str, str]] = {
    **{weight + inputs: (_INTEGERS[weight], _ACTIVATIONS[inputs]) for weight in _INTEGERS for inputs in _ACTIVATIONS},
    "fp16": ("fp16", "float"),
    "bf16": ("bf16", "float"),
}


@dataclass(frozen=True, slots=True)
class QuantMode:
    """How weights and activations are rounded, and of which modules. Raises InputError for what can't be meant.

    Weights: symmetric integers with one scale for each row, or for each `group` of neighbours in it. Activations: 8
    bits with a zero point; "dynamic" takes the range of each frame as it comes, "static" one range per module, from
    calibration. "fp16" and "bf16" hold weights, and compute, in that type.
    """

    number: str = "int8"  # of weights: int4, int8, fp16 or bf16
    activations: str = "float"  # or "dynamic", "static"
    group: int = 0  # weights; 0: the whole row, as also in rows that groups don't divide
    covers: tuple[str, ...] = ("linear", "lstm")  # among KINDS
    skip: tuple[str, ...] = ()  # shell patterns of paths that stay in float: "*.classifier", "lstm.layers.0"

    def __post_init__(self) -> None:
        if (self.number, self.activations) not in MODES.values():
            raise InputError(f"there is no quantization of {self.number} weights and {self.activations} activations")
        if isinstance(self.group, bool) or self.group < 0 or (self.group and self.half):
            raise InputError(
                f"group is a number of weights that share a scale, or 0, and 0 for halves; not {self.group}"
            )
        if not self.covers:
            raise InputError(f"a quantization covers at least one of {', '.join(KINDS)}")
        for kind in self.covers:
            if kind not in KINDS:
                raise InputError(f"a quantization can't cover {kind!r}{did_you_mean(str(kind), KINDS)}")

    @property
    def name(self) -> str:
        """As in MODES.

        >>> QuantMode("int4", "static").name
        'w4a8-static'
        """
        return next(name for name, values in MODES.items() if values == (self.number, self.activations))

    @property
    def bits(self) -> int:
        """Of a weight."""
        return _BITS[self.number]

    @property
    def half(self) -> bool:
        """Whether weights are floating-point numbers of 16 bits."""
        return self.bits == 16

    def group_of(self, columns: int) -> int:
        """How many weights of a row of so many share a scale.

        >>> [QuantMode("int4", group=32).group_of(columns) for columns in (128, 60, 32)]
        [32, 60, 32]
        """
        return self.group if self.group and columns % self.group == 0 else columns

    def as_table(self) -> dict[str, Any]:
        """What `quant_mode` takes, as JSON or TOML hold it."""
        return {"mode": self.name, "group": self.group, "covers": list(self.covers), "skip": list(self.skip)}


def quant_mode(
    name: str, *, group: int | None = None, covers: Sequence[str] | None = None, skip: Sequence[str] = ()
) -> QuantMode:
    """The mode of that name: "fp16", "bf16", "w8", "w4", "w8a8-dynamic", "w8a8-static", "w4a8-dynamic", "w4a8-static".

    `group` is 32 where weights have 4 bits and none is said; halves cover convolutions too. Raises InputError.

    >>> quant_mode("w4a8-static").group
    32
    """
    if name not in MODES:
        raise InputError(f"there is no quantization {name!r}; known: {', '.join(MODES)}")
    number, activations = MODES[name]
    if group is None:
        group = GROUP if number == "int4" else 0
    if covers is None:
        covers = KINDS if _BITS[number] == 16 else ("linear", "lstm")
    return QuantMode(number, activations, group, tuple(covers), tuple(skip))


@dataclass(frozen=True, slots=True)
class Quantization:
    """What was done to a network."""

    mode: QuantMode
    modules: tuple[str, ...]  # paths of those that were covered
    method: str = "ptq"  # among METHODS

    def as_table(self) -> dict[str, Any]:
        """As files hold it; `quantization_of_table` reads it."""
        return {**self.mode.as_table(), "method": self.method, "modules": list(self.modules)}


_KEYS = ("mode", "group", "covers", "skip", "method", "modules")


def quantization_of_table(table: Any, where: object) -> Quantization:
    """What a file says of a quantization; `where` is named in errors (InputError)."""
    if not isinstance(table, Mapping):
        raise InputError(f"{where}: quantization is a table of {', '.join(_KEYS)}, not {table!r}")
    for key in table:
        if key not in _KEYS:
            raise InputError(f"{where}: quantization: unknown key {key!r}{did_you_mean(str(key), _KEYS)}")
    if missing := [key for key in _KEYS if key not in table]:
        raise InputError(f"{where}: quantization: lacks {', '.join(missing)}")
    for key in ("covers", "skip", "modules"):
        if not isinstance(table[key], list) or not all(isinstance(text, str) for text in table[key]):
            raise InputError(f"{where}: quantization: {key} is a list of texts, not {table[key]!r}")
    if isinstance(table["group"], bool) or not isinstance(table["group"], int):
        raise InputError(f"{where}: quantization: group is a whole number, not {table['group']!r}")
    if table["method"] not in METHODS:
        raise InputError(f"{where}: quantization: method is {table['method']!r}, not ptq or qat")
    try:
        mode = quant_mode(str(table["mode"]), group=table["group"], covers=table["covers"], skip=table["skip"])
    except InputError as error:
        raise InputError(f"{where}: quantization: {error}") from None
    if not table["modules"]:
        raise InputError(f"{where}: quantization: modules is empty: nothing is quantized")
    return Quantization(mode, tuple(table["modules"]), table["method"])
