from __future__ import annotations

import io
import re

import boards
import pytest
from pages import read_page
from rich.console import Console

from diarbench.leaderboard import Leaderboard, Place
from diarbench.report import print_leaderboard, render_html, render_markdown


def printed(board: Leaderboard, width: int = 80, **options: bool) -> str:
    out = io.StringIO()
    print_leaderboard(board, Console(file=out, width=width, **options))  # type: ignore[arg-type]
    return out.getvalue()


def row_of(output: str, system: str) -> list[str]:
    row = next(line for line in output.splitlines() if re.match(rf"\s*\S+\s+{re.escape(system)}\s", line))
    return row.split()


def test_eighty_columns_hold_what_matters_most(realistic: Leaderboard) -> None:
    output = printed(realistic, 80)
    assert row_of(output, "base-int8-keep0")[:6] == ["3", "base-int8-keep0", "20.3", "14.5", "11.5", "+1.94"]
    assert row_of(output, "base-int8-keep0")[6:] == ["23.9", "16.8"]
    assert "Δ: macro DER under full less that of base, in percentage points.\n" in output
    assert "Ranked by macro DER under full: no collar, overlap scored. Lower is better." in output
    assert "Dataset voices: 12 recordings, 24 min, SYNTHETIC" in output
    assert "Dataset ami-excerpts (first 8 of 16): 8 recordings, 16 min\n" in output
    assert "In a wider terminal also: macro JER %; JER % voices; JER % ami-excerpts;" in " ".join(output.split())
    assert "unweighted mean" not in output, "what is not shown is not explained"


def test_a_wide_terminal_shows_every_column(realistic: Leaderboard) -> None:
    output = printed(realistic, 200)
    assert "In a wider terminal also" not in output
    assert len(row_of(output, "base")) == 2 + 17 + 3  # "1.89 M" and the like are two words
    assert "missed, false alarm, confusion and macro JER are such means too." in output


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 240])
@pytest.mark.parametrize("name", ["realistic", "hostile", "measured"])
def test_nothing_is_wider_than_the_terminal_or_cut(
    width: int, name: str, realistic: Leaderboard, hostile: Leaderboard, measured: Leaderboard
) -> None:
    board = {"realistic": realistic, "hostile": hostile, "measured": measured}[name]
    output = printed(board, width)
    assert max(map(len, output.splitlines())) <= width
    table = output[: output.index("Ranked by")]
    for line in board.lines:
        macro = line.macro["full"]
        assert macro is None or f"{100 * macro:.1f}" in table


def test_costs_come_before_details(measured: Leaderboard) -> None:
    narrow, wide = printed(measured, 120), printed(measured, 150)
    assert {"voices", "forgiving", "RTF", "speed-up"} <= set(narrow[: narrow.index("──")].split())
    assert "1.01× [0.98, 1.04] ≈" in narrow
    assert "1.63× [1.58, 1.68]" in narrow
    assert "≈: within the noise of its session, no speed-up." in " ".join(narrow.split())
    assert "0.99× [0.96, 1.02] ≈!" in wide
    assert "Speed-up: median" not in printed(measured, 60)  # not in the table, not explained
    words = " ".join(wide.split())
    assert "against base, 15 rounds over 0.5 min of voices, noise floor ±2.0 %; session" in words
    assert "base-w08: what was measured on CPU, 1 thread on box was another version of it." in words
    assert "\x1b[2m" in printed(measured, 130, force_terminal=True)
    assert "parameters" in printed(measured, 180).partition("──")[0].split()


def test_the_baselines_are_named_and_for_whom() -> None:
    entries = [
        boards.make_entry("a", 0.2),
        boards.make_entry("b", 0.25, baseline="a"),
        boards.make_entry("c", 0.3, baseline="b"),
        boards.make_entry("d", 0.3, baseline="gone"),
    ]
    told = " ".join(printed(boards.make_board(*entries)).split())
    assert "less that of a (for b) or b (for c), in percentage points. No Δ for d: gone has no rank here." in told
    assert "Δ:" not in printed(boards.make_board(*entries[:1]))


