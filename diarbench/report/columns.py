"""The columns of numbers that every table of a leaderboard has, whatever its format, and which value is best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diarbench.report import text
from diarbench.report.values import (
    PARTS,
    compared,
    comparisons,
    exposure_mark,
    exposure_words,
    has_more_than_an_encoder,
    has_zeros,
    held_bytes,
    macro_rate,
    memory_minutes,
    parameters,
    peak_memory,
    rtf,
    speedup_text,
    window_macs,
)

if TYPE_CHECKING:
    from diarbench.costs import Measured, SpeedUp
    from diarbench.leaderboard import Column, Leaderboard, Line, Place, Score
    from diarbench.types import Complexity


def _says_nothing(line: Line) -> str:
    return ""


def _never(line: Line) -> bool:
    return False


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
    in_full: Callable[[Line], str] = _says_nothing  # printed in place of the value: with an interval, with marks
    remark: Callable[[Line], str] = _says_nothing  # more about the value, in words
    faint: Callable[[Line], bool] = _never  # whether the value says nothing, for all that is known
    is_baseline: Callable[[Line], bool] = _never  # whether the line is what others are compared with

    def shown(self, line: Line) -> str:
        """What is printed in the line."""
        value = self.value(line)
        return text.NOTHING if value is None else self.in_full(line) or self.show(value)


def table_columns(board: Leaderboard, *, everything: bool = False) -> tuple[TableColumn, ...]:
    """The columns from left to right: macro DER by rule, the difference to the baseline, DER by dataset, JER, the three
    errors, sizes, MACs, and by place peak memory, RTF and speed-ups.

    Columns of JER and of cost are left out where no line has a value, the JER of an only dataset, which is the macro
    JER, and counts of parameters that print like those of all networks in every line. With `everything`, JERs, sizes
    and MACs always stand, and the ends of intervals are columns too.
    """
    costs = [
        *_sizes(),
        *_macs(),
        *(column for place in board.places for column in _memory(board, place)),
        *(_speed(board, place) for place in board.places),
        *(
            column
            for place, baseline in comparisons(board)
            for column in _speedups(board, place, baseline, everything=everything)
        ),
    ]
    return (
        *_accuracy(board),
        *(_dataset(board, column) for column in board.columns),
        *(column for column in _jer(board, everything=everything) if everything or _has_values(board, column)),
        *(_part(board, part) for part in PARTS),
        *(column for column in costs if _stands(board, column, everything=everything)),
    )


def telling_columns(board: Leaderboard) -> tuple[TableColumn, ...]:
    """The columns without those that are empty in every line. The one that ranks always stands."""
    ranking = f"macro_der.{board.rule.name}"
    return tuple(
        column
        for column in table_columns(board)
        if column.key == ranking or not board.lines or _has_values(board, column)
    )


def _stands(board: Leaderboard, column: TableColumn, *, everything: bool) -> bool:
    if everything and "." not in column.key:
        return True
    says = {"nonzero_parameters": has_zeros, "encoder_parameters": has_more_than_an_encoder}
    if column.key in says:
        return any(map(says[column.key], board.lines))
    return _has_values(board, column)


def _has_values(board: Leaderboard, column: TableColumn) -> bool:
    return any(column.value(line) is not None for line in board.lines)


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
    baselines = {line.entry.baseline for line in board.lines}
    delta = TableColumn(
        key=f"delta.{name}",
        group="Macro DER (%)",
        head="Δ",
        note=note,
        value=lambda line: line.delta[name],
        show=text.points,
        is_baseline=lambda line: line.entry.system in baselines,
    )
    return [*columns, delta]


def _dataset(board: Leaderboard, column: Column) -> TableColumn:
    rule = board.rule.name
    return _of_dataset(
        column,
        lambda score: score.der(rule),
        key=f"der.{column.name}",
        group=f"DER by dataset (%), {rule}",
        note=f"DER pooled over the recordings of {column.label}{', SYNTHETIC' if column.synthetic else ''}; "
        f"{board.rule.label}",
    )


def _jer(board: Leaderboard, *, everything: bool) -> list[TableColumn]:
    rule = board.rule.name
    group = f"JER (%), {rule}"
    macro = TableColumn(
        key="macro_jer",
        group=group,
        head="macro",
        note=f"Mean of the datasets' JERs; {board.rule.label}",
        value=lambda line: line.macro_jer[rule],
        show=text.percent,
        marks_best=True,
    )
    by_dataset = [
        _of_dataset(
            column,
            lambda score: score.jer(rule),
            key=f"jer.{column.name}",
            group=group,
            note=f"Jaccard errors, mean over the reference speakers of {column.label}"
            f"{', SYNTHETIC' if column.synthetic else ''}; {board.rule.label}",
        )
        for column in board.columns
    ]
    return [macro, *(by_dataset if everything or len(board.columns) > 1 else [])]


def _of_dataset(
    column: Column, rate: Callable[[Score], float | None], *, key: str, group: str, note: str
) -> TableColumn:
    """An error rate on one dataset; marked where the system may know the dataset."""

    def value(line: Line) -> float | None:
        score = line.entry.scores.get(column.name)
        return rate(score) if score is not None else None

    def marked(line: Line) -> str:
        found, mark = value(line), exposure_mark(line, column)
        return f"{text.percent(found)}{mark}" if found is not None and mark else ""

    return TableColumn(
        key=key,
        group=group,
        head=column.label,
        note=note,
        value=value,
        show=text.percent,
        marks_best=True,
        in_full=marked,
        remark=lambda line: exposure_words(line, column),
    )


def _part(board: Leaderboard, part: str) -> TableColumn:
    return TableColumn(
        key=part,
        group=f"Macro errors (%), {board.rule.name}",
        head=PARTS[part],
        note=f"Time {PARTS[part]} in percent of scored speech, mean of the datasets; {board.rule.label}",
        value=lambda line: macro_rate(line, board, part),
        show=text.percent,
    )


def _counted(value: Callable[[Complexity], float | None]) -> Callable[[Line], float | None]:
    def of_line(line: Line) -> float | None:
        return value(line.entry.complexity) if line.entry.complexity is not None else None

    return of_line


def _sizes() -> list[TableColumn]:
    def size(key: str, head: str, note: str, value: Callable[[Line], float | None], **more: Any) -> TableColumn:
        show = text.size if key.endswith("bytes") else text.count
        return TableColumn(key, "Size", head, note, value, show, marks_best=True, of_cost=True, **more)

    def held(line: Line) -> str:
        kinds = line.entry.complexity.held if line.entry.complexity is not None else {}
        return "; ".join(
            f"{text.plain(kind)}: {text.count(held.weights)} weights in {text.size(held.bytes)}"
            for kind, held in kinds.items()
        )

    return [
        size("parameters", "parameters", "Weights of the networks as built, counted: what a dense run computes with",
             parameters),
        size("nonzero_parameters", "non-zero", "Of the parameters, those not exactly zero",
             _counted(lambda of: of.nonzero_parameters)),
        size("encoder_parameters", "encoder", "Parameters of the pretrained network alone, without the head that "
             "follows it: what pruning papers count", _counted(lambda of: of.encoder_parameters)),
        size("weight_bytes", "files", "The weight files that the card names, on disk (1 MB is a million bytes)",
             _counted(lambda of: of.weight_bytes)),
        size("held_bytes", "held", "All weights of the built system in memory, at the precision that they have there, "
             "with the scales of quantized ones", _counted(held_bytes), remark=held),
    ]  # fmt: skip


def _macs() -> list[TableColumn]:
    def macs(key: str, head: str, note: str, value: Callable[[Line], float | None], **more: Any) -> TableColumn:
        return TableColumn(f"macs_{key}", "MACs", head, note, value, text.count, marks_best=True, of_cost=True, **more)

    def window(line: Line) -> str:
        seconds = line.entry.complexity.encoder_window if line.entry.complexity is not None else None
        return f"window of {seconds:g} s" if seconds else ""

    return [
        macs("encoder_1s", "encoder, 1 s", "Multiply-accumulates of the encoder alone on one second of audio: what "
             "pruning papers count", _counted(lambda of: of.encoder_macs_1s)),
        macs("window_per_s", "encoder, own window, per s", "Multiply-accumulates of the encoder alone on a window of "
             "its own length, for each second of it", _counted(window_macs), remark=window),
        macs("pipeline_per_s", "pipeline, per s", "Multiply-accumulates of all networks as often as they were really "
             "called, for each second of audio of all datasets here", lambda line: line.entry.pipeline_macs),
    ]  # fmt: skip


def _memory(board: Leaderboard, place: Place) -> list[TableColumn]:
    minutes = memory_minutes(board, place)
    if minutes is None:
        return []
    label, length = place_label(board, place), f"{minutes:g} min"

    def column(kind: str, key: str, what: str, words: str) -> TableColumn:
        return TableColumn(
            key=f"{key}.{_key(place)}",
            group=_group(board, "Peak memory", place),
            head=f"{label}{what}, {length}",
            note=f"{words} of a fresh process on {length} of audio, on {place.machine}, {label}",
            value=lambda line: peak_memory(line, place, minutes, kind),
            show=text.size,
            marks_best=True,
            of_cost=True,
        )

    return [
        column("resident", "memory", "" if place.device == "cpu" else ", host", "Largest resident memory"),
        column("cuda", "gpu_memory", ", its own", "Largest memory on the GPU"),
    ]


def place_label(board: Leaderboard, place: Place) -> str:
    """The place's label within its machine; with threads where the label alone would stand for two places."""
    alike = [other for other in board.places if (other.machine, other.label) == (place.machine, place.label)]
    return place.label if len(alike) < 2 else f"{place.label}, {text.many(place.threads, 'thread')}"


