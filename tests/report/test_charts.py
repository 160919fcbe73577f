from __future__ import annotations

import json
from typing import Any

import boards
import numpy as np
import pytest
import vl_convert

from diarbench.leaderboard import Leaderboard, Place
from diarbench.report.charts import Chart, cost_charts, error_chart, spread_chart


def systems(chart: Chart) -> list[str]:
    return [row["system"] for row in values(chart)]


def values(chart: Chart) -> list[dict[str, Any]]:
    assert chart.spec is not None
    return list(chart.spec["data"]["values"])


def scale(chart: Chart, axis: str = "x") -> dict[str, Any]:
    assert chart.spec is not None
    return dict(chart.spec["layer"][0]["encoding"][axis]["scale"])


def charts_of(board: Leaderboard) -> list[Chart]:
    spreads = [spread_chart(board, column, number) for number, column in enumerate(board.columns)]
    errors = [error_chart(board, column, number) for number, column in enumerate(board.columns)]
    return [*cost_charts(board), *errors, *(chart for chart in spreads if chart is not None)]


def test_one_cost_chart_for_parameters_and_one_for_each_place(realistic: Leaderboard) -> None:
    charts = cost_charts(realistic)
    assert [chart.title for chart in charts] == [
        "Macro DER against parameters",
        "Macro DER against RTF, CPU, 1 thread, invented-4c-16g-eb1f9a",
        "Macro DER against RTF, GPU, invented-4c-16g-eb1f9a",
    ]
    assert len({chart.id for chart in charts}) == 3


def test_a_floor_without_parameters_is_named_and_not_drawn(realistic: Leaderboard) -> None:
    by_parameters, by_rtf, _ = cost_charts(realistic)
    assert "silence" not in systems(by_parameters) + systems(by_rtf)
    assert "Without a value: one-speaker (42.3 %), silence (100.0 %)." in by_parameters.caption
    assert "Off the scale: one-speaker (42.3 % at <0.0001), silence (100.0 % at <0.0001)." in by_rtf.caption


def test_only_ranked_systems_are_drawn(realistic: Leaderboard) -> None:
    for chart in cost_charts(realistic):
        assert not {"base-hidden50", "outside-program"} & set(systems(chart))


def test_the_front_is_what_no_other_system_beats() -> None:
    entries = [
        boards.make_entry(name, der, parameters=count)
        for name, der, count in (("small", 0.5, 1_000), ("large", 0.1, 3_000), ("beaten", 0.6, 2_000))
    ]
    chart = cost_charts(boards.make_board(*entries))[0]
    assert chart.spec is not None
    on_front = {row["system"]: row["front"] for row in chart.spec["data"]["values"]}
    assert on_front == {"small": True, "large": True, "beaten": False}
    assert chart.spec["layer"][0]["transform"] == [{"filter": {"equal": True, "field": "front"}}]


def test_the_axis_is_logarithmic_only_where_costs_lie_far_apart() -> None:
    near = boards.make_board(boards.make_entry("a", 0.2, parameters=100), boards.make_entry("b", 0.3, parameters=200))
    far = boards.make_board(boards.make_entry("a", 0.2, parameters=100), boards.make_entry("b", 0.3, parameters=9000))
    assert scale(cost_charts(near)[0])["type"] == "linear"
    assert scale(cost_charts(far)[0])["type"] == "log"


def test_a_cost_of_zero_has_no_place_on_a_chart() -> None:
    board = boards.make_board(boards.make_entry("instant", 0.2, rtf=0.0), boards.make_entry("b", 0.3))
    chart = cost_charts(board)[1]
    assert systems(chart) == ["b"]
    assert "Without a value: instant" in chart.caption


def test_without_a_ranked_system_there_is_no_chart_and_the_caption_says_so() -> None:
    board = boards.make_board(boards.fail(boards.make_entry("a", 0.2), "voices", 1, "fell over"))
    charts = cost_charts(board)
    assert [chart.spec for chart in charts] == [None, None]
    assert all(chart.caption.startswith("Nothing to draw") for chart in charts)


def test_error_bars_add_up_to_the_der_and_name_who_is_missing(realistic: Leaderboard) -> None:
    chart = error_chart(realistic, realistic.columns[1], 1)
    assert chart.spec is not None
    rows = chart.spec["layer"][0]["data"]["values"]
    base = next(line for line in realistic.lines if line.entry.system == "base")
    der = base.entry.scores["ami-excerpts"].der("full")
    assert der is not None
    assert sum(row["percent"] for row in rows if row["system"] == "base") == pytest.approx(100 * der)
    assert chart.caption.endswith("Not complete here: base-hidden50, outside-program.")
    assert "base-hidden50" not in {row["system"] for row in rows}


def test_the_spread_is_quartiles_of_the_recordings(realistic: Leaderboard) -> None:
    column = realistic.columns[0]
    chart = spread_chart(realistic, column, 0)
    assert chart is not None
    row = next(row for row in values(chart) if row["system"] == "base")
    base = next(line for line in realistic.lines if line.entry.system == "base")
    ders = [times["full"].der for times in base.entry.scores["voices"].recordings.values()]
    quartiles = np.percentile([100 * der for der in ders if der is not None], [0, 25, 50, 75, 100])
    assert [row[key] for key in ("least", "low", "median", "high", "most")] == pytest.approx(quartiles.tolist())


def test_too_few_recordings_have_no_spread() -> None:
    column = boards.make_column("short", recordings=3)
    board = boards.make_board(boards.make_entry("a", 0.2, columns=(column,)), columns=(column,))
    assert spread_chart(board, column, 0) is None


@pytest.mark.parametrize(
    "board",
    [
        boards.realistic(),
        boards.hostile(),
        boards.many(40, 40),
        boards.make_board(boards.make_entry("only", 0.2)),
        boards.make_board(*(boards.make_entry(name, 0.2) for name in "ab")),  # equal in everything
        boards.make_board(boards.make_entry("a", 0.2, places=(boards.PLACE, Place("b", "cuda", 1)))),
    ],
    ids=["realistic", "hostile", "many", "one", "equal", "machines"],
)
def test_vega_lite_draws_every_chart(board: Leaderboard) -> None:
    for chart in charts_of(board):
        assert chart.spec is not None
        svg = vl_convert.vegalite_to_svg(json.dumps(chart.spec))
        assert "<svg" in svg
        assert "NaN" not in svg
