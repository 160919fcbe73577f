"""A leaderboard as plain JSON values; the keys are documented in docs/json.md and stable."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import date, time
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from diarbench.errors import StoreError
from diarbench.leaderboard import exposure
from diarbench.report.sheets import figure_json
from diarbench.report.values import window_macs

if TYPE_CHECKING:
    from diarbench.costs import Measured
    from diarbench.leaderboard import Column, Leaderboard, Line, Place, Score
    from diarbench.published import Published
    from diarbench.scoring import JaccardErrors, ScoringRule

FORMAT = 1


def leaderboard_json(board: Leaderboard, tables: Iterable[Published] = ()) -> dict[str, Any]:
    """The board with everything that was measured, for `json.dumps(..., allow_nan=False)`.

    DERs are fractions or None, times seconds. Raises StoreError where a value has no place in JSON: one that is
    not finite, or an object of an unknown type, for example in a card's [compression].
    Of the published tables `tables`, those figures come along that are of a dataset of the board, or that something was
    measured against.
    """
    return {
        "format": FORMAT,
        "title": board.title,
        "version": board.version,
        "rule": board.rule.name,
        "rules": [_rule(rule) for rule in board.rules],
        "datasets": [_column(column) for column in board.columns],
        "places": [_place(place) for place in board.places],
        "machines": _plain(board.machines, "machines"),
        "systems": [_line(board, line) for line in board.lines],
        "reported": _reported(board, tables),
    }


def _reported(board: Leaderboard, tables: Iterable[Published]) -> list[dict[str, Any]]:
    datasets = {column.name for column in board.columns}
    figures = [figure_json(figure, board) for table in tables for figure in table.figures()]
    return [figure for figure in figures if figure["dataset"] in datasets or figure["measured"]]


def _rule(rule: ScoringRule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "label": rule.label,
        "collar": rule.collar,
        "overlap": rule.overlap,
        "mapping": rule.mapping,
    }


def _column(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "title": column.title,
        "digest": column.digest,
        "synthetic": column.synthetic,
        "licence": column.licence,
        "recordings": list(column.recordings),
        "total": column.total,
        "audio": column.audio,
        "corpus": column.corpus,
        "part": column.part,
    }


def _place(place: Place) -> dict[str, Any]:
    return {"machine": place.machine, "device": place.device, "threads": place.threads}


def _line(board: Leaderboard, line: Line) -> dict[str, Any]:
    entry = line.entry
    scores = {name: _score(board, score) for name, score in entry.scores.items()}
    speeds = [
        _place(place) | {"wall": speed.wall, "audio": speed.audio, "rtf": speed.rtf if speed.audio > 0 else None}
        for place, speed in sorted(entry.speeds.items())
    ]
    found = {
        "rank": line.rank,
        "unranked": line.unranked,
        "system": entry.system,
        "title": entry.title,
        "baseline": entry.baseline,
        "compression": entry.compression,
        "trained_parts": entry.trained_parts,
        "may_have_seen": entry.may_have_seen,
        "exposure": {column.name: exposure(entry, column) for column in board.columns},
        "macro_der": line.macro,
        "delta": line.delta,
        "macro_jer": line.macro_jer,
        "scores": scores,
        "speeds": speeds,
        "stages": [_place(place) | {"seconds": stages} for place, stages in sorted(entry.stages.items())],
        "complexity": asdict(entry.complexity) if entry.complexity is not None else None,
        "macs": _macs(line),
        "measured": [_place(place) | _measured(measured) for place, measured in sorted(entry.measured.items())],
        "problems": entry.problems,
        "notes": entry.notes,
        "timings_left_out": entry.timings_left_out,
        "provenance": entry.provenance,
    }
    return {key: _plain(value, f"{entry.system}: {key}") for key, value in found.items()}


def _score(board: Leaderboard, score: Score) -> dict[str, Any]:
    return {
        "complete": score.complete,
        "rules": {
            rule.name: {
                "overall": score.total(rule.name).as_json()
                | {"der": score.der(rule.name)}
                | _jaccard(score.jaccard_total(rule.name) if score.jaccard else None)
                | {"jer": score.jer(rule.name)},
                "recordings": {
                    name: times[rule.name].as_json()
                    | _jaccard(score.jaccard[name][rule.name] if name in score.jaccard else None)
                    for name, times in score.recordings.items()
                },
            }
            for rule in board.rules
        },
        "failures": score.failures,
        "missing": score.missing,
    }


def _jaccard(errors: JaccardErrors | None) -> dict[str, float | None]:
    return {
        "jer": errors.jer if errors is not None else None,
        "reference_speakers": errors.speakers if errors is not None else None,
    }


def _macs(line: Line) -> dict[str, float | None]:
    complexity = line.entry.complexity
    return {
        "encoder_1s": complexity.encoder_macs_1s if complexity is not None else None,
        "window_per_s": window_macs(complexity) if complexity is not None else None,
        "pipeline_per_s": line.entry.pipeline_macs,
    }


def _measured(measured: Measured) -> dict[str, Any]:
    """As docs/results.md has it, where there is the same."""
    value = asdict(measured)
    value["import"] = value.pop("imported")
    for key in ("floor", "busy", "reasons"):  # they stand in "noise"
        value.pop(key)
    return value


def _plain(value: object, where: str) -> Any:
    """The value in JSON's own types; `where` is said in errors."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise StoreError(f"{where} is {value}, which JSON cannot hold; correct it where it comes from")
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(items)]
    if isinstance(value, PurePath | date | time):
        return str(value)
    raise StoreError(f"{where} is of type {type(value).__name__}, which JSON cannot hold; make it text or a number")
