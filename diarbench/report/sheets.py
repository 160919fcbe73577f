"""A published table as its source lays it out, with what was measured here in a column beside each figure's; pure."""

from __future__ import annotations

import csv
import io
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from diarbench.published import NO_FIGURE
from diarbench.report import text
from diarbench.report.escapes import (
    LATEX_NEEDS,
    csv_text,
    latex,
    latex_notes,
    latex_tabular,
    markdown,
    markdown_row,
)
from diarbench.report.reported import LABEL, Against, is_whole, twins, what_of
from diarbench.scoring import RULES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console
    from rich.table import Table as RichTable

    from diarbench.leaderboard import Leaderboard
    from diarbench.published import Figure, Published

HERE = "measured"  # the heading of what was measured here
_UNMATCHED = ("other", "jer")  # quantities that nothing measured is held against: JER is published without its rule
Kind = Literal["text", "reported", "measured"]


@dataclass(frozen=True, slots=True)
class Head:
    """A column of the sheet."""

    group: str
    head: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the sheet; of a figure, exactly as it is printed."""

    text: str
    kind: Kind
    marks: tuple[str, ...] = ()  # of the footnotes that belong to it
    title: str = ""  # more of it, where it can be pointed at
    difference: str = ""  # of a measurement to the figure beside it


@dataclass(frozen=True, slots=True)
class Sheet:
    """All that the formats show of a published table."""

    table: Published
    heads: tuple[Head, ...]
    rows: tuple[tuple[Cell, ...], ...]
    footnotes: dict[str, str]  # by mark
    told: tuple[str, ...]  # what has to be known to read it, in sentences
    pairs: tuple[Against, ...]

    @property
    def title(self) -> str:
        """What it is, and from where."""
        return f"{self.table.card.title} ({self.table.card.source.short})"


def lay_out(table: Published, board: Leaderboard | None) -> Sheet:
    """The sheet of a table; without a board, and wherever the board has nothing, the measured cells are empty."""
    footnotes: dict[str, str] = {}

    def marks(*notes: str | None) -> tuple[str, ...]:
        return tuple(footnotes.setdefault(note, _mark(len(footnotes))) for note in notes if note)

    heads: list[Head] = []
    for column in table.card.columns:
        kind: Kind = "text" if column.figure is None else "reported"
        heads.append(Head(column.group or "", column.head, kind))
        if column.figure is not None and column.figure not in _UNMATCHED:
            heads.append(Head(column.group or "", HERE, "measured"))
    rows, pairs = [], []
    for number, row in enumerate(table.card.rows):
        cells: list[Cell] = []
        for place, (column, figure) in enumerate(zip(table.card.columns, table.row_figures(number), strict=True)):
            if figure is None:
                of: Kind = "text" if column.figure is None else "reported"
                cells.append(Cell(row.cells[place], of, marks(row.note) if place == 0 else ()))
            else:
                cells.append(Cell(figure.text, "reported", marks(*figure.doubts), what_of(figure)))
            if column.figure is not None and column.figure not in _UNMATCHED:
                found = [Against(figure, twin) for twin in twins(board, figure)] if figure is not None else []
                pairs += found
                cells.append(_measured_cell(found))
        rows.append(tuple(cells))
    by_mark = {mark: note for note, mark in footnotes.items()}
    return Sheet(table, tuple(heads), tuple(rows), by_mark, tuple(_told(table, board)), tuple(pairs))


def _measured_cell(found: list[Against]) -> Cell:
    shown = " / ".join(pair.twin.shown for pair in found)
    told = "; ".join(", ".join(filter(None, [pair.shown, pair.twin.where])) for pair in found)
    alone = found[0].difference_shown if len(found) == 1 else None
    return Cell(shown, "measured", (), told, alone or "")


def _mark(number: int) -> str:
    """a, b, ..., z, aa, ab, ...: letters, so that nobody takes them for digits of a figure.

    >>> _mark(0), _mark(25), _mark(26)
    ('a', 'z', 'aa')
    """
    return ("" if number < 26 else _mark(number // 26 - 1)) + chr(ord("a") + number % 26)


def _told(table: Published, board: Leaderboard | None) -> Iterable[str]:
    card = table.card
    yield f"All figures but those headed “{HERE}” are {LABEL}: {card.source.authors}, “{card.source.title}”, " + (
        f"{card.source.year}, {card.source.where}, {card.source.url}"
    )
    rules = {figure.column.key: figure.rule_words for figure in table.figures() if figure.rule_words}
    by_row = any(row.rule or row.other_rule for row in card.rows)
    if by_row:
        yield "Scoring rules differ by row: " + "; ".join(_rules_by_row(table))
    elif rules:
        yield f"Scoring rule: {'; '.join(dict.fromkeys(map(_rule_words, rules.values())))}"
    if hardware := list(dict.fromkeys(figure.hardware for figure in table.figures() if figure.hardware)):
        yield f"Hardware as stated: {'; '.join(hardware)}"
    yield from (note.rstrip(".") for note in card.notes)
    if board is not None:
        parts = [column.label for column in board.columns if column.name in table.datasets and not is_whole(column)]
        if parts:
            yield f"Only part of a dataset was run, which compares with no figure here: {', '.join(parts)}"
    if systems := table.systems:
        known = {line.entry.system for line in board.lines} if board is not None else set()
        if absent := [system for system in systems if system not in known]:
            yield f"Not run here: {', '.join(absent)}"
    else:
        yield "No card of a system that can be run here is one of its rows"


def _rules_by_row(table: Published) -> Iterable[str]:
    found: dict[str, list[str]] = {}
    for figure in table.figures():
        if figure.rule_words:
            found.setdefault(figure.rule_words, []).append(table.card.rows[figure.row].cells[0])
    return (f"{_rule_words(rule)} ({', '.join(dict.fromkeys(rows))})" for rule, rows in found.items())


def _rule_words(rule: str) -> str:
    return f"{rule}, which is {RULES[rule].label}" if rule in RULES else rule


@dataclass(frozen=True, slots=True)
class PairTable:
    """Reported against measured, as the formats show it."""

    heads: tuple[str, ...]
    right: frozenset[int]  # places of the columns of numbers
    rows: tuple[tuple[str, ...], ...]


_PAIR_HEADS = ("System", "What", "Reported", "Measured", "Difference", "Measured on", "Reported by")


def pair_table(pairs: Iterable[Against]) -> PairTable:
    """One row for each measurement; without the column of where, if that matters to none."""
    rows = [_pair_cells(pair) for pair in pairs]
    where = _PAIR_HEADS.index("Measured on")
    places = [place for place in range(len(_PAIR_HEADS)) if place != where or any(row[where] for row in rows)]
    return PairTable(
        tuple(_PAIR_HEADS[place] for place in places),
        frozenset(place for place, head in enumerate(_PAIR_HEADS) if head in ("Reported", "Measured", "Difference")),
        tuple(tuple(row[place] for place in places) for row in rows),
    )


def _pair_cells(pair: Against) -> tuple[str, ...]:
    figure = pair.figure
    return (
        str(figure.system),
        what_of(figure),
        figure.text,
        pair.twin.shown,
        pair.shown,
        pair.twin.where,
        f"{figure.table.name}, {figure.table.label(figure.row)}",
    )


def sheet_markdown(sheet: Sheet) -> str:
    """The table for GitHub and the like; marks of footnotes stand in brackets behind a figure."""
    heads = [f"{head.group}: {head.head}" if head.group else head.head for head in sheet.heads]
    rule = " | ".join(":--" if head.kind == "text" else "--:" for head in sheet.heads)
    rows = [[markdown(_marked(cell, "[{}]")) for cell in row] for row in sheet.rows]
    parts = [
        f"# {markdown(sheet.title)}",
        "\n".join([markdown_row(map(markdown, heads)), f"| {rule} |", *map(markdown_row, rows)]),
        "\n".join(f"- {markdown(note)}" for note in [*sheet.told, *_footnotes(sheet)]),
    ]
    if sheet.pairs:
        parts.append("## Reported against measured\n\n" + pairs_markdown(sheet.pairs))
    return "\n\n".join(parts) + "\n"


def pairs_markdown(pairs: Iterable[Against]) -> str:
    """Reported against measured, one row for each measurement."""
    table = pair_table(pairs)
    rule = " | ".join("--:" if place in table.right else ":--" for place in range(len(table.heads)))
    rows = [markdown_row(map(markdown, row)) for row in table.rows]
    return "\n".join([markdown_row(table.heads), f"| {rule} |", *rows])


def sheet_latex(sheet: Sheet) -> str:
    r"""A `table*` environment (`\usepackage{booktabs, graphicx, amssymb}`), as wide as the page at most, with notes.

    Headings of measurements stand upright: empty columns take no room of the figures.
    """
    spans, rules, at = [], [], 1
    for group, run in itertools.groupby(sheet.heads, key=lambda head: head.group):
        width = len(list(run))
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{latex(group)}}}" if group else " & ".join([""] * width))
        rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if group else []
        at += width
    rows = [
        " & ".join(
            "".join([latex(_with_difference(cell)), *(rf"\textsuperscript{{{mark}}}" for mark in cell.marks)])
            for cell in row
        )
        for row in sheet.rows
    ]  # fmt: skip
    upright = rf"\rotatebox{{90}}{{\emph{{{HERE}}}}}"
    heads = " & ".join(upright if head.kind == "measured" else latex(head.head) for head in sheet.heads)
    layout = "".join("l" if head.kind == "text" else "r" for head in sheet.heads)
    grouped = [rf"{' & '.join(spans)} \\", " ".join(rules)] if rules else []
    return "\n".join(
        [
            LATEX_NEEDS,
            r"\begin{table*}",
            r"  \centering",
            rf"  \caption{{{latex(sheet.title)}}}",
            r"  \setlength{\tabcolsep}{3pt}",
            *latex_tabular(
                layout,
                [
                    r"\toprule",
                    *grouped,
                    rf"{heads} \\",
                    r"\midrule",
                    *(rf"{row} \\" for row in rows),
                    r"\bottomrule",
                ],
            ),
            *latex_notes(f"{note}." for note in [*sheet.told, *_footnotes(sheet)]),
            r"\end{table*}",
            "",
        ]
    )


def sheet_csv(sheet: Sheet) -> str:
    """The table as it is laid out, figures as printed; columns of measurements are headed HEAD.measured."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([csv_text(name) for name in _csv_heads(sheet)])
    for row in sheet.rows:
        # A lone dash is how sources print nothing, and no formula.
        writer.writerow([cell.text if cell.text in NO_FIGURE else csv_text(cell.text) for cell in row])
    return out.getvalue()


