"""The leaderboard in a terminal: as many columns as the width holds, the most telling ones first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from diarbench.report import text
from diarbench.report.columns import TableColumn, best_values, is_best, table_columns
from diarbench.report.measures import notes_on, sessions, speedup_legend
from diarbench.report.reportedsection import print_section
from diarbench.report.troubles import DETAIL, timings_left_out, troubles
from diarbench.report.values import MACRO_LEGEND, PARTS, baseline_legend, exposure_legend

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from diarbench.leaderboard import Leaderboard, Line
    from diarbench.report.reported import Reported

_GAP = 2  # characters between columns: one of padding, one where another box would have a line
_RANK_WIDTH = 3
_NAMES_SHARE = 0.4  # of the width, at most: longer names are folded
_MOST_TROUBLES = 20
_SIZES = {
    "encoder_parameters": ["encoder's", "parameters"],
    "weight_bytes": ["weight", "files"],
    "held_bytes": ["weights", "held"],
}
_BY_PLACE = {"rtf": "RTF", "speedup": "speed-up", "memory": "peak mem.", "gpu_memory": "peak mem."}


def print_leaderboard(board: Leaderboard, console: Console, reported: Reported | None = None) -> None:
    """Print the table, the rule that ranks, the datasets, and what has no rank or failed.

    At 80 columns it shows rank, system, macro DER under the ranking rule, the difference to the baseline, and of the
    datasets, the other rules and RTF what fits, before sizes; columns left out for want of width are named
    below. What others reported comes last, as tables of their own.
    """
    from rich.text import Text

    columns = table_columns(board)
    name_width = _name_width(board, console.width)
    shown = _fitting(board, columns, console.width - _RANK_WIDTH - _GAP - name_width)
    console.print(Text(text.plain(board.title), style="bold"))
    if board.lines:
        console.print(_table(board, shown, name_width))
    else:
        console.print("No system is on this leaderboard.")
    for note in _notes(board, columns, shown):
        console.print(note)
    for heading, style, lines in _below(board):
        if lines:
            console.print(Text(heading, style=f"bold {style}"))
            for line in lines:
                console.print(_indented(Text(text.plain(line)), console))
    if reported:
        print_section(board, reported, console)


def _indented(line: Text, console: Console) -> RenderableType:
    """The line two characters to the right: all of it, folded where the console has an end."""
    from rich.padding import Padding
    from rich.text import Text

    # What is padded is cut at the width, whether or not the console is one where lines may go on.
    return Text("  ").append(line) if console.soft_wrap else Padding(line, (0, 0, 0, 2), expand=False)


def _table(board: Leaderboard, columns: Sequence[TableColumn], name_width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    heads = [_head(board, column) for column in columns]
    height = max(map(len, heads), default=1)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    below = "\n" * (height - 1)
    table.add_column(f"{below}#", justify="right", width=_RANK_WIDTH, no_wrap=True)
    table.add_column(f"{below}System", min_width=name_width, max_width=name_width, overflow="fold")
    for head in heads:
        table.add_column(Text("\n".join([""] * (height - len(head)) + head)), justify="right", no_wrap=True)
    best = best_values(board, tuple(columns))
    for line in board.lines:
        rank = text.NOTHING if line.rank is None else str(line.rank)
        style = "dim" if line.rank is None else ""
        cells = (_cell(line, column, best) for column in columns)
        table.add_row(rank, Text(text.plain(line.entry.system)), *cells, style=style)
    return table


def _cell(line: Line, column: TableColumn, best: Mapping[str, float]) -> Text:
    from rich.text import Text

    style = "bold green" if is_best(column, line, best) else "dim" if column.faint(line) else ""
    return Text(column.shown(line), style=style)


def _head(board: Leaderboard, column: TableColumn) -> list[str]:
    """The short lines above a column, top first."""
    kind, _, name = column.key.partition(".")
    if kind == "macro_der":
        return ["macro", "DER %", name]
    if kind == "delta":
        return ["Δ to", "baseline"]  # which: below the table
    if kind in ("der", "jer"):
        return [f"{kind.upper()} %", text.clip(text.plain(name), 16)]
    if kind == "macro_jer":
        return ["macro", "JER %"]
    if kind in _BY_PLACE:
        several = len({place.machine for place in board.places}) > 1
        machine = [text.clip(text.plain(column.group.rpartition(", ")[2]), 16)] if several else []
        return [
            _BY_PLACE[kind],
            *machine,
            *(text.clip(part, 16) for part in column.head.replace(", ", ",\n").split("\n")),
        ]
    if kind.startswith("macs_"):
        return ["MACs,", *column.head.replace(", ", ",\n").split("\n")]
    return ["macro %", *column.head.split()] if kind in PARTS else _SIZES.get(kind, [column.head])


def _broken(head: str) -> list[str]:
    return head.replace(", ", ",\n").split("\n")


def _name_width(board: Leaderboard, width: int) -> int:
    longest = max((len(text.plain(line.entry.system)) for line in board.lines), default=6)
    return max(6, min(longest, int(_NAMES_SHARE * width)))


def _fitting(board: Leaderboard, columns: Sequence[TableColumn], width: int) -> list[TableColumn]:
    """The columns that fit into `width`, chosen by importance, in their usual order."""
    firsts = {_kind(column): column for column in reversed(columns)}
    chosen = []
    for column in sorted(columns, key=lambda column: _importance(board, column, firsts[_kind(column)])):
        needed = _width(board, column) + _GAP
        if needed <= width:
            chosen.append(column)
            width -= needed
    return [column for column in columns if column in chosen]


def _kind(column: TableColumn) -> str:
    return column.key.partition(".")[0]


def _importance(board: Leaderboard, column: TableColumn, first: TableColumn) -> tuple[int, bool]:
    """Smaller is shown first; `first` is the first column of its kind. Of figures by place, one of each kind comes
    before those of other places."""
    kind = _kind(column)
    if column.key == f"macro_der.{board.rule.name}":
        return 0, False
    order = (
        "delta", "der", "macro_der", "rtf", "speedup", "parameters", "macs_pipeline_per_s", "macro_jer", *PARTS,
        "memory", "gpu_memory", "jer", "macs_encoder_1s", "macs_window_per_s", "weight_bytes", "held_bytes",
        "encoder_parameters", "nonzero_parameters",
    )  # fmt: skip
    if kind == "rtf" and column is not first:
        kind = "speedup"
    return 1 + order.index(kind), column is not first


def _width(board: Leaderboard, column: TableColumn) -> int:
    """Characters that the column takes, without the gap."""
    from rich.cells import cell_len

    cells = [column.shown(line) for line in board.lines]
    return max(map(cell_len, [*cells, *_head(board, column)]))


def _notes(board: Leaderboard, columns: Sequence[TableColumn], shown: Sequence[TableColumn]) -> list[Text]:
    from rich.text import Text

    notes = [Text(f"Ranked by macro DER under {board.rule.name}: {board.rule.label}. Lower is better.")]
    if any(_kind(column) in PARTS for column in shown):
        notes.append(Text(MACRO_LEGEND))
    if against := baseline_legend(board):
        notes.append(Text(against))
    for column in board.columns:
        note = Text(f"Dataset {text.plain(column.label)}: {text.many(len(column.recordings), 'recording')}, ")
        note.append(text.minutes(column.audio))
        if column.synthetic:
            note.append(", SYNTHETIC", style="yellow")
        notes.append(note)
    if marks := exposure_legend(board):
        notes.append(Text(marks))
    if timed := [place.machine for place in board.places if any(place in line.entry.speeds for line in board.lines)]:
        machines = ", ".join(dict.fromkeys(timed))
        notes.append(Text(f"RTF: wall time per second of audio, on {text.plain(machines)}."))
    if any(column.key.startswith("speedup.") for column in shown):
        notes.append(Text(speedup_legend(board)))
    notes += [Text(session.words(board)) for session in sessions(board)]
    notes += [Text(f"{text.plain(note)}.", style="dim") for note in notes_on(board)]
    left_out = [" ".join(_head(board, column)) for column in columns if column not in shown]
    if left_out and board.lines:
        notes.append(Text(f"In a wider terminal also: {'; '.join(left_out)}.", style="dim"))
    return notes


def _below(board: Leaderboard) -> list[tuple[str, str, list[str]]]:
    unranked = [f"{line.entry.system}: {line.unranked}" for line in board.lines if line.rank is None]
    found = troubles(board)
    sentences = _first([trouble.sentence for trouble in found])
    sentences += [DETAIL] if any(trouble.dataset is not None for trouble in found) else []
    return [
        ("Not ranked", "yellow", unranked),
        ("Failures and problems", "red", sentences),
        ("Timings left out", "yellow", _first(timings_left_out(board))),
    ]


def _first(sentences: list[str]) -> list[str]:
    left = len(sentences) - _MOST_TROUBLES
    more = [f"and {left} more; the JSON and the page hold all"] if left > 0 else []
    return [*sentences[:_MOST_TROUBLES], *more]
