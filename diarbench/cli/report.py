"""`diarbench report`: pages and tables from stored runs, and of published tables."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diarbench.cli.common import CardsOption, RuleOption, RunsOption, board_rules, console, note
from diarbench.errors import CardError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diarbench.leaderboard import Leaderboard
    from diarbench.published import Published
    from diarbench.registry import Registry


BaselineOption = Annotated[
    str | None,
    typer.Option("--baseline", metavar="SYSTEM", help="What all differences are taken against [as the cards say]."),
]


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
        str | None,
        typer.Argument(
            metavar="[REPORT]",
            help="A report card: only its systems and datasets. Or a published table, such as pruning-table-2: as its "
            "source lays it out, with what was measured here beside it (diarbench list published).",
        ),
    ] = None,
    runs: RunsOption = [Path("runs")],  # noqa: B006  typer reads it, nobody writes it
    systems: Annotated[list[str] | None, typer.Option("--system", "-s", help="Only this system. Repeatable.")] = None,
    datasets: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="Only this dataset. Repeatable.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N recordings of each dataset.")] = None,
    rule: RuleOption = None,
    baseline: BaselineOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file [leaderboard.html, or TABLE.html; other formats: standard output]."
        ),
    ] = None,
    format: Annotated[ReportFormat, typer.Option("--format", help="What to write.")] = ReportFormat.html,
    open_page: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
    no_reported: Annotated[
        bool, typer.Option("--no-reported", help="Without the section of figures that others reported.")
    ] = False,
    cards: CardsOption = [],  # noqa: B006
) -> None:
    """Write the leaderboard of stored runs. As a page that opens offline, Markdown, LaTeX, CSV or JSON."""
    from diarbench.registry import Registry

    registry = Registry.standard(cards)
    if name is not None and (table := _published_table(registry, name)) is not None:
        if systems or datasets or rule or baseline or limit is not None or no_reported:
            raise InputError(f"{name} is a published table, with its own rows, datasets and rules; name no others")
        _deliver_table(table, _board_for(table, runs), format, output, open_page)
        return
    board = stored_board(name, runs, systems, datasets, limit, rule, cards, baseline)
    note_hidden(registry, [line.entry.system for line in board.lines], [column.name for column in board.columns])
    wanted = registry.choose_report(name)[1].reported if name is not None else ["*"]
    _deliver_board(board, [] if no_reported else readable_tables(registry, wanted), format, output, open_page)
    _note_beginnings(board)  # below the table, where it says what has no rank


def readable_tables(registry: Registry, wanted: list[str]) -> list[Published]:
    """Published tables by name or pattern; of a pattern, those that can't be read are told and left out.

    Raises NotFoundError for a name that is none, CardError for a table that is named and can't be read.
    """
    from diarbench.published import read_published

    found: dict[str, Published] = {}
    for text in wanted:
        if text in registry.published:
            found[text] = read_published(registry.published[text])
            continue
        for name in registry.match_published(text):
            try:
                found[name] = read_published(registry.published[name])
            except CardError as error:
                note(f"not shown: {error}")
    return list(found.values())


def note_hidden(registry: Registry, systems: list[str], datasets: list[str]) -> None:
    """Say which systems and datasets of a board are not those that come with diarbench, though called as they are."""
    for text in [*registry.remarks("systems", systems), *registry.remarks("datasets", datasets)]:
        note(text)


def _note_beginnings(board: Leaderboard) -> None:
    """What to type where systems have run on the beginnings of the datasets only."""
    from diarbench.leaderboard import beginnings

    if found := beginnings(board):
        count, names = min(found.values()), ", ".join(found)
        note(
            f"{names}: only begun (with a limit, or stopped), and so not ranked; `--limit {count}` shows the first "
            f"{count} of each dataset, a run without --limit adds the rest"
        )


def _published_table(registry: Registry, name: str) -> Published | None:
    """The published table of that name or path, if it is one; a report card of the same name comes first."""
    from diarbench.published import read_published

    if name.endswith(".toml"):
        return read_published(Path(name)) if Path(name).resolve().parent.name == "published" else None
    return (
        read_published(registry.published[name])
        if name not in registry.reports and name in registry.published
        else None
    )


def _board_for(table: Published, runs: list[Path]) -> Leaderboard | None:
    """What was measured of a published table's systems; None where nothing was. Raises InputError."""
    from diarbench.board import read_board
    from diarbench.store import find_runs

    for folder in runs:
        if not folder.is_dir() and runs != [Path("runs")]:
            raise InputError(f"{folder}: no such folder of results; make one with `diarbench run`")
    stored = [run.run for run in find_runs([folder for folder in runs if folder.is_dir()])]
    stored = [run for run in stored if run["system"] in table.systems]
    if not stored:
        note(f"no results of the systems of {table.name}: what was measured stays empty")
        return None
    known = {run["dataset"] for run in stored}
    systems = [system for system in table.systems if system in {run["system"] for run in stored}]
    ranking, rules = board_rules(None)
    return read_board(
        runs,
        title=table.card.title,
        rules=rules,
        rule=ranking,
        systems=systems,
        datasets=[dataset for dataset in table.datasets if dataset in known] or None,
    )


