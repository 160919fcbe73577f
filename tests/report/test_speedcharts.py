from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import boards
import pytest
import vl_convert

from diarbench.costs import Memory, MemoryAt, StageCost
from diarbench.leaderboard import REST, Leaderboard, Place, Speed
from diarbench.report.charts import Chart, cost_charts
from diarbench.report.speedcharts import memory_charts, speedup_charts, stage_charts
from diarbench.report.values import memory_minutes, stage_seconds

GPU = boards.PLACE._replace(device="cuda", threads=2)


def values(chart: Chart, layer: int) -> list[dict[str, Any]]:
    assert chart.spec is not None
    data = chart.spec["data"] if "data" in chart.spec else chart.spec["layer"][layer]["data"]
    return list(data["values"])


def charts_of(board: Leaderboard) -> list[Chart]:
    return [*cost_charts(board), *speedup_charts(board), *stage_charts(board), *memory_charts(board)]


def with_memory(name: str, *lengths: float) -> Any:
    sizes = tuple(MemoryAt(at, int(1e6 * at), None, None) for at in lengths)
    memory = Memory(1, sizes, {"resident": None, "cuda": None})
    return boards.make_entry(name, 0.2, measured={boards.PLACE: boards.make_measured(memory=memory)})


def test_macs_are_a_chart_where_some_are_known(realistic: Leaderboard, measured: Leaderboard) -> None:
    assert "cost-macs" not in [chart.id for chart in cost_charts(realistic)]
    chart = next(chart for chart in cost_charts(measured) if chart.id == "cost-macs")
    assert chart.spec is not None
    costs = {row["system"]: row["cost"] for row in chart.spec["data"]["values"]}
    assert costs["base-hidden75"] == pytest.approx(112_100_000)
    assert set(costs) == set(boards.MEASURED)
    assert "Without a value: base-w24" in chart.caption


def test_a_place_where_nothing_ran_has_no_chart_of_its_real_time_factor() -> None:
    entry = boards.make_entry("a", 0.2, measured={GPU: boards.make_measured(1.5)})
    board = boards.make_board(entry)
    assert board.places == (boards.PLACE, GPU)
    assert [chart.id for chart in cost_charts(board)] == ["cost-parameters", "cost-rtf-0"]


def test_speedups_are_drawn_by_place_and_baseline_with_noise(measured: Leaderboard) -> None:
    cpu, gpu = speedup_charts(measured)
    assert cpu.title == "Speed-up, CPU, 1 thread, invented-4c-16g-eb1f9a"
    band, one, intervals = (values(cpu, layer) for layer in range(3))
    assert band == [{"from": 1 / 1.02, "to": 1.02}]
    assert one == [{"one": 1.0}]
    rows = {(row["system"], row["what"]): row for row in intervals}
    assert rows["base-int8", "pipeline"]["median"] == 1.63
    assert rows["base-int8", "encoder alone"]["median"] == 2.4
    assert rows["base-zero50", "pipeline"]["verdict"] == "within noise"
    assert rows["base-bf16", "pipeline"]["verdict"] == "slower"
    assert "base" not in {system for system, _ in rows}
    assert "The machine was busy." in gpu.caption
    assert "busy" not in cpu.caption
    assert "±2.0 %" in cpu.caption


def test_two_baselines_are_two_charts() -> None:
    entries = [
        boards.make_entry(name, 0.2, measured={boards.PLACE: boards.make_measured(1.5, baseline=base, floor=None)})
        for name, base in (("a", "x"), ("b", "y"))
    ]
    charts = speedup_charts(boards.make_board(*entries))
    assert [chart.caption.partition(":")[0] for chart in charts] == [f"How many times faster than {x}" for x in "xy"]
    assert [{row["system"] for row in values(chart, 1)} for chart in charts] == [{"a"}, {"b"}]
    assert all("noise" not in chart.caption for chart in charts)


def test_the_largest_batch_speaks_for_the_encoder() -> None:
    found = boards.make_measured(1.5, encoder=2.0)
    small, large = found.encoder
    encoder = (
        replace(large, speedup=boards.make_ratio(3.0)),
        small,
        replace(large, batch=99, speedup=None, error="out of memory"),
    )
    entry = boards.make_entry("a", 0.2, measured={boards.PLACE: replace(found, encoder=encoder)})
    (chart,) = speedup_charts(boards.make_board(entry))
    assert [row["median"] for row in values(chart, 2)] == [1.5, 3.0]


