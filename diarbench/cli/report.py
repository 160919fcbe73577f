"""`diarbench report`: pages and tables from stored runs."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diarbench.cli.common import CardsOption, RuleOption, RunsOption, console, note
from diarbench.errors import InputError

if TYPE_CHECKING:
    from diarbench.leaderboard import Leaderboard


class ReportFormat(StrEnum):
    """What a report is written as."""

    html = "html"
    md = "md"
    latex = "latex"
    csv = "csv"
    json = "json"
    table = "table"


def report(
    name: Annotated[
        str | None, typer.Argument(metavar="[REPORT]", help="Only the systems and datasets of this report card.")
    ] = None,
    runs: RunsOption = [Path("runs")],  # noqa: B006  typer reads it, nobody writes it
    systems: Annotated[list[str] | None, typer.Option("--system", "-s", help="Only this system. Repeatable.")] = None,
    datasets: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="Only this dataset. Repeatable.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N recordings of each dataset.")] = None,
    rule: RuleOption = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file [leaderboard.html; other formats: standard output].")
    ] = None,
    format: Annotated[ReportFormat, typer.Option("--format", help="What to write.")] = ReportFormat.html,
    open_page: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
    cards: CardsOption = [],  # noqa: B006
) -> None:
    """Write the leaderboard of stored runs: a page that opens offline, or Markdown, LaTeX, CSV, JSON."""
    from diarbench.report import (
        leaderboard_json,
        print_leaderboard,
        render_csv,
        render_html,
        render_latex,
        render_markdown,
    )

    board = stored_board(name, runs, systems, datasets, limit, rule, cards)
    if format is ReportFormat.table:
        print_leaderboard(board, console())
        return
    if format is ReportFormat.html:
        text = render_html(board, generated=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    elif format is ReportFormat.json:
        import json

        text = json.dumps(leaderboard_json(board), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    else:
        render = {ReportFormat.md: render_markdown, ReportFormat.latex: render_latex, ReportFormat.csv: render_csv}
        text = render[format](board)
    _deliver(text, format, output, open_page)


def stored_board(
    name: str | None,
    runs: list[Path],
    systems: list[str] | None,
    datasets: list[str] | None,
    limit: int | None,
    rule: str,
    cards: list[Path],
) -> Leaderboard:
    """The board of the runs below some folders; with a name, as that report card says. Raises InputError."""
    from diarbench.board import read_board
    from diarbench.registry import Registry
    from diarbench.scoring import RULES, find_rule
    from diarbench.store import find_runs

    title, ranking = "Leaderboard", rule or "full"
    if name is not None:
        registry = Registry.standard(cards)
        _, card = registry.choose_report(name)
        title, ranking = card.title, rule or card.rule
    for folder in runs:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder of results; make one with `diarbench run`")
    if name is not None:
        stored = [run.run for run in find_runs(runs)]
        systems = systems or _with_runs([s.name for s in registry.choose_systems(card.systems)], "system", stored)
        datasets = datasets or _with_runs(list(registry.choose_datasets(card.datasets)), "dataset", stored)
    return read_board(
        runs,
        title=title,
        rules=list(RULES.values()),
        rule=find_rule(ranking),
        systems=systems,
        datasets=datasets,
        limit=limit,
    )


def _with_runs(names: list[str], key: str, stored: list[dict[str, Any]]) -> list[str]:
    """Those of a report card that have run already; what hasn't is said, and doesn't keep the rest from being shown."""
    known = {run[key] for run in stored}
    absent = [name for name in names if name not in known]
    if absent and known:
        note(f"not run yet, and not shown: {', '.join(absent)}")
    return [name for name in names if name in known] or names


def _deliver(text: str, format: ReportFormat, output: Path | None, open_page: bool) -> None:
    from diarbench.files import write_whole

    if open_page and format is not ReportFormat.html:
        raise InputError("--open shows a page; leave out --format, or say --format html")
    if output is None and format is ReportFormat.html:
        output = Path("leaderboard.html")
    if output is None:
        typer.echo(text, nl=not text.endswith("\n"))
        return
    write_whole(output, text)
    typer.echo(f"written: {output}")
    if open_page:
        import webbrowser

        webbrowser.open(output.resolve().as_uri())