def _deliver_board(
    board: Leaderboard, tables: list[Published], format: ReportFormat, output: Path | None, open_page: bool
) -> None:
    from diarbench import report as formats

    reported = formats.reported_on(board, tables)
    if format is ReportFormat.table:
        formats.print_leaderboard(board, console(), reported)
        return
    if format is ReportFormat.html:
        text = formats.render_html(board, generated=_now(), reported=reported)
    elif format is ReportFormat.json:
        text = _as_json(formats.leaderboard_json(board, tables))
    else:
        render = {
            ReportFormat.md: formats.render_markdown,
            ReportFormat.latex: formats.render_latex,
            ReportFormat.csv: formats.render_csv,
        }
        text = render[format](board, reported)
    _deliver(text, format, output, open_page, "leaderboard")


def _deliver_table(
    table: Published, board: Leaderboard | None, format: ReportFormat, output: Path | None, open_page: bool
) -> None:
    import diarbench
    from diarbench import report as formats

    sheet = formats.lay_out(table, board)
    if format is ReportFormat.table:
        formats.print_sheet(sheet, console())
        return
    if format is ReportFormat.html:
        text = formats.render_sheet_html(sheet, generated=_now(), version=diarbench.__version__)
    elif format is ReportFormat.json:
        text = _as_json(formats.sheet_json(sheet, board))
    else:
        render = {
            ReportFormat.md: formats.sheet_markdown,
            ReportFormat.latex: formats.sheet_latex,
            ReportFormat.csv: formats.sheet_csv,
        }
        text = render[format](sheet)
    _deliver(text, format, output, open_page, table.name)


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _as_json(value: dict[str, Any]) -> str:
    import json

    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def stored_board(
    name: str | None,
    runs: list[Path],
    systems: list[str] | None,
    datasets: list[str] | None,
    limit: int | None,
    rules: Sequence[str] | None,
    cards: list[Path],
    baseline: str | None = None,
) -> Leaderboard:
    """The board of the runs below some folders; with a name, as that report card says, where nothing else is asked for.
    The first rule ranks. Raises InputError."""
    from diarbench.board import read_board
    from diarbench.registry import Registry
    from diarbench.store import find_runs

    title, report = "Leaderboard", None
    if name is not None:
        registry = Registry.standard(cards)
        report = registry.choose_report(name, also=registry.published)
        title = report[1].title
    ranking, all_rules = board_rules(rules, report)
    for folder in runs:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder of results; make one with `diarbench run`")
    if report is not None:
        _, card = report
        stored = [run.run for run in find_runs(runs)]
        systems = systems or _with_runs([s.name for s in registry.choose_systems(card.systems)], "system", stored)
        datasets = datasets or _with_runs(list(registry.choose_datasets(card.datasets)), "dataset", stored)
    return read_board(
        runs,
        title=title,
        rules=all_rules,
        rule=ranking,
        systems=systems,
        datasets=datasets,
        limit=limit,
        baseline=baseline,
    )


def _with_runs(names: list[str], key: str, stored: list[dict[str, Any]]) -> list[str]:
    """Those of a report card that have run already; what hasn't is said, and doesn't keep the rest from being shown."""
    known = {run[key] for run in stored}
    absent = [name for name in names if name not in known]
    if absent and known:
        note(f"not run yet, and not shown: {', '.join(absent)}")
    return [name for name in names if name in known] or names


def _deliver(text: str, format: ReportFormat, output: Path | None, open_page: bool, name: str) -> None:
    from diarbench.files import write_whole

    if open_page and format is not ReportFormat.html:
        raise InputError("--open shows a page; leave out --format, or say --format html")
    if output is None and format is ReportFormat.html:
        output = Path(f"{name}.html")
    if output is None:
        typer.echo(text, nl=not text.endswith("\n"))
        return
    write_whole(output, text)
    typer.echo(f"written: {output}")
    if open_page:
        import webbrowser

        webbrowser.open(output.resolve().as_uri())
