"""What lies behind a DER: Jaccard errors, each speaker's part, speaker counts, and errors by how many speak at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diarbench.scoring.rules import ErrorTimes, JaccardErrors, ScoringRule
from diarbench.scoring.sweep import Floats, Pair, Sweep, batches, best_assignment
from diarbench.types import Seconds


@dataclass(frozen=True, slots=True)
class SpeakerScore:
    """One reference speaker, and the hypothesis speaker that the Jaccard errors pair with it."""

    speaker: str
    mapped: str | None  # None where the hypothesis has fewer speakers, or shares no time
    scored: Seconds  # that the speaker speaks
    spoken_by_hypothesis: Seconds  # that the mapped one speaks
    correct: Seconds  # that both do

    @property
    def jaccard_error(self) -> float:
        """1 less the time of both over the time of either (DIHARD II evaluation plan, 4.2); 1 where unmapped."""
        if self.mapped is None:
            return 1.0
        return 1.0 - self.correct / (self.scored + self.spoken_by_hypothesis - self.correct)

    @property
    def found(self) -> float:
        """The part of the speaker's time in which the mapped one speaks too."""
        return self.correct / self.scored


@dataclass(frozen=True, slots=True)
class FileScore:
    """All about one recording under one rule."""

    times: ErrorTimes
    jaccard: JaccardErrors
    reference_speakers: int  # who speak in the time that is scored
    hypothesis_speakers: int
    speakers: tuple[SpeakerScore, ...]  # of the reference, by name
    by_concurrency: tuple[ErrorTimes, ...]  # errors where 0, 1, 2, ... reference speakers speak at once


def detail_recordings(pairs: Sequence[Pair], rule: ScoringRule) -> list[FileScore]:
    """Everything about each recording under a rule.

    Speakers are mapped one to one: for the error times as the rule says, so that the most time is right; for the
    Jaccard errors so that these are least (as dscore), over the time that the rule scores. A speaker who does not
    speak in that time is no speaker of the recording.
    """
    found: list[FileScore] = []
    for batch in batches(pairs):
        found += _details(Sweep(batch, [rule]), batch, rule)
    return found


def _details(sweep: Sweep, pairs: Sequence[Pair], rule: ScoringRule) -> list[FileScore]:
    weights = sweep.weights(rule)
    times = sweep.error_times(rule)
    concurrency = _by_concurrency(sweep, rule, weights)
    shared = sweep.together(weights)
    sides = [
        np.split(sweep.per_speaker(side, weights), np.cumsum(side.counts)[:-1])
        for side in (sweep.reference, sweep.hypothesis)
    ]
    scores = []
    for i, pair in enumerate(pairs):
        speakers, heard = _speakers(pair, sides[0][i], sides[1][i], shared[i])
        errors = sum(speaker.jaccard_error for speaker in speakers)
        jaccard = JaccardErrors(errors, len(speakers))
        scores.append(
            FileScore(ErrorTimes(*times[:, i].tolist()), jaccard, len(speakers), heard, speakers, concurrency[i])
        )
    return scores


def _speakers(pair: Pair, spoken: Floats, answered: Floats, shared: Floats) -> tuple[tuple[SpeakerScore, ...], int]:
    """Reference speakers who are scored, and how many hypothesis speakers are."""
    present, heard = np.flatnonzero(spoken > 0), np.flatnonzero(answered > 0)
    shared = shared[np.ix_(present, heard)]
    union = spoken[present][:, None] + answered[heard][None, :] - shared
    rows, columns = best_assignment(shared / union if union.size else shared)
    partner = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    scores = []
    for row, code in enumerate(present.tolist()):
        column = partner.get(row)
        mapped = column is not None and shared[row, column] > 0
        scores.append(
            SpeakerScore(
                speaker=pair.reference.labels[code],
                mapped=pair.hypothesis.labels[heard[column]] if mapped else None,
                scored=float(spoken[code]),
                spoken_by_hypothesis=float(answered[heard[column]]) if mapped else 0.0,
                correct=float(shared[row, column]) if mapped else 0.0,
            )
        )
    return tuple(scores), len(heard)


def _by_concurrency(sweep: Sweep, rule: ScoringRule, weights: Floats) -> list[tuple[ErrorTimes, ...]]:
    """Error times where 0, 1, 2, ... reference speakers speak at once, by recording."""
    kinds = sweep.kinds(sweep.mapping(rule))
    most = int(sweep.references.max(initial=0))
    levels = np.stack(
        [
            np.stack([sweep.per_recording(counts * weights * (sweep.references == level)) for counts in kinds])
            for level in range(most + 1)
        ]
    )  # (levels, 4, recordings)
    rows = [[ErrorTimes(*levels[level, :, i].tolist()) for level in range(most + 1)] for i in range(levels.shape[2])]
    return [_without_tail(row) for row in rows]


def _without_tail(row: list[ErrorTimes]) -> tuple[ErrorTimes, ...]:
    """Less the levels at the end that the recording never reaches."""
    while len(row) > 1 and row[-1] == ErrorTimes.zero():
        row = row[:-1]
    return tuple(row)
