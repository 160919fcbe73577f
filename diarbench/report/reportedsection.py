"""Reported figures below a leaderboard, in a section of their own: Markdown, LaTeX, CSV, terminal; pure functions."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from diarbench.report import text
from diarbench.report.escapes import csv_text, latex, latex_notes, latex_tabular, markdown, markdown_row
from diarbench.report.reported import LABEL
from diarbench.report.sheets import pair_table, pairs_markdown, plain_table, print_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from diarbench.leaderboard import Leaderboard
    from diarbench.report.reported import Reported, ReportedRow

TITLE = "Reported, not measured here"
PAIRS_TITLE = "Reported against measured"
_MOST_LINES = 20  # in a terminal


def section_heads(board: Leaderboard, reported: Reported) -> list[str]:
    """What it is, the datasets that any figure is on, and the source."""
    return ["Reported system", *(f"DER % {name}" for name in _datasets(board, reported)), "Source", "Table"]


def section_cells(board: Leaderboard, reported: Reported, row: ReportedRow) -> list[str]:
    """A row of the section: DERs in percent with the digits they were printed with."""
    ders = [_percent(row, name) for name in _datasets(board, reported)]
    return [row.label, *ders, row.table.card.source.short, row.table.name]


def _datasets(board: Leaderboard, reported: Reported) -> list[str]:
    with_figures = {name for row in reported.rows for name in row.ders}
    return [column.name for column in board.columns if column.name in with_figures]


def _percent(row: ReportedRow, dataset: str) -> str:
    """As printed; of fractions it is said that they are, and doubtful figures have a star."""
    figure = row.ders.get(dataset)
    if figure is None:
        return text.NOTHING
    doubtful = "*" if figure.doubts else ""
    return f"{figure.text}{' (fraction)' if figure.column.unit == '1' else ''}{doubtful}"


def section_notes(board: Leaderboard, reported: Reported) -> list[str]:
    """What has to be known to read the section, in sentences."""
    notes = [
        f"These figures are {LABEL}, and have no rank. Rows are under {board.rule.name} ({board.rule.label}), "
        "as their sources say; `diarbench report TABLE` lays a table out as it was published."
    ]
    if reported.other_rules:
        many = text.many(reported.other_rules, "figure")
        notes.append(f"{many} under other rules, or under rules that are none of ours, are in the JSON output.")
    if partial := [column.label for column in board.columns if len(column.recordings) != column.total]:
        notes.append(f"Only a part was run of {', '.join(partial)}: nothing measured on it stands against these.")
    return notes + [f"Doubtful (*): {doubt}." for doubt in reported.doubts]


def section_markdown(board: Leaderboard, reported: Reported) -> str:
    """The section for GitHub and the like; empty where there is nothing."""
    parts = []
    if reported.rows:
        heads = section_heads(board, reported)
        aligned = [":--", *["--:"] * (len(heads) - 3), ":--", ":--"]
        rows = [markdown_row(map(markdown, section_cells(board, reported, row))) for row in reported.rows]
        table = "\n".join([markdown_row(map(markdown, heads)), f"| {' | '.join(aligned)} |", *rows])
        parts.append(f"## {TITLE}\n\n{table}")
    if reported.pairs:
        parts.append(f"## {PAIRS_TITLE}\n\n{pairs_markdown(reported.pairs)}")
    notes = [f"- {markdown(note)}" for note in section_notes(board, reported)] if reported else []
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def section_latex(board: Leaderboard, reported: Reported) -> str:
    r"""Tables of their own (`\usepackage{booktabs, graphicx, amssymb}`); empty where there is nothing."""
    tables, notes = [], section_notes(board, reported)
    if reported.rows:
        heads = section_heads(board, reported)
        rows = [section_cells(board, reported, row) for row in reported.rows]
        tables.append(_latex_table(TITLE, notes, f"l{'r' * (len(heads) - 3)}ll", heads, rows))
    if reported.pairs:
        pairs = pair_table(reported.pairs)
        layout = "".join("r" if place in pairs.right else "l" for place in range(len(pairs.heads)))
        tables.append(_latex_table(PAIRS_TITLE, [] if reported.rows else notes, layout, pairs.heads, pairs.rows))
    return "\n".join(tables)


def _latex_table(
    title: str, notes: Sequence[str], layout: str, heads: Iterable[str], rows: Iterable[Iterable[str]]
) -> str:
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{latex(title)}.}}",
            *latex_tabular(
                layout,
                [
                    r"\toprule",
                    f"{' & '.join(map(latex, heads))} \\\\",
                    r"\midrule",
                    *(f"{' & '.join(map(latex, row))} \\\\" for row in rows),
                    r"\bottomrule",
                ],
            ),
            *(latex_notes(notes) if notes else []),
            r"\end{table}",
            "",
        ]
    )


def section_csv(reported: Reported) -> str:
    """A table of its own with one line for each figure and measurement; empty where there is nothing."""
    if not reported:
        return ""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["reported_by", "reported_row", "quantity", "column", "dataset", "rule", "reported", "reported_value", "system",
         "measured_value", "difference", "measured_on", "hardware", "doubts"]
    )  # fmt: skip
    paired = {(pair.figure.table.name, pair.figure.row, pair.figure.column.key) for pair in reported.pairs}
    alone = [figure for row in reported.rows for figure in row.ders.values()]
    lines = [(figure, None) for figure in alone if (figure.table.name, figure.row, figure.column.key) not in paired]
    for figure, pair in [*lines, *((pair.figure, pair) for pair in reported.pairs)]:
        texts = (
            figure.table.name, figure.table.label(figure.row), figure.column.figure or "", figure.column.key,
            figure.column.dataset or "", figure.rule_words or "", figure.text,
        )  # fmt: skip
        difference = pair.difference if pair is not None else None
        writer.writerow(
            [*map(csv_text, texts), repr(figure.value), csv_text(figure.system or ""),
             repr(pair.twin.value) if pair is not None else "", "" if difference is None else repr(difference),
             csv_text(pair.twin.where) if pair is not None else "", csv_text(figure.hardware or ""),
             csv_text("; ".join(figure.doubts))]
        )  # fmt: skip
    return out.getvalue()


def print_section(board: Leaderboard, reported: Reported, console: Console) -> None:
    """The section in a terminal: reported against measured, and the first of the other reported rows."""
    from rich.text import Text

    if reported.rows:
        console.print(Text(TITLE, style="bold magenta"))
        heads = section_heads(board, reported)
        rows = [section_cells(board, reported, row) for row in _telling(reported)]
        _print_table(heads, rows, {*range(1, len(heads) - 2)}, console)
        if len(rows) < len(reported.rows):
            console.print(f"and {len(reported.rows) - len(rows)} more; the JSON and the page hold all")
    if reported.pairs:
        console.print(Text(PAIRS_TITLE, style="bold magenta"))
        print_pairs(reported.pairs, console)
    for note in section_notes(board, reported):
        console.print(Text(text.plain(note), style="dim"))


def _telling(reported: Reported) -> list[ReportedRow]:
    """The first rows, those of systems that have a card before others."""
    chosen = sorted(reported.rows, key=lambda row: row.system is None)[:_MOST_LINES]
    return [row for row in reported.rows if row in chosen]


def _print_table(heads: Iterable[str], rows: Iterable[Iterable[str]], right: set[int], console: Console) -> None:
    from rich.text import Text

    table = plain_table()
    for place, head in enumerate(heads):
        table.add_column(Text(head), justify="right" if place in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(text.plain(cell)) for cell in row))
    console.print(table)
