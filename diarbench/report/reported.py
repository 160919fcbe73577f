"""Published figures beside what a board measured: which belong to it, and how they differ; pure functions.

A published figure never becomes part of a board: it has no rank, no macro DER and no cell in the board's table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diarbench.published import Figure, prints_alike
from diarbench.report import text
from diarbench.report.values import speedup_text

if TYPE_CHECKING:
    from diarbench.costs import Measured
    from diarbench.leaderboard import Column, Leaderboard, Line
    from diarbench.published import Published
    from diarbench.types import Complexity

LABEL = "reported, not measured here"


@dataclass(frozen=True, slots=True)
class Twin:
    """What was measured of the very thing that a published figure is of."""

    value: float  # in the figure's units: a fraction, a count, bytes, a ratio, seconds per second
    shown: str
    where: str  # on which machine and against what; "" for what depends on neither


@dataclass(frozen=True, slots=True)
class Against:
    """A published figure against one measurement of the same system."""

    figure: Figure
    twin: Twin

    @property
    def difference(self) -> float | None:
        """Measured less reported: of error rates as a fraction, of sizes relative to the reported one. None for speeds,
        which other hardware gave."""
        reported = self.figure.value
        if self.figure.column.figure in ("der", "macro_der"):
            return self.twin.value - reported
        if self.figure.column.figure in ("parameters", "macs_1s", "bytes") and reported:
            return self.twin.value / reported - 1
        return None

    @property
    def alike(self) -> bool:
        """Whether the measured value rounds to the printed figure."""
        return prints_alike(self.twin.value, self.figure.text, self.figure.column.unit)

    @property
    def difference_shown(self) -> str | None:
        """The difference: in percentage points for error rates, in percent for sizes; None for speeds."""
        if self.difference is None:
            return None
        return f"{text.points(self.difference)}{'' if self.figure.column.figure in ('der', 'macro_der') else ' %'}"

    @property
    def shown(self) -> str:
        """The difference, and whether rounding explains it; in words where speeds can't be compared."""
        if self.difference_shown is None:
            return "other hardware"
        return f"{self.difference_shown} (rounds to it)" if self.alike else self.difference_shown


@dataclass(frozen=True, slots=True)
class ReportedRow:
    """A row of a published table, as far as it is of a board's datasets and rule."""

    table: Published
    row: int
    ders: dict[str, Figure]  # by our name of the dataset

    @property
    def label(self) -> str:
        """What the source calls it."""
        return self.table.label(self.row)

    @property
    def system(self) -> str | None:
        """Our card of it, if there is one."""
        return self.table.card.rows[self.row].system


@dataclass(frozen=True, slots=True)
class Reported:
    """What published tables say of a board's datasets and systems."""

    rows: tuple[ReportedRow, ...]  # with a DER on a dataset of the board, under its rule
    pairs: tuple[Against, ...]  # what was measured of the same system, under any rule
    other_rules: int  # figures on the board's datasets that other rules gave

    def __bool__(self) -> bool:
        return bool(self.rows or self.pairs)

    @property
    def tables(self) -> tuple[Published, ...]:
        """The tables that any of it is from, by name."""
        found = {row.table.name: row.table for row in self.rows}
        found |= {pair.figure.table.name: pair.figure.table for pair in self.pairs}
        return tuple(found[name] for name in sorted(found))

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why figures that are shown should be taken with care, one line each."""
        figures = [figure for row in self.rows for figure in row.ders.values()]
        figures += [pair.figure for pair in self.pairs]
        return tuple(dict.fromkeys(doubt_of(figure) for figure in figures if figure.doubts))


def reported_on(board: Leaderboard, tables: Sequence[Published]) -> Reported:
    """The rows of published tables that are of the board's datasets, and what stands against its measurements."""
    datasets = {column.name for column in board.columns}
    rows, pairs, others = [], [], 0
    for table in tables:
        for row in range(len(table.card.rows)):
            figures = [figure for figure in table.row_figures(row) if figure is not None]
            of_board = [
                figure for figure in figures if figure.column.figure == "der" and figure.column.dataset in datasets
            ]
            ders = {str(f.column.dataset): f for f in of_board if f.rule == board.rule.name}
            others += len(of_board) - len(ders)
            if ders:
                rows.append(ReportedRow(table, row, ders))
            pairs += [Against(figure, twin) for figure in figures for twin in twins(board, figure)]
    return Reported(tuple(rows), tuple(pairs), others)


