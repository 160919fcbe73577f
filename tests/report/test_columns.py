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
        "macro_jer", "jer.voices", "jer.ami-excerpts", "missed", "false_alarm", "confusion", "parameters",
        "nonzero_parameters", "weight_bytes",
        f"rtf.{machine}.cpu.1", f"rtf.{machine}.cuda.2",
    ]  # fmt: skip


def test_jer_is_that_of_the_rule_that_ranks() -> None:
    entry = boards.make_entry("a", 0.2)
    for rule in boards.RULES:
        board = boards.make_board(entry, rule=rule)
        shown = {column.key: column.value(board.lines[0]) for column in table_columns(board)}
        jers = [entry.scores[column.name].jer(rule.name) for column in board.columns]
        assert [shown["jer.voices"], shown["jer.ami-excerpts"]] == jers
        assert shown["macro_jer"] == pytest.approx(sum(jers) / 2)


def test_jer_stands_where_it_is_known_and_once_for_one_dataset() -> None:
    (voices, _), entry = boards.COLUMNS, boards.make_entry("a", 0.2)
    alone = boards.make_board(replace(entry, scores={"voices": entry.scores["voices"]}), columns=(voices,))
    assert [key for key in keys(alone) if "jer" in key] == ["macro_jer"]
    assert [key for key in keys(alone, everything=True) if "jer" in key] == ["macro_jer", "jer.voices"]
    unknown = {name: replace(score, jaccard={}) for name, score in entry.scores.items()}
    board = boards.make_board(replace(entry, scores=unknown))
    assert not any("jer" in key for key in keys(board))
    assert any("jer" in key for key in keys(board, everything=True))
    assert board.lines[0].rank == 1


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


def test_costs_are_columns_where_some_line_has_them(measured: Leaderboard) -> None:
    machine = "invented-4c-16g-eb1f9a"
    costs = keys(measured)[keys(measured).index("parameters") :]
    assert costs == [
        "parameters", "nonzero_parameters", "encoder_parameters", "weight_bytes", "held_bytes",
        "macs_encoder_1s", "macs_window_per_s", "macs_pipeline_per_s",
        f"memory.{machine}.cpu.1", f"memory.{machine}.cuda.2", f"gpu_memory.{machine}.cuda.2",
        f"rtf.{machine}.cpu.1", f"rtf.{machine}.cuda.2",
        f"speedup.{machine}.cpu.1.base", f"speedup.{machine}.cuda.2.base",
    ]  # fmt: skip
    bare = boards.make_board(boards.make_entry("a", 0.2, complexity=None, rtf=None))
    assert keys(bare)[-1] == "confusion"
    assert "macs_encoder_1s" in keys(bare, everything=True)  # files have them always, empty
    assert not [key for key in keys(bare, everything=True) if key.startswith(("rtf", "memory", "speedup"))]


def test_an_encoder_that_is_all_there_is_has_no_column_of_its_own() -> None:
    sizes = boards.make_sizes(1000)
    alone = boards.make_board(boards.make_entry("a", 0.2, complexity=replace(sizes, encoder_parameters=1000)))
    assert "encoder_parameters" not in keys(alone)
    assert "encoder_parameters" in keys(alone, everything=True)
    part = boards.make_board(boards.make_entry("a", 0.2, complexity=sizes))
    assert "encoder_parameters" in keys(part)


def cells(board: Leaderboard, key: str) -> dict[str, str]:
    column = next(column for column in table_columns(board, everything=True) if column.key == key)
    return {line.entry.system: column.shown(line) for line in board.lines}


def test_speedups_are_printed_with_interval_and_marks(measured: Leaderboard) -> None:
    place = "invented-4c-16g-eb1f9a.cpu.1"
    on_cpu = cells(measured, f"speedup.{place}.base")
    assert on_cpu["base-int8"] == "1.63× [1.58, 1.68]"
    assert on_cpu["base-zero50"] == "1.01× [0.98, 1.04] ≈"
    assert on_cpu["base"] == on_cpu["silence"] == "–"
    on_gpu = cells(measured, "speedup.invented-4c-16g-eb1f9a.cuda.2.base")
    assert on_gpu["base-bf16"] == "1.31× [1.27, 1.35] !"
    assert on_gpu["base-zero50"] == "0.99× [0.96, 1.02] ≈!"
    numbers = {
        key: next(c for c in table_columns(measured, everything=True) if c.key == f"speedup{key}.{place}.base")
        for key in ("", "_low", "_high", "_within_noise", "_busy")
    }
    line = line_of(measured, "base-zero50")
    assert [column.value(line) for column in numbers.values()] == [
        1.01, pytest.approx(0.9797), pytest.approx(1.0403), 1, 0
    ]  # fmt: skip
    assert numbers[""].faint(line)
    assert numbers[""].remark(line) == "within noise, noise floor ±2.0 %, 15 rounds, session 20260504-101112"
    assert not numbers[""].faint(line_of(measured, "base-bf16"))  # slower is something too
    assert numbers[""].is_baseline(line_of(measured, "base"))
    assert not numbers[""].is_baseline(line_of(measured, "silence"))