def test_stages_add_up_to_the_real_time_factor(measured: Leaderboard) -> None:
    ids = [chart.id for chart in stage_charts(measured)]
    assert ids == ["stages-0", "shares-0", "stages-1", "shares-1"]
    seconds, shares = stage_charts(measured)[:2]
    rows = [row for row in values(seconds, 0) if row["system"] == "base"]
    assert sum(row["seconds"] for row in rows) == pytest.approx(3600 * 0.031)
    assert [row["stage"] for row in sorted(rows, key=lambda row: row["order"])] == [
        "embedding", "vad", "clustering", REST
    ]  # fmt: skip
    assert {row["stage"]: row["bound"] for row in rows}["embedding"] == "3.33×"
    by_system: dict[str, float] = {}
    for row in values(shares, 0):
        by_system[row["system"]] = by_system.get(row["system"], 0.0) + row["percent"]
    assert list(by_system.values()) == [pytest.approx(100.0)] * len(boards.MEASURED)
    assert "Without stages: base-w24" in seconds.caption


def test_stages_of_a_gpu_come_from_a_session_with_the_rest_of_the_time() -> None:
    stages = {"embedding": StageCost(1.0, 0.6, 2.5)}
    entry = boards.make_entry("a", 0.2, rtf=None, measured={GPU: boards.make_measured(stages=stages, rtf=0.01)})
    (line,) = boards.make_board(entry).lines
    assert stage_seconds(line, GPU) == {"embedding": pytest.approx(0.006), REST: pytest.approx(0.004)}
    assert stage_seconds(line, boards.PLACE) is None


def test_a_run_speaks_before_a_session() -> None:
    entry = boards.make_entry("a", 0.2, measured={boards.PLACE: boards.make_measured(rtf=5.0)})
    entry = replace(entry, speeds={boards.PLACE: Speed(10.0, 100.0)}, stages={boards.PLACE: {"x": 8.0, REST: 2.0}})
    (line,) = boards.make_board(entry).lines
    assert stage_seconds(line, boards.PLACE) == {"x": 0.08, REST: 0.02}


@pytest.mark.parametrize(
    ("lengths", "minutes"),
    [
        ([(1, 10, 60), (1, 10)], 10),
        ([(1, 60), (1, 60)], 60),
        ([(1, 10), (1,)], 1),
        ([(1,), (2,), (2, 3)], 2),
        ([(1, 2)], 2),
        ([()], None),
        ([], None),
    ],
)
def test_memory_is_compared_at_ten_minutes_or_at_the_longest_that_most_have(
    lengths: list[tuple[float, ...]], minutes: float | None
) -> None:
    entries = [with_memory(f"s{number}", *found) for number, found in enumerate(lengths)]
    assert memory_minutes(boards.make_board(*entries), boards.PLACE) == minutes


def test_memory_is_drawn_by_place_and_kind(measured: Leaderboard) -> None:
    assert [chart.id for chart in memory_charts(measured)] == [
        "memory-resident-0",
        "memory-resident-1",
        "memory-cuda-1",
    ]
    rows = memory_charts(measured)[0].spec
    assert rows is not None
    found = [row for row in rows["data"]["values"] if row["system"] == "base"]
    assert [row["minutes"] for row in found] == [1.0, 10.0, 60.0]
    many = boards.make_board(*(with_memory(f"s{number:02d}", 1, 10) for number in range(20)))
    assert "The first 16 of 20 systems." in memory_charts(many)[0].caption


def test_boards_without_measures_have_no_such_charts(realistic: Leaderboard) -> None:
    assert [*speedup_charts(realistic), *stage_charts(realistic), *memory_charts(realistic)] == []


@pytest.mark.parametrize(
    "board",
    [
        boards.measured(),
        boards.hostile(),
        boards.make_board(with_memory("one", 5)),
        boards.make_board(with_memory("zero", 0, 1)),
        boards.make_board(
            boards.make_entry("a", 0.2, measured={Place("b", "cpu", 1): boards.make_measured(40.0, encoder=0.01)})
        ),
    ],
    ids=["measured", "hostile", "one-length", "no-length", "far-apart"],
)
def test_vega_lite_draws_every_chart(board: Leaderboard) -> None:
    charts = charts_of(board)
    assert len(charts) > 1
    for chart in charts:
        assert chart.spec is not None
        svg = vl_convert.vegalite_to_svg(json.dumps(chart.spec))
        assert "<svg" in svg
        assert "NaN" not in svg
