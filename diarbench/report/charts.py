"""Vega-Lite charts of a leaderboard: DER against cost, error types by dataset, and the spread over recordings.

Colours are CSS variables of the page (`var(--…)`), so that a chart follows light, dark and print with the text.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diarbench.report import text
from diarbench.report.columns import place_label
from diarbench.report.values import PARTS, parameters, rate, rtf

if TYPE_CHECKING:
    from diarbench.leaderboard import Column, Leaderboard, Line, Place

Spec = dict[str, Any]

HUES = tuple(f"var(--hue-{number})" for number in range(1, 9))
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
_PART_COLOURS = {"missed": "var(--missed)", "false alarm": "var(--false-alarm)", "confusion": "var(--confusion)"}
ROW = 19  # height of a system's bar with its gap, pixels
_REACH = 10.0  # a system without counted networks is drawn up to this many times beyond the others' costs
_HEADROOM = 1.5  # and up to this many times their highest DER
LOGARITHMIC = 5.0  # costs that span more than this factor get a logarithmic axis
_FEWEST_FOR_SPREAD = 4  # recordings from which quartiles say something


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its words: `id` is unique on the page."""

    id: str
    title: str
    caption: str
    spec: Spec | None  # None: nothing can be drawn, and the caption says why


@dataclass(frozen=True, slots=True)
class _Point:
    line: Line
    cost: float
    der: float  # percent


def cost_charts(board: Leaderboard) -> list[Chart]:
    """Macro DER against parameters, against the pipeline's MACs where some are known, and against RTF, one chart per
    place where something was timed; ranked systems only."""
    charts = [
        _cost_chart(
            board, "cost-parameters", "Macro DER against parameters", "parameters", parameters, text.count, ".5~s"
        )
    ]
    if any(line.entry.pipeline_macs is not None for line in board.lines):
        title, axis = "Macro DER against MACs of the pipeline", "multiply-accumulates per second of audio"
        macs = _cost_chart(board, "cost-macs", title, axis, lambda line: line.entry.pipeline_macs, text.count, ".5~s")
        charts.append(macs)
    timed = [place for place in board.places if any(rtf(line, place) is not None for line in board.lines)]
    for number, place in enumerate(timed):

        def cost(line: Line, place: Place = place) -> float | None:
            return rtf(line, place)

        title = f"Macro DER against RTF, {place_label(board, place)}, {text.plain(place.machine)}"
        charts.append(_cost_chart(board, f"cost-rtf-{number}", title, "real-time factor", cost, text.ratio, ".5~g"))
    return charts


def error_chart(board: Leaderboard, column: Column, number: int) -> Chart:
    """Missed, false alarm and confusion of each system that is complete on the dataset, stacked, best rank first."""
    rule = board.rule.name
    rows, totals = [], []
    for line in board.lines:
        parts = {name: rate(line, column, rule, part) for part, name in PARTS.items()}
        name = text.plain(line.entry.system)
        known = {part: 100 * value for part, value in parts.items() if value is not None}
        if known:
            rows += [
                {"system": name, "error": part, "percent": value, "order": order}
                for order, (part, value) in enumerate(known.items())
            ]
            totals.append({"system": name, "der": sum(known.values())})
    left_out = [line.entry.system for line in board.lines if text.plain(line.entry.system) not in _names(totals)]
    caption = f"In percent of scored speech; {board.rule.label}."
    if left_out:
        caption += f" Not complete here: {text.some([text.plain(name) for name in left_out], 10)}."
    spec = _error_spec(rows, totals) if rows else None
    return Chart(f"errors-{number}", f"{text.plain(column.label)}", caption, spec)


def spread_chart(board: Leaderboard, column: Column, number: int) -> Chart | None:
    """The spread of DER over the recordings of a dataset, by system; None with too few recordings to say."""
    if len(column.recordings) < _FEWEST_FOR_SPREAD:
        return None
    rows = []
    for line in board.lines:
        score = line.entry.scores.get(column.name)
        ders = [times[board.rule.name].der for times in score.recordings.values()] if score else []
        known = [100 * der for der in ders if der is not None]
        if len(known) >= _FEWEST_FOR_SPREAD:
            low, median, high = statistics.quantiles(known, n=4, method="inclusive")
            row = {"low": low, "median": median, "high": high, "least": min(known), "most": max(known)}
            rows.append({"system": text.plain(line.entry.system), "recordings": len(known)} | row)
    if not rows:
        return None
    caption = "Box: quartiles with the median; line: smallest to largest; over recordings that have a result."
    return Chart(f"spread-{number}", f"Spread over recordings, {text.plain(column.label)}", caption, _spread_spec(rows))


