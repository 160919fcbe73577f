"""`diarbench compare`: systems held against one, from stored runs or folders of turns."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diarbench.cli.common import Format, FormatOption, RunsOption, console, note, print_json
from diarbench.cli.report import stored_board
from diarbench.cli.score import (
    HypothesisFormatOption,
    MappingOption,
    ReferenceFormatOption,
    ReferenceOption,
    RegionOption,
    UemOption,
    by_name,
    scored,
)
from diarbench.errors import InputError, counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from diarbench.api import Scores
    from diarbench.compare import Against, Comparison, Difference
    from diarbench.leaderboard import Leaderboard
    from diarbench.scoring.statistics import Changes

FORMAT = 1


class Method(StrEnum):
    """How intervals are made from resamples."""

    bca = "bca"
    percentile = "percentile"


class Metric(StrEnum):
    """Which error rate is compared."""

    der = "der"
    jer = "jer"


_RUNS = Path("runs")


def compare(
    first: Annotated[str | None, typer.Argument(metavar="A", help="A system with stored runs.")] = None,
    others: Annotated[
        list[str] | None, typer.Argument(metavar="B", help="The systems to hold against it, one by one.")
    ] = None,
    runs: RunsOption = [_RUNS],  # noqa: B006  typer reads it, nobody writes it
    datasets: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="Only this dataset. Repeatable.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N recordings of each dataset.")] = None,
    reference: Annotated[list[str] | None, ReferenceOption] = None,
    uem: UemOption = None,
    system: Annotated[
        list[str] | None,
        typer.Option(
            "--system", metavar="NAME=PATH",
            help="Instead of stored runs, hypotheses as `score` reads them; the others are held against the first.",
        ),
    ] = None,
    region: RegionOption = None,
    mapping: MappingOption = None,
    reference_format: ReferenceFormatOption = None,
    hypothesis_format: HypothesisFormatOption = None,
    rule: Annotated[
        str,
        typer.Option("--rule", help="full (no collar), fair (±250 ms), forgiving (±250 ms, no overlap), or as "
                     "collar=0.1,overlap=skip."),
    ] = "full",
    metric: Annotated[Metric, typer.Option(help="The error rate to compare.")] = Metric.der,
    level: Annotated[float, typer.Option(help="Confidence level of the intervals.")] = 0.95,
    method: Annotated[Method, typer.Option(help="Kind of bootstrap interval.")] = Method.bca,
    resamples: Annotated[int, typer.Option(min=100, max=1_000_000, help="Bootstrap resamples.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of resampling; the same seed gives the same digits.")] = 0,
    most: Annotated[int, typer.Option(min=1, help="Recordings to show, those that changed most.")] = 10,
    format: FormatOption = Format.table,
) -> None:  # fmt: skip
    """Hold systems against A: differences, intervals, p-values.

    Ends with what they allow to conclude. Systems are stored runs (A B ...), or folders of turns
    (-r REF --system A=FOLDER --system B=FOLDER ...).
    """
    from diarbench.compare import compare as compare_systems

    if reference:
        names = list(by_name(system or []))
        stored = {"A": first, "-d": datasets, "--runs": runs != [_RUNS]}
        _refuse(stored, "-r REF compares folders of turns, named by --system NAME=PATH")
        if len(names) < 2:
            raise InputError("-r REF needs two systems: --system A=PATH --system B=PATH")
        scores = scored(
            reference, by_name(system or []), uem, [rule],
            region=region, mapping=mapping, reference_format=reference_format, hypothesis_format=hypothesis_format,
        )  # fmt: skip
        board = _board(scores, reference, limit)
        scored_over = next(iter(scores.values())).region
    else:
        folders = {
            "-u": uem, "--system": system, "--region": region, "--mapping": mapping,
            "--reference-format": reference_format, "--hypothesis-format": hypothesis_format,
        }  # fmt: skip
        _refuse(folders, "needs references (-r REF)")
        if first is None or not others:
            raise InputError(
                "name two systems with stored runs (A B), or folders of turns (-r REF --system A=PATH --system B=PATH)"
            )
        names = list(dict.fromkeys([first, *others]))
        board = stored_board(None, runs, names, datasets, limit, [rule], [])
        names, scored_over = [first, *others], "uem"
    result = compare_systems(
        board,
        names[0],
        names[1:],
        metric=metric.value,
        level=level,
        method=method.value,
        resamples=resamples,
        seed=seed,
    )
    if format is Format.json:
        print_json(_as_json(result, scored_over, most))
        return
    out = console()
    for one in result.others:
        _print_against(out, result, one, scored_over, most)
    if len(result.others) > 1:
        _print_summary(out, result)


def _refuse(options: Mapping[str, object], why: str) -> None:
    for name, value in options.items():
        if value:
            raise InputError(f"{name}: {why}")


def _board(systems: Mapping[str, Scores], reference: Sequence[str], limit: int | None) -> Leaderboard:
    """The board of systems that were scored now; its only dataset has the name of the references."""
    from dataclasses import replace

    from diarbench.api import board_of

    for name, one in systems.items():
        for text in replace(one, absent=()).notes:
            note(f"{name}: {text}")
        if one.absent:
            more = ", ..." if len(one.absent) > 1 else ""
            said = counted(
                len(one.absent), "recording has no hypothesis and is", "recordings have no hypothesis and are"
            )
            note(f"{name}: {said} not compared ({one.absent[0]}{more})")
    name = Path(reference[0].removeprefix("@")).resolve().stem if len(reference) == 1 else "references"
    return board_of(systems, name=name, limit=limit)


def _as_json(result: Comparison, scored_over: str, most: int) -> dict[str, Any]:
    """As docs/comparing.md documents it."""
    import diarbench

    return {
        "format": FORMAT,
        "version": diarbench.__version__,
        "a": result.first,
        "metric": result.metric,
        "rule": result.rule.name,
        "region": scored_over,
        "level": result.level,
        "method": result.method,
        "resamples": result.resamples,
        "seed": result.seed,
        "comparisons": [_against_json(one, most) for one in result.others],
    }


def _against_json(one: Against, most: int) -> dict[str, Any]:
    return {
        "b": one.system,
        "conclusion": one.conclusion,
        "macro": {**_difference_json(one.macro), "p_holm": one.p_holm},
        "datasets": {
            dataset.name: {
                "recordings": len(dataset.recordings),
                "of": dataset.of,
                "without_speech": dataset.without_speech,
                **_difference_json(dataset.difference),
                "changes": _changes_json(dataset.changes),
            }
            for dataset in one.datasets
        },
        "changes": _changes_json(one.changes),
        "recordings": [
            {
                "dataset": change.dataset,
                "recording": change.recording,
                "a": change.a,
                "b": change.b,
                "b_minus_a": change.b_minus_a,
                "more_errors": change.more_errors,
            }
            for change in one.most_changed(most)
        ],
    }


def _difference_json(difference: Difference) -> dict[str, float | None]:
    interval = difference.interval
    return {
        "a": difference.a,
        "b": difference.b,
        "b_minus_a": difference.b_minus_a,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "p_value": difference.p_value,
    }


def _changes_json(changes: Changes | None) -> dict[str, float] | None:
    from dataclasses import asdict

    return asdict(changes) if changes is not None else None


def _print_against(out: Console, result: Comparison, one: Against, scored_over: str, most: int) -> None:
    from diarbench.api import REGIONS, describe

    how = f"{describe(result.rule)}; {REGIONS[scored_over]}; {100 * result.level:.6g} % intervals ({result.method})"
    names = (result.first, one.system)
    table = _table(
        f"{result.metric.upper()}, {how}, difference in points",
        ["dataset", "recordings", *names, "difference", "interval", "p"],
    )
    for dataset in one.datasets:
        coverage = f"{len(dataset.recordings)} of {dataset.of}"
        table.add_row(_plain(dataset.name), coverage, *_cells(dataset.difference))
    table.add_section()
    table.add_row("macro", "", *_cells(one.macro), style="bold")
    out.print(table)
    title = "Differences of single recordings, in points"
    heads = ["dataset", "recordings", "better", "worse", "median", "quartiles", "P90", "maximum"]
    spread = _table(title, heads)
    for dataset in one.datasets:
        spread.add_row(_plain(dataset.name), *_spread(dataset.changes))
    spread.add_section()
    spread.add_row("all", *_spread(one.changes), style="bold")
    out.print(spread)
    title, more = "Recordings that changed most", f"more errors ({'s' if result.metric == 'der' else 'speakers'})"
    changed = _table(title, ["dataset", "recording", *names, "difference", more], texts=2)
    for change in one.most_changed(most):
        cells = (_percent(change.a), _percent(change.b), _points(change.b_minus_a), f"{change.more_errors:+.2f}")
        changed.add_row(_plain(change.dataset), _plain(change.recording), *cells)
    out.print(changed)
    if silent := sum(dataset.without_speech for dataset in one.datasets):
        how = "which count by their false alarms only" if result.metric == "der" else "which have no JER"
        out.print(f"Recordings without reference speech, {how}: {silent}.")
    out.print(f"{one.conclusion}\n", markup=False)


def _print_summary(out: Console, result: Comparison) -> None:
    heads = ["system", f"macro {result.metric.upper()}", f"less {result.first}", "interval", "p", "p (Holm)"]
    table = _table(f"Against {result.first}", heads)
    for one in result.others:
        _, b, *difference = _cells(one.macro)
        table.add_row(_plain(one.system), b, *difference, _p(one.p_holm))
    out.print(table)


def _table(title: str, heads: Sequence[str], *, texts: int = 1) -> Table:
    """A table whose first columns hold text. In a narrow window words go on in the next line: cut, two names may look
    alike."""
    from rich.table import Table

    table = Table(title=_plain(title), title_justify="left")
    for position, heading in enumerate(heads):
        table.add_column(_plain(heading), justify="left" if position < texts else "right", overflow="fold")
    return table


def _plain(name: str) -> Text:
    """A name as it is: one in brackets would be taken for a style."""
    from rich.text import Text

    return Text(name)


def _cells(difference: Difference) -> list[str]:
    interval = difference.interval
    shown = "-"
    if interval is not None and interval.low is not None:
        shown = f"{_points(interval.low)} to {_points(interval.high)}"
    values = [_percent(difference.a), _percent(difference.b), _points(difference.b_minus_a)]
    return [*values, shown, _p(difference.p_value)]


def _spread(changes: Changes | None) -> list[str]:
    if changes is None:
        return ["0", *["-"] * 6]
    quartiles = f"{_points(changes.quartile_low)} to {_points(changes.quartile_high)}"
    spread = [_points(changes.median), quartiles, _points(changes.percentile_90), _points(changes.maximum)]
    return [str(changes.recordings), str(changes.better), str(changes.worse), *spread]


def _percent(value: float | None) -> str:
    return f"{100 * value:.2f} %" if value is not None else "-"


def _points(value: float | None) -> str:
    return f"{100 * value:+.2f}" if value is not None else "-"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"