def twins(board: Leaderboard | None, figure: Figure) -> Iterator[Twin]:
    """What the board measured of the figure's system: one for each place, where that matters."""
    if board is None or figure.system is None:
        return
    line = next((line for line in board.lines if line.entry.system == figure.system), None)
    if line is None:
        return
    column = figure.column
    if column.figure in ("der", "macro_der"):
        averaged = (column,) if column.figure == "der" else figure.table.averaged(column)
        ders = [_der(board, line, one.dataset, figure.rule) for one in averaged]
        known = [der for der in ders if der is not None]
        if known and len(known) == len(ders):
            yield Twin(sum(known) / len(known), f"{100 * sum(known) / len(known):.2f}", "")
    elif column.figure in ("parameters", "macs_1s", "bytes"):
        size = _size(line.entry.complexity, figure)
        if size is not None:
            yield Twin(size, (text.size if column.figure == "bytes" else text.count)(size), "")
    elif column.figure == "speedup":
        yield from _speedups(line, column.of, column.device)
    elif column.figure in ("rtf", "speed"):
        yield from _speeds(board, line, figure)


def _speeds(board: Leaderboard, line: Line, figure: Figure) -> Iterator[Twin]:
    """Speeds of the whole pipeline, by place; those of a board are over all its datasets, so it must have no others."""
    column, names = figure.column, [one.name for one in board.columns]
    if column.of != "all" or (figure.dataset and names != [column.dataset]):
        return
    for place, speed in sorted(line.entry.speeds.items()):
        if column.device in (None, place.device) and speed.audio > 0 and speed.wall > 0:
            value = speed.rtf if column.figure == "rtf" else 1 / speed.rtf
            shown = text.ratio(value) if column.figure == "rtf" else text.times(value)
            yield Twin(
                value, shown, f"{place.label}, {place.machine}, on {', '.join(one.label for one in board.columns)}"
            )


def _der(board: Leaderboard, line: Line, dataset: str | None, rule: str | None) -> float | None:
    """DER on the whole dataset under a rule of the board."""
    column = next((column for column in board.columns if column.name == dataset), None)
    if column is None or not is_whole(column) or rule not in {one.name for one in board.rules}:
        return None
    score = line.entry.scores.get(column.name)
    return score.der(rule) if score is not None else None


def is_whole(column: Column) -> bool:
    """Whether all of the dataset is on the board: a part of it compares with no published figure."""
    return len(column.recordings) == column.total


def _size(complexity: Complexity | None, figure: Figure) -> int | None:
    """Parameters, multiply-accumulates on one second or bytes of what the figure is of."""
    if complexity is None:
        return None
    kind, of = figure.column.figure, figure.column.of or "all"
    if kind == "bytes":
        return complexity.weight_bytes if of == "all" else None
    if of == "all":
        return complexity.parameters if kind == "parameters" else None
    if of == "encoder":
        return complexity.encoder_parameters if kind == "parameters" else complexity.encoder_macs_1s
    stage, _, part = of.partition(".")
    network = complexity.stages.get(stage)
    if network is None:
        return complexity.parameters_by_stage.get(stage) if kind == "parameters" and not part else None
    if part and part not in network.parts:
        return None
    counted = network.parts[part] if part else network
    return counted.parameters if kind == "parameters" else counted.macs_1s


def _speedups(line: Line, of: str | None, device: str | None) -> Iterator[Twin]:
    for place, measured in sorted(line.entry.measured.items()):
        if device not in (None, place.device):
            continue
        where = f"{place.label}, {place.machine}, against {measured.baseline}"
        if of == "all" and measured.speedup is not None:
            yield Twin(measured.speedup.median, speedup_text(measured, measured.speedup), where)
        if of == "encoder":
            yield from _encoder_speedups(measured, where)


def _encoder_speedups(measured: Measured, where: str) -> Iterator[Twin]:
    for encoder in measured.encoder:
        if encoder.speedup is not None:
            how = f"{where}, {encoder.window:g} s windows, batch {encoder.batch}"
            yield Twin(encoder.speedup.median, speedup_text(measured, encoder.speedup), how)


def what_of(figure: Figure) -> str:
    """What a figure is of, in words.

    For DERs the dataset and the rule; for others the heading, and the hardware where it is stated.
    """
    words = figure.column.head if figure.column.figure != "der" else figure.column.dataset or figure.dataset
    words = f"{figure.column.group}: {words}" if figure.column.group and figure.column.figure != "der" else words
    kind = "DER of " if figure.column.figure == "der" else ""
    return ", ".join(filter(None, [f"{kind}{words}", figure.rule_words, figure.hardware]))


def doubt_of(figure: Figure) -> str:
    """Why a figure should be taken with care, with the figure and its table."""
    return f"{figure.text} ({figure.table.name}, {figure.table.label(figure.row)}): {'; '.join(figure.doubts)}"
