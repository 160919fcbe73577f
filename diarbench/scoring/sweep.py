"""Error times of one recording under several rules, from one sweep over the boundaries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diarbench.rttm import merge_spans
from diarbench.scoring.rules import ErrorTimes, ScoringRule
from diarbench.types import Spans, Turns


def score_recording(
    reference: Turns, hypothesis: Turns, uem: Spans | None, rules: Sequence[ScoringRule]
) -> dict[str, ErrorTimes]:
    """Error times under each rule, by the rule's name.

    Time is cut at every boundary into pieces in which nothing changes. In a piece of length d with R reference
    and H hypothesis speakers, scored is R·d, missed max(0, R−H)·d, false alarm max(0, H−R)·d, and confusion
    min(R, H)·d less what the best one-to-one mapping of speakers has right (NIST RT-09 evaluation plan,
    section 6; md-eval). The mapping is chosen per rule, over the time that the rule scores.

    Turns of one speaker that overlap or touch are merged first, on both sides. Without a UEM the region runs
    from the first to the last boundary of reference and hypothesis together, as dscore's does.
    """
    reference_speakers = _merged(reference)
    hypothesis_speakers = _merged(hypothesis)
    if uem is None:
        uem = _extent(reference, hypothesis)
    # Sorted, so that sums, and so the last digits, don't depend on the order of a hash.
    reference_edges = np.unique([edge for spans in reference_speakers.values() for span in spans for edge in span])
    collars = {rule.collar for rule in rules if rule.collar > 0}
    cuts = np.unique(
        np.concatenate(
            [
                reference_edges,
                np.array([e for spans in hypothesis_speakers.values() for s in spans for e in s], dtype=np.float64),
                np.array(uem, dtype=np.float64).reshape(-1),
                *(reference_edges - collar for collar in collars),
                *(reference_edges + collar for collar in collars),
            ]
        )
    )
    if len(cuts) < 2:
        return {rule.name: ErrorTimes.zero() for rule in rules}
    lengths = np.diff(cuts) * _inside(uem, cuts)
    is_reference = np.array([_inside(spans, cuts) for spans in reference_speakers.values()]).reshape(-1, len(lengths))
    is_hypothesis = np.array([_inside(spans, cuts) for spans in hypothesis_speakers.values()]).reshape(-1, len(lengths))
    references = is_reference.sum(axis=0, dtype=np.int64)
    hypotheses = is_hypothesis.sum(axis=0, dtype=np.int64)

    scores = {}
    for rule in rules:
        weights = lengths
        if rule.collar > 0:
            zones = merge_spans((edge - rule.collar, edge + rule.collar) for edge in reference_edges.tolist())
            weights = weights * ~_inside(zones, cuts)
        if rule.overlap == "skip":
            weights = weights * (references < 2)
        together = (is_reference * weights) @ is_hypothesis.T.astype(np.float64)
        correct = _best_assignment(together)
        both = float(np.minimum(references, hypotheses) @ weights)
        scores[rule.name] = ErrorTimes(
            scored=float(references @ weights),
            missed=float(np.maximum(references - hypotheses, 0) @ weights),
            false_alarm=float(np.maximum(hypotheses - references, 0) @ weights),
            confusion=max(0.0, both - correct),
        )
    return scores


def _merged(turns: Turns) -> dict[str, Spans]:
    spans: dict[str, list[tuple[float, float]]] = {}
    for turn in turns:
        spans.setdefault(turn.speaker, []).append((turn.start, turn.end))
    return {speaker: merge_spans(spans[speaker]) for speaker in sorted(spans)}


def _extent(reference: Turns, hypothesis: Turns) -> Spans:
    both = [turns for turns in (reference, hypothesis) if len(turns)]
    if not both:
        return ()
    return ((min(float(t.starts.min()) for t in both), max(float(t.ends.max()) for t in both)),)


def _inside(spans: Spans, cuts: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the pieces between cuts lie inside the spans; every span's ends must be cuts."""
    if not spans:
        return np.zeros(len(cuts) - 1, dtype=bool)
    edges = np.array(spans, dtype=np.float64)
    change = np.zeros(len(cuts), dtype=np.int64)
    np.add.at(change, np.searchsorted(cuts, edges[:, 0]), 1)
    np.add.at(change, np.searchsorted(cuts, edges[:, 1]), -1)
    return np.asarray(np.cumsum(change)[:-1] > 0)


def _best_assignment(together: NDArray[np.float64]) -> float:
    """The most time (s) that a one-to-one mapping of rows to columns can have together."""
    if together.size == 0:
        return 0.0
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(together, maximize=True)
    return float(together[rows, columns].sum())