def _cost_chart(
    board: Leaderboard,
    identity: str,
    title: str,
    axis: str,
    cost: Callable[[Line], float | None],
    show: Callable[[float], str],
    tick_format: str,
) -> Chart:
    ranked = [line for line in board.lines if line.rank is not None]
    points, without = [], []
    for line in ranked:
        value, der = cost(line), line.macro[board.rule.name]
        assert der is not None
        if value is not None and value > 0:
            points.append(_Point(line, value, 100 * der))
        else:
            without.append(f"{text.plain(line.entry.system)} ({text.percent(der)} %)")
    inside, outside = _window(points)
    notes = [f"Lower left is better. Dashed: the Pareto front of the systems drawn; {board.rule.label}."]
    if without:
        notes.append(f"Without a value: {text.some(without, 10)}.")
    if outside:
        far = [f"{text.plain(at.line.entry.system)} ({at.der:.1f} % at {show(at.cost)})" for at in outside]
        notes.append(f"Off the scale: {text.some(far, 10)}.")
    if not inside:
        return Chart(identity, title, " ".join(["Nothing to draw: no ranked system has a value.", *notes[1:]]), None)
    return Chart(identity, title, " ".join(notes), _cost_spec(inside, axis, show, tick_format))


def _window(points: Sequence[_Point]) -> tuple[list[_Point], list[_Point]]:
    """The points to draw, and those too far off: only systems without counted networks (floors, programs) may be."""
    core = [point for point in points if parameters(point.line) is not None] or list(points)
    if not core:
        return [], []
    least, most = min(point.cost for point in core) / _REACH, max(point.cost for point in core) * _REACH
    highest = max(point.der for point in core) * _HEADROOM

    def fits(point: _Point) -> bool:
        return point in core or (least <= point.cost <= most and point.der <= highest)

    return [point for point in points if fits(point)], [point for point in points if not fits(point)]


def _cost_spec(points: Sequence[_Point], axis: str, show: Callable[[float], str], tick_format: str) -> Spec:
    import altair as alt

    from diarbench.leaderboard import pareto_front

    named = {point.line.entry.system: point for point in points}
    front = pareto_front({name: (point.cost, point.der) for name, point in named.items()})
    rows = [_row(point, point.line.entry.system in front, show) for point in points]
    methods = sorted({row["method"] for row in rows})
    costs = [point.cost for point in points]
    wide = max(costs) / min(costs) > LOGARITHMIC
    kind = {"type": "log"} if wide else {"type": "linear", "zero": False}
    scale = alt.Scale(nice=False, padding=40, **kind)
    x = alt.X("cost:Q", title=axis, scale=scale, axis=alt.Axis(format=tick_format, tickCount=6))
    y = alt.Y("der:Q", title="macro DER (%)", scale=alt.Scale(zero=False, nice=True, padding=18))
    legend = alt.Legend(title="compression", orient="bottom", columns=4) if len(methods) > 1 else None
    colours = alt.Scale(domain=methods, range=cycle(HUES, len(methods)))
    shapes = alt.Scale(domain=methods, range=cycle(SHAPES, len(methods)))
    tips = [alt.Tooltip(f"{key}:N", title=title) for key, title in _TIPS.items()]
    base = alt.Chart()
    steps = base.mark_line(interpolate="step-after", strokeDash=[5, 4], stroke="var(--faint)", strokeWidth=1.5)
    marks = base.mark_point(filled=True, size=75, opacity=0.95)
    # The page's script moves these texts to where they hide nothing (Vega's label transform, unknown to Vega-Lite).
    names = base.mark_text(fill="var(--ink)", fontSize=11)
    chart = alt.layer(
        steps.transform_filter(alt.FieldEqualPredicate(field="front", equal=True)).encode(x=x, y=y),
        marks.encode(
            x=x,
            y=y,
            color=alt.Color("method:N", scale=colours, legend=legend),
            shape=alt.Shape("method:N", scale=shapes, legend=legend),
            tooltip=tips,
        ).properties(name="points"),
        names.encode(x=x, y=y, text="system:N").properties(name="names"),
        data=alt.Data(values=rows),
    )
    return finished(chart.properties(width="container", height=340))


