"""A leaderboard as one HTML file that needs no network: style, script, charts and their library are inlined."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diarbench.report import text
from diarbench.report.columns import best_values, is_best, table_columns
from diarbench.report.inline import digest, environment, raw, resource, script_json
from diarbench.report.measures import details, notes_on, sessions, speedup_legend
from diarbench.report.provenance import common_facts, flatten, provenance_tables
from diarbench.report.reported import LABEL
from diarbench.report.reportedsection import PAIRS_TITLE, TITLE, section_cells, section_heads, section_notes
from diarbench.report.sheets import lay_out, pair_table
from diarbench.report.troubles import DETAIL, timings_left_out, troubles
from diarbench.report.values import MACRO_LEGEND, PARTS, baseline_legend, comparisons, exposure_legend, has_zeros

if TYPE_CHECKING:
    from markupsafe import Markup

    from diarbench.leaderboard import Column, Leaderboard, Line
    from diarbench.report.columns import TableColumn
    from diarbench.report.measures import Session
    from diarbench.report.reported import Reported
    from diarbench.report.sheets import Sheet

# The page stays under 2 MB: the chart library takes 0.9 MB, so what grows with the results is bounded, and the
# page says what it leaves out.
_MOST_RECORDING_CELLS = 15_000
_MOST_TROUBLES = 200
# What a reader may hide, by the first word of a column's key. Where the window is narrow, the first ones give way.
_KINDS: Mapping[str, tuple[str, ...]] = {
    "JER": ("macro_jer", "jer"),
    "errors": tuple(PARTS),
    "encoder": ("encoder_parameters", "macs_encoder_1s", "macs_window_per_s"),
    "sizes": ("nonzero_parameters", "weight_bytes", "held_bytes"),
    "memory": ("memory", "gpu_memory"),
    "datasets": ("der",),
    "other rules": ("macro_der",),
}
_HEAT = (0.05, 0.10, 0.15, 0.20, 0.30, 0.40, 0.60, 0.80)  # DERs at which a recording's cell gets one step darker


def render_html(board: Leaderboard, *, generated: str, reported: Reported | None = None) -> str:
    """The page of a board; `generated` says when, in words. What others reported has a section of its own.

    Names, titles and errors appear as text whatever they hold: the template escapes them, the data of the charts
    is JSON without `<`, `>` and `&`, and the page's policy runs only the scripts whose digests it names.
    """
    from diarbench.report.charts import cost_charts, error_chart
    from diarbench.report.differences import HEADS, difference_tables
    from diarbench.report.speedcharts import memory_charts, speedup_charts, stage_charts

    costs = cost_charts(board) if board.lines else []
    speeds = [*speedup_charts(board), *stage_charts(board), *memory_charts(board)]
    errors = [error_chart(board, column, number) for number, column in enumerate(board.columns)] if board.lines else []
    recordings = _recordings(board)
    differences = difference_tables(board)
    charts = [
        *(chart for table in differences for chart in table.charts),
        *costs,
        *speeds,
        *errors,
        *(part["chart"] for part in recordings if part["chart"]),
    ]
    specs = {chart.id: chart.spec for chart in charts if chart.spec is not None}
    found = troubles(board)
    columns = table_columns(board)
    return environment().get_template("page.html.j2").render(
        _assets(specs),
        board=board,
        generated=generated,
        alarms=_alarms(board),
        machines=_machines(board),
        methods=sorted({text.method(line.entry.compression) for line in board.lines}),
        groups=_groups(columns),
        kinds=_kinds(board, columns),
        heads=_heads(board, columns),
        rows=_rows(board, columns),
        troubles=found[:_MOST_TROUBLES],
        more_troubles=max(0, len(found) - _MOST_TROUBLES),
        timings_left_out=timings_left_out(board),
        legend=speedup_legend(board) if comparisons(board) else "",
        marks=exposure_legend(board),
        against=baseline_legend(board),
        macro=MACRO_LEGEND,
        detail=DETAIL if any(trouble.dataset is not None for trouble in found) else "",
        differences=differences,
        difference_heads=HEADS,
        costs=costs,
        speeds=speeds,
        sessions=[_session(board, session) for session in sessions(board)],
        notes=notes_on(board),
        errors=errors,
        recordings=recordings,
        systems=[line.entry.system for line in board.lines],
        digests={column.name: column.digest for column in board.columns},
        common=common_facts(board),
        runs=sum(len(line.entry.provenance) for line in board.lines),
        provenance=provenance_tables(board),
        reported=_reported(board, reported) if reported else None,
    )  # fmt: skip


def render_sheet_html(sheet: Sheet, *, generated: str, version: str) -> str:
    """A page with one published table; it holds no script."""
    from markupsafe import Markup

    style = resource("page.css")
    policy = f"default-src 'none'; style-src {digest(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    return environment().get_template("published.html.j2").render(
        policy=Markup(policy),  # noqa: S704  a digest only
        style=raw(style, "</style"),
        sheet=_sheet(sheet),
        label=LABEL.capitalize(),
        pairs=pair_table(sheet.pairs),
        generated=generated,
        version=version,
    )  # fmt: skip


def _reported(board: Leaderboard, reported: Reported) -> dict[str, Any]:
    """What the page's section of reported figures shows."""
    return {
        "title": TITLE,
        "pairs_title": PAIRS_TITLE,
        "pairs": pair_table(reported.pairs),
        "heads": section_heads(board, reported),
        "rows": [section_cells(board, reported, row) for row in reported.rows],
        "notes": section_notes(board, reported),
        "sheets": [_sheet(lay_out(table, board)) for table in reported.tables],
    }


