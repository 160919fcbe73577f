"""The table of a leaderboard as Markdown, LaTeX and CSV, with the columns of columns.py; pure functions."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from diarbench.report import text
from diarbench.report.columns import TableColumn, best_values, is_best, table_columns, telling_columns
from diarbench.report.escapes import (
    LATEX_NEEDS,
    csv_text,
    latex,
    latex_notes,
    latex_tabular,
    markdown,
    markdown_row,
)
from diarbench.report.measures import notes_on, sessions, speedup_legend
from diarbench.report.reportedsection import section_csv, section_latex, section_markdown
from diarbench.report.troubles import DETAIL, timings_left_out, troubles
from diarbench.report.values import MACRO_LEGEND, baseline_legend, comparisons, exposure_legend

if TYPE_CHECKING:
    from diarbench.leaderboard import Leaderboard, Line
    from diarbench.report.reported import Reported


def render_markdown(board: Leaderboard, reported: Reported | None = None) -> str:
    """The table for GitHub and the like: a heading, the ranked lines, then why others have no rank, and failures; what
    others reported comes last.

    The best value of a column is bold. Names are escaped, so that they show as they are. Columns that would be empty
    are left out.
    """
    columns = telling_columns(board)
    best = best_values(board, columns)
    words = {"System": _system, "Title": _title, **_compression(board)}
    heads = ["Rank", *words, *(_full_head(column) for column in columns)]
    rows = [
        [
            str(line.rank) if line.rank is not None else text.NOTHING,
            *(markdown(of(line)) for of in words.values()),
            *(
                f"**{markdown(cell)}**" if is_best(column, line, best) else markdown(cell)
                for column, cell in _cells(line, columns)
            ),
        ]
        for line in board.lines
    ]
    rule = " | ".join([":--", *[":--"] * len(words), *["--:"] * len(columns)])
    table = [markdown_row(map(markdown, heads)), f"| {rule} |", *map(markdown_row, rows)]
    parts = [f"# {markdown(board.title)}", "\n".join(map(markdown, _preface(board))), "\n".join(table)]
    sentences = [trouble.sentence for trouble in troubles(board)]
    sentences += [DETAIL] if any(trouble.dataset is not None for trouble in troubles(board)) else []
    told = [*(session.words(board) for session in sessions(board)), *notes_on(board)]
    below = {
        "Not ranked": _unranked(board),
        "Failures and problems": sentences,
        "Timings left out": timings_left_out(board),
        "Measured cost": told,
    }
    for heading, notes in below.items():
        if notes:
            parts.append(f"## {heading}\n\n" + "\n".join(f"- {markdown(note)}" for note in notes))
    if reported:
        parts.append(section_markdown(board, reported))
    return "\n\n".join(parts) + "\n"


def render_latex(board: Leaderboard, reported: Reported | None = None) -> str:
    r"""A `table` environment (`\usepackage{booktabs, graphicx, amssymb}`), as wide as the page at most.

    Titles are left out, being too wide for a page, and so are columns that would be empty. The caption says the rule;
    what else has to be known stands below the table. What others reported stands in tables of its own.
    """
    columns = telling_columns(board)
    best = best_values(board, columns)
    words = {"System": _system, **_compression(board)}
    groups = [(name, len(list(run))) for name, run in itertools.groupby(columns, key=lambda column: column.group)]
    starts = list(itertools.accumulate((width for _, width in groups), initial=2 + len(words)))
    spans = [rf"\multicolumn{{{width}}}{{c}}{{{latex(name)}}}" for name, width in groups]
    rules = [
        rf"\cmidrule(lr){{{start}-{start + width - 1}}}"
        for start, (_, width) in zip(starts, groups, strict=False)
    ]  # fmt: skip
    rows = [
        [
            str(line.rank) if line.rank is not None else "--",
            *(latex(of(line)) for of in words.values()),
            *(
                rf"\textbf{{{latex(cell)}}}" if is_best(column, line, best) else latex(cell)
                for column, cell in _cells(line, columns)
            ),
        ]
        for line in board.lines
    ]
    heads = ["Rank", *words, *(column.head for column in columns)]
    ranked, *preface = _preface(board)
    return "\n".join(
        [
            LATEX_NEEDS,
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{latex(f'{board.title}. {ranked}')}}}",
            *latex_tabular(
                f"r{'l' * len(words)}{'r' * len(columns)}",
                [
                    r"\toprule",
                    f"{'& ' * (1 + len(words))}{' & '.join(spans)} \\\\",
                    f"{' '.join(rules)}",
                    f"{' & '.join(map(latex, heads))} \\\\",
                    r"\midrule",
                    *(f"{' & '.join(row)} \\\\" for row in rows),
                    r"\bottomrule",
                ],
            ),
            *latex_notes([*preface, *(f"Not ranked: {note}." for note in _unranked(board))]),
            r"\end{table}",
            section_latex(board, reported) if reported else "",
        ]
    )


def render_csv(board: Leaderboard, reported: Reported | None = None) -> str:
    """One line per system (wide), a header of stable names, values as measured: nothing rounded, DERs as fractions,
    sizes in bytes, an empty cell where there is no value.

    Text that a spreadsheet would take for a formula (it begins with =, +, - or @) gets an apostrophe in front. What
    others reported follows after an empty line, as a table with columns of its own.
    """
    columns = table_columns(board, everything=True)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "rank",
            "system",
            "title",
            "baseline",
            "compression",
            *(csv_text(column.key) for column in columns),
            "unranked",
        ]
    )
    for line in board.lines:
        entry = line.entry
        texts = (entry.system, entry.title, entry.baseline or "", text.compression_facts(entry.compression))
        values = (column.value(line) for column in columns)
        writer.writerow(
            [_number(line.rank), *map(csv_text, texts), *map(_number, values), csv_text(line.unranked or "")]
        )
    return out.getvalue() + (f"\n{section_csv(reported)}" if reported else "")


def _cells(line: Line, columns: Sequence[TableColumn]) -> Iterable[tuple[TableColumn, str]]:
    for column in columns:
        yield column, column.shown(line)


def _system(line: Line) -> str:
    return line.entry.system


def _title(line: Line) -> str:
    return line.entry.title


def _compression(board: Leaderboard) -> dict[str, Callable[[Line], str]]:
    """The column of how systems were compressed, by its heading; nothing where no card says it."""

    def facts(line: Line) -> str:
        return text.compression_facts(line.entry.compression)

    return {"Compression": facts} if any(map(facts, board.lines)) else {}


def _full_head(column: TableColumn) -> str:
    return f"{column.group}: {column.head}"


def _preface(board: Leaderboard) -> list[str]:
    """What has to be known to read the table, in sentences."""
    kinds = {rule.name: rule.label for rule in board.rules}
    rules = "; ".join(f"{name}: {label}" for name, label in kinds.items())
    machines = dict.fromkeys(text.plain(place.machine) for place in board.places)
    datasets = "; ".join(
        f"{column.label} ({text.many(len(column.recordings), 'recording')}, {text.minutes(column.audio)}"
        f"{', SYNTHETIC' if column.synthetic else ''})"
        for column in board.columns
    )
    return [
        f"Ranked by macro DER under {board.rule.name} ({board.rule.label}); lower is better.",
        MACRO_LEGEND,
        f"Rules: {rules}.",
        f"Datasets: {datasets or 'none'}.",
        *([f"Measured on: {', '.join(machines)}."] if machines else []),
        *([speedup_legend(board)] if comparisons(board) else []),
        *([against] if (against := baseline_legend(board)) else []),
        *([marks] if (marks := exposure_legend(board)) else []),
    ]


def _unranked(board: Leaderboard) -> list[str]:
    return [f"{line.entry.system}: {line.unranked}" for line in board.lines if line.rank is None]


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)
