"""Vega-Lite charts of measured cost: speed-ups with their intervals, where the time goes, memory against length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diarbench.leaderboard import REST
from diarbench.report import text
from diarbench.report.charts import (
    HUES,
    LOGARITHMIC,
    ROW,
    SHAPES,
    Chart,
    Spec,
    cycle,
    finished,
    system_axis,
)
from diarbench.report.columns import place_label
from diarbench.report.values import comparisons, rtf, speedup_text, stage_seconds

if TYPE_CHECKING:
    from diarbench.costs import Measured, SpeedUp
    from diarbench.leaderboard import Leaderboard, Line, Place

_UNJUDGED = "noise not known"
_VERDICTS = {
    "faster": "var(--better)", "slower": "var(--worse)", "within noise": "var(--faint)", _UNJUDGED: "var(--hue-5)",
}  # fmt: skip
_WHAT = {"pipeline": "circle", "encoder alone": "diamond"}
_KINDS = {"resident": "Resident memory", "cuda": "Memory on the GPU"}
_HOUR = 3600.0  # s
_MOST_LINES = 16  # of a chart that tells systems apart by colour


def speedup_charts(board: Leaderboard) -> list[Chart]:
    """Speed-ups of pipeline and encoder with their intervals, and the noise around 1: one chart for each place and
    baseline."""
    charts = []
    for number, (place, baseline) in enumerate(comparisons(board)):
        rows: list[dict[str, Any]] = []
        floors: list[float] = []
        busy = False
        for line in board.lines:
            measured = line.entry.measured.get(place)
            if measured is None or measured.baseline != baseline:
                continue
            found = _ratios(measured)
            rows += [_speedup_row(line.entry.system, what, measured, ratio) for what, ratio in found.items()]
            floors += [measured.floor] if found and measured.floor is not None else []
            busy = busy or (bool(found) and measured.busy)
        caption = f"How many times faster than {text.plain(baseline)}: median of ratios and its 95 % interval."
        if any(row["what"] != "pipeline" for row in rows):
            caption += " Encoder alone: on windows of one length, the largest batch that was measured."
        if floors:
            caption += f" Shaded: the noise of whole systems, ±{text.percent(max(floors))} %."
        if busy:
            caption += " The machine was busy."
        title = f"Speed-up, {_where(board, place)}"
        spec = _speedup_spec(rows, max(floors, default=None))
        charts.append(Chart(f"speedup-{number}", title, caption, spec))
    return charts


def stage_charts(board: Leaderboard) -> list[Chart]:
    """Where the time goes, by system: seconds for each hour of audio, and shares; two charts for each place."""
    charts = []
    for number, place in enumerate(board.places):
        found = [(line, stages) for line in board.lines if (stages := stage_seconds(line, place))]
        if not found:
            continue
        sums: dict[str, float] = {}
        for stage, seconds in (item for _, stages in found for item in stages.items()):
            sums[stage] = sums.get(stage, 0.0) + seconds
        order = sorted(sums, key=lambda stage: (stage == REST, -sums[stage], stage))
        rows = [row for line, stages in found for row in _stage_rows(line, place, stages, order)]
        systems = [text.plain(line.entry.system) for line, _ in found]
        timed = [text.plain(line.entry.system) for line in board.lines if rtf(line, place) is not None]
        missing = [system for system in timed if system not in systems]
        caption = f"{REST}: what no stage of the adapter holds."
        if missing:
            caption += f" Without stages: {text.some(missing, 10)}."
        order, where = [text.plain(stage) for stage in order], _where(board, place)
        absolute = _stage_spec(rows, order, systems, "seconds", "time for an hour of audio (s)")
        shares = _stage_spec(rows, order, systems, "percent", "share of the time (%)")
        charts.append(Chart(f"stages-{number}", f"Time by stage, {where}", caption, absolute))
        charts.append(Chart(f"shares-{number}", f"Share of each stage, {where}", caption, shares))
    return charts


def memory_charts(board: Leaderboard) -> list[Chart]:
    """Peak memory against the length of the recording, one chart for each place and kind of memory."""
    charts = []
    for number, place in enumerate(board.places):
        for kind, words in (("resident", "Peak memory"), ("cuda", "Peak GPU memory")):
            rows = [row for line in board.lines for row in _memory_rows(line, place, kind)]
            systems = list(dict.fromkeys(row["system"] for row in rows))
            if not rows:
                continue
            caption = f"{_KINDS[kind]} of a fresh process, by length of the recording, which is repeated audio."
            if len(systems) > _MOST_LINES:
                caption += f" The first {_MOST_LINES} of {len(systems)} systems."
                systems = systems[:_MOST_LINES]
                rows = [row for row in rows if row["system"] in systems]
            title = f"{words}, {_where(board, place)}"
            charts.append(Chart(f"memory-{kind}-{number}", title, caption, _memory_spec(rows, systems)))
    return charts


def _short(number: float) -> float:
    """To six significant digits: more than can be seen, and less to carry."""
    return float(f"{number:.6g}")


def _where(board: Leaderboard, place: Place) -> str:
    return f"{place_label(board, place)}, {text.plain(place.machine)}"


def _ratios(measured: Measured) -> dict[str, SpeedUp]:
    """Of the pipeline, and of the encoder at the largest batch."""
    found = {"pipeline": measured.speedup} if measured.speedup is not None else {}
    encoders = [encoder for encoder in measured.encoder if encoder.speedup is not None]
    largest = max(encoders, key=lambda encoder: encoder.batch, default=None)
    if largest is not None and largest.speedup is not None:
        found["encoder alone"] = largest.speedup
    return found


def _speedup_row(system: str, what: str, measured: Measured, ratio: SpeedUp) -> dict[str, Any]:
    return {
        "system": text.plain(system),
        "what": what,
        "median": _short(ratio.median),
        "low": _short(ratio.low),
        "high": _short(ratio.high),
        "verdict": ratio.verdict or _UNJUDGED,
        "shown": speedup_text(measured, ratio),
    }


def _speedup_spec(rows: Sequence[Mapping[str, Any]], floor: float | None) -> Spec:
    import altair as alt

    names = list(dict.fromkeys(row["system"] for row in rows))
    whats = [what for what in _WHAT if any(row["what"] == what for row in rows)]
    ends = [1.0, *(row[end] for row in rows for end in ("low", "high"))]
    wide = max(ends) / min(ends) > LOGARITHMIC
    scale = alt.Scale(type="log", nice=False, padding=12) if wide else alt.Scale(zero=False, nice=False, padding=12)
    x = alt.X("median:Q", title="speed-up (×)", scale=scale, axis=alt.Axis(format=".3~g", tickCount=6))
    y = system_axis(names)
    offset = alt.YOffset("what:N", scale=alt.Scale(domain=whats, paddingOuter=0.6))
    verdicts = [verdict for verdict in _VERDICTS if any(row["verdict"] == verdict for row in rows)]
    colours = alt.Scale(domain=verdicts, range=[_VERDICTS[verdict] for verdict in verdicts])
    colour = alt.Color("verdict:N", scale=colours, legend=alt.Legend(title=None, orient="bottom"))
    shapes = alt.Scale(domain=whats, range=[_WHAT[what] for what in whats])
    legend = alt.Legend(title=None, orient="top", symbolFillColor="var(--ink)") if len(whats) > 1 else None
    tips = [alt.Tooltip(f"{key}:N", title=title) for key, title in _SPEEDUP_TIPS.items()]
    base = alt.Chart(alt.Data(values=rows)).encode(y=y, yOffset=offset, tooltip=tips)
    layers = [
        alt.Chart(alt.Data(values=[{"one": 1.0}]))
        .mark_rule(stroke="var(--faint)", strokeDash=[4, 3])
        .encode(x="one:Q"),
        base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title="speed-up (×)"), x2="high:Q", color=colour),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            x=x, color=colour, shape=alt.Shape("what:N", scale=shapes, legend=legend)
        ),
    ]
    if floor is not None:
        band = alt.Chart(alt.Data(values=[{"from": 1 / (1 + floor), "to": 1 + floor}]))
        layers.insert(0, band.mark_rect(fill="var(--faint)", opacity=0.22).encode(x="from:Q", x2="to:Q"))
    height = (ROW + 13 * (len(whats) - 1)) * len(names)
    return finished(alt.layer(*layers).properties(width="container", height=height))


_SPEEDUP_TIPS = {"system": "system", "what": "of", "shown": "speed-up", "verdict": "verdict"}


def _stage_rows(
    line: Line, place: Place, stages: Mapping[str, float], order: Sequence[str]
) -> Iterator[dict[str, Any]]:
    total = sum(stages.values())
    measured = line.entry.measured.get(place)
    for stage, seconds in stages.items():
        cost = measured.stages.get(stage) if measured is not None else None
        yield {
            "system": text.plain(line.entry.system),
            "stage": text.plain(stage),
            "order": order.index(stage),
            "seconds": _short(_HOUR * seconds),
            "percent": _short(100 * seconds / total) if total > 0 else 0.0,
            "bound": text.times(cost.bound) if cost is not None and cost.bound is not None else text.NOTHING,
        }


def _memory_rows(line: Line, place: Place, kind: str) -> Iterator[dict[str, Any]]:
    measured = line.entry.measured.get(place)
    for at in measured.memory.lengths if measured is not None and measured.memory is not None else ():
        value = at.resident if kind == "resident" else at.cuda
        if value is not None:
            system = text.plain(line.entry.system)
            yield {"system": system, "minutes": at.minutes, "megabytes": value / 1e6, "shown": text.size(value)}


def _stage_spec(
    rows: Sequence[Mapping[str, Any]], stages: Sequence[str], systems: list[str], field: str, axis: str
) -> Spec:
    import altair as alt

    y = system_axis(systems)
    named = [stage for stage in stages if stage != REST]
    colours = dict(zip(named, cycle(HUES[:-1], len(named)), strict=True)) | {REST: HUES[-1]}
    scale = alt.Scale(domain=list(stages), range=[colours[stage] for stage in stages])
    ends = alt.Scale(domain=[0, 100]) if field == "percent" else alt.Scale()
    tips = [
        alt.Tooltip("system:N"),
        alt.Tooltip("stage:N"),
        alt.Tooltip("seconds:Q", title="for an hour of audio (s)", format=".3~g"),
        alt.Tooltip("percent:Q", title="share (%)", format=".1f"),
        alt.Tooltip("bound:N", title="pipeline, if it cost nothing"),
    ]
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(height={"band": 0.72})
        .encode(
            y=y,
            x=alt.X(f"{field}:Q", title=axis, stack="zero", scale=ends),
            color=alt.Color("stage:N", scale=scale, sort=list(stages), legend=alt.Legend(title=None, orient="top")),
            order=alt.Order("order:Q"),
            tooltip=tips,
        )
    )
    layers = [bars]
    if field == "seconds":
        sums = [
            {"system": system, "sum": total, "shown": f"{total:.3g}"}
            for system in systems
            for total in [sum(row["seconds"] for row in rows if row["system"] == system)]
        ]
        texts = alt.Chart(alt.Data(values=sums)).mark_text(align="left", dx=4, fontSize=11, fill="var(--ink)")
        layers.append(texts.encode(y=y, x="sum:Q", text="shown:N"))
    return finished(alt.layer(*layers).properties(width="container", height=ROW * len(systems)))


def _memory_spec(rows: Sequence[Mapping[str, Any]], systems: Sequence[str]) -> Spec:
    import altair as alt

    lengths = [row["minutes"] for row in rows]
    wide = max(lengths) / min(lengths) > LOGARITHMIC if min(lengths) > 0 else False
    scale = alt.Scale(type="log", nice=False, padding=15) if wide else alt.Scale(zero=False, nice=False, padding=15)
    ticks = alt.Axis(values=sorted(set(lengths)), format="~g")
    x = alt.X("minutes:Q", title="length of the recording (min)", scale=scale, axis=ticks)
    y = alt.Y("megabytes:Q", title="peak memory (MB)", scale=alt.Scale(zero=True), axis=alt.Axis(format="~s"))
    colours = alt.Scale(domain=list(systems), range=cycle(HUES, len(systems)))
    shapes = alt.Scale(domain=list(systems), range=cycle(SHAPES, len(systems)))
    legend = alt.Legend(title=None, orient="bottom", columns=3)
    tips = [
        alt.Tooltip("system:N"), alt.Tooltip("minutes:Q", title="minutes"), alt.Tooltip("shown:N", title="peak memory")
    ]  # fmt: skip
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=x, y=y, color=alt.Color("system:N", scale=colours, legend=legend), tooltip=tips
    )
    points = base.mark_point(filled=True, size=55, opacity=1).encode(
        shape=alt.Shape("system:N", scale=shapes, legend=legend)
    )
    return finished(alt.layer(base.mark_line(strokeWidth=1.5), points).properties(width="container", height=280))
