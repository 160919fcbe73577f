"""What the differences on a board are worth: each system against its baseline, paired, with intervals and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diarbench.compare import FEW, Against, Comparison, compare
from diarbench.report import text
from diarbench.report.charts import ROW, Chart, Spec, finished, system_axis

if TYPE_CHECKING:
    from diarbench.compare import Difference
    from diarbench.leaderboard import Leaderboard
    from diarbench.scoring.statistics import Changes

HEADS = (
    "macro Δ",
    "95 % interval",
    "p (Holm)",
    "recordings better / worse",
    "median ΔDER",
    "quartiles",
    "P90",
    "maximum",
)


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """One system in the table of its baseline."""

    system: str
    cells: tuple[str, ...]  # under HEADS, then Δ and interval of each dataset
    conclusion: str


@dataclass(frozen=True, slots=True)
class DifferenceTable:
    """The systems of one baseline."""

    baseline: str
    datasets: tuple[str, ...]
    rows: tuple[DifferenceRow, ...]
    charts: tuple[Chart, ...]
    few: bool  # whether some dataset has so few recordings that its intervals are too narrow


def difference_tables(board: Leaderboard) -> list[DifferenceTable]:
    """A table for each baseline on the board, of the systems that name it and share a recording with it.

    The figures are those of `diarbench compare BASELINE SYSTEM...` with its defaults, whose seed is fixed: one board
    makes one page.
    """
    known = {line.entry.system for line in board.lines}
    against: dict[str, list[str]] = {}
    for line in board.lines:
        base = line.entry.baseline
        if base is not None and base in known and base != line.entry.system:
            against.setdefault(base, []).append(line.entry.system)
    tables = []
    for number, (base, systems) in enumerate(against.items()):
        compared = compare(board, base, systems)
        shared = [one for one in compared.others if any(dataset.recordings for dataset in one.datasets)]
        if shared:
            tables.append(_table(board, compared, shared, number))
    return tables


def _table(board: Leaderboard, compared: Comparison, shared: Sequence[Against], number: int) -> DifferenceTable:
    spread = _spread_chart(board, compared, shared, number)
    charts = _interval_charts(board, compared, shared, number) + ([spread] if spread is not None else [])
    return DifferenceTable(
        compared.first,
        _apart(board),
        tuple(DifferenceRow(one.system, _cells(one, len(_apart(board))), one.conclusion) for one in shared),
        tuple(charts),
        any(0 < dataset.with_speech < FEW for one in shared for dataset in one.datasets),
    )


def _apart(board: Leaderboard) -> tuple[str, ...]:
    """Datasets with columns of their own: of one alone, the macro difference is its own."""
    return tuple(column.label for column in board.columns) if len(board.columns) > 1 else ()


def _cells(one: Against, apart: int) -> tuple[str, ...]:
    changes = one.changes
    spread = ("",) * 5 if changes is None else _spread(changes)
    return tuple(
        cell or text.NOTHING
        for cell in (
            _points(one.macro.b_minus_a),
            _interval(one.macro),
            text.p_value(one.p_holm) if one.p_holm is not None else "",
            *spread,
            *(
                " ".join(filter(None, [_points(dataset.difference.b_minus_a), _interval(dataset.difference)]))
                for dataset in one.datasets[:apart]
            ),
        )
    )


def _spread(changes: Changes) -> tuple[str, ...]:
    return (
        f"{changes.better} / {changes.worse} of {changes.recordings}",
        _points(changes.median),
        f"{_points(changes.quartile_low)} to {_points(changes.quartile_high)}",
        _points(changes.percentile_90),
        _points(changes.maximum),
    )


def _points(value: float | None) -> str:
    return "" if value is None else text.points(value)


def _interval(difference: Difference) -> str:
    found = difference.interval
    if found is None or found.low is None or found.high is None:
        return ""
    return f"[{text.points(found.low)}, {text.points(found.high)}]"


def _interval_charts(board: Leaderboard, compared: Comparison, shared: Sequence[Against], number: int) -> list[Chart]:
    """Differences with their intervals: of macro DER or, where these have none, of each dataset that has some."""
    what = f"less that of {text.plain(compared.first)}"
    macros = {one.system: (one.macro, one.p_holm) for one in shared}
    if chart := _interval_chart(board, compared, macros, f"difference-{number}", f"Macro DER {what}"):
        return [chart]
    charts = []
    for place, column in enumerate(board.columns):
        own = {one.system: (one.datasets[place].difference, None) for one in shared}
        title = f"DER {what} on {text.plain(column.label)}"
        charts.append(_interval_chart(board, compared, own, f"difference-{number}-{place}", title))
    return [chart for chart in charts if chart is not None]


def _interval_chart(
    board: Leaderboard,
    compared: Comparison,
    differences: Mapping[str, tuple[Difference, float | None]],
    identity: str,
    title: str,
) -> Chart | None:
    """Differences by system, each with a corrected p-value where it has one; None where there are no intervals."""
    rows = []
    for system, (difference, p) in differences.items():
        found = difference.interval
        if found is not None and found.low is not None and found.high is not None:
            rows.append(
                {
                    "system": text.plain(system),
                    "low": 100 * found.low,
                    "difference": 100 * found.estimate,
                    "high": 100 * found.high,
                    "shade": _PALE if found.low <= 0 <= found.high else 1.0,
                    "interval": _interval(difference),
                    "p": text.p_value(p) if p is not None else text.NOTHING,
                }
            )
    if not rows:
        return None
    caption = (
        f"In percentage points; left is better. Lines: {100 * compared.level:.6g} % intervals by paired bootstrap over "
        f"recordings, pale where zero lies inside; {board.rule.label}."
    )
    return Chart(identity, title, caption, _interval_spec(rows))


def _spread_chart(board: Leaderboard, compared: Comparison, shared: Sequence[Against], number: int) -> Chart | None:
    """How single recordings differ; None where too few have a DER for quartiles to say something."""
    rows = [
        {
            "system": text.plain(one.system),
            "low": 100 * one.changes.quartile_low,
            "median": 100 * one.changes.median,
            "high": 100 * one.changes.quartile_high,
            "ninety": 100 * one.changes.percentile_90,
            "most": 100 * one.changes.maximum,
            "recordings": one.changes.recordings,
        }
        for one in shared
        if one.changes is not None and one.changes.recordings >= _FEWEST_FOR_QUARTILES
    ]
    if not rows:
        return None
    caption = (
        "DER of each recording less the baseline's, in points. Box: quartiles with the median; dot: 90th percentile; "
        f"triangle: the worst; {board.rule.label}."
    )
    title = f"ΔDER of single recordings to {text.plain(compared.first)}"
    return Chart(f"changes-{number}", title, caption, _changes_spec(rows))


_FEWEST_FOR_QUARTILES = 4


def _interval_spec(rows: Sequence[dict[str, Any]]) -> Spec:
    import altair as alt

    tips = ["system:N", alt.Tooltip("difference:Q", title="Δ (points)", format="+.2f"), "interval:N"]
    tips.append(alt.Tooltip("p:N", title="p (Holm)"))
    y = system_axis([row["system"] for row in rows])
    shade = alt.Opacity("shade:Q", scale=None, legend=None)
    base = alt.Chart(alt.Data(values=rows)).encode(y=y, opacity=shade, tooltip=tips)
    reach = base.mark_rule(stroke="var(--ink)", strokeWidth=2).encode(x=alt.X("low:Q", title="Δ (points)"), x2="high:Q")
    dots = base.mark_point(filled=True, size=60, fill="var(--ink)", stroke=None).encode(x="difference:Q")
    return finished(
        alt.layer(_zero(), reach, dots).properties(width="container", height=ROW * len(rows)),
    )


_PALE = 0.45  # opacity where zero lies inside


def _changes_spec(rows: Sequence[dict[str, Any]]) -> Spec:
    import altair as alt

    tips = ["system:N", alt.Tooltip("recordings:Q", format="d")]
    for key, title in (("low", "lower quartile"), ("median", "median"), ("high", "upper quartile")):
        tips.append(alt.Tooltip(f"{key}:Q", title=title, format="+.2f"))
    tips += [alt.Tooltip("ninety:Q", title="P90", format="+.2f"), alt.Tooltip("most:Q", title="maximum", format="+.2f")]
    base = alt.Chart(alt.Data(values=rows)).encode(y=system_axis([row["system"] for row in rows]), tooltip=tips)
    reach = base.mark_rule(stroke="var(--faint)").encode(x=alt.X("high:Q", title="ΔDER (points)"), x2="most:Q")
    box = base.mark_bar(height={"band": 0.6}, fill="var(--missed)", opacity=0.55).encode(x="low:Q", x2="high:Q")
    middle = base.mark_tick(thickness=2, fill="var(--ink)", stroke=None, height={"band": 0.6}).encode(x="median:Q")
    marks = {"filled": True, "fill": "var(--ink)", "stroke": None}
    ninety = base.mark_point(shape="circle", size=28, **marks).encode(x="ninety:Q")
    most = base.mark_point(shape="triangle-right", size=40, **marks).encode(x="most:Q")
    return finished(
        alt.layer(_zero(), reach, box, middle, ninety, most).properties(width="container", height=ROW * len(rows))
    )


def _zero() -> Any:
    """A line where there is no difference."""
    import altair as alt

    return (
        alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(stroke="var(--faint)", strokeDash=[4, 3]).encode(x="zero:Q")
    )