_TIPS = {
    "system": "system", "title": "title", "shown_der": "macro DER (%)", "shown_cost": "cost", "rank": "rank",
    "method": "compression",
}  # fmt: skip


def _row(point: _Point, on_front: bool, show: Callable[[float], str]) -> dict[str, Any]:
    entry = point.line.entry
    return {
        "system": text.plain(entry.system),
        "title": text.plain(entry.title),
        "cost": point.cost,
        "der": point.der,
        "shown_cost": show(point.cost),
        "shown_der": f"{point.der:.2f}",
        "rank": str(point.line.rank),
        "method": text.method(entry.compression) or "not stated",
        "front": on_front,
    }


def _error_spec(rows: Sequence[Mapping[str, Any]], totals: Sequence[Mapping[str, Any]]) -> Spec:
    import altair as alt

    y = system_axis([row["system"] for row in totals])
    scale = alt.Scale(domain=list(_PART_COLOURS), range=list(_PART_COLOURS.values()))
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(height={"band": 0.72})
        .encode(
            y=y,
            x=alt.X("percent:Q", title="DER (%)", stack="zero"),
            color=alt.Color("error:N", scale=scale, legend=alt.Legend(title=None, orient="top")),
            order=alt.Order("order:Q"),
            tooltip=["system:N", "error:N", alt.Tooltip("percent:Q", format=".2f")],
        )
    )
    sums = (
        alt.Chart(alt.Data(values=totals))
        .mark_text(align="left", dx=4, fontSize=11, fill="var(--ink)")
        .encode(y=y, x="der:Q", text=alt.Text("der:Q", format=".1f"))
    )
    return finished(alt.layer(bars, sums).properties(width="container", height=ROW * len(totals)))


def _spread_spec(rows: Sequence[Mapping[str, Any]]) -> Spec:
    import altair as alt

    y = system_axis([row["system"] for row in rows])
    tips = [
        alt.Tooltip(f"{key}:{kind}", title=title, format=form)
        for key, kind, title, form in (
            ("system", "N", "system", ""),
            ("recordings", "Q", "recordings", "d"),
            ("least", "Q", "smallest (%)", ".1f"),
            ("low", "Q", "lower quartile (%)", ".1f"),
            ("median", "Q", "median (%)", ".1f"),
            ("high", "Q", "upper quartile (%)", ".1f"),
            ("most", "Q", "largest (%)", ".1f"),
        )
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(y=y, tooltip=tips)
    reach = base.mark_rule(stroke="var(--faint)").encode(x=alt.X("least:Q", title="DER (%)"), x2="most:Q")
    box = base.mark_bar(height={"band": 0.6}, fill="var(--missed)", opacity=0.55).encode(x="low:Q", x2="high:Q")
    middle = base.mark_tick(thickness=2, fill="var(--ink)", stroke=None, height={"band": 0.6}).encode(x="median:Q")
    return finished(alt.layer(reach, box, middle).properties(width="container", height=ROW * len(rows)))


def system_axis(names: list[str]) -> Any:
    """The vertical axis of a chart with a row for each system, in this order."""
    import altair as alt

    return alt.Y(
        "system:N", sort=names, title=None, axis=alt.Axis(labelLimit=190, labelPadding=7, ticks=False, domain=False)
    )


def finished(chart: Any) -> Spec:
    """The specification with the page's type and colours; raises altair's own error for a malformed chart."""
    ink, line = "var(--ink)", "var(--line)"
    styled = (
        chart.configure(background="transparent", font="system-ui, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=ink, titleColor=ink, gridColor=line, tickColor=line, domainColor=line, labelFontSize=11,
            titleFontSize=12, titleFontWeight="normal", titlePadding=8,
        )
        .configure_legend(labelColor=ink, titleColor=ink, titleFontWeight="normal", labelFontSize=11, titleFontSize=11)
    )  # fmt: skip
    spec: Spec = styled.to_dict()
    return spec


def cycle(values: Sequence[str], length: int) -> list[str]:
    """As many values as that, beginning again where they end."""
    return [values[index % len(values)] for index in range(length)]


def _names(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    return {row["system"] for row in rows}
