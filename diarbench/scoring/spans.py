"""Where in a recording the errors are: spans that add up to its error times, and what is not scored.

Where x is mapped to A:

    reference        A |==========|          B |======|
    hypothesis            x |=============|  x |======|
    missed             |====|
    false alarm                   |=======|
    confusion                                  |======|
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diarbench.scoring.rules import ErrorTimes, ScoringRule
from diarbench.scoring.sweep import Floats, Ints, Pair, Sweep
from diarbench.types import Seconds

ErrorKind: TypeAlias = Literal["missed", "false_alarm", "confusion"]
Unscored: TypeAlias = Literal["outside", "collar", "overlap"]
KINDS: tuple[ErrorKind, ...] = ("missed", "false_alarm", "confusion")
_REASONS: tuple[Unscored, ...] = ("outside", "collar", "overlap")


@dataclass(frozen=True, slots=True)
class ErrorSpan:
    """A stretch of one kind of error in which nothing changes.

    `reference` are the speakers of the reference who speak without the one they are mapped to, `hypothesis` those of
    the hypothesis who do. Which of them are the missed and which the confused, where both stand side by side, no
    scorer says: `speakers` says how many are.
    """

    start: Seconds
    end: Seconds
    kind: ErrorKind
    speakers: int  # at once: the span counts so many times its length
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]

    @property
    def time(self) -> Seconds:
        """What it adds to the error times (s)."""
        return self.speakers * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class UnscoredSpan:
    """A stretch that is not scored: outside the scoring region, in a collar, or overlap that the rule skips."""

    start: Seconds
    end: Seconds
    why: Unscored


@dataclass(frozen=True, slots=True)
class Marked:
    """One recording under one rule, with its errors marked."""

    times: ErrorTimes
    mapping: Mapping[str, str]  # from speakers of the reference to those of the hypothesis; only who share time
    errors: tuple[ErrorSpan, ...]  # by start, then as in KINDS
    unscored: tuple[UnscoredSpan, ...]  # between the first and the last boundary of turns, region and collars


def mark_errors(pair: Pair, rule: ScoringRule) -> Marked:
    """The errors of one recording, span by span.

    Their times by kind add up to the error times that `score_recordings` gives.

    >>> from diarbench.scoring import FULL
    >>> from diarbench.types import Turns
    >>> reference, hypothesis = Turns.of([(0, 4, "A"), (6, 8, "B")]), Turns.of([(1, 5, "x"), (6, 8, "x")])
    >>> for span in mark_errors(Pair(reference, hypothesis, None), FULL).errors:
    ...     print(span.start, span.end, span.kind, span.reference, span.hypothesis)
    0.0 1.0 missed ('A',) ()
    4.0 5.0 false_alarm () ('x',)
    6.0 8.0 confusion ('B',) ('x',)
    """
    sweep = Sweep([pair], [rule])
    mapping = _shared(sweep, rule)
    references, hypotheses = sweep.speaking(sweep.reference), sweep.speaking(sweep.hypothesis)
    alone, others = _without_partner(mapping, references, hypotheses)
    weights = sweep.weights(rule)
    labels = pair.reference.labels, pair.hypothesis.labels
    return Marked(
        times=ErrorTimes(*sweep.error_times(rule)[:, 0].tolist()),
        mapping={labels[0][row]: labels[1][column] for row, column in enumerate(mapping.tolist()) if column >= 0},
        errors=tuple(_errors(sweep, weights, alone, others, labels)),
        unscored=tuple(_unscored(sweep, rule, weights)),
    )


def _shared(sweep: Sweep, rule: ScoringRule) -> Ints:
    """The mapping, without pairs that share no time in which they are mapped; (S,), -1 for none."""
    mapping = sweep.mapping(rule).copy()
    (shared,) = sweep.together(sweep.weights(rule) if rule.mapping == "scored" else sweep.lengths)
    for row, column in enumerate(mapping.tolist()):
        if column >= 0 and shared[row, column] <= 0:
            mapping[row] = -1
    return mapping


def _without_partner(
    mapping: Ints, references: NDArray[np.bool_], hypotheses: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Who of both sides speaks without the one they are mapped to, by piece; each (speakers, P)."""
    alone, others = references.copy(), hypotheses.copy()
    rows = np.flatnonzero(mapping >= 0)
    together = references[rows] & hypotheses[mapping[rows]]
    alone[rows] &= ~together
    others[mapping[rows]] &= ~together
    return alone, others


def _errors(
    sweep: Sweep,
    weights: Floats,
    alone: NDArray[np.bool_],
    others: NDArray[np.bool_],
    labels: tuple[tuple[str, ...], tuple[str, ...]],
) -> Iterator[ErrorSpan]:
    wrong, given = alone.sum(axis=0), others.sum(axis=0)  # (P,)
    counts: dict[ErrorKind, Ints] = {
        "missed": np.maximum(wrong - given, 0),
        "false_alarm": np.maximum(given - wrong, 0),
        "confusion": np.minimum(wrong, given),
    }
    who = np.concatenate([alone, others]).T  # (P, speakers)
    for first, last in _runs(sweep, weights, who):
        names = tuple(
            tuple(np.array(side, dtype=object)[active[:, first]].tolist())
            for side, active in zip(labels, (alone, others), strict=True)
        )
        for kind in KINDS:
            if speakers := int(counts[kind][first]):
                start, end = float(sweep.cuts[first]), float(sweep.cuts[last + 1])
                yield ErrorSpan(start, end, kind, speakers, *names)


def _unscored(sweep: Sweep, rule: ScoringRule, weights: Floats) -> Iterator[UnscoredSpan]:
    # What is left once region, collar and overlap have each taken their part: the first that takes a piece is why.
    inside = sweep.lengths > 0
    reasons = np.select([~inside, sweep.in_collars(rule), weights == 0], [0, 1, 2], -1)
    for first, last in _runs(sweep, sweep.all_lengths * (reasons >= 0), reasons[:, None]):
        yield UnscoredSpan(float(sweep.cuts[first]), float(sweep.cuts[last + 1]), _REASONS[reasons[first]])


def _runs(sweep: Sweep, weights: Floats, same: NDArray[np.generic]) -> Iterator[tuple[int, int]]:
    """First and last piece of each stretch with weight in which the rows of `same`, (P, ...), are equal."""
    pieces = np.flatnonzero(weights > 0)
    if not len(pieces):
        return
    # Pieces without length, which are rounding, don't tear a stretch apart.
    gaps = sweep.cuts[pieces[1:]] - sweep.cuts[pieces[:-1] + 1] > 1e-9
    breaks = np.flatnonzero(gaps | np.any(same[pieces[1:]] != same[pieces[:-1]], axis=1))
    firsts = pieces[np.concatenate([[0], breaks + 1])]
    lasts = pieces[np.concatenate([breaks, [len(pieces) - 1]])]
    yield from zip(firsts.tolist(), lasts.tolist(), strict=True)