def _sheet(sheet: Sheet) -> dict[str, Any]:
    runs = itertools.groupby(sheet.heads, key=lambda head: head.group)
    return {
        "table": sheet.table,
        "title": sheet.title,
        "groups": [{"name": name, "width": len(list(run))} for name, run in runs],
        "heads": sheet.heads,
        "rows": sheet.rows,
        "told": sheet.told,
        "footnotes": sheet.footnotes,
    }


def _assets(specs: Mapping[str, Any]) -> dict[str, Any]:
    """Style, scripts and chart data, and the policy that admits exactly these."""
    from markupsafe import Markup

    style, script = resource("page.css"), resource("page.js")
    bundle = _bundle() if specs else ""
    scripts = " ".join(digest(source) for source in (script, bundle) if source)
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src {digest(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return {
        "policy": Markup(policy),  # noqa: S704  digests only, nothing of the board
        "style": raw(style, "</style"),
        "script": raw(script, "</script"),
        "bundle": raw(bundle, "</script"),
        "charts_json": script_json(specs) if specs else "",
    }


@functools.cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script that sets `vegaEmbed` (about 0.9 MB)."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _session(board: Leaderboard, session: Session) -> dict[str, Any]:
    """A measuring session as a table."""
    columns = details(session)
    return {
        "words": session.words(board),
        "busy": session.any.busy,
        "heads": columns,
        "errors": session.errors()[:_MOST_TROUBLES],
        "rows": [
            {
                "system": line.entry.system,
                "cells": [column.show(line.entry.measured[session.place]) or text.NOTHING for column in columns],
            }
            for line in session.lines
        ],
    }


def _alarms(board: Leaderboard) -> list[dict[str, str]]:
    """What must not be overlooked, in the head of the page."""
    failed = {}
    for line in board.lines:
        count = _failures(line)
        if count:
            failed[line.entry.system] = count
    problems = [line.entry.system for line in board.lines if line.entry.problems]
    alarms = []
    if failed:
        what = f"{text.many(len(failed), 'system')} failed on {text.many(sum(failed.values()), 'recording')}:"
        alarms.append({"what": what, "who": text.some(list(failed), 12)})
    if problems:
        alarms.append({"what": "Problems were reported of", "who": text.some(problems, 12)})
    return alarms


def _failures(line: Line) -> int:
    return sum(len(score.failures) for score in line.entry.scores.values())


def _machines(board: Leaderboard) -> list[dict[str, Any]]:
    names = dict.fromkeys([*board.machines, *(place.machine for place in board.places)])
    known = {name: board.machines.get(name, {}) for name in names}
    return [{"name": name, "hardware": text.hardware(facts), "facts": flatten(facts)} for name, facts in known.items()]


def _groups(columns: Sequence[TableColumn]) -> list[dict[str, Any]]:
    runs = itertools.groupby(columns, key=lambda column: column.group)
    return [{"name": name, "width": len(list(run))} for name, run in runs]


def _kind(board: Leaderboard, column: TableColumn) -> str:
    """What a reader may hide the column as; "" where it always stays."""
    if column.key == f"macro_der.{board.rule.name}":
        return ""
    key = column.key.partition(".")[0]
    return next((kind for kind, keys in _KINDS.items() if key in keys), "")


def _kinds(board: Leaderboard, columns: Sequence[TableColumn]) -> list[str]:
    found = {_kind(board, column) for column in columns}
    return [kind for kind in _KINDS if kind in found]


def _starts(columns: Sequence[TableColumn]) -> list[bool]:
    """Whether each column is the first of its group."""
    return [index == 0 or columns[index - 1].group != column.group for index, column in enumerate(columns)]


def _heads(board: Leaderboard, columns: Sequence[TableColumn]) -> list[dict[str, str]]:
    return [
        {
            "head": column.head,
            "note": column.note,
            "kind": _kind(board, column),
            "group": column.group,
            "classes": _classes(first=first, ranking=column.key == f"macro_der.{board.rule.name}"),
        }
        for column, first in zip(columns, _starts(columns), strict=True)
    ]


def _rows(board: Leaderboard, columns: tuple[TableColumn, ...]) -> list[dict[str, Any]]:
    best = best_values(board, columns)
    firsts = _starts(columns)
    rows = []
    for order, line in enumerate(board.lines):
        cells = []
        for column, first in zip(columns, firsts, strict=True):
            value = column.value(line)
            cell = _cell(column, line, first, ranking=column.key == f"macro_der.{board.rule.name}")
            if value is not None and is_best(column, line, best):
                cell["classes"] += " best"
            elif (column.key == "nonzero_parameters" and not has_zeros(line)) or column.faint(line):
                cell["classes"] += " same"
            if value is None and column.is_baseline(line):
                cell["text"] = "baseline"
            cells.append({**cell, "kind": _kind(board, column)})
        rows.append(
            {
                "ranked": line.rank is not None,
                "rank": text.NOTHING if line.rank is None else line.rank,
                "order": order,
                "system": line.entry.system,
                "title": line.entry.title,
                "method": text.method(line.entry.compression),
                "facts": _facts(line),
                "failed": _failures(line),
                "reason": line.unranked,
                "cells": cells,
            }
        )
    return rows


def _facts(line: Line) -> str:
    """How the system was compressed; nothing for one that was not."""
    facts = text.compression_facts(line.entry.compression)
    return "" if facts == "none" else facts


def _cell(column: TableColumn, line: Line, first: bool, *, ranking: bool) -> dict[str, str]:
    value = column.value(line)
    if value is None:
        return {"text": text.NOTHING, "sort": "", "title": "", "classes": _classes(first=first, none=True)}
    change = column.key.startswith("delta.")
    return {
        "text": column.shown(line),
        "sort": repr(value),
        "title": ", ".join(filter(None, [_all_digits(column, value), column.remark(line)])),
        "classes": _classes(first=first, ranking=ranking, better=change and value < 0, worse=change and value > 0),
    }


def _all_digits(column: TableColumn, value: float) -> str:
    """The value as it was measured, with its unit."""
    if column.show is text.percent:
        return f"{100 * value:.6g} %"
    if column.show is text.points:
        return f"{100 * value:+.6g} points"
    if column.show is text.size:
        return f"{value:,.0f} bytes"
    if column.show is text.count:
        return f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def _classes(**flags: bool) -> str:
    return "".join(f" {name}" for name, on in flags.items() if on)


def _recordings(board: Leaderboard) -> list[dict[str, Any]]:
    """By dataset: the DER of every recording and system, and the spread over recordings."""
    from diarbench.report.charts import spread_chart

    left = _MOST_RECORDING_CELLS
    parts = []
    for number, column in enumerate(board.columns if board.lines else ()):
        cells = len(column.recordings) * len(board.lines)
        fits = cells <= left
        left -= cells if fits else 0
        parts.append(
            {
                "label": column.label,
                "cells": cells,
                "rows": list(_recording_rows(board, column)) if fits else None,
                "chart": spread_chart(board, column, number),
            }
        )
    return parts


def _recording_rows(board: Leaderboard, column: Column) -> Iterable[dict[str, Any]]:
    scores = [line.entry.scores.get(column.name) for line in board.lines]
    for name in column.recordings:
        yield {"name": name, "cells": [_recording_cell(score, name, board.rule.name) for score in scores]}


def _recording_cell(score: Any, recording: str, rule: str) -> Markup:
    """One table cell, without a closing tag, which HTML lets out: there may be thousands."""
    from markupsafe import Markup

    if score is not None and recording in score.failures:
        return Markup("<td class=f>failed")
    if score is None or recording not in score.recordings:
        return Markup("<td class=n>–")
    der = score.recordings[recording][rule].der
    if der is None:
        return Markup("<td class=n>n/a")
    step = sum(der > limit for limit in _HEAT)
    return Markup(f"<td class=h{step}>{text.percent(der)}")  # noqa: S704  numbers only