def _csv_heads(sheet: Sheet) -> Iterable[str]:
    for column in sheet.table.card.columns:
        yield column.key
        if column.figure is not None and column.figure not in _UNMATCHED:
            yield f"{column.key}.{HERE}"


def sheet_json(sheet: Sheet, board: Leaderboard | None) -> dict[str, Any]:
    """The table's figures as plain JSON values; the keys are those of `reported` in docs/json.md."""
    table = sheet.table
    return {
        "format": 1,
        "table": table.name,
        "title": table.card.title,
        "notes": table.card.notes,
        "reported": [figure_json(figure, board) for figure in table.figures()],
    }


def figure_json(figure: Figure, board: Leaderboard | None) -> dict[str, Any]:
    """One published figure, and what was measured of the same."""
    source = figure.table.card.source
    pairs = [Against(figure, twin) for twin in twins(board, figure)]
    return {
        "table": figure.table.name,
        "source": {key: getattr(source, key) for key in ("title", "authors", "year", "url", "where")},
        "row": figure.table.label(figure.row),
        "column": figure.column.key,
        "quantity": figure.column.figure,
        "of": figure.column.of,
        "text": figure.text,
        "value": figure.value,
        "system": figure.system,
        "dataset": figure.column.dataset,
        "named": figure.dataset or None,
        "rule": figure.rule,
        "other_rule": figure.rule_words if figure.rule is None else None,
        "hardware": figure.hardware,
        "note": figure.table.card.rows[figure.row].note,
        "doubts": list(figure.doubts),
        "measured": [
            {"value": pair.twin.value, "where": pair.twin.where or None, "difference": pair.difference,
             "rounds_to_it": pair.alike}
            for pair in pairs
        ],
    }  # fmt: skip


