"""The columns of numbers that every table of a leaderboard has, whatever its format, and which value is best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diarbench.report import text

if TYPE_CHECKING:
    from diarbench.leaderboard import Column, Leaderboard, Line, Place

PARTS = {"missed": "missed", "false_alarm": "false alarm", "confusion": "confusion"}


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of numbers: where its values come from and how they are printed."""

    key: str  # its name in CSV
    group: str  # printed once above a run of columns of the same group
    head: str
    note: str  # what it is, in words
    value: Callable[[Line], float | None]  # DERs are fractions, sizes bytes
    show: Callable[[float], str]
    marks_best: bool = False  # whether the smallest value is marked
    of_cost: bool = False  # a size or a speed: floors without a network don't compete for the mark


def table_columns(board: Leaderboard, *, all_counts: bool = False) -> tuple[TableColumn, ...]:
    """The columns from left to right: macro DER by rule, the difference to the baseline, DER by dataset, the three
    errors, sizes, and RTF by place.

    Non-zero parameters are a column where they print differently from the parameters in some line, or with
    `all_counts`.
    """
    return (
        *_accuracy(board),
        *(_dataset(board, column) for column in board.columns),
        *(_part(board, part) for part in PARTS),
        *_sizes(all_counts or any(has_zeros(line) for line in board.lines)),
        *(_speed(board, place) for place in board.places),
    )


def best_values(board: Leaderboard, columns: tuple[TableColumn, ...]) -> Mapping[str, float]:
    """By column key: the smallest value among ranked lines, where they differ.

    Sizes and speeds are compared among systems whose parameters were counted, if any were: a floor that
    computes nothing would always win.
    """
    ranked = [line for line in board.lines if line.rank is not None]
    counted = [line for line in ranked if parameters(line) is not None]
    best = {}
    for column in columns:
        lines = (counted or ranked) if column.of_cost else ranked
        values = [value for line in lines if (value := column.value(line)) is not None]
        if column.marks_best and len(set(values)) > 1:
            best[column.key] = min(values)
    return best


def is_best(column: TableColumn, line: Line, best: Mapping[str, float]) -> bool:
    """Whether the line holds the best value of the column."""
    if line.rank is None or (column.of_cost and parameters(line) is None):
        return False
    return column.key in best and column.value(line) == best[column.key]


def parameters(line: Line) -> int | None:
    """Parameters as counted, or None where the system exposes no networks."""
    complexity = line.entry.complexity
    return complexity.parameters if complexity else None


def has_zeros(line: Line) -> bool:
    """Whether so many parameters are exactly zero that the two counts print differently."""
    complexity = line.entry.complexity
    if complexity is None or complexity.parameters is None or complexity.nonzero_parameters is None:
        return False
    return text.count(complexity.parameters) != text.count(complexity.nonzero_parameters)


def rate(line: Line, column: Column, rule: str, part: str) -> float | None:
    """One of the three errors of a dataset as a fraction of its scored speech; None unless it is complete."""
    score = line.entry.scores.get(column.name)
    if score is None or not score.complete:
        return None
    total = score.total(rule)
    return float(getattr(total, part)) / total.scored if total.scored > 0 else None


def macro_rate(line: Line, board: Leaderboard, part: str) -> float | None:
    """Unweighted mean over datasets of one of the three errors, under the rule that ranks: they sum to macro DER."""
    rates = [rate(line, column, board.rule.name, part) for column in board.columns]
    known = [value for value in rates if value is not None]
    return sum(known) / len(known) if known and len(known) == len(rates) else None


def rtf(line: Line, place: Place) -> float | None:
    """Real-time factor at that place, or None where it was not timed there."""
    speed = line.entry.speeds.get(place)
    return speed.rtf if speed is not None and speed.audio > 0 else None


def _accuracy(board: Leaderboard) -> list[TableColumn]:
    columns = [
        TableColumn(
            key=f"macro_der.{rule.name}",
            group="Macro DER (%)",
            head=rule.name,
            note=f"Mean of the datasets' DERs; {rule.label}" + ("; this column ranks" if rule == board.rule else ""),
            value=lambda line, name=rule.name: line.macro[name],  # type: ignore[misc]
            show=text.percent,
            marks_best=True,
        )
        for rule in board.rules
    ]
    name = board.rule.name
    note = f"Macro DER under {name} less that of the system's baseline, in percentage points; below zero is better"
    return [*columns, TableColumn(f"delta.{name}", "Macro DER (%)", "Δ", note, lambda at: at.delta[name], text.points)]


def _dataset(board: Leaderboard, column: Column) -> TableColumn:
    rule = board.rule.name

    def value(line: Line) -> float | None:
        score = line.entry.scores.get(column.name)
        return score.der(rule) if score is not None else None

    return TableColumn(
        key=f"der.{column.name}",
        group=f"DER by dataset (%), {rule}",
        head=column.label,
        note=f"DER pooled over the recordings of {column.label}{', SYNTHETIC' if column.synthetic else ''}; "
        f"{board.rule.label}",
        value=value,
        show=text.percent,
        marks_best=True,
    )


def _part(board: Leaderboard, part: str) -> TableColumn:
    return TableColumn(
        key=part,
        group=f"Errors (%), {board.rule.name}",
        head=PARTS[part],
        note=f"Time {PARTS[part]} in percent of scored speech, mean of the datasets; {board.rule.label}",
        value=lambda line: macro_rate(line, board, part),
        show=text.percent,
    )


def _sizes(nonzero: bool) -> list[TableColumn]:
    def nonzero_parameters(line: Line) -> float | None:
        return line.entry.complexity.nonzero_parameters if line.entry.complexity else None

    def weight_bytes(line: Line) -> float | None:
        return line.entry.complexity.weight_bytes if line.entry.complexity else None

    built = "Weights of the networks as built, counted: what a dense run computes with"
    files = "The weight files that the card names, on disk (1 MB is a million bytes)"
    columns = [
        TableColumn("parameters", "Size", "parameters", built, parameters, text.count, True, True),
        TableColumn(
            "nonzero_parameters", "Size", "non-zero", "Of the parameters, those not exactly zero", nonzero_parameters,
            text.count, True, True,
        ),
        TableColumn("weight_bytes", "Size", "weights", files, weight_bytes, text.size, True, True),
    ]  # fmt: skip
    return [column for column in columns if nonzero or column.key != "nonzero_parameters"]


def place_label(board: Leaderboard, place: Place) -> str:
    """The place's label within its machine; with threads where the label alone would stand for two places."""
    alike = [other for other in board.places if (other.machine, other.label) == (place.machine, place.label)]
    return place.label if len(alike) < 2 else f"{place.label}, {text.many(place.threads, 'thread')}"


def _speed(board: Leaderboard, place: Place) -> TableColumn:
    label = place_label(board, place)
    return TableColumn(
        key=f"rtf.{place.machine}.{place.device}.{place.threads}",
        group=f"RTF, {place.machine}",
        head=label,
        note=f"Real-time factor on {place.machine}, {label}: wall time in diarize() per second of audio, "
        "over all datasets here; smaller is faster",
        value=lambda line: rtf(line, place),
        show=text.ratio,
        marks_best=True,
        of_cost=True,
    )
