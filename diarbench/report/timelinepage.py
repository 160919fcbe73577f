"""Timelines as one HTML file: a still picture of each recording, and what a script needs to zoom into it.

The picture is there without a script, and no larger for longer recordings: what lies closer together than it can show
is drawn as one. What the script draws is every turn and every error, to the millisecond.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from diarbench.report import text
from diarbench.report.inline import digest, environment, raw, resource, script_json
from diarbench.report.timeline import (
    NAMES,
    REASONS,
    Answer,
    Lane,
    Timeline,
    Timelines,
    clock,
    hypothesis_lanes,
    reference_lanes,
    who,
)
from diarbench.scoring import ErrorSpan, UnscoredSpan
from diarbench.types import Seconds, Spans

# What can be zoomed into is about 15 bytes for each turn, error and gap; recordings beyond that have the picture alone.
_MOST_MARKS = 120_000
_MOST_ERRORS = 10  # of each system, in the table of the longest
_MOST_NAMES = 40  # of recordings that are left out

# Heights of the rows in pixels, as in timeline.css.
_AXIS, _HEAD, _LANE, _ERROR, _GAP, _FOOT = 26, 24, 16, 12, 10, 6
_WIDTH = 1200  # of the picture, in units that stretch with the window
_KINDS = tuple(NAMES)
_REASONS = tuple(REASONS)


@dataclass(frozen=True, slots=True)
class _Row:
    """One row: its label, its height, and what is drawn in it."""

    kind: str  # "head", "lane", "error" or "gap"
    name: str
    beside: str  # said behind the name, fainter
    title: str
    hue: int
    y: int  # of its upper edge
    height: int
    spans: Spans = ()
    errors: tuple[ErrorSpan, ...] = ()


@dataclass(frozen=True, slots=True)
class _Block:
    """The rows of the reference, or of one system, over which the same time is not scored."""

    name: str
    rows: tuple[_Row, ...]
    unscored: tuple[UnscoredSpan, ...]

    @property
    def top(self) -> int:
        return next(row.y for row in self.rows if row.kind != "gap")

    @property
    def bottom(self) -> int:
        return self.rows[-1].y + self.rows[-1].height


def render_timeline_html(found: Timelines, *, generated: str) -> str:
    """The page; `generated` says when, in words. Names appear as text whatever they hold."""
    from markupsafe import Markup

    style, script = resource("page.css") + resource("timeline.css"), resource("timeline.js")
    policy = (
        f"default-src 'none'; script-src {digest(script)}; style-src {digest(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    left = _MOST_MARKS
    parts, data = [], {}
    for number, timeline in enumerate(found.shown):
        blocks = list(_blocks(timeline))
        fits = timeline.marks <= left
        part = _part(timeline, blocks, f"timeline-{number}", fits)
        if fits:
            left -= timeline.marks
            data[part["id"]] = _data(timeline, blocks)
        parts.append(part)
    names = [_label(dataset, recording, found) for dataset, recording in found.left_out]
    return environment().get_template("timeline.html.j2").render(
        policy=Markup(policy),  # noqa: S704  digests only
        style=raw(style, "</style"),
        script=raw(script, "</script"),
        data=script_json(data),
        found=found,
        parts=[{**part, "label": _label(one.dataset, one.recording, found)}
               for part, one in zip(parts, found.shown, strict=True)],
        left_out=text.some(names, _MOST_NAMES),
        kinds=NAMES,
        generated=generated,
    )  # fmt: skip


def _label(dataset: str | None, recording: str, found: Timelines) -> str:
    """The recording, with its dataset where there are several."""
    several = len({timeline.dataset for timeline in found.shown} | {name for name, _ in found.left_out}) > 1
    return f"{dataset}: {recording}" if several and dataset is not None else recording


def _part(timeline: Timeline, blocks: Sequence[_Block], identity: str, fits: bool) -> dict[str, Any]:
    """What the template shows of one recording."""
    return {
        "id": identity,
        "zooms": fits,
        "marks": timeline.marks,
        "length": text.minutes(timeline.end - timeline.start),
        "speakers": len(timeline.reference.labels),
        "scores": [_score(answer) for answer in timeline.answers],
        "rows": [row for block in blocks for row in block.rows],
        "height": blocks[-1].bottom + _FOOT,
        "width": _WIDTH,
        "ticks": list(_ticks(timeline)),
        "shades": [
            {"y": (block.top + block.bottom) / 2, "height": block.bottom - block.top, "path": path}
            for block in blocks
            if (path := _path(timeline, [(gap.start, gap.end) for gap in block.unscored], least=0.0))
        ],
        "lines": [
            {"row": row, "class": name, "y": row.y + row.height / 2, "path": path}
            for block in blocks
            for row in block.rows
            for name, spans in _drawn(row)
            if (path := _path(timeline, spans, least=0.8))
        ],
        "longest": [_longest(answer, place) for place, answer in enumerate(timeline.answers) if answer.marked],
    }


def _blocks(timeline: Timeline) -> Iterator[_Block]:
    y = _AXIS
    rows = [_Row("head", "reference", "", "", 0, y, _HEAD)]
    rows += _stacked([_lane_row(lane, "") for lane in reference_lanes(timeline)], y + _HEAD)
    yield _Block("reference", tuple(rows), timeline.unscored)
    for answer in timeline.answers:
        y = rows[-1].y + rows[-1].height
        shown = [_Row("gap", "", "", "", 0, 0, _GAP)]
        shown.append(_Row("head", answer.system, answer.problem or "", "", 0, 0, _HEAD))
        marked = answer.marked
        if marked is not None:
            shown += [_lane_row(lane, lane.partner or "–") for lane in hypothesis_lanes(timeline, answer)]
            for kind, name in NAMES.items():
                errors = tuple(span for span in marked.errors if span.kind == kind)
                title = f"{name} of {answer.system}"
                shown.append(_Row("error", name, "", title, _KINDS.index(kind), 0, _ERROR, errors=errors))
        rows = _stacked(shown, y)
        yield _Block(answer.system, tuple(rows), answer.unscored)


def _lane_row(lane: Lane, beside: str) -> _Row:
    title = f"{lane.name}, mapped to {lane.partner or 'nobody'}" if beside else lane.name
    return _Row("lane", lane.name, beside, title, lane.hue, 0, _LANE, spans=lane.spans)


def _stacked(rows: Sequence[_Row], y: int) -> list[_Row]:
    """The rows below each other, from `y` on."""
    from dataclasses import replace

    placed = []
    for row in rows:
        placed.append(replace(row, y=y))
        y += row.height
    return placed


def _drawn(row: _Row) -> Iterator[tuple[str, Sequence[tuple[Seconds, Seconds]]]]:
    """What the picture has in a row, by class."""
    if row.kind == "lane":
        yield f"hue{row.hue}", row.spans
    elif row.kind == "error":
        yield _KINDS[row.hue].replace("_", "-"), [(span.start, span.end) for span in row.errors]


def _path(timeline: Timeline, spans: Sequence[tuple[Seconds, Seconds]], *, least: float) -> str:
    """Horizontal strokes at y = 0, at least so wide; those that touch are one, and very thin ones are left out."""
    scale = _WIDTH / (timeline.end - timeline.start)
    strokes: list[list[float]] = []
    for start, end in spans:
        low, high = (start - timeline.start) * scale, (end - timeline.start) * scale
        high = min(max(high, low + least), float(_WIDTH))
        if strokes and low <= strokes[-1][1] + 0.1:
            strokes[-1][1] = max(strokes[-1][1], high)
        else:
            strokes.append([low, high])
    return "".join(f"M{low:.1f} 0H{high:.1f}" for low, high in strokes if high - low >= 0.2)


def _ticks(timeline: Timeline) -> Iterator[dict[str, str]]:
    """About six round times, and where they stand in percent of the width."""
    length = timeline.end - timeline.start
    steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 36000]
    step = next((step for step in steps if length / step <= 8), length / 6)
    place = -(-timeline.start // step)
    while place * step <= timeline.end - 0.02 * length:
        yield {"at": f"{100 * (place * step - timeline.start) / length:.2f}", "text": clock(place * step)[:-3]}
        place += 1


def _score(answer: Answer) -> dict[str, Any]:
    """A line of the table of scores."""
    if answer.marked is None:
        return {"system": answer.system, "problem": answer.problem}
    times = answer.marked.times
    rates = [value / times.scored if times.scored else None for value in (times.missed, times.false_alarm)]
    rates.append(times.confusion / times.scored if times.scored else None)
    seconds = (times.missed, times.false_alarm, times.confusion)
    return {
        "system": answer.system,
        "problem": None,
        "der": _percent(times.der),
        "parts": [f"{_percent(rate)} ({value:.2f} s)" for rate, value in zip(rates, seconds, strict=True)],
        "scored": f"{times.scored:.2f} s",
        "errors": len(answer.marked.errors),
        "speakers": len(answer.hypothesis.labels),
    }


def _percent(rate: float | None) -> str:
    return f"{text.percent(rate)} %" if rate is not None else text.NOTHING


def _longest(answer: Answer, place: int) -> dict[str, Any]:
    """The errors of a system that cost most."""
    assert answer.marked is not None
    errors = sorted(answer.marked.errors, key=lambda span: (-span.time, span.start))[:_MOST_ERRORS]
    return {
        "system": answer.system,
        "place": place,
        "all": len(answer.marked.errors),
        "errors": [
            {
                "start": clock(span.start),
                "at": round(1000 * span.start),
                "kind": span.kind,
                "seconds": f"{span.start:.2f}–{span.end:.2f}",
                "length": f"{span.end - span.start:.2f}",
                "name": NAMES[span.kind],
                "who": who(span),
            }
            for span in errors
        ],
    }


def _data(timeline: Timeline, blocks: Sequence[_Block]) -> dict[str, Any]:
    """What the script draws. Times are whole milliseconds from the start of the picture; of each span the gap from the
    end of the one before, its length, and for errors and gaps in scoring what it is."""
    texts: dict[tuple[str, int], int] = {}
    origin = timeline.start
    return {
        "start": round(1000 * origin),
        "length": round(1000 * (timeline.end - origin)),
        "kinds": list(NAMES.values()),
        "reasons": list(REASONS.values()),
        "blocks": [
            {
                "name": block.name,
                "top": block.top,
                "bottom": block.bottom,
                "unscored": _steps(origin, [(gap.start, gap.end, _REASONS.index(gap.why)) for gap in block.unscored]),
                "rows": [
                    {
                        "kind": row.kind,
                        "name": text.plain(row.title or row.name),
                        "hue": row.hue,
                        "y": row.y,
                        "height": row.height,
                        "spans": _steps(origin, row.spans)
                        if row.kind == "lane"
                        else _steps(
                            origin,
                            [
                                (span.start, span.end, texts.setdefault((who(span), span.speakers), len(texts)))
                                for span in row.errors
                            ],
                        ),
                    }
                    for row in block.rows
                    if row.kind in ("lane", "error")
                ],
            }
            for block in blocks
        ],
        "texts": [[text.plain(words), speakers] for words, speakers in texts],
    }


def _steps(origin: Seconds, spans: Sequence[tuple[Any, ...]]) -> list[int]:
    """Starts as steps from the end before, ends as lengths."""
    found, before = [], 0
    for start, end, *rest in spans:
        low, high = round(1000 * (start - origin)), round(1000 * (end - origin))
        found += [low - before, high - low, *rest]
        before = high
    return found
