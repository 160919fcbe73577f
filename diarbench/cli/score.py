"""`diarbench score`: score turns against turns, without any run."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diarbench.cli.common import note, print_json
from diarbench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from diarbench.api import Scores
    from diarbench.cli.scoretables import Table


class ScoreFormat(StrEnum):
    """How scores are printed."""

    table = "table"
    json = "json"
    csv = "csv"
    md = "md"
    latex = "latex"


class TurnFormat(StrEnum):
    """What files of turns can be."""

    rttm = "rttm"
    seglst = "seglst"
    stm = "stm"


class Region(StrEnum):
    """What is scored without a UEM."""

    turns = "turns"
    reference = "reference"


class MappingOver(StrEnum):
    """Over what time speakers are mapped."""

    region = "region"
    scored = "scored"


def score(
    reference: Annotated[
        list[str],
        typer.Option(
            "--reference", "-r", metavar="PATH",
            help="References: RTTM, SegLST (.json) or STM files, folders of them, or @LIST, a file of paths.",
        ),
    ],
    hypothesis: Annotated[
        list[str] | None, typer.Option("--hypothesis", "-y", metavar="PATH", help="Hypotheses of one system, likewise.")
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option("--system", metavar="NAME=PATH", help="Hypotheses of several systems, instead; repeatable."),
    ] = None,
    uem: Annotated[
        list[str] | None, typer.Option("--uem", "-u", metavar="PATH", help="Scoring regions: UEM files, likewise.")
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            help="full, fair (±250 ms), forgiving (±250 ms, no overlap), or as collar=0.1,overlap=skip with the "
            "collar in seconds on each side; repeatable, the first one ranks [the three that have names].",
        ),
    ] = None,
    region: Annotated[
        Region,
        typer.Option(help="Without a UEM: from the first to the last turn of both sides, or of the reference alone."),
    ] = Region.turns,
    mapping: Annotated[
        MappingOver | None,
        typer.Option(help="Map speakers over the whole region (as md-eval) or what is scored (as pyannote.metrics)."),
    ] = None,
    per_speaker: Annotated[bool, typer.Option("--per-speaker", help="Show every reference speaker too.")] = False,
    reference_format: Annotated[
        TurnFormat | None, typer.Option(help="Of the references [by their ending].")
    ] = None,
    hypothesis_format: Annotated[
        TurnFormat | None, typer.Option(help="Of the hypotheses [by their ending].")
    ] = None,
    format: Annotated[ScoreFormat, typer.Option("--format", help="How to print the scores.")] = ScoreFormat.table,
) -> None:  # fmt: skip
    """Score hypotheses against references, recording by recording and pooled; several systems make a leaderboard."""
    from diarbench.api import parse_rule, score_sides
    from diarbench.scoring import RULES
    from diarbench.turnfiles import read_regions, read_turns

    places = _systems(hypothesis or [], system or [])
    rules = [parse_rule(text, mapping.value if mapping else None) for text in rule or RULES]
    references = read_turns(reference, reference_format)
    hypotheses = {name: read_turns(paths, hypothesis_format) for name, paths in places.items()}
    regions = read_regions(uem) if uem else None
    everywhere = {name for turns in hypotheses.values() for name in turns}
    scores = {
        name: score_sides(
            references, turns, regions, rules,
            region=region.value, also=everywhere, reference_from=reference[0], uem_from=uem[0] if uem else None,
        )
        for name, turns in hypotheses.items()
    }  # fmt: skip
    for name, one in scores.items():
        for text in one.notes:
            note(f"{name}: {text}" if name else text)
        if name and one.absent:
            note(f"{name} has no rank, since it lacks recordings")
    _print(scores, format, per_speaker=per_speaker)


def _systems(hypothesis: list[str], system: list[str]) -> dict[str, list[str]]:
    """Paths by the name of the system; "" is the only one, without a name."""
    if bool(hypothesis) == bool(system):
        raise InputError("give either hypotheses (-y PATH) or systems (--system NAME=PATH)")
    if hypothesis:
        return {"": hypothesis}
    places: dict[str, list[str]] = {}
    for text in system:
        name, equals, path = text.partition("=")
        if not (name.strip() and equals and path):
            raise InputError(f"--system {text!r}: NAME=PATH was expected, such as --system {Path(text).name}={text}")
        places.setdefault(name.strip(), []).append(path)
    return places


def _print(systems: Mapping[str, Scores], format: ScoreFormat, *, per_speaker: bool) -> None:
    from diarbench.cli import scoretables

    single = systems.get("")
    if format is ScoreFormat.json:
        found = {name: scoretables.as_json(scores, per_speaker=per_speaker) for name, scores in systems.items()}
        if single is None:
            ranks = scoretables.ranked(systems)
            found = {name: {"rank": ranks[name], **found[name]} for name in ranks}
        print_json(found[""] if single is not None else {"systems": found})
    elif format is ScoreFormat.csv:
        sys.stdout.write(scoretables.render_csv(systems, per_speaker=per_speaker))
    else:
        renderers: dict[ScoreFormat, Callable[[Table], str]] = {
            ScoreFormat.table: scoretables.render_text,
            ScoreFormat.md: scoretables.render_markdown,
            ScoreFormat.latex: scoretables.render_latex,
        }
        tables = list(scoretables.recording_tables(single)) if single else [scoretables.leaderboard(systems)]
        tables += scoretables.speaker_tables(systems) if per_speaker else []
        sys.stdout.write("\n".join(map(renderers[format], tables)))
