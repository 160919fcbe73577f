"""Error times of many recordings under several rules, from one vectorised sweep over their boundaries.

Time is cut at every boundary into pieces in which nothing changes; what happens in a piece is counted in arrays, for
all recordings at once. Shapes: T turns, P pieces, N recordings, S speakers, K pairs of turns that share time,
C pairs of speakers of one recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from diarbench.scoring.rules import ErrorTimes, JaccardErrors, ScoringRule
from diarbench.types import Spans, Turns

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Turns swept at once: enough to drown the cost of a call, few enough for the arrays to stay in the cache.
_BATCH = 50_000


@dataclass(frozen=True, slots=True)
class Pair:
    """One recording to score. Without a region, from the first to the last turn of both sides, as dscore does."""

    reference: Turns
    hypothesis: Turns
    uem: Spans | None


@dataclass(frozen=True, slots=True)
class RecordingScore:
    """What a recording adds to the rates of its dataset, under one rule."""

    times: ErrorTimes
    jaccard: JaccardErrors


def score_recordings(pairs: Sequence[Pair], rules: Sequence[ScoringRule]) -> list[dict[str, ErrorTimes]]:
    """Error times of each recording under each rule, by the rule's name.

    In a piece of length d with R reference and H hypothesis speakers, scored is R·d, missed max(0, R-H)·d, false
    alarm max(0, H-R)·d, and confusion min(R, H)·d less what the best one-to-one mapping of speakers has right (NIST
    RT-09 evaluation plan, section 6). Turns of one speaker that overlap are joined first, on both sides; turns that
    only touch are not, so that their joint keeps its collar (both as dscore and md-eval do).
    """
    scores: list[dict[str, ErrorTimes]] = []
    for batch in batches(pairs):
        sweep = Sweep(batch, rules)
        columns = [(rule.name, sweep.error_times(rule).T.tolist()) for rule in rules]
        scores += [{name: ErrorTimes(*rows[i]) for name, rows in columns} for i in range(len(batch))]
    return scores


def score_recording(
    reference: Turns, hypothesis: Turns, uem: Spans | None, rules: Sequence[ScoringRule]
) -> dict[str, ErrorTimes]:
    """Error times of one recording under each rule, by the rule's name: see `score_recordings`."""
    return score_recordings([Pair(reference, hypothesis, uem)], rules)[0]


def score_everything(pairs: Sequence[Pair], rules: Sequence[ScoringRule]) -> list[dict[str, RecordingScore]]:
    """Error times and Jaccard errors of each recording under each rule, by the rule's name.

    The same as `score_recordings` and `detail_recordings` have, without names of speakers: quick enough for
    thousands of recordings.
    """
    scores: list[dict[str, RecordingScore]] = []
    for batch in batches(pairs):
        sweep = Sweep(batch, rules)
        columns = [(rule.name, sweep.error_times(rule).T.tolist(), sweep.jaccard_errors(rule)) for rule in rules]
        scores += [
            {name: RecordingScore(ErrorTimes(*times[i]), errors[i]) for name, times, errors in columns}
            for i in range(len(batch))
        ]
    return scores


