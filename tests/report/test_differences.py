"""What the page says of differences is what `compare` finds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from boards import COLUMNS, SCRIPT, make_board, make_column, make_entry

from diarbench.compare import compare
from diarbench.leaderboard import Score
from diarbench.report import render_html
from diarbench.report.differences import HEADS, difference_tables


def family(*names: str, columns=COLUMNS, **changes):
    entries = [make_entry("base", 0.2, columns=columns)]
    entries += [
        make_entry(name, 0.2 + 0.05 * number, columns=columns, baseline="base", **changes)
        for number, name in enumerate(names, start=1)
    ]
    return make_board(*entries, columns=columns)


def test_figures_are_those_of_compare():
    board = family("small", "smaller")
    (table,) = difference_tables(board)
    expected = compare(board, "base", ["small", "smaller"])
    assert table.baseline == "base"
    assert table.datasets == tuple(column.label for column in COLUMNS)
    for row, one in zip(table.rows, expected.others, strict=True):
        assert (row.system, row.conclusion) == (one.system, one.conclusion)
        shown = dict(zip([*HEADS, *table.datasets], row.cells, strict=True))
        assert shown["macro Δ"] == f"{100 * one.macro.b_minus_a:+.2f}".replace("-", "−")
        low, high = (f"{100 * end:+.2f}".replace("-", "−") for end in (one.macro.interval.low, one.macro.interval.high))
        assert shown["95 % interval"] == f"[{low}, {high}]"
        assert float(shown["p (Holm)"]) == pytest.approx(one.p_holm, abs=5e-5)
        assert shown["recordings better / worse"] == f"{one.changes.better} / {one.changes.worse} of 20"
        assert shown["maximum"] == f"{100 * one.changes.maximum:+.2f}"
        assert shown[COLUMNS[0].label].startswith(f"{100 * one.datasets[0].difference.b_minus_a:+.2f} [")


def test_charts_hold_the_ends_of_the_intervals_and_where_zero_lies():
    board = family("same", "worse")
    board = replace(board, lines=tuple(board.lines))
    (table,) = difference_tables(board)
    intervals, changes = table.charts
    assert (intervals.id, changes.id) == ("difference-0", "changes-0")
    rows = {row["system"]: row for row in _rows(intervals.spec) if "system" in row}
    for one in compare(board, "base", ["same", "worse"]).others:
        row = rows[one.system]
        assert (row["low"], row["high"]) == (100 * one.macro.interval.low, 100 * one.macro.interval.high)
        inside = one.macro.interval.low <= 0 <= one.macro.interval.high
        assert row["shade"] == (0.45 if inside else 1.0)
    assert {row["system"] for row in _rows(changes.spec) if "system" in row} == {"same", "worse"}


def test_each_baseline_has_a_table_of_its_own():
    board = make_board(
        make_entry("a", 0.2),
        make_entry("a-small", 0.3, baseline="a"),
        make_entry("b", 0.25, baseline="b"),
        make_entry("b-small", 0.3, baseline="b"),
        make_entry("stranger", 0.3, baseline="not here"),
    )
    tables = difference_tables(board)
    assert {table.baseline: [row.system for row in table.rows] for table in tables} == {
        "a": ["a-small"],
        "b": ["b-small"],
    }
    assert len({chart.id for table in tables for chart in table.charts}) == 4


def test_of_one_dataset_the_macro_difference_is_its_own():
    (table,) = difference_tables(family("small", columns=COLUMNS[:1]))
    assert table.datasets == ()
    assert len(table.rows[0].cells) == len(HEADS)


def test_an_incomplete_system_has_no_macro_difference_but_shows_what_it_has():
    board = family("small")
    entry = make_entry("broken", 0.3, baseline="base")
    first, *rest = entry.scores[COLUMNS[0].name].recordings
    scores = dict(entry.scores)
    known = {name: entry.scores[COLUMNS[0].name].recordings[name] for name in rest}
    scores[COLUMNS[0].name] = Score(known, {first: "failed"}, ())
    board = make_board(*(line.entry for line in board.lines), replace(entry, scores=scores))
    (table,) = difference_tables(board)
    row = next(row for row in table.rows if row.system == "broken")
    assert row.cells[:3] == ("–", "–", "–")
    assert "[" in row.cells[len(HEADS)]
    assert "incomplete" in row.conclusion


def test_few_recordings_give_no_interval_and_no_chart():
    columns = (make_column("tiny", recordings=2),)
    (table,) = difference_tables(family("small", columns=columns))
    assert table.charts == ()
    assert table.rows[0].cells[1] == "–"
    assert table.few
    assert not difference_tables(family("small", columns=(make_column("large", recordings=40),)))[0].few


def test_where_a_dataset_is_too_small_the_others_intervals_are_drawn():
    columns = (make_column("tiny", recordings=2), make_column("large", recordings=9))
    (table,) = difference_tables(family("small", columns=columns))
    assert [chart.title for chart in table.charts] == [
        "DER less that of base on large",
        "ΔDER of single recordings to base",
    ]
    assert len({chart.id for chart in table.charts}) == 2


def test_without_baselines_or_shared_recordings_the_page_has_no_such_section():
    assert difference_tables(make_board(make_entry("alone", 0.2))) == []
    empty = make_entry("small", 0.3, baseline="base", scores={})
    board = make_board(make_entry("base", 0.2), empty)
    assert difference_tables(board) == []
    assert "differences-heading" not in render_html(board, generated="now")


def test_the_page_shows_them_and_hostile_names_stay_text():
    page = render_html(family("small", SCRIPT), generated="now")
    assert "What the differences are worth" in page
    assert "2 systems against base, in numbers" in page
    assert SCRIPT not in page


def _rows(spec):
    """All rows of data in a chart's specification."""
    found = []

    def look(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                if key == "values" and isinstance(inner, list):
                    found.extend(inner)
                else:
                    look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look(json.loads(json.dumps(spec)))
    return found
