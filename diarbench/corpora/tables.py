"""Counts of datasets as tables: one column of text each, for a terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from diarbench.corpora.counting import PERCENTILES, Spread, Summary

_AT_ONCE = 5  # speakers at once; the last column holds those that are more


def heads() -> list[str]:
    """What stands above the columns."""
    return [
        "dataset", "recordings", "speakers", "in each", "hours", "min each", "speech %", "overlap %",
        "turns", "turn s", *(f"{count} at once %" for count in range(_AT_ONCE)), f"{_AT_ONCE}+ %",
    ]  # fmt: skip


def cells(summary: Summary) -> list[str]:
    """A dataset, as it is printed."""
    return [
        summary.name,
        f"{summary.recordings:,}",
        f"{summary.speakers:,}",
        _spread(summary.speakers_each, "{:.0f}", "{:.1f}"),
        f"{summary.hours:,.2f}",
        _spread(summary.minutes, "{:.1f}", "{:.1f}"),
        f"{summary.speech_share:.1f}",
        f"{summary.overlap:.1f}",
        f"{summary.turns:,}",
        " ".join(f"{length:.1f}" for length in summary.turn_lengths) or "–",
        *(f"{share:.1f}" for share in shares_at_once(summary)),
    ]


NOTES = (
    "in each, min each: least – mean – most of a recording; hours and minutes are the recordings' own",
    "speech %: of the recordings' length, time in which anybody speaks; overlap %: of that, two or more at once",
    f"turn s: the turns' lengths at the percentiles {', '.join(map(str, PERCENTILES))}",
    "at once %: of the recordings' length, time in which exactly so many people speak",
)


def markdown(summaries: Sequence[Summary]) -> str:
    """A table in Markdown, with its notes below."""
    rows = [heads(), ["---"] + ["---:"] * (len(heads()) - 1), *map(cells, summaries)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in NOTES)]) + "\n"


def comma_separated(summaries: Sequence[Summary]) -> str:
    """CSV with full numbers; the columns are in docs/json.md."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "dataset", "recordings", "speakers", "speakers_least", "speakers_mean", "speakers_most", "hours",
            "minutes_least", "minutes_mean", "minutes_most", "speech", "speech_share", "overlap", "turns",
            *(f"turn_p{percentile}" for percentile in PERCENTILES),
            *(f"at_once_{count}" for count in range(_AT_ONCE)), f"at_once_{_AT_ONCE}_or_more",
        ]
    )  # fmt: skip
    for one in summaries:
        each, minutes = one.speakers_each, one.minutes
        # A name that a spreadsheet would take for a formula can't be one of a card.
        writer.writerow(
            [
                one.name, one.recordings, one.speakers, each.least, each.mean, each.most, one.hours,
                minutes.least, minutes.mean, minutes.most, one.speech, one.speech_share, one.overlap, one.turns,
                *(one.turn_lengths or [""] * len(PERCENTILES)), *shares_at_once(one),
            ]
        )  # fmt: skip
    return out.getvalue()


def shares_at_once(summary: Summary) -> list[float]:
    """% of the recordings' length in which 0, 1, 2, ... people speak; the last is for that many or more."""
    total = sum(summary.at_once)
    seconds = [*summary.at_once, *[0.0] * (_AT_ONCE + 1)]
    several = [*seconds[:_AT_ONCE], sum(seconds[_AT_ONCE:])]
    return [100 * one / total if total else 0.0 for one in several]


def _spread(spread: Spread, ends: str, mean: str) -> str:
    if spread.least == spread.most:
        return ends.format(spread.least)
    return f"{ends.format(spread.least)} – {mean.format(spread.mean)} – {ends.format(spread.most)}"
