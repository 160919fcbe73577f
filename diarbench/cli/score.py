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
    from collections.abc import Callable, Mapping, Sequence

    from diarbench.api import Scores
    from diarbench.cli.scoretables import Table
    from diarbench.turnfiles import Side


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


ReferenceOption = typer.Option(
    "--reference", "-r", metavar="PATH",
    help="References: RTTM, SegLST (.json) or STM files, folders of them, or @LIST, a file of paths.",
)  # fmt: skip
UemOption = Annotated[
    list[str] | None, typer.Option("--uem", "-u", metavar="PATH", help="Scoring regions: UEM files, likewise.")
]
RegionOption = Annotated[
    Region | None,
    typer.Option(
        show_default=False,
        help="Without a UEM: from the first to the last turn of both sides (turns), or of the reference alone [turns].",
    ),
]
MappingOption = Annotated[
    MappingOver | None,
    typer.Option(help="Map speakers over the whole region (as md-eval) or what is scored (as pyannote.metrics)."),
]
ReferenceFormatOption = Annotated[TurnFormat | None, typer.Option(help="Of the references [by their ending].")]
HypothesisFormatOption = Annotated[TurnFormat | None, typer.Option(help="Of the hypotheses [by their ending].")]


def score(
    reference: Annotated[list[str], ReferenceOption],
    hypothesis: Annotated[
        list[str] | None, typer.Option("--hypothesis", "-y", metavar="PATH", help="Hypotheses of one system, likewise.")
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option("--system", metavar="NAME=PATH", help="Hypotheses of several systems, instead; repeatable."),
    ] = None,
    uem: UemOption = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            help="full, fair (±250 ms), forgiving (±250 ms, no overlap), or as collar=0.1,overlap=skip with the "
            "collar in seconds on each side; repeatable, the first one ranks [the three that have names].",
        ),
    ] = None,
    region: RegionOption = None,
    mapping: MappingOption = None,
    per_speaker: Annotated[bool, typer.Option("--per-speaker", help="Show every reference speaker too.")] = False,
    reference_format: ReferenceFormatOption = None,
    hypothesis_format: HypothesisFormatOption = None,
    format: Annotated[ScoreFormat, typer.Option("--format", help="How to print the scores.")] = ScoreFormat.table,
) -> None:  # fmt: skip
    """Score hypotheses against references, by recording and pooled. Several systems make a leaderboard."""
    from diarbench.scoring import RULES

    if bool(hypothesis) == bool(system):
        raise InputError("give either hypotheses (-y PATH) or systems (--system NAME=PATH)")
    scores = scored(
        reference, {"": hypothesis} if hypothesis else by_name(system or []), uem, rule or list(RULES),
        region=region, mapping=mapping, reference_format=reference_format, hypothesis_format=hypothesis_format,
    )  # fmt: skip
    for name, one in scores.items():
        for text in one.notes:
            note(f"{name}: {text}" if name else text)
        if name and one.absent:
            note(f"{name} has no rank, since it lacks recordings")
    _print(scores, format, per_speaker=per_speaker)


def by_name(systems: Sequence[str]) -> dict[str, list[str]]:
    """Paths by the name of the system, from words such as NAME=PATH. Raises InputError."""
    places: dict[str, list[str]] = {}
    for text in systems:
        name, equals, path = text.partition("=")
        if not (name.strip() and equals and path):
            raise InputError(f"--system {text!r}: NAME=PATH was expected, such as --system {Path(text).name}={text}")
        places.setdefault(name.strip(), []).append(path)
    return places


def scored(
    reference: Sequence[str],
    systems: Mapping[str, Sequence[str]],
    uem: Sequence[str] | None,
    rules: Sequence[str],
    *,
    region: Region | None,
    mapping: MappingOver | None,
    reference_format: TurnFormat | None,
    hypothesis_format: TurnFormat | None,
) -> dict[str, Scores]:
    """Scores of the systems at these places, all on the same recordings; the name "" is that of an only system
    without one. Says what is odd in the references. Raises InputError."""
    from diarbench.api import parse_rule, score_sides
    from diarbench.turnfiles import read_regions, read_side

    found = [parse_rule(text, mapping.value if mapping else None) for text in rules]
    references = read_side(reference, reference_format)
    hypotheses = {name: hypotheses_of(name, paths, hypothesis_format) for name, paths in systems.items()}
    regions = read_regions(uem) if uem else None
    everywhere = {id for side in hypotheses.values() for id in side.turns}
    scores = {
        name: score_sides(
            references.turns, side.turns, regions, found,
            region=(region or Region.turns).value, also=everywhere, excluded=references.excluded, remarks=side.remarks,
            reference_from=reference[0], hypothesis_from=name or systems[name][0], uem_from=uem[0] if uem else None,
        )
        for name, side in hypotheses.items()
    }  # fmt: skip
    for text in references.remarks:  # once, however many systems there are
        note(text)
    return scores


def hypotheses_of(name: str, paths: Sequence[str], format: TurnFormat | None) -> Side:
    """What one system says. One that is named several times is all that lies at its places. Raises InputError."""
    from diarbench.turnfiles import Side, read_side

    if not name:
        return read_side(paths, format, reference=False)
    found = Side({})
    for path in paths:
        side = read_side([path], format, reference=False)
        if again := sorted(found.turns.keys() & side.turns.keys()):
            raise InputError(
                f"--system: {name} is given twice, and {path} has the recording {again[0]!r} again; "
                "give each system a name of its own"
            )
        found = Side({**found.turns, **side.turns}, {}, (*found.remarks, *side.remarks))
    return found


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
