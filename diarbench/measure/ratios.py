"""Speed-ups that hold on a noisy machine: medians of per-round ratios, with intervals and a noise floor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diarbench.types import Verdict

_DRAWS = 10_000


class Ratio(NamedTuple):
    """How many times faster, with the 95 % interval of the median."""

    median: float
    low: float
    high: float


def speedup(baseline: Sequence[float], system: Sequence[float], *, seed: int = 0) -> Ratio:
    """The median over rounds of baseline time / system time, and its percentile-bootstrap interval.

    The two were timed in the same rounds, one soon after the other, so what slows a round slows both, and leaves their
    ratio. Rounds are drawn with replacement, 10,000 times (Efron and Tibshirani, "An introduction to the bootstrap",
    1993, chapter 13).

    >>> speedup([2.0, 4.0, 2.2], [1.0, 2.0, 1.1])
    Ratio(median=2.0, low=2.0, high=2.0)
    """
    if len(baseline) != len(system) or len(baseline) == 0:
        raise ValueError(f"one time per round of each is needed; got {len(baseline)} and {len(system)}")
    ratios = np.asarray(baseline, dtype=np.float64) / np.asarray(system, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(ratios), size=(_DRAWS, len(ratios)))
    low, high = np.quantile(np.median(ratios[drawn], axis=1), (0.025, 0.975))
    return Ratio(float(np.median(ratios)), float(low), float(high))


def noise_floor(control: Ratio) -> float:
    """How far from 1 two copies of one system came apart: the far end of the control's interval, as a factor less 1.

    >>> round(noise_floor(Ratio(1.0, 0.98, 1.01)), 4)
    0.0204
    """
    return max(control.high, 1.0 / control.low, 1.0) - 1.0


def verdict(ratio: Ratio, floor: float) -> Verdict:
    """Whether a ratio may be called a speed-up: only where its whole interval lies beyond the noise floor.

    >>> verdict(Ratio(1.04, 1.01, 1.06), 0.02), verdict(Ratio(1.2, 1.1, 1.3), 0.02), verdict(Ratio(0.5, 0.4, 0.6), 0.02)
    ('within noise', 'faster', 'slower')
    """
    if ratio.low > 1.0 + floor:
        return "faster"
    if ratio.high < 1.0 / (1.0 + floor):
        return "slower"
    return "within noise"


def amdahl_bound(share: float) -> float | None:
    """How many times faster a whole becomes if a part that takes `share` of its time costs nothing (Amdahl, 1967).

    None where there is nothing else: then no bound exists.

    >>> amdahl_bound(0.75)
    4.0
    """
    return 1.0 / (1.0 - share) if share < 1.0 else None
