from __future__ import annotations

from dataclasses import replace

import boards
import pytest

from diarbench.leaderboard import Leaderboard, Line, Place
from diarbench.report.columns import best_values, is_best, table_columns
from diarbench.report.troubles import troubles
from diarbench.report.values import PARTS, macro_rate, rate
from diarbench.types import Complexity


def keys(board: Leaderboard, **options: bool) -> list[str]:
    return [column.key for column in table_columns(board, **options)]


def line_of(board: Leaderboard, system: str) -> Line:
    return next(line for line in board.lines if line.entry.system == system)


def test_the_columns_stand_in_their_order(realistic: Leaderboard) -> None:
    machine = "invented-4c-16g-eb1f9a"
    assert keys(realistic) == [
        "macro_der.full", "macro_der.fair", "macro_der.forgiving", "delta.full", "der.voices", "der.ami-excerpts",
        "missed", "false_alarm", "confusion", "parameters", "nonzero_parameters", "weight_bytes",
        f"rtf.{machine}.cpu.1", f"rtf.{machine}.cuda.2",
    ]  # fmt: skip


def test_non_zero_parameters_are_a_column_only_where_they_say_something() -> None:
    board = boards.make_board(boards.make_entry("dense", 0.2))
    assert "nonzero_parameters" not in keys(board)
    assert "nonzero_parameters" in keys(board, everything=True)
    few = replace(boards.make_entry("few", 0.2), complexity=Complexity(1_730_000, 1_729_988))
    assert "nonzero_parameters" not in keys(boards.make_board(few))
    unknown = replace(boards.make_entry("unknown", 0.2), complexity=Complexity(100, None))
    assert "nonzero_parameters" not in keys(boards.make_board(unknown))


@pytest.mark.parametrize("system", ["base", "base-int8", "silence"])
def test_the_three_errors_add_up_to_the_macro_der(realistic: Leaderboard, system: str) -> None:
    line = line_of(realistic, system)
    errors = [macro_rate(line, realistic, part) for part in PARTS]
    assert sum(error for error in errors if error is not None) == pytest.approx(line.macro["full"])


def test_an_incomplete_dataset_has_no_rates(realistic: Leaderboard) -> None:
    line = line_of(realistic, "base-hidden50")
    voices, excerpts = realistic.columns
    assert rate(line, voices, "full", "missed") is not None
    assert rate(line, excerpts, "full", "missed") is None
    assert macro_rate(line, realistic, "missed") is None


def winners_of(board: Leaderboard) -> dict[str, list[str]]:
    columns = table_columns(board)
    best = best_values(board, columns)
    return {column.key: [x.entry.system for x in board.lines if is_best(column, x, best)] for column in columns}


def test_only_ranked_systems_compete_and_equal_ones_win_nothing() -> None:
    entry = boards.make_entry("failed", 0.05, parameters=10)
    failed = boards.fail(entry, "voices", 1, "fell over")
    ranked = [boards.make_entry(name, 0.2, parameters=10 + 90 * number) for number, name in enumerate(("a", "b"))]
    winners = winners_of(boards.make_board(failed, *ranked))
    assert winners["parameters"] == ["a"]  # not the failed one, which is as small
    assert winners["rtf.invented-4c-16g-eb1f9a.cpu.1"] == []  # all alike
    assert len(winners["macro_der.full"]) == 1


def test_a_program_without_counted_networks_may_win_on_accuracy() -> None:
    outside = boards.make_entry("outside", 0.05, parameters=None, rtf=0.001)
    board = boards.make_board(outside, boards.make_entry("a", 0.2), boards.make_entry("b", 0.4, rtf=0.02))
    winners = winners_of(board)
    assert winners["macro_der.full"] == ["outside"]
    assert winners["rtf.invented-4c-16g-eb1f9a.cpu.1"] == ["b"]


def test_without_any_counted_network_all_compete_on_speed() -> None:
    options = {"parameters": None, "places": (Place("box", "cpu", 1),)}
    entries = [boards.make_entry("a", 0.2, rtf=1.0, **options), boards.make_entry("b", 0.2, rtf=2.0, **options)]
    board = boards.make_board(*entries)
    columns = table_columns(board)
    assert best_values(board, columns)["rtf.box.cpu.1"] == pytest.approx(1.0)


def test_recordings_that_failed_alike_are_told_together(realistic: Leaderboard) -> None:
    failed, problem = troubles(realistic)
    assert failed.recordings == ("ami-excerpts-000", "ami-excerpts-001", "ami-excerpts-002")
    assert failed.sentence == (
        "base-hidden50, ami-excerpts, 3 of 8 recordings "
        f"(ami-excerpts-000, ami-excerpts-001, ami-excerpts-002): {boards.SHAPES}"
    )
    assert problem.sentence == "outside-program: CPU and GPU outputs differ on 2 of 20 recordings"