def test_failures_and_unranked_systems_are_told_below(realistic: Leaderboard) -> None:
    output = " ".join(printed(realistic, 80).split())
    assert "Not ranked base-hidden50: 5 of 8 recordings on ami-excerpts, 3 failed outside-program: not run" in output
    assert f"3 of 8 recordings (ami-excerpts-000, ami-excerpts-001, ami-excerpts-002): {boards.SHAPES}" in output
    assert "outside-program: CPU and GPU outputs differ" in output
    assert 'Whole tracebacks: "detail" in recordings/ID.json of a run' in output


def test_timings_that_do_not_count_are_no_problem() -> None:
    """The same in every format that tells of failures; of a system that has several, in one line."""
    why = ("no speed for CPU: 3 of 3", "no speed for GPU: 1 of 3")
    board = boards.make_board(boards.make_entry("a", 0.2, timings_left_out=why), boards.make_entry("b", 0.3))
    output = printed(board)
    assert output.endswith("Timings left out\n  a: no speed for CPU: 3 of 3; no speed for GPU: 1 of 3\n")
    assert "Failures and problems" not in output
    markdown = render_markdown(board)
    assert "## Timings left out\n\n- a: no speed for CPU: 3 of 3; no speed for GPU: 1 of 3\n" in markdown
    assert "Failures and problems" not in markdown
    page = read_page(render_html(board, generated="now"))
    assert "a: no speed for CPU: 3 of 3; no speed for GPU: 1 of 3" in page.root["timings"].text
    assert "No recording failed, and no problem was reported." in page.root["failures"].text
    assert "class" not in page.root["failures"].attributes
    assert "Problems were reported" not in next(page.root.all("header")).text
    assert "Timings left out" not in render_html(boards.make_board(boards.make_entry("b", 0.3)), generated="now")
    busy = boards.make_board(*(boards.make_entry(f"s{i}", 0.2, timings_left_out=("no speed",)) for i in range(30)))
    assert "and 10 more; the JSON and the page hold all" in printed(busy)


@pytest.mark.parametrize("soft", [False, True])
def test_nothing_is_cut_however_long(soft: bool) -> None:
    """On a terminal it is folded; on a pipe it stays one line."""
    error = "fell over " * 40 + "at last"
    board = boards.make_board(boards.fail(boards.make_entry("a", 0.2), "voices", 1, error))
    output = printed(board, 100, soft_wrap=soft)
    assert error in " ".join(output.split())
    assert (max(map(len, output.splitlines())) > 400) == soft


def test_many_failures_are_counted() -> None:
    entries = [boards.fail(boards.make_entry(f"s{number}", 0.2), "voices", 1, "fell over") for number in range(30)]
    assert "and 10 more; the JSON and the page hold all" in printed(boards.make_board(*entries))


def test_machines_are_named_where_there_are_several() -> None:
    places = (Place("box", "cpu", 1), Place("rack", "cpu", 1))
    output = printed(boards.make_board(boards.make_entry("a", 0.2, places=places)), 120)
    heads = output[: output.index("──")].split()
    assert {"box", "rack"} <= set(heads)


def test_names_obey_nothing_and_control_nothing(hostile: Leaderboard) -> None:
    markup = boards.make_board(boards.make_entry("[red]x[/red]", 0.2), title="[bold]t[/bold]")
    assert "[red]x[/red]" in printed(markup)
    assert "[bold]t[/bold]" in printed(markup)
    assert "\x1b" not in printed(hostile)
    assert "\x1b[31mred" not in printed(hostile, force_terminal=True)


def test_the_best_is_bold_where_there_are_colours(realistic: Leaderboard) -> None:
    assert re.search(r"\x1b\[1;32m\s*18\.2", printed(realistic, force_terminal=True))


def test_degenerate_boards() -> None:
    assert "No system is on this leaderboard." in printed(boards.make_board(columns=()))
    failed = boards.fail(boards.make_entry("a", 0.2, rtf=None), "voices", 12, "fell over")
    assert "Not ranked\n  a: 0 of 12 recordings on voices, 12 failed" in printed(boards.make_board(failed))
