"""`diarbench score`: score RTTM against RTTM, without any run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diarbench.cli.common import Format, FormatOption, console, note, print_json
from diarbench.errors import InputError

if TYPE_CHECKING:
    from diarbench.scoring import ErrorTimes, ScoringRule

    Scores = dict[str, dict[str, ErrorTimes]]  # by recording, then by rule


def score(
    reference: Annotated[
        list[Path], typer.Option("--reference", "-r", help="Reference RTTM: files, or folders of them.")
    ],
    hypothesis: Annotated[list[Path], typer.Option("--hypothesis", "-y", help="Hypothesis RTTM, likewise.")],
    uem: Annotated[
        list[Path] | None,
        typer.Option("--uem", "-u", help="Scoring regions; without, from the first to the last turn of both sides."),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", help="full, fair or forgiving; repeatable [all three]."),
    ] = None,
    format: FormatOption = Format.table,
) -> None:
    """Score hypotheses against references, recording by recording and pooled."""
    from diarbench.scoring import RULES, ErrorTimes, find_rule

    rules = [find_rule(name) for name in rule] if rule else list(RULES.values())
    scores = _score_files(reference, hypothesis, uem or [], rules)
    overall = {
        r.name: sum((times[r.name] for times in scores.values()), ErrorTimes.zero()) for r in rules
    }  # fmt: skip
    if format is Format.json:
        print_json(
            {
                "rules": {
                    r.name: {
                        "label": r.label,
                        "overall": _as_json(overall[r.name]),
                        "recordings": {name: _as_json(times[r.name]) for name, times in scores.items()},
                    }
                    for r in rules
                }
            }
        )
    else:
        _print(rules, scores, overall)


def _score_files(references: list[Path], hypotheses: list[Path], uems: list[Path], rules: list[ScoringRule]) -> Scores:
    from diarbench.loaders.folder import read_references, read_uems
    from diarbench.scoring import score_recording
    from diarbench.types import Turns

    reference = _merge(references, read_references)
    hypothesis = _merge(hypotheses, read_references)
    uem = _merge(uems, read_uems) if uems else None
    # A UEM alone says that a recording counts, even where nobody speaks in it.
    ids = sorted(set(reference) | (set(hypothesis) & set(uem or ())))
    if not ids:
        raise InputError(f"{references[0]}: no recordings in the references")
    if uem is not None and (without := [name for name in ids if name not in uem]):
        raise InputError(f"{uems[0]}: no scoring region for the recording {without[0]!r}")
    if unknown := sorted(set(hypothesis) - set(ids)):
        note(f"{len(unknown)} hypotheses have no reference and are left out ({unknown[0]}, ...)")
    if absent := [name for name in ids if name not in hypothesis]:
        note(f"{len(absent)} recordings have no hypothesis; all their speech counts as missed ({absent[0]}, ...)")
    nobody = Turns.of([])
    return {
        name: score_recording(
            reference.get(name, nobody), hypothesis.get(name, nobody), uem[name] if uem is not None else None, rules
        )
        for name in ids
    }


def _merge(places: list[Path], read: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place in places:
        for name, value in read(place).items():
            if name in found:
                raise InputError(f"{place}: the recording id {name!r} is in another file too")
            found[name] = value
    return found


def _as_json(times: ErrorTimes) -> dict[str, float | None]:
    return {
        "der": times.der,
        "missed": times.missed,
        "false_alarm": times.false_alarm,
        "confusion": times.confusion,
        "scored": times.scored,
    }


def _print(rules: list[ScoringRule], scores: Scores, overall: dict[str, ErrorTimes]) -> None:
    from rich.table import Table

    out = console()
    for rule in rules:
        table = Table(title=f"{rule.name}: {rule.label}", title_justify="left")
        table.add_column("recording")
        for heading in ("DER %", "missed %", "false alarm %", "confusion %", "scored s"):
            table.add_column(heading, justify="right")
        for name, times in scores.items():
            table.add_row(name, *_cells(times[rule.name]))
        table.add_section()
        table.add_row("OVERALL", *_cells(overall[rule.name]), style="bold")
        out.print(table)


def _cells(times: ErrorTimes) -> list[str]:
    def percent(seconds: float) -> str:
        return f"{100 * seconds / times.scored:.2f}" if times.scored > 0 else "-"

    parts = (times.errors, times.missed, times.false_alarm, times.confusion)
    return [*(percent(part) for part in parts), f"{times.scored:.2f}"]
