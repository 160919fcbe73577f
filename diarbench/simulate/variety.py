"""Turn-taking of all sorts, to train on: each conversation draws its own habits, fitted on no corpus."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np

from diarbench.simulate.scenes import Range
from diarbench.simulate.statistics import PROBABILITIES, TurnStatistics
from diarbench.types import Seconds


@dataclass(frozen=True, slots=True)
class VariedTurns:
    """Ranges that a conversation's turn-taking is drawn from, evenly.

    The distributions are the usual ones of the literature: turns are log-normal, silences and overlaps exponential.
    The ranges are wide on purpose, so that what a network learns is not one corpus's habits: from monologues to talk
    with four tenths overlapped, from no silence to four tenths of it.
    """

    turn_length: tuple[Seconds, Seconds] = (0.8, 5.0)
    """Median of floor turns, s."""
    turn_spread: Range = (0.5, 1.0)
    """Standard deviation of the logarithm of their lengths."""
    overlapping: Range = (0.0, 1.0)
    """Part of the changes of speaker where the next one begins before the first ends."""
    overlap_length: tuple[Seconds, Seconds] = (0.3, 4.0)
    """Mean overlap there, s."""
    gap_length: tuple[Seconds, Seconds] = (0.05, 0.8)
    """Mean silence at the other changes, s."""
    pause_length: tuple[Seconds, Seconds] = (0.1, 0.8)
    """Mean silence between two turns of one speaker, s, on top of 0.3 s."""
    same_speaker: Range = (0.1, 0.5)
    """Probability that the next turn is by the same speaker."""
    backchannels: Range = (0.0, 0.4)
    """Per second of floor turns, 1/s; their lengths are log-normal with a median of 0.5 s."""
    silence: Range = (0.0, 0.35)
    """Part of the recording that is silence in long stretches; gaps come on top."""
    mostly_silent: float = 0.06
    """Probability of a recording that is silent for half to 85 % of it instead."""
    one_silence: float = 0.25
    """Probability that this is one stretch; else it is two to four."""

    @property
    def digest(self) -> str:
        """SHA-256 of the ranges, in hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def source(self) -> str:
        """Where the figures come from."""
        return "drawn anew for each conversation from wide ranges (diarbench.simulate.VariedTurns), fitted on no corpus"

    def draw(self, rng: np.random.Generator) -> tuple[TurnStatistics, tuple[float, ...]]:
        """The habits of one conversation, and its long silences: the part of the recording that each takes."""
        turns = _log_normal(rng.uniform(*self.turn_length), rng.uniform(*self.turn_spread))
        overlapping, overlap = rng.uniform(*self.overlapping), rng.uniform(*self.overlap_length)
        gap, pause = rng.uniform(*self.gap_length), rng.uniform(*self.pause_length)
        statistics = TurnStatistics(
            turn_lengths=turns,
            pauses=tuple(0.3 - pause * float(np.log1p(-p)) for p in PROBABILITIES),
            gaps=tuple(_gap(p, overlapping, overlap, gap) for p in PROBABILITIES),
            backchannel_lengths=_log_normal(0.5, 0.6),
            shares=tuple(float(share) for share in np.linspace(0.4, 1.6, len(PROBABILITIES))),
            same_speaker=float(rng.uniform(*self.same_speaker)),
            backchannels_per_second=float(rng.uniform(*self.backchannels)),
            recordings=0,
            turns=0,
        )
        share = rng.uniform(*((0.5, 0.85) if rng.uniform() < self.mostly_silent else self.silence))
        count = 1 if rng.uniform() < self.one_silence else int(rng.integers(2, 5))
        return statistics, tuple(float(part) for part in share * rng.dirichlet(np.ones(count)))


def _log_normal(median: Seconds, spread: float) -> tuple[Seconds, ...]:
    return tuple(median * float(np.exp(spread * NormalDist().inv_cdf(p))) for p in PROBABILITIES)


def _gap(probability: float, overlapping: float, overlap: Seconds, gap: Seconds) -> Seconds:
    """A quantile of gaps, of which a part is overlaps (below 0)."""
    if probability < overlapping:
        return overlap * float(np.log(probability / overlapping))
    return -gap * float(np.log1p(-(probability - overlapping) / (1 - overlapping)))
