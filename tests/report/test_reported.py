"""Reported figures beside a made-up board; the figures here are invented too."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import boards
import pytest
from pages import read_page
from rich.console import Console

from diarbench.leaderboard import Leaderboard
from diarbench.published import Published, read_published
from diarbench.report import (
    leaderboard_json,
    print_leaderboard,
    render_csv,
    render_html,
    render_latex,
    render_markdown,
    reported_on,
)
from diarbench.report.reported import LABEL, Reported
from diarbench.scoring import FAIR

TABLE = """\
title = "An invented table"
rule = "full"
hardware = "one GPU"
columns = [
  { key = "system", head = "System" },
  { key = "bits", head = "Bits" },
  { key = "size", head = "Params", figure = "parameters", of = "all", doubt = "counted otherwise" },
  { key = "stage", head = "Embedding", figure = "parameters", of = "embedding" },
  { key = "cnn", head = "CNN", figure = "macs_1s", of = "embedding.cnn" },
  { key = "encoder", head = "Encoder", figure = "macs_1s", of = "encoder" },
  { key = "file", head = "File", figure = "bytes", unit = "MB", of = "all" },
  { key = "cpu", head = "CPU", figure = "speedup", unit = "x", of = "encoder", device = "cpu" },
  { key = "rtf", head = "RTF", figure = "rtf", unit = "1", of = "all", device = "cpu" },
  { key = "hours", head = "GPU", figure = "speed", unit = "x", of = "all", device = "cuda" },
  { key = "voices", head = "Voices", figure = "der", unit = "%", dataset = "voices" },
  { key = "excerpts", head = "AMI", figure = "der", unit = "%", dataset = "ami-excerpts" },
  { key = "elsewhere", head = "Elsewhere", figure = "der", unit = "%" },
  { key = "macro", head = "Macro", figure = "macro_der", unit = "%" },
  { key = "loose", head = "Voices, collar", figure = "der", unit = "%", dataset = "voices", rule = "fair" },
  { key = "jer", head = "JER", figure = "jer", unit = "%", dataset = "voices" },
]
rows = [
  { cells = ["Ours", "8", "1.0M", "1.0M", "20.0M", "55M", "4.1", "2.0", "0.0310", "30", "20.0", "21.5", "9.9", "17.1", "12.0", "30.1"], system = "base" },
  { cells = ["Theirs", "4", "7M", "-", "-", "-", "-", "-", "-", "-", "-", "19.5", "9.9", "-", "-", "-"] },
  { cells = ["Lost", "2", "7M", "-", "-", "-", "-", "-", "-", "-", "-", "-", "9.9", "-", "-", "-"] },
]
[source]
title = "A paper of ours"
authors = "Nobody et al."
year = 2025
url = "https://example.org/paper"
where = "Table 1"
"""  # noqa: E501


@pytest.fixture
def table(tmp_path: Path) -> Published:
    path = tmp_path / "invented.toml"
    path.write_text(TABLE, encoding="utf-8")
    return read_published(path)


@pytest.fixture
def board() -> Leaderboard:
    base = boards.make_entry(
        "base", 0.2, complexity=boards.make_sizes(1_000_000), measured={boards.PLACE: boards.make_measured(encoder=2.1)}
    )
    whole = tuple(replace(column, total=len(column.recordings)) for column in boards.COLUMNS)
    return boards.make_board(base, boards.make_entry("other", 0.3), columns=whole)


def against(reported: Reported) -> dict[str, list[tuple[float, float | None]]]:
    """By column: measured values, and differences."""
    found: dict[str, list[tuple[float, float | None]]] = {}
    for pair in reported.pairs:
        found.setdefault(pair.figure.column.key, []).append((pair.twin.value, pair.difference))
    return found


def test_rows_are_those_of_the_boards_datasets_and_rule(board, table):
    reported = reported_on(board, [table])
    assert [(row.label, sorted(row.ders)) for row in reported.rows] == [
        ("Ours, Bits 8", ["ami-excerpts", "voices"]),
        ("Theirs, Bits 4", ["ami-excerpts"]),
    ]
    assert {figure.text for row in reported.rows for figure in row.ders.values()} == {"20.0", "21.5", "19.5"}
    assert reported.other_rules == 1
    fair = boards.make_board(*(line.entry for line in board.lines), rule=FAIR)
    assert [figure.text for row in reported_on(fair, [table]).rows for figure in row.ders.values()] == ["12.0"]


def test_the_same_system_is_held_against_what_was_measured(board, table):
    found = against(reported_on(board, [table]))
    scores = next(line.entry for line in board.lines if line.entry.system == "base").scores
    voices = scores["voices"].der("full")
    assert voices is not None
    assert found["voices"] == [(voices, pytest.approx(voices - 0.2))]
    assert found["loose"] == [(scores["voices"].der("fair"), pytest.approx(scores["voices"].der("fair") - 0.12))]
    assert found["size"] == [(1_000_000, 0.0)]
    assert found["stage"] == [(1_000_000, 0.0)]
    assert found["cnn"] == [(20_000_000, 0.0)]
    assert found["encoder"] == [(55_000_000, 0.0)]
    assert found["file"] == [(4_000_000, pytest.approx(4.0 / 4.1 - 1))]
    assert found["rtf"] == [(pytest.approx(0.03), None)]
    assert found["cpu"]
    assert {difference for _, difference in found["cpu"]} == {None}
    assert "macro" not in found, "one of its datasets is none of ours"
    assert not {"hours", "jer", "elsewhere"} & set(found)


def test_a_speed_on_one_dataset_needs_a_board_of_that_alone(board, table, tmp_path):
    path = tmp_path / "ours.toml"
    path.write_text(
        TABLE.replace('key = "rtf", head = "RTF"', 'key = "rtf", head = "RTF", named = "V", dataset = "voices"')
    )
    assert "rtf" not in against(reported_on(board, [read_published(path)]))
    alone = replace(board, columns=board.columns[:1])
    assert [column.name for column in alone.columns] == ["voices"]
    assert "rtf" in against(reported_on(alone, [read_published(path)]))


def test_rounding_is_told(board, table):
    alike = {pair.figure.column.key: pair.alike for pair in reported_on(board, [table]).pairs}
    assert (alike["size"], alike["file"]) == (True, False)
    said = {pair.figure.column.key: pair.shown for pair in reported_on(board, [table]).pairs}
    assert (said["size"], said["file"], said["rtf"]) == ("0.00 % (rounds to it)", "−2.44 %", "other hardware")


def test_nothing_stands_against_a_part_of_a_dataset(board, table):
    columns = [replace(column, total=column.total + 1) for column in board.columns]
    partial = replace(board, columns=tuple(columns))
    assert not {"voices", "excerpts", "loose"} & set(against(reported_on(partial, [table])))
    assert "Only a part was run of voices (first 12 of 13)" in render_markdown(partial, reported_on(partial, [table]))


def test_nothing_stands_against_an_incomplete_run(board, table):
    lines = [replace(line, entry=boards.fail(line.entry, "voices", 1, "it fell")) for line in board.lines]
    failed = replace(board, lines=tuple(lines))
    assert "voices" not in against(reported_on(failed, [table]))
    assert "excerpts" in against(reported_on(failed, [table]))


def test_a_macro_error_is_that_of_the_tables_datasets(board, table, tmp_path):
    path = tmp_path / "ours.toml"
    path.write_text(re.sub(r'  \{ key = "elsewhere".*\n', "", TABLE).replace('"9.9", ', ""), encoding="utf-8")
    found = against(reported_on(board, [read_published(path)]))
    line = next(line for line in board.lines if line.entry.system == "base")
    assert len(board.columns) == 2
    assert found["macro"] == [(line.macro["full"], pytest.approx(line.macro["full"] - 0.171))]


def test_boards_without_anything_reported_look_as_before(board, table):
    stranger = boards.make_board(
        boards.make_entry("a", 0.2, columns=(boards.make_column("x"),)), columns=(boards.make_column("x"),)
    )
    for one, tables in ((board, []), (stranger, [table])):
        nothing = reported_on(one, tables)
        assert not nothing
        assert render_markdown(one, nothing) == render_markdown(one)
        assert render_latex(one, nothing) == render_latex(one)
        assert render_csv(one, nothing) == render_csv(one)
        assert render_html(one, generated="now", reported=nothing) == render_html(one, generated="now")


def test_the_boards_own_table_is_untouched(board, table):
    reported = reported_on(board, [table])
    assert render_markdown(board, reported).startswith(render_markdown(board).rstrip("\n"))
    assert render_latex(board, reported).startswith(render_latex(board))
    assert render_csv(board, reported).startswith(render_csv(board) + "\n")
    with_reported = read_page(render_html(board, generated="now", reported=reported))
    alone = read_page(render_html(board, generated="now"))
    assert with_reported.root["board"].text == alone.root["board"].text
    assert leaderboard_json(board, [table])["systems"] == leaderboard_json(board)["systems"]


def test_every_format_says_that_they_are_reported(board, table):
    reported = reported_on(board, [table])
    out = io.StringIO()
    print_leaderboard(board, Console(file=out, width=200), reported)
    page = read_page(render_html(board, generated="now", reported=reported))
    texts = [
        render_markdown(board, reported),
        render_latex(board, reported),
        out.getvalue(),
        page.root["reported"].text,
    ]
    for text in texts:
        assert LABEL in text
        assert "Reported against measured" in text
        assert "Nobody et al. 2025, Table 1" in text
        assert "21.5" in text
        assert "counted otherwise" in text
    assert "outside “Reported, not measured here” was measured" in page.root.text


def test_doubts_are_told_of_what_only_stands_against_a_measurement(table):
    column = boards.make_column("x")
    board = boards.make_board(boards.make_entry("base", 0.2, columns=(column,)), columns=(column,))
    reported = reported_on(board, [table])
    assert reported.pairs
    assert not reported.rows
    out = io.StringIO()
    print_leaderboard(board, Console(file=out, width=200), reported)
    page = read_page(render_html(board, generated="now", reported=reported))
    texts = [
        render_markdown(board, reported),
        render_latex(board, reported),
        out.getvalue(),
        page.root["reported"].text,
    ]
    assert all("counted otherwise" in text for text in texts)


def test_csv_has_two_tables_with_an_empty_line_between(board, table):
    first, second = render_csv(board, reported_on(board, [table])).split("\n\n")
    assert len(list(csv.DictReader(io.StringIO(first)))) == 2
    rows = list(csv.DictReader(io.StringIO(second)))
    assert {row["reported_by"] for row in rows} == {"invented"}
    theirs = next(row for row in rows if row["reported_row"] == "Theirs, Bits 4")
    assert (theirs["reported"], theirs["reported_value"], theirs["measured_value"]) == ("19.5", "0.195", "")
    ours = next(row for row in rows if row["column"] == "size")
    assert (float(ours["measured_value"]), float(ours["difference"])) == (1_000_000, 0)


def test_json_keeps_the_digits(board, table):
    found = json.loads(json.dumps(leaderboard_json(board, [table]), allow_nan=False))["reported"]
    ours = {figure["column"]: figure for figure in found if figure["system"] == "base"}
    assert (ours["voices"]["text"], ours["voices"]["value"], ours["voices"]["rule"]) == ("20.0", 0.2, "full")
    assert ours["size"]["doubts"] == ["counted otherwise"]
    assert ours["rtf"]["hardware"] == "one GPU"
    assert ours["rtf"]["measured"][0]["difference"] is None
    assert ours["jer"]["measured"] == []
    assert "elsewhere" not in ours


def test_hostile_names_are_text(hostile, tmp_path):
    name = hostile.lines[0].entry.system
    text = TABLE.replace('system = "base"', f'system = "{name}"').replace("Theirs", "<img src=x onerror=alert(1)>|&_")
    path = tmp_path / "t.toml"
    path.write_text(text.replace('dataset = "voices"', 'dataset = "data"'), encoding="utf-8")
    reported = reported_on(hostile, [read_published(path)])
    assert reported.pairs
    page = render_html(hostile, generated="now", reported=reported)
    assert "onerror=alert" in page
    assert "<img src=x" not in page
    assert boards.SCRIPT not in page
    assert "<img" not in render_markdown(hostile, reported)
