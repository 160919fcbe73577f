"""Made-up conversations of any size, for measuring speed only: turns in a row with overlaps and pauses, and a
hypothesis that is the reference with shifted boundaries, wrong speakers and gaps."""

from __future__ import annotations

import numpy as np

from diarbench.scoring import Pair
from diarbench.types import Turns


def conversation(seed: int, *, turns: int, speakers: int, seconds: float) -> Pair:
    """One recording with `turns` turns on each side, scored over its whole length (s)."""
    generator = np.random.default_rng(seed)
    starts = np.sort(generator.uniform(0, 0.999 * seconds, turns))
    ends = np.minimum(starts + generator.gamma(2.0, 0.5 * seconds / turns, turns), seconds)
    who = generator.integers(0, speakers, turns)
    shift = 0.1 * seconds / turns
    starts_heard = np.clip(starts + generator.normal(0, shift, turns), 0, seconds)
    ends_heard = np.clip(ends + generator.normal(0, shift, turns), starts_heard, seconds)
    heard = np.where(generator.random(turns) < 0.1, generator.integers(0, speakers, turns), who)
    return Pair(_turns(starts, ends, who), _turns(starts_heard, ends_heard, heard), ((0.0, seconds),))


def dataset(recordings: int = 232) -> dict[str, Pair]:
    """About as many recordings, hours, turns and speakers as the test part of VoxConverse."""
    generator = np.random.default_rng(0)
    sizes = np.maximum(generator.gamma(1.5, 56.0, recordings).astype(int), 2)
    return {
        f"made{i:03}": conversation(
            i, turns=int(size), speakers=int(generator.integers(1, 12)), seconds=8.0 * float(size)
        )
        for i, size in enumerate(sizes)
    }


def _turns(starts: np.ndarray, ends: np.ndarray, who: np.ndarray) -> Turns:
    rows = zip(starts.round(3).tolist(), ends.round(3).tolist(), who.tolist(), strict=True)
    return Turns.of((start, end, f"speaker{speaker:03}") for start, end, speaker in rows)