def batches(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    """The pairs in lots of a size that is quick to sweep."""
    batch: list[Pair] = []
    turns = 0
    for pair in pairs:
        batch.append(pair)
        turns += len(pair.reference) + len(pair.hypothesis)
        if turns >= _BATCH:
            yield batch
            batch, turns = [], 0
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class Side:
    """The turns of one side, of all recordings, as columns of equal length; speakers are numbered through."""

    recordings: Ints  # (T,)
    speakers: Ints  # (T,)
    starts: Floats  # (T,), s
    ends: Floats  # (T,), s
    counts: Ints  # (N,), speakers per recording
    firsts: Ints  # (N,), number of a recording's first speaker

    @classmethod
    def of(cls, turns: Sequence[Turns]) -> Side:
        """All turns, those of one speaker that overlap joined."""
        counts = np.array([len(t.labels) for t in turns], dtype=np.int64)
        firsts = np.cumsum(counts) - counts
        recordings = np.repeat(np.arange(len(turns)), [len(t) for t in turns])
        speakers = np.concatenate([t.codes for t in turns]) + firsts[recordings]
        starts, ends = np.concatenate([t.starts for t in turns]), np.concatenate([t.ends for t in turns])
        order = _order(speakers, starts)
        recordings, speakers, starts, ends = recordings[order], speakers[order], starts[order], ends[order]
        if np.any((speakers[1:] == speakers[:-1]) & (starts[1:] < ends[:-1])):
            recordings, speakers, starts, ends = _joined(recordings, speakers, starts, ends)
        return cls(recordings, speakers, starts, ends, counts, firsts)


class Sweep:
    """The pieces of some recordings, and what the rules make of them."""

    def __init__(self, pairs: Sequence[Pair], rules: Sequence[ScoringRule]) -> None:
        self.reference = reference = Side.of([pair.reference for pair in pairs])
        self.hypothesis = hypothesis = Side.of([pair.hypothesis for pair in pairs])
        self._size = len(pairs)
        collars = sorted({rule.collar for rule in rules if rule.collar > 0})
        region, region_starts, region_ends = _regions(pairs, reference, hypothesis)
        owners = [reference.recordings] * 2 + [hypothesis.recordings] * 2 + [region] * 2
        times = [reference.starts, reference.ends, hypothesis.starts, hypothesis.ends, region_starts, region_ends]
        boundaries = np.concatenate([reference.starts, reference.ends])
        for collar in collars:
            owners += [np.concatenate([reference.recordings] * 2)] * 2
            times += [boundaries - collar, boundaries + collar]
        ranks, self._owner, self.cuts = _ranked(owners, times)  # (P,), s: where each piece starts
        self._reference_spans, self._hypothesis_spans, region_spans = ranks[0:2], ranks[2:4], ranks[4:6]
        self._zones = {collar: ranks[6 + 2 * i : 8 + 2 * i] for i, collar in enumerate(collars)}
        # (recordings that have pieces,): the first piece of each
        self._heads = np.flatnonzero(np.diff(self._owner, prepend=-1))
        lengths = np.zeros(len(self.cuts))
        lengths[:-1] = np.where(self._owner[1:] == self._owner[:-1], np.diff(self.cuts), 0.0)
        # 0.036 + 0.25 and 0.536 - 0.25 differ in the last digit: what lies between them is rounding, not speech.
        lengths[lengths < 1e-9] = 0.0
        self.all_lengths = lengths  # (P,), s, also outside the scoring region
        self.lengths = lengths * (self._cover(*region_spans) > 0)  # (P,), s inside the scoring region
        self.references = self._cover(*self._reference_spans)  # (P,), reference speakers at once
        self.hypotheses = self._cover(*self._hypothesis_spans)  # (P,)
        self._pair_turns()
        self._region_mapping: Ints | None = None

    def error_times(self, rule: ScoringRule) -> Floats:
        """Scored, missed, false alarm and confusion (s) of each recording, (4, N)."""
        weights = self.weights(rule)
        return np.stack([self.per_recording(counts * weights) for counts in self.kinds(self.mapping(rule))])

    def kinds(self, mapping: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """How many speakers of each piece are scored, missed, falsely alarmed and confused, each (P,)."""
        fewer = np.minimum(self.references, self.hypotheses)
        return (
            self.references,
            np.maximum(self.references - self.hypotheses, 0),
            np.maximum(self.hypotheses - self.references, 0),
            fewer - self.correct(mapping),
        )

    def weights(self, rule: ScoringRule) -> Floats:
        """How much of each piece the rule scores (s), (P,)."""
        weights = self.lengths
        if rule.collar > 0:
            weights = weights * ~self.in_collars(rule)
        if rule.overlap == "skip":
            weights = weights * (self.references < 2)
        return weights

    def in_collars(self, rule: ScoringRule) -> NDArray[np.bool_]:
        """Whether each piece lies in a collar of the rule, (P,)."""
        if rule.collar == 0:
            return np.zeros(len(self.cuts), dtype=np.bool_)
        return np.asarray(self._cover(*self._zones[rule.collar]) > 0)

    def mapping(self, rule: ScoringRule) -> Ints:
        """The hypothesis speaker that each reference speaker is mapped to, -1 for none; (S,)."""
        if rule.mapping == "scored":
            return self._assign(self.weights(rule))
        if self._region_mapping is None:
            self._region_mapping = self._assign(self.lengths)
        return self._region_mapping

    def correct(self, mapping: Ints) -> Ints:
        """In each piece, reference speakers who speak together with the one they are mapped to; (P,)."""
        right = mapping[self._pair_reference] == self._pair_hypothesis
        return self._cover(self._pair_starts[right], self._pair_ends[right])

    def per_recording(self, values: Floats) -> Floats:
        """Values of pieces summed by recording, (N,)."""
        sums = np.zeros(self._size)
        sums[self._owner[self._heads]] = np.add.reduceat(values, self._heads) if len(self._heads) else 0.0
        return sums

    def per_speaker(self, side: Side, weights: Floats) -> Floats:
        """Time in which each speaker of a side speaks (s), (S,)."""
        starts, ends = self._reference_spans if side is self.reference else self._hypothesis_spans
        spoken = np.bincount(side.speakers, weights=_spanned(weights, starts, ends), minlength=int(side.counts.sum()))
        return np.asarray(spoken, dtype=np.float64)

    def speaking(self, side: Side) -> NDArray[np.bool_]:
        """Whether each speaker of a side speaks in each piece, (S, P)."""
        starts, ends = self._reference_spans if side is self.reference else self._hypothesis_spans
        changes = np.zeros((int(side.counts.sum()), len(self._owner)), dtype=np.int64)
        np.add.at(changes, (side.speakers, starts), 1)
        np.add.at(changes, (side.speakers, ends), -1)
        return np.asarray(np.cumsum(changes, axis=1) > 0)

    def together(self, weights: Floats) -> list[Floats]:
        """Per recording, the time (s) that each reference speaker shares with each hypothesis speaker."""
        return self._matrices(self._shared(weights))

    def jaccard_errors(self, rule: ScoringRule) -> list[JaccardErrors]:
        """Jaccard errors of each recording's reference speakers, under the mapping that makes their sum least."""
        weights = self.weights(rule)
        spoken, answered = (self.per_speaker(side, weights) for side in (self.reference, self.hypothesis))
        shared, (rows, columns) = self._shared(weights), self._cell_speakers
        either = spoken[rows] + answered[columns] - shared
        ratios = np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)
        owners = np.repeat(np.arange(self._size), self.reference.counts)
        present = np.bincount(owners[spoken > 0], minlength=self._size).tolist()
        found = [float(matrix[best_assignment(matrix)].sum()) for matrix in self._matrices(ratios)]
        return [JaccardErrors(max(0.0, n - right), n) for n, right in zip(present, found, strict=True)]

    def _shared(self, weights: Floats) -> Floats:
        """The time (s) that reference and hypothesis speakers share, one cell for each pair of a recording's, (C,)."""
        shared = _spanned(weights, self._pair_starts, self._pair_ends)
        return np.asarray(np.bincount(self._pair_cells, weights=shared, minlength=self._cells), dtype=np.float64)

    def _matrices(self, cells: Floats) -> list[Floats]:
        """Cells by recording, (reference speakers, hypothesis speakers)."""
        sizes = zip(self.reference.counts.tolist(), self.hypothesis.counts.tolist(), strict=True)
        found, start = [], 0
        for rows, columns in sizes:
            found.append(cells[start : start + rows * columns].reshape(rows, columns))
            start += rows * columns
        return found

    @cached_property
    def _cell_speakers(self) -> tuple[Ints, Ints]:
        """The reference speaker and the hypothesis speaker of each cell, each (C,)."""
        reference, hypothesis = self.reference, self.hypothesis
        sizes = reference.counts * hypothesis.counts
        owner = np.repeat(np.arange(self._size), sizes)
        within = np.arange(self._cells) - (np.cumsum(sizes) - sizes)[owner]
        rows, columns = np.divmod(within, hypothesis.counts[owner])
        return reference.firsts[owner] + rows, hypothesis.firsts[owner] + columns

    def _assign(self, weights: Floats) -> Ints:
        mapping = np.full(int(self.reference.counts.sum()), -1, dtype=np.int64)
        firsts = zip(self.reference.firsts.tolist(), self.hypothesis.firsts.tolist(), strict=True)
        for matrix, (row, column) in zip(self.together(weights), firsts, strict=True):
            rows, columns = best_assignment(matrix)
            mapping[row + rows] = column + columns
        return mapping

    def _pair_turns(self) -> None:
        """Turns of both sides that share a piece: each such pair once, with the pieces that it shares."""
        starts, ends = self._reference_spans
        other_starts, other_ends = self._hypothesis_spans
        # Either the hypothesis turn starts inside the reference turn, or the reference turn later and inside the other.
        first, second = _starting_within(starts, ends, other_starts, "left")
        third, fourth = _starting_within(other_starts, other_ends, starts, "right")
        turns, others = np.concatenate([first, fourth]), np.concatenate([second, third])
        self._pair_starts = np.maximum(starts[turns], other_starts[others])  # (K,)
        self._pair_ends = np.minimum(ends[turns], other_ends[others])
        self._pair_reference = self.reference.speakers[turns]
        self._pair_hypothesis = self.hypothesis.speakers[others]
        # Every reference speaker of a recording with every hypothesis speaker of it is a cell, C in all.
        reference, hypothesis, owner = self.reference, self.hypothesis, self.reference.recordings[turns]
        sizes = reference.counts * hypothesis.counts
        self._cells = int(sizes.sum())
        self._pair_cells = (
            (np.cumsum(sizes) - sizes)[owner]
            + (self._pair_reference - reference.firsts[owner]) * hypothesis.counts[owner]
            + (self._pair_hypothesis - hypothesis.firsts[owner])
        )  # (K,)

    def _cover(self, starts: Ints, ends: Ints) -> Ints:
        """How many of the spans hold each piece, (P,)."""
        size = len(self._owner)
        return np.cumsum(np.bincount(starts, minlength=size) - np.bincount(ends, minlength=size))


def best_assignment(shared: Floats) -> tuple[Ints, Ints]:
    """Rows and columns of the one-to-one assignment with the largest sum."""
    rows, columns = shared.shape
    if rows == 0 or columns == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if rows == 1:
        return np.zeros(1, dtype=np.int64), shared.argmax(axis=1)
    if columns == 1:
        return shared.argmax(axis=0), np.zeros(1, dtype=np.int64)
    from scipy.optimize import linear_sum_assignment

    found, partners = linear_sum_assignment(shared, maximize=True)
    return found, partners


def _order(groups: Ints, times: Floats) -> Ints:
    """The order by group, then by time; as np.lexsort, in a third of its time: a sort that may swap equal times, and
    then one of small integers."""
    order = np.argsort(times)
    keys = groups[order]
    return order[np.argsort(keys.astype(np.uint16) if keys.max(initial=0) < 2**16 else keys, kind="stable")]


def _ranked(owners: Sequence[Ints], times: Sequence[Floats]) -> tuple[list[Ints], Ints, Floats]:
    """The place of each time among all distinct (recording, time), and these: recordings (P,) and times (P,)."""
    owner, time = np.concatenate(owners), np.concatenate(times)
    order = _order(owner, time)
    owner, time = owner[order], time[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (owner[1:] != owner[:-1]) | (time[1:] != time[:-1])
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.cumsum(new) - 1
    return np.split(ranks, np.cumsum([len(part) for part in times])[:-1]), owner[new], time[new]


def _joined(recordings: Ints, speakers: Ints, starts: Floats, ends: Floats) -> tuple[Ints, Ints, Floats, Floats]:
    """Overlapping turns of one speaker as one; columns sorted by speaker, then start, before and after."""
    values, ranks = np.unique(ends, return_inverse=True)
    # The furthest end so far of each speaker: a running maximum over ranks, which the next speaker outdoes.
    furthest = np.maximum.accumulate(ranks + speakers * len(values)) - speakers * len(values)
    opens = np.ones(len(starts), dtype=bool)
    opens[1:] = (speakers[1:] != speakers[:-1]) | (starts[1:] >= values[furthest[:-1]])
    heads = np.flatnonzero(opens)
    return recordings[heads], speakers[heads], starts[heads], np.maximum.reduceat(ends, heads)


def _regions(pairs: Sequence[Pair], reference: Side, hypothesis: Side) -> tuple[Ints, Floats, Floats]:
    """Scoring regions as columns: recording, start, end."""
    spans = [(i, start, end) for i, pair in enumerate(pairs) if pair.uem is not None for start, end in pair.uem]
    columns = np.array(spans, dtype=np.float64).reshape(-1, 3)
    without = np.array([pair.uem is None for pair in pairs])
    low, high = np.full(len(pairs), np.inf), np.full(len(pairs), -np.inf)
    for side in (reference, hypothesis):
        np.minimum.at(low, side.recordings, side.starts)
        np.maximum.at(high, side.recordings, side.ends)
    whole = np.flatnonzero(without & (high > low))
    return (
        np.concatenate([columns[:, 0].astype(np.int64), whole]),
        np.concatenate([columns[:, 1], low[whole]]),
        np.concatenate([columns[:, 2], high[whole]]),
    )


def _spanned(weights: Floats, starts: Ints, ends: Ints) -> Floats:
    """The weights of the pieces of each span, summed."""
    before = np.concatenate([[0.0], np.cumsum(weights)])
    return np.asarray(before[ends] - before[starts])


def _starting_within(starts: Ints, ends: Ints, others: Ints, side: str) -> tuple[Ints, Ints]:
    """(turn, other) for each other that starts in [start, end), or with side "right" in (start, end)."""
    order = np.argsort(others, kind="stable")
    ordered = others[order]
    low = np.searchsorted(ordered, starts, side)  # type: ignore[call-overload]
    counts = np.maximum(np.searchsorted(ordered, ends, "left") - low, 0)
    turns = np.repeat(np.arange(len(starts)), counts)
    within = np.arange(len(turns)) - np.repeat(np.cumsum(counts) - counts, counts)
    return turns, order[np.repeat(low, counts) + within]
