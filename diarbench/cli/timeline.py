"""`diarbench timeline`: reference and hypotheses of single recordings over time, with the errors marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diarbench.cli.common import RunsOption, note
from diarbench.cli.score import (
    HypothesisFormatOption,
    MappingOption,
    ReferenceFormatOption,
    ReferenceOption,
    Region,
    RegionOption,
    TurnFormat,
    UemOption,
    by_name,
    hypotheses_of,
)
from diarbench.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from diarbench.leaderboard import Leaderboard, Score
    from diarbench.report import Timelines
    from diarbench.scoring import ErrorTimes, ScoringRule
    from diarbench.store import RunFolder
    from diarbench.types import Spans, Turns

_RUNS = Path("runs")

# A page with more would take minutes to read in, and longer to look through.
_MOST_ON_A_PAGE = 50


class TimelineFormat(StrEnum):
    """What timelines are written as."""

    html = "html"
    json = "json"


@dataclass(frozen=True, slots=True)
class _Source:
    """A recording that can be shown. Turns are read only where it is."""

    dataset: str | None
    recording: str
    reference: Turns
    region: Spans | None
    times: ErrorTimes | None  # of the first system; None where it has no result
    hypotheses: Callable[[], Mapping[str, Turns | str]]  # by system; a text says why there is none
    excluded: Spans = ()  # what the reference marks as not to be scored, where the region holds it


@dataclass(frozen=True, slots=True)
class _Found:
    """All recordings that can be shown, and what they are."""

    name: str
    systems: tuple[str, ...]
    region: str  # "uem", "turns" or "reference"
    sources: tuple[_Source, ...]


def timeline(
    systems: Annotated[
        list[str] | None,
        typer.Option(
            "--system", "-s", metavar="NAME",
            help="A system with stored runs; with -r NAME=PATH, hypotheses as `score` reads them. Repeatable.",
        ),
    ] = None,
    datasets: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="Only this dataset. Repeatable.")
    ] = None,
    recordings: Annotated[
        list[str] | None,
        typer.Option("--recording", metavar="ID", help="Only this recording [those with the highest DER]. Repeatable."),
    ] = None,
    most: Annotated[
        int, typer.Option(min=1, help="How many recordings: those with the highest DER of the first system.")
    ] = 8,
    runs: RunsOption = [_RUNS],  # noqa: B006  typer reads it, nobody writes it
    reference: Annotated[list[str] | None, ReferenceOption] = None,
    uem: UemOption = None,
    region: RegionOption = None,
    mapping: MappingOption = None,
    reference_format: ReferenceFormatOption = None,
    hypothesis_format: HypothesisFormatOption = None,
    rule: Annotated[
        str,
        typer.Option("--rule", help="full (no collar), fair (±250 ms), forgiving (±250 ms, no overlap), or as "
                     "collar=0.1,overlap=skip."),
    ] = "full",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file [timeline.html; JSON: standard output].")
    ] = None,
    format: Annotated[TimelineFormat, typer.Option("--format", help="A page that opens offline, or JSON.")]
    = TimelineFormat.html,
    open_page: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
) -> None:  # fmt: skip
    """Where the errors are: reference and systems over time.

    Systems are stored runs (-s A -s B -d DATASET), or files and folders of turns (-r REF -s A=PATH -s B=PATH).
    """
    from diarbench.api import parse_rule

    found_rule = parse_rule(rule, mapping.value if mapping else None)
    if open_page and format is not TimelineFormat.html:
        raise InputError("--open shows a page; leave out --format, or say --format html")
    if reference:
        _refuse({"-d": datasets, "--runs": runs != [_RUNS]}, "-r REF shows files of turns, named by -s NAME=PATH")
        found = _from_files(
            reference, systems or [], uem, found_rule,
            region=region, reference_format=reference_format, hypothesis_format=hypothesis_format,
        )  # fmt: skip
    else:
        options = {"-u": uem, "--region": region}
        formats = {"--reference-format": reference_format, "--hypothesis-format": hypothesis_format}
        _refuse({**options, **formats}, "needs references (-r REF)")
        found = _from_runs(runs, systems or [], datasets, found_rule)
    timelines = _make(found, found_rule, recordings, most)
    if format is TimelineFormat.html and len(timelines.shown) > _MOST_ON_A_PAGE:
        raise InputError(
            f"{len(timelines.shown)} recordings are too many for a page; show at most {_MOST_ON_A_PAGE}, or take "
            "--format json"
        )
    _deliver(timelines, format, output, open_page)


def _refuse(options: Mapping[str, object], why: str) -> None:
    for name, value in options.items():
        if value:
            raise InputError(f"{name}: {why}")


def _from_runs(
    runs: Sequence[Path], systems: Sequence[str], datasets: Sequence[str] | None, rule: ScoringRule
) -> _Found:
    """What stored runs have. Raises InputError."""
    from diarbench.board import read_board, shown_runs
    from diarbench.scoring import RULES

    if not systems:
        raise InputError("name systems with stored runs (-s NAME), or files of turns (-r REF -s NAME=PATH)")
    for text in systems:
        if "=" in text:
            raise InputError(f"-s {text}: needs references (-r REF)")
    for folder in runs:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder of results; make one with `diarbench run`")
    names = tuple(dict.fromkeys(systems))
    board = read_board(
        runs,
        title="",
        rules=list({**RULES, rule.name: rule}.values()),
        rule=rule,
        systems=names,
        datasets=list(dict.fromkeys(datasets)) if datasets else None,
    )
    stored = shown_runs(runs, board)
    sources = []
    for column in board.columns:
        dataset, folders = stored[column.name]
        first = _score(board, names[0], column.name)
        for recording in column.recordings:
            times = first.recordings.get(recording) if first is not None else None
            sources.append(
                _Source(
                    column.name,
                    recording,
                    dataset.references[recording],
                    dataset.uems.get(recording, ()),
                    times[rule.name] if times is not None else None,
                    _reading(board, names, column.name, recording, folders),
                )
            )
    shown = [column.name for column in board.columns]
    return _Found(", ".join(shown[:3]) + (", ..." if len(shown) > 3 else ""), names, "uem", tuple(sources))


def _score(board: Leaderboard, system: str, dataset: str) -> Score | None:
    return next(line.entry.scores.get(dataset) for line in board.lines if line.entry.system == system)


def _reading(
    board: Leaderboard, systems: Sequence[str], dataset: str, recording: str, folders: Mapping[str, RunFolder]
) -> Callable[[], Mapping[str, Turns | str]]:
    """What reads the hypotheses of one recording."""

    def read() -> Mapping[str, Turns | str]:
        found: dict[str, Turns | str] = {}
        for system in systems:
            score = _score(board, system, dataset)
            if score is not None and recording in score.recordings:
                found[system] = folders[system].hypothesis(recording)
            elif score is not None and recording in score.failures:
                found[system] = f"failed: {score.failures[recording]}"
            else:
                found[system] = "it never ran on this recording"
        return found

    return read


def _from_files(
    reference: Sequence[str],
    systems: Sequence[str],
    uem: Sequence[str] | None,
    rule: ScoringRule,
    *,
    region: Region | None,
    reference_format: TurnFormat | None,
    hypothesis_format: TurnFormat | None,
) -> _Found:
    """What files of turns have. Raises InputError."""
    from diarbench.api import score_sides
    from diarbench.turnfiles import read_regions, read_side
    from diarbench.types import Turns

    if not systems:
        raise InputError("-r REF needs a system: -s NAME=PATH")
    sides = {name: hypotheses_of(name, paths, hypothesis_format) for name, paths in by_name(systems).items()}
    references = read_side(reference, reference_format)
    regions = read_regions(uem) if uem else None
    everywhere = {id for side in sides.values() for id in side.turns}
    scores = {
        name: score_sides(
            references.turns, side.turns, regions, [rule],
            region=(region or Region.turns).value, also=everywhere, excluded=references.excluded, remarks=side.remarks,
            reference_from=reference[0], hypothesis_from=name, uem_from=uem[0] if uem else None,
        )
        for name, side in sides.items()
    }  # fmt: skip
    for text in references.remarks:
        note(text)
    for name, one in scores.items():
        for text in one.notes:
            note(f"{name}: {text}")
    first = next(iter(scores.values()))
    nobody = Turns.of([])
    sources = []
    for recording, by_rule in first.recordings.items():
        turns = references.turns.get(recording, nobody)
        scored = regions[recording] if regions is not None else None
        if first.region == "reference":
            scored = ((float(turns.starts[0]), float(turns.ends.max())),) if len(turns) else ()
        answers: dict[str, Turns | str] = {name: side.turns.get(recording, nobody) for name, side in sides.items()}
        sources.append(
            _Source(
                None, recording, turns, scored, by_rule[rule.name].times, partial(dict, answers),
                first.excluded.get(recording, ()),
            )
        )  # fmt: skip
    name = Path(reference[0].removeprefix("@")).resolve().stem if len(reference) == 1 else "references"
    return _Found(name, tuple(sides), first.region, tuple(sources))


def _make(found: _Found, rule: ScoringRule, recordings: Sequence[str] | None, most: int) -> Timelines:
    """Timelines of the recordings that were named, else of those that are worst. Raises InputError."""
    import diarbench
    from diarbench.api import REGIONS, describe
    from diarbench.report import Timelines, make_timeline

    shown = _named(found, recordings) if recordings else _worst(found, most)
    left_out = tuple((one.dataset, one.recording) for one in found.sources if one not in shown)
    chosen = f"{len(shown)} of {len(found.sources)} recordings" if left_out else "All recordings"
    if recordings:
        chosen += ", as they were named"
    elif len(found.sources) > 1:
        chosen += f", those with the highest DER of {found.systems[0]}" + ("" if left_out else " first")
    if left_out and not recordings:
        note(f"shown are {chosen}; --most N shows more, --recording ID others")
    return Timelines(
        title=f"Errors on {found.name}",
        rule=rule,
        scoring=f"{describe(rule)}; {REGIONS[found.region]}",
        region=found.region,
        systems=found.systems,
        shown=tuple(
            make_timeline(
                one.recording, one.reference, one.region, one.hypotheses(), rule,
                dataset=one.dataset, excluded=one.excluded,
            )
            for one in shown
        ),
        left_out=left_out,
        chosen=chosen,
        version=diarbench.__version__,
    )  # fmt: skip


def _named(found: _Found, recordings: Sequence[str]) -> list[_Source]:
    known = {one.recording for one in found.sources}
    for name in recordings:
        if name not in known:
            raise InputError(f"{found.name}: no recording {name!r}{did_you_mean(name, known)}")
    wanted = dict.fromkeys(recordings)
    return [one for name in wanted for one in found.sources if one.recording == name]


def _worst(found: _Found, most: int) -> list[_Source]:
    """Those with the highest DER; then those without reference speech, by their errors; then those without a result."""

    def badness(one: _Source) -> tuple[int, float]:
        if one.times is None:
            return (0, 0.0)
        return (1, one.times.errors) if one.times.der is None else (2, one.times.der)

    return sorted(found.sources, key=badness, reverse=True)[:most]


def _deliver(timelines: Timelines, format: TimelineFormat, output: Path | None, open_page: bool) -> None:
    import json

    from diarbench.files import write_whole
    from diarbench.report import render_timeline_html, timelines_json

    if format is TimelineFormat.json:
        text = json.dumps(timelines_json(timelines), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    else:
        text = render_timeline_html(timelines, generated=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
        output = output or Path("timeline.html")
    if output is None:
        typer.echo(text, nl=False)
        return
    write_whole(output, text)
    typer.echo(f"written: {output}")
    if open_page:
        import webbrowser

        webbrowser.open(output.resolve().as_uri())
