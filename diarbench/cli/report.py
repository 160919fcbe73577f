"""`diarbench report` and `diarbench compare`: pages and differences from stored runs."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diarbench.cli.common import CardsOption, Format, FormatOption, RuleOption, RunsOption, console, print_json
from diarbench.errors import InputError

if TYPE_CHECKING:
    from diarbench.leaderboard import Entry, Leaderboard


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

    board = _board(name, runs, systems, datasets, limit, rule, cards)
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


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A system with stored runs.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The system to hold against it.")],
    runs: RunsOption = [Path("runs")],  # noqa: B006
    datasets: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="Only this dataset. Repeatable.")
    ] = None,
    rule: RuleOption = "",
    most: Annotated[int, typer.Option(min=1, help="Recordings to show, those that changed most.")] = 10,
    format: FormatOption = Format.table,
) -> None:
    """Hold system B against system A: DER per dataset and macro, and the recordings that changed most."""
    board = _board(None, runs, [first, second], datasets, None, rule, [])
    entries = {line.entry.system: line.entry for line in board.lines}
    result = _compared(board, entries[first], entries[second], most)
    if format is Format.json:
        print_json(result)
    else:
        _print_compared(board, result)


def _board(
    name: str | None,
    runs: list[Path],
    systems: list[str] | None,
    datasets: list[str] | None,
    limit: int | None,
    rule: str,
    cards: list[Path],
) -> Leaderboard:
    from diarbench.board import read_board
    from diarbench.registry import Registry
    from diarbench.scoring import RULES, find_rule

    title, ranking = "Leaderboard", rule or "full"
    if name is not None:
        registry = Registry.standard(cards)
        _, card = registry.choose_report(name)
        title, ranking = card.title, rule or card.rule
        systems = systems or [spec.name for spec in registry.choose_systems(card.systems)]
        datasets = datasets or list(registry.choose_datasets(card.datasets))
    for folder in runs:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder of results; make one with `diarbench run`")
    return read_board(
        runs,
        title=title,
        rules=list(RULES.values()),
        rule=find_rule(ranking),
        systems=systems,
        datasets=datasets,
        limit=limit,
    )


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


def _compared(board: Leaderboard, first: Entry, second: Entry, most: int) -> dict[str, Any]:
    """B less A under the ranking rule, on the recordings that both have."""
    from diarbench.scoring import ErrorTimes

    rule = board.rule.name
    datasets: dict[str, Any] = {}
    changes: list[dict[str, Any]] = []
    for column in board.columns:
        scores = [entry.scores.get(column.name) for entry in (first, second)]
        if scores[0] is None or scores[1] is None:
            datasets[column.name] = {
                "recordings": 0,
                "of": len(column.recordings),
                "a": None,
                "b": None,
                "b_minus_a": None,
            }
            continue
        common = [name for name in column.recordings if all(name in score.recordings for score in scores if score)]
        a, b = (
            sum((s.recordings[name][rule] for name in common), ErrorTimes.zero()).der for s in (scores[0], scores[1])
        )
        datasets[column.name] = {
            "recordings": len(common),
            "of": len(column.recordings),
            "a": a,
            "b": b,
            "b_minus_a": _less(b, a),
        }
        for name in common:
            x, y = (score.recordings[name][rule].der for score in (scores[0], scores[1]))
            if x is not None and y is not None:
                changes.append({"dataset": column.name, "recording": name, "a": x, "b": y, "b_minus_a": y - x})
    changes.sort(key=lambda change: (-abs(change["b_minus_a"]), change["recording"]))
    macros = {line.entry.system: line.macro[rule] for line in board.lines}
    a, b = macros[first.system], macros[second.system]
    return {
        "a": first.system,
        "b": second.system,
        "rule": rule,
        "macro": {"a": a, "b": b, "b_minus_a": _less(b, a)},
        "datasets": datasets,
        "recordings": changes[:most],
    }


def _less(value: float | None, base: float | None) -> float | None:
    return value - base if value is not None and base is not None else None


def _print_compared(board: Leaderboard, result: dict[str, Any]) -> None:
    from rich.table import Table

    out = console()
    table = Table(title=f"DER, {board.rule.label}", title_justify="left")
    for heading in ("dataset", "recordings", result["a"], result["b"], "difference (points)"):
        table.add_column(heading, justify="left" if heading == "dataset" else "right")
    for name, row in result["datasets"].items():
        table.add_row(name, f"{row['recordings']} of {row['of']}", *_points(row))
    table.add_section()
    table.add_row("macro", "", *_points(result["macro"]), style="bold")
    out.print(table)
    changed = Table(title="Recordings that changed most", title_justify="left")
    for heading in ("dataset", "recording", result["a"], result["b"], "difference (points)"):
        changed.add_column(heading, justify="left" if heading in ("dataset", "recording") else "right")
    for row in result["recordings"]:
        changed.add_row(row["dataset"], row["recording"], *_points(row))
    out.print(changed)


def _points(row: dict[str, Any]) -> list[str]:
    values = [f"{100 * row[key]:.2f} %" if row[key] is not None else "-" for key in ("a", "b")]
    difference = row["b_minus_a"]
    return [*values, f"{100 * difference:+.2f}" if difference is not None else "-"]