def test_a_speedup_without_a_control_is_not_judged() -> None:
    ratio = replace(boards.make_ratio(2.0), verdict=None)
    measured = boards.make_measured(speedup=ratio, floor=None)
    board = boards.make_board(boards.make_entry("a", 0.2, measured={boards.PLACE: measured}))
    (column,) = (column for column in table_columns(board) if column.key.startswith("speedup."))
    (line,) = board.lines
    assert column.shown(line) == "2.00× [1.94, 2.06] ?"
    assert column.faint(line)
    assert column.remark(line).startswith("nothing can be said: the noise is not known")


def test_speedups_win_nothing_since_their_intervals_overlap(measured: Leaderboard) -> None:
    assert [winners for key, winners in winners_of(measured).items() if key.startswith("speedup")] == [[], []]
    assert winners_of(measured)["macs_pipeline_per_s"] == ["base-hidden75"]
    assert winners_of(measured)["held_bytes"] == ["base-int8-keep0", "base-int8"]


def test_other_baselines_places_and_machines_are_other_columns() -> None:
    box, rack = Place("box", "cpu", 1), Place("rack", "cpu", 1)
    four, gpu = box._replace(threads=4), box._replace(device="cuda")
    entries = [
        boards.make_entry("a", 0.2, places=(box,), measured={box: boards.make_measured(2.0, baseline="x")}),
        boards.make_entry("b", 0.3, places=(box,), measured={box: boards.make_measured(2.0, baseline="y")}),
        boards.make_entry(
            "c", 0.4, places=(box,),
            measured={place: boards.make_measured(2.0, baseline="x") for place in (rack, four, gpu)},
        ),
    ]  # fmt: skip
    board = boards.make_board(*entries)
    columns = [column for column in table_columns(board) if column.key.startswith("speedup.")]
    assert [(column.group, column.head) for column in columns] == [
        ("Speed-up, box", "CPU, 1 thread, to x"),
        ("Speed-up, box", "CPU, 1 thread, to y"),
        ("Speed-up, box", "CPU, 4 threads, to x"),
        ("Speed-up, box", "GPU, to x"),
        ("Speed-up, rack", "CPU, 1 thread, to x"),
    ]
    found = [[line.entry.system for line in board.lines if column.value(line) is not None] for column in columns]
    assert found == [["a"], ["b"], ["c"], ["c"], ["c"]]


def test_memory_says_at_what_length_it_was_taken(measured: Leaderboard) -> None:
    heads = [(column.group, column.head) for column in table_columns(measured) if "memory" in column.key]
    assert heads == [
        ("Peak memory", "CPU, 1 thread, 10 min"),
        ("Peak memory", "GPU, host, 10 min"),
        ("Peak memory", "GPU, its own, 10 min"),
    ]
    assert cells(measured, "memory.invented-4c-16g-eb1f9a.cpu.1")["base"] == "337 MB"
    short = boards.make_entry("a", 0.2, measured={boards.PLACE: boards.make_measured(lengths=(1.0, 2.0))})
    head = next(column.head for column in table_columns(boards.make_board(short)) if "memory" in column.key)
    assert head == "CPU, 1 thread, 2 min"


def test_what_is_held_and_windows_are_said_in_words(measured: Leaderboard) -> None:
    columns = {column.key: column for column in table_columns(measured)}
    line = line_of(measured, "base-int8")
    assert columns["held_bytes"].remark(line) == "int8: 1.89 M weights in 1.89 MB"
    assert columns["macs_window_per_s"].remark(line) == "window of 8 s"
    assert columns["macs_window_per_s"].value(line) == 460 * 1_890_000 / 8
    assert columns["macs_window_per_s"].remark(line_of(measured, "silence")) == ""


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
