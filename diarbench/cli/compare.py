"""`diarbench compare`: systems held against one, from stored runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diarbench.cli.common import Format, FormatOption, RuleOption, RunsOption, console, print_json
from diarbench.cli.report import stored_board

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from diarbench.compare import Against, Comparison, Difference
    from diarbench.scoring.statistics import Changes

FORMAT = 1


class Method(StrEnum):
    """How intervals are made from resamples."""

    bca = "bca"
    percentile = "percentile"


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A system with stored runs.")],
    others: Annotated[list[str], typer.Argument(metavar="B", help="The systems to hold against it, one by one.")],
    runs: RunsOption = [Path("runs")],  # noqa: B006  typer reads it, nobody writes it
    datasets: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="Only this dataset. Repeatable.")
    ] = None,
    rule: RuleOption = "",
    level: Annotated[float, typer.Option(help="Confidence level of the intervals.")] = 0.95,
    method: Annotated[Method, typer.Option(help="Kind of bootstrap interval.")] = Method.bca,
    resamples: Annotated[int, typer.Option(min=100, max=1_000_000, help="Bootstrap resamples.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of resampling; the same seed gives the same digits.")] = 0,
    most: Annotated[int, typer.Option(min=1, help="Recordings to show, those that changed most.")] = 10,
    format: FormatOption = Format.table,
) -> None:
    """Hold systems against A: differences with intervals and p-values, and what they allow to conclude."""
    from diarbench.compare import compare as compare_systems

    names = list(dict.fromkeys([first, *others]))
    board = stored_board(None, runs, names, datasets, None, rule, [])
    result = compare_systems(board, first, others, level=level, method=method.value, resamples=resamples, seed=seed)
    if format is Format.json:
        print_json(_as_json(result, most))
        return
    out = console()
    for one in result.others:
        _print_against(out, result, one, most)
    if len(result.others) > 1:
        _print_summary(out, result)


def _as_json(result: Comparison, most: int) -> dict[str, Any]:
    """As docs/comparing.md documents it."""
    import diarbench

    return {
        "format": FORMAT,
        "version": diarbench.__version__,
        "a": result.first,
        "rule": result.rule.name,
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


def _print_against(out: Console, result: Comparison, one: Against, most: int) -> None:
    label = f"DER, {result.rule.label}; {100 * result.level:.6g} % intervals ({result.method}), difference in points"
    table = _table(label, "dataset", f"recordings|{result.first}|{one.system}|difference|interval|p")
    for dataset in one.datasets:
        coverage = f"{len(dataset.recordings)} of {dataset.of}"
        table.add_row(dataset.name, coverage, *_cells(dataset.difference))
    table.add_section()
    table.add_row("macro", "", *_cells(one.macro), style="bold")
    out.print(table)
    title = "Differences of single recordings, in points"
    spread = _table(title, "dataset", "recordings|better|worse|median|quartiles|P90|maximum")
    for dataset in one.datasets:
        spread.add_row(dataset.name, *_spread(dataset.changes))
    spread.add_section()
    spread.add_row("all", *_spread(one.changes), style="bold")
    out.print(spread)
    title = "Recordings that changed most"
    changed = _table(title, "dataset|recording", f"{result.first}|{one.system}|difference|more errors (s)")
    for change in one.most_changed(most):
        cells = (_percent(change.a), _percent(change.b), _points(change.b_minus_a), f"{change.more_errors:+.2f}")
        changed.add_row(change.dataset, change.recording, *cells)
    out.print(changed)
    if silent := sum(dataset.without_speech for dataset in one.datasets):
        out.print(f"Recordings without reference speech, which count by their false alarms only: {silent}.")
    out.print(f"{one.conclusion}\n", markup=False)


def _print_summary(out: Console, result: Comparison) -> None:
    table = _table(f"Against {result.first}", "system", f"macro DER|less {result.first}|interval|p|p (Holm)")
    for one in result.others:
        _, b, *difference = _cells(one.macro)
        table.add_row(one.system, b, *difference, _p(one.p_holm))
    out.print(table)


def _table(title: str, left: str, right: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading in left.split("|"):
        table.add_column(heading)
    for heading in right.split("|"):
        table.add_column(heading, justify="right")
    return table


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