def print_sheet(sheet: Sheet, console: Console) -> None:
    """The table in a terminal, measurements beside the figures if they fit; and reported against measured."""
    from rich.text import Text

    console.print(Text(text.plain(sheet.title), style="bold"))
    known = {place for place in range(len(sheet.heads)) if any(row[place].text for row in sheet.rows)}
    plain = {place for place, head in enumerate(sheet.heads) if head.kind != "measured"}
    shown = _terminal_table(sheet, sorted(plain | known))
    unbounded = console.options.update_width(10_000)  # what is measured within a width never exceeds it
    fits = console.measure(shown, options=unbounded).maximum <= console.width
    console.print(shown if fits else _terminal_table(sheet, sorted(plain)))
    for note in [*sheet.told, *_footnotes(sheet)]:
        console.print(Text(f"{text.plain(note)}."))
    if not fits and sheet.pairs:
        console.print(Text("What was measured stands below: the window is too narrow for it.", style="dim"))
    elif len(plain | known) < len(sheet.heads):
        console.print(Text("Columns of measurements that would be empty are left out.", style="dim"))
    if sheet.pairs:
        console.print(Text("Reported against measured", style="bold magenta"))
        print_pairs(sheet.pairs, console)


def _terminal_table(sheet: Sheet, places: list[int]) -> RichTable:
    from rich.text import Text

    shown = plain_table()
    group = ""
    for head in (sheet.heads[place] for place in places):
        # A group is named once, above the first of its columns: those of numbers are narrow.
        above, group = head.group if head.group != group else "", head.group
        words = HERE if head.kind == "measured" else head.head
        justify: Literal["left", "right"] = "left" if head.kind == "text" else "right"
        shown.add_column(Text(f"{text.plain(above)}\n{text.plain(words)}"), justify=justify, overflow="fold")
    for row in sheet.rows:
        cells = [row[place] for place in places]
        shown.add_row(
            *(
                Text(text.plain(_marked(cell, "[{}]")), style="bold" if cell.kind == "measured" else "")
                for cell in cells
            )
        )
    return shown


def print_pairs(pairs: Iterable[Against], console: Console) -> None:
    """Reported against measured in a terminal."""
    from rich.text import Text

    table = pair_table(pairs)
    shown = plain_table()
    for place, head in enumerate(table.heads):
        shown.add_column(Text(head), justify="right" if place in table.right else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(text.plain(cell)) for cell in row))
    console.print(shown)


def plain_table() -> RichTable:
    """An empty table for a terminal, with a line below its headings."""
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)


def _with_difference(cell: Cell) -> str:
    return f"{cell.text} ({cell.difference})" if cell.difference else cell.text


def _marked(cell: Cell, style: str) -> str:
    return " ".join([_with_difference(cell), *(style.format(mark) for mark in cell.marks)])


def _footnotes(sheet: Sheet) -> list[str]:
    return [f"[{mark}] {note}" for mark, note in sheet.footnotes.items()]
