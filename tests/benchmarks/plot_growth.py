"""Draw how the time to score one recording grows with its turns: `python tests/benchmarks/plot_growth.py OUT.svg`."""

from __future__ import annotations

import math
import statistics
import sys
import time
from pathlib import Path

import altair
from made_up import conversation

from diarbench.scoring import RULES, Pair, score_recordings

TURNS = [1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000]
ROUNDS = 9


def milliseconds(pair: Pair) -> float:
    """Median time to score a recording under all rules."""
    times = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        score_recordings([pair], list(RULES.values()))
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times[1:])


def main(path: Path) -> None:
    """Measure, print the points, write the plot."""
    rows = [
        {"turns": n, "ms": milliseconds(conversation(0, turns=n, speakers=20, seconds=1.8 * n)), "line": "measured"}
        for n in TURNS
    ]
    for row in rows:
        print(f"{row['turns']:>8,} turns {row['ms']:8.2f} ms")
    share = rows[0]["ms"] / (TURNS[0] * math.log(TURNS[0]))
    rows += [{"turns": n, "ms": share * n * math.log(n), "line": "n log n from the first"} for n in TURNS]
    chart = (
        altair.Chart(altair.Data(values=rows), width=480, height=300)
        .mark_line(point=True)
        .encode(
            x=altair.X(
                "turns:Q", scale=altair.Scale(type="log", nice=False), title="turns on each side of one recording"
            ),
            y=altair.Y("ms:Q", scale=altair.Scale(type="log"), title="ms, three rules"),
            color=altair.Color("line:N", title=None, scale=altair.Scale(range=["#1f5a94", "#b9b9b9"])),
            strokeDash=altair.StrokeDash("line:N", title=None),
        )
    )
    chart.save(str(path))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
