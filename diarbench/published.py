"""Tables of figures that others published, read strictly and kept as printed; knows nothing of what is measured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from diarbench.cards import Line, read_card

# What a figure is of. Those of `_ERRORS` need a scoring rule; "other" is whatever diarbench measures no twin of.
Quantity: TypeAlias = Literal[
    "der", "macro_der", "jer", "parameters", "macs_1s", "bytes", "rtf", "speed", "speedup", "other"
]
_ERRORS = ("der", "macro_der", "jer")
RuleName: TypeAlias = Literal["full", "fair", "forgiving"]

# What one of a unit is in diarbench's own: fractions, counts, bytes, seconds of computing per second of audio.
_UNITS = {
    "%": Decimal("0.01"),
    "1": Decimal(1),
    "x": Decimal(1),
    "K": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "MB": Decimal(10) ** 6,
    "MiB": Decimal(2) ** 20,
    "s/h": 1 / Decimal(3600),
}
Unit: TypeAlias = Literal["%", "1", "x", "K", "M", "G", "MB", "MiB", "s/h"]
NO_FIGURE = ("-", "–", "")  # how sources print that there is none
_FIGURE = re.compile(r"(?P<number>[+-]?(?:\d+(?:\.\d+)?|\.\d+)) ?(?P<unit>[%KMGx])?")

Cell = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]
Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Source(_Strict):
    """Where figures were published."""

    title: Line
    authors: Line
    year: Annotated[int, Field(ge=1950, le=2100)]
    url: Annotated[Line, Field(pattern=r"^https?://\S+$")]
    where: Line  # "Table II", a section, a file

    @property
    def short(self) -> str:
        """Authors, year and place in a few words."""
        return f"{self.authors} {self.year}, {self.where}"


class Column(_Strict):
    """A column of a published table: text, or figures of one quantity."""

    key: Key  # how `doubts` names it
    head: Line
    group: Line | None = None  # a heading that several columns share
    figure: Quantity | None = None  # None: text
    unit: Unit | None = None  # of figures that are printed without one
    of: Line | None = None  # what was counted or timed: "encoder", "all", a stage, a part ("segmentation.CNN")
    named: Line | None = None  # the dataset as the source calls it, if not by `head`
    dataset: Line | None = None  # ours, where it is the same
    device: Literal["cpu", "cuda"] | None = None
    hardware: Line | None = None  # as stated, where it is not that of the whole table
    rule: RuleName | None = None  # where it is not that of the whole table
    other_rule: Line | None = None  # in words, if it is none of ours
    doubt: Line | None = None  # why these figures should be taken with care

    @model_validator(mode="after")
    def _fitting(self) -> Column:
        if self.figure is None and (self.unit or self.of or self.dataset or self.device):
            raise ValueError(f"column {self.key!r}: say what its figures are of, by `figure`")
        if self.dataset is not None and self.figure not in ("der", "jer", "rtf", "speed"):
            raise ValueError(f"column {self.key!r}: only figures of `der`, `jer`, `rtf` and `speed` have a `dataset`")
        _one_rule(self.rule, self.other_rule, f"column {self.key!r}")
        return self


class Row(_Strict):
    """A row of a published table, cell for cell as it is printed."""

    cells: list[Cell]
    system: Line | None = None  # the name of our card, where it is the same system
    rule: RuleName | None = None
    other_rule: Line | None = None
    hardware: Line | None = None
    note: Line | None = None
    doubts: dict[Key, Line] = {}  # by column: why the figure should be taken with care

    @model_validator(mode="after")
    def _fitting(self) -> Row:
        _one_rule(self.rule, self.other_rule, f"row {self.cells[0]!r}" if self.cells else "a row")
        return self


class PublishedCard(_Strict):
    """A table as somebody published it. Figures keep the digits they were printed with."""

    title: Line  # in our words
    family: Line | None = None  # what all rows are of, where the first column does not say it
    source: Source
    rule: RuleName | None = None  # that error rates were scored by
    other_rule: Line | None = None  # in words, if it is none of ours
    hardware: Line | None = None  # that speeds were measured on, as stated
    notes: list[Line] = []  # what has to be known to read it
    columns: Annotated[list[Column], Field(min_length=2)]
    rows: Annotated[list[Row], Field(min_length=1)]

    @field_validator("columns")
    @classmethod
    def _keys(cls, columns: list[Column]) -> list[Column]:
        keys = [column.key for column in columns]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(f"two columns have the key {twice[0]!r}")
        scored = [(column.dataset, column.rule, column.other_rule) for column in columns if column.figure == "der"]
        if again := [one for one in scored if one[0] is not None and scored.count(one) > 1]:
            raise ValueError(f"two columns have the DER of {again[0][0]!r} under one rule; make rows of them")
        if columns[0].figure is not None:
            raise ValueError(f"the first column ({keys[0]!r}) has to say what the row is: leave out its `figure`")
        return columns

    @model_validator(mode="after")
    def _rows_fit(self) -> PublishedCard:
        _one_rule(self.rule, self.other_rule, "the table")
        keys = {column.key for column in self.columns}
        for number, row in enumerate(self.rows, start=1):
            where = f"row {number} ({row.cells[0] if row.cells else 'empty'})"
            if len(row.cells) != len(self.columns):
                raise ValueError(f"{where} has {len(row.cells)} cells, and there are {len(self.columns)} columns")
            if unknown := sorted(set(row.doubts) - keys):
                raise ValueError(f"{where}: `doubts` names {unknown[0]!r}, which is no column's key")
            for column, cell in zip(self.columns, row.cells, strict=True):
                self._check_cell(where, row, column, cell)
        return self

    def _check_cell(self, where: str, row: Row, column: Column, cell: str) -> None:
        if column.figure is None or cell in NO_FIGURE:
            return
        try:
            read_figure(cell, column.unit)
        except ValueError as error:
            raise ValueError(f"{where}, column {column.key!r}: {error}") from error
        rules = (row.rule, row.other_rule, column.rule, column.other_rule, self.rule, self.other_rule)
        if column.figure in _ERRORS and not any(rules):
            raise ValueError(
                f"{where}, column {column.key!r}: no scoring rule is said for it; set `rule` or `other_rule`"
            )


def _one_rule(rule: str | None, other: str | None, where: str) -> None:
    if rule is not None and other is not None:
        raise ValueError(f"{where}: `rule` names one of ours, `other_rule` describes another; keep one of them")


def read_figure(printed: str, unit: str | None) -> Decimal:
    """A printed figure in diarbench's units: fractions, counts, bytes, ratios. Raises ValueError.

    >>> read_figure("94.4M", None), read_figure("15.8", "%"), read_figure(".22", "1")
    (Decimal('94400000.0'), Decimal('0.158'), Decimal('0.22'))
    """
    number, scale = _parts(printed, unit)
    return number * scale


def prints_alike(value: float, printed: str, unit: str | None) -> bool:
    """Whether `value`, in diarbench's units, rounds to the printed figure.

    >>> prints_alike(0.15794, "15.8", "%"), prints_alike(315_452_608, "316.6M", None)
    (True, False)
    """
    number, scale = _parts(printed, unit)
    return (Decimal(value) / scale).quantize(Decimal(1).scaleb(int(number.as_tuple().exponent))) == number


def _parts(printed: str, unit: str | None) -> tuple[Decimal, Decimal]:
    found = _FIGURE.fullmatch(printed)
    if found is None:
        raise ValueError(
            f"{printed!r} is no figure; write it as it is printed, such as '15.8' or '94.4M', or '-' for none"
        )
    own = found["unit"] or unit
    if own is None:
        raise ValueError(f"{printed!r} has no unit; set the column's `unit` ({', '.join(_UNITS)})")
    if found["unit"] is not None and unit is not None and found["unit"] != unit:
        raise ValueError(f"{printed!r} has another unit than its column ({unit})")
    return Decimal(found["number"]), _UNITS[own]


@dataclass(frozen=True, slots=True)
class Figure:
    """One published figure, with all that has to be known of it."""

    table: Published
    row: int  # its place, from 0
    column: Column
    text: str  # as printed

    @property
    def value(self) -> float:
        """In diarbench's units: a fraction, a count, bytes, a ratio, seconds of computing per second of audio."""
        return float(read_figure(self.text, self.column.unit))

    @property
    def system(self) -> str | None:
        """The name of our card, where it is the same system."""
        return self._row.system

    @property
    def dataset(self) -> str:
        """The dataset as the source calls it; "" where the figure is of none."""
        return self.column.named or (self.column.head if self.column.figure in ("der", "jer") else "")

    @property
    def rule(self) -> RuleName | None:
        """The scoring rule, if it is one of ours: the row's, or else the column's, or the table's."""
        return self._rules[0]

    @property
    def rule_words(self) -> str | None:
        """The scoring rule, however it is said; None for what needs none."""
        return next(filter(None, self._rules), None)

    @property
    def hardware(self) -> str | None:
        """As the source states it, for what depends on it."""
        if self.column.figure not in ("rtf", "speed", "speedup"):
            return None
        return self._row.hardware or self.column.hardware or self.table.card.hardware

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why it should be taken with care."""
        return tuple(filter(None, (self._row.doubts.get(self.column.key), self.column.doubt)))

    @property
    def _row(self) -> Row:
        return self.table.card.rows[self.row]

    @property
    def _rules(self) -> tuple[RuleName | None, str | None]:
        if self.column.figure not in _ERRORS:
            return None, None
        sayings = (self._row, self.column, self.table.card)
        said = next((one for one in sayings if one.rule or one.other_rule), self.table.card)
        return said.rule, said.other_rule


@dataclass(frozen=True, slots=True)
class Published:
    """A published table by its name."""

    name: str
    card: PublishedCard

    def figures(self) -> Iterator[Figure]:
        """All figures, row by row; cells without one are left out."""
        for row in range(len(self.card.rows)):
            yield from filter(None, self.row_figures(row))

    def row_figures(self, row: int) -> tuple[Figure | None, ...]:
        """By column: the figure of that row, or None where there is text or nothing."""
        return tuple(
            None if column.figure is None or cell in NO_FIGURE else Figure(self, row, column, cell)
            for column, cell in zip(self.card.columns, self.card.rows[row].cells, strict=True)
        )

    def label(self, row: int) -> str:
        """What the row is: the family, and its columns of text."""
        said = [self.card.family] if self.card.family else []
        for column, cell in zip(self.card.columns, self.card.rows[row].cells, strict=True):
            if column.figure is None and cell not in NO_FIGURE:
                said.append(f"{column.head} {cell}" if said else cell)
        return ", ".join(said)

    @property
    def systems(self) -> tuple[str, ...]:
        """Our cards that its rows name."""
        return tuple(dict.fromkeys(row.system for row in self.card.rows if row.system is not None))

    @property
    def datasets(self) -> tuple[str, ...]:
        """Our datasets that its columns name."""
        return tuple(dict.fromkeys(column.dataset for column in self.card.columns if column.dataset is not None))

    def averaged(self, macro: Column) -> tuple[Column, ...]:
        """The columns of DER that a column of macro DER is the mean of: all that are scored by its rule."""
        ours = (macro.rule, macro.other_rule)
        return tuple(c for c in self.card.columns if c.figure == "der" and (c.rule, c.other_rule) == ours)


def read_published(path: Path) -> Published:
    """The published table in a TOML file. Raises CardError, one line."""
    return Published(path.stem, read_card(path, PublishedCard))