def _group(board: Leaderboard, what: str, place: Place) -> str:
    """With the machine, where there are several."""
    return f"{what}, {place.machine}" if len({other.machine for other in board.places}) > 1 else what


def _key(place: Place) -> str:
    return f"{place.machine}.{place.device}.{place.threads}"


def _speed(board: Leaderboard, place: Place) -> TableColumn:
    label = place_label(board, place)
    return TableColumn(
        key=f"rtf.{_key(place)}",
        group=_group(board, "RTF", place),
        head=label,
        note=f"Real-time factor on {place.machine}, {label}: wall time in diarize() per second of audio, "
        "over all datasets here; smaller is faster",
        value=lambda line: rtf(line, place),
        show=text.ratio,
        marks_best=True,
        of_cost=True,
    )


def _speedups(board: Leaderboard, place: Place, baseline: str, *, everything: bool) -> list[TableColumn]:
    """The median with its interval; with `everything`, also what it is made of, as numbers."""
    label, base = place_label(board, place), text.plain(baseline)
    note = (
        f"How many times faster than {base} on {place.machine}, {label}: median of the ratios within the rounds of one "
        "session, and its 95 % interval"
    )

    def number(of: Callable[[Measured, SpeedUp], float]) -> Callable[[Line], float | None]:
        def of_line(line: Line) -> float | None:
            found = compared(line, place, baseline)
            return of(*found) if found is not None else None

        return of_line

    def words(of: Callable[[Measured, SpeedUp], str]) -> Callable[[Line], str]:
        def of_line(line: Line) -> str:
            found = compared(line, place, baseline)
            return of(*found) if found is not None else ""

        return of_line

    def column(key: str, value: Callable[[Measured, SpeedUp], float], **more: Any) -> TableColumn:
        return TableColumn(
            key=f"{key}.{_key(place)}.{baseline}",
            group=_group(board, "Speed-up", place),
            head=f"{label}, to {base}",
            note=note,
            value=number(value),
            show=text.times,
            **more,
        )

    def is_none(line: Line) -> bool:
        found = compared(line, place, baseline)
        return found is not None and found[1].verdict in ("within noise", None)

    def is_baseline(line: Line) -> bool:
        return line.entry.system == baseline and place in line.entry.measured

    main = column(
        "speedup",
        lambda _, ratio: ratio.median,
        in_full=words(speedup_text),
        remark=words(_session),
        faint=is_none,
        is_baseline=is_baseline,
    )
    if not everything:
        return [main]
    return [
        main,
        column("speedup_low", lambda _, ratio: ratio.low),
        column("speedup_high", lambda _, ratio: ratio.high),
        column("speedup_within_noise", lambda _, ratio: int(ratio.verdict not in ("faster", "slower"))),
        column("speedup_busy", lambda measured, _: int(measured.busy)),
    ]


def _session(measured: Measured, ratio: SpeedUp) -> str:
    """Where a speed-up comes from, and how far it can be believed."""
    parts: list[str] = [ratio.verdict or "nothing can be said: the noise is not known"]
    if measured.floor is not None:
        parts.append(f"noise floor ±{text.percent(measured.floor)} %")
    if measured.rounds is not None:
        parts.append(text.many(measured.rounds, "round"))
    if measured.busy:
        parts.append(f"the machine was busy: {text.plain('; '.join(measured.reasons)) or 'no reason is stored'}")
    return ", ".join([*parts, f"session {text.plain(measured.session)}"])
