"""Counts of datasets as a picture: how long turns are, and how many speak at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diarbench.corpora.counting import Summary
from diarbench.corpora.tables import shares_at_once
from diarbench.errors import InputError
from diarbench.files import write_whole

_ROW = 24  # pixels of a dataset
_WIDTH = 340  # pixels of a chart
_KINDS = (".svg", ".png", ".pdf", ".html")


def check_plot(path: Path) -> None:
    """Raises InputError unless the file's ending names a format that pictures are written in."""
    if path.suffix.lower() not in _KINDS:
        raise InputError(f"--plot {path}: name a file that ends with {', '.join(_KINDS[:-1])} or {_KINDS[-1]}")


def plot(summaries: Sequence[Summary], path: Path) -> None:
    """Write a picture of datasets, in the format that the file's ending names. Raises InputError, StoreError."""
    check_plot(path)
    import vl_convert

    spec = figure(summaries)
    write: dict[str, Callable[[], str | bytes]] = {
        ".svg": lambda: str(vl_convert.vegalite_to_svg(spec)),
        ".png": lambda: bytes(vl_convert.vegalite_to_png(spec, scale=2)),
        ".pdf": lambda: bytes(vl_convert.vegalite_to_pdf(spec)),
        ".html": lambda: str(vl_convert.vegalite_to_html(spec, bundle=True)),
    }
    write_whole(path, write[path.suffix.lower()]())


def figure(summaries: Sequence[Summary]) -> dict[str, Any]:
    """The picture as a Vega-Lite specification: two charts side by side, a row for each dataset."""
    names = [one.name for one in summaries]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "config": {"view": {"stroke": None}, "axis": {"grid": False}},
        "hconcat": [_at_once(summaries, names), _turn_lengths(summaries, names)],
    }


def _at_once(summaries: Sequence[Summary], names: list[str]) -> dict[str, Any]:
    kinds = ["nobody", "1", "2", "3", "4", "5 or more"]
    rows = [
        {"dataset": one.name, "speakers": kind, "share": share, "order": order}
        for one in summaries
        for order, (kind, share) in enumerate(zip(kinds, shares_at_once(one), strict=True))
    ]
    colours = ["#e8e8e8", "#c6dbef", "#6baed6", "#2171b5", "#08306b", "#000000"]
    return {
        "title": "Speakers at once",
        "width": _WIDTH,
        "height": {"step": _ROW},
        "data": {"values": rows},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "dataset", "type": "nominal", "sort": names, "title": None, "axis": {"labelLimit": 240}},
            "x": {
                "field": "share",
                "type": "quantitative",
                "title": "% of the recordings' length",
                "scale": {"domain": [0, 100]},
            },
            "order": {"field": "order"},
            "color": {
                "field": "speakers",
                "type": "nominal",
                "title": None,
                "scale": {"domain": kinds, "range": colours},
                "legend": {"orient": "bottom", "columns": 6},
            },
        },
    }


def _turn_lengths(summaries: Sequence[Summary], names: list[str]) -> dict[str, Any]:
    keys = ("p5", "p25", "p50", "p75", "p95")
    rows = [
        {"dataset": one.name, **{key: max(length, 0.01) for key, length in zip(keys, one.turn_lengths, strict=True)}}
        for one in summaries
        if one.turn_lengths
    ]
    y = {"field": "dataset", "type": "nominal", "sort": names, "title": None, "axis": None}
    axis = {"type": "quantitative", "title": "s (5th, 25th, 50th, 75th, 95th percentile)", "scale": {"type": "log"}}
    return {
        "title": "Length of turns",
        "width": _WIDTH,
        "height": {"step": _ROW},
        "data": {"values": rows},
        "encoding": {"y": y},
        "layer": [
            {
                "mark": {"type": "rule", "color": "#6baed6"},
                "encoding": {"x": {"field": "p5", **axis}, "x2": {"field": "p95"}},
            },
            {
                "mark": {"type": "bar", "color": "#6baed6", "height": _ROW // 2},
                "encoding": {"x": {"field": "p25", **axis}, "x2": {"field": "p75"}},
            },
            {
                "mark": {"type": "tick", "color": "#08306b", "thickness": 2, "size": _ROW // 2 + 4},
                "encoding": {"x": {"field": "p50", **axis}},
            },
        ],
    }
