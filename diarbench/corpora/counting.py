"""What is in a dataset, counted from its references and the lengths of its recordings: Table I of a paper."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diarbench.types import LabelledRecording, Seconds, Turns

PERCENTILES = (5, 25, 50, 75, 95)  # of the turns' lengths


@dataclass(frozen=True, slots=True)
class Spread:
    """The least, the mean and the most of a number that each recording has."""

    least: float
    mean: float
    most: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Spread:
        """Of at least one value."""
        return cls(float(values.min()), float(values.mean()), float(values.max()))


@dataclass(frozen=True, slots=True)
class Summary:
    """A dataset in numbers. Without audio, a recording is as long as its scoring regions reach."""

    name: str
    recordings: int
    hours: float
    minutes: Spread  # of a recording
    speakers: int  # different names; where names are local to recordings (spk1, spk2), fewer than there are people
    speakers_each: Spread  # in a recording
    turns: int
    turn_lengths: tuple[Seconds, ...]  # at PERCENTILES
    speech: Seconds  # turns added up, overlapped speech as often as it has speakers
    at_once: tuple[Seconds, ...]  # in which exactly 0, 1, 2, ... speak, of all recordings

    @property
    def spoken(self) -> Seconds:
        """Time in which anybody speaks."""
        return sum(self.at_once[1:])

    @property
    def overlap(self) -> float:
        """% of the time with speech in which two or more speak."""
        return 100 * sum(self.at_once[2:]) / self.spoken if self.spoken else 0.0

    @property
    def speech_share(self) -> float:
        """% of the recordings' length in which anybody speaks."""
        return 100 * self.spoken / (3600 * self.hours) if self.hours else 0.0

    def as_json(self) -> dict[str, Any]:
        """As plain data; the keys are in docs/json.md."""
        return {
            **asdict(self),
            "turn_lengths": {
                str(percentile): length for percentile, length in zip(PERCENTILES, self.turn_lengths, strict=False)
            },
            "spoken": self.spoken,
            "overlap": self.overlap,
            "speech_share": self.speech_share,
        }


def summarise(name: str, recordings: Iterable[LabelledRecording]) -> Summary:
    """Count a dataset of at least one recording, one recording at a time."""
    minutes, each, lengths = [], [], []
    speech = 0.0
    speakers: set[str] = set()
    at_once = np.zeros(1)
    for labelled in recordings:
        reference = labelled.reference
        minutes.append(labelled.recording.duration / 60)
        each.append(len(reference.labels))
        speakers.update(reference.labels)
        long = reference.ends - reference.starts
        speech += float(long.sum())
        lengths.append(long.astype(np.float32))  # enough for percentiles, at half the memory
        here = speakers_at_once(reference)
        here[0] = max(0.0, labelled.recording.duration - here.sum())
        if len(here) > len(at_once):
            at_once = np.pad(at_once, (0, len(here) - len(at_once)))
        at_once[: len(here)] += here
    turns = np.concatenate(lengths)
    return Summary(
        name=name,
        recordings=len(minutes),
        hours=sum(minutes) / 60,
        minutes=Spread.of(np.array(minutes)),
        speakers=len(speakers),
        speakers_each=Spread.of(np.array(each, dtype=np.float64)),
        turns=len(turns),
        turn_lengths=tuple(map(float, np.percentile(turns, PERCENTILES))) if len(turns) else (),
        speech=speech,
        at_once=tuple(at_once.tolist()),
    )


def speakers_at_once(turns: Turns) -> NDArray[np.float64]:
    """Seconds in which exactly 1, 2, ... people speak, at these places; 0 s at place 0.

    Somebody whose turns overlap each other is one speaker.

    >>> speakers_at_once(Turns.of([(0, 3, "A"), (2, 4, "A"), (1, 2, "B")])).tolist()
    [0.0, 3.0, 1.0]
    """
    starts, ends = [], []
    for code in range(len(turns.labels)):
        own = turns.codes == code
        begin, until = turns.starts[own], np.maximum.accumulate(turns.ends[own])
        # A new stretch of speech begins where all that came before has ended.
        new = np.concatenate([[True], begin[1:] > until[:-1]])
        starts.append(begin[new])
        ends.append(until[np.concatenate([new[1:], [True]])])
    if not starts:
        return np.zeros(1)
    times = np.concatenate([*starts, *ends])
    steps = np.repeat([1, -1], len(times) // 2)
    order = np.argsort(times, kind="stable")
    speaking = np.cumsum(steps[order])[:-1]
    seconds = np.bincount(speaking, weights=np.diff(times[order]))
    seconds[0] = 0.0
    last = np.flatnonzero(seconds)[-1] if seconds.any() else 0
    return np.asarray(seconds[: last + 1], dtype=np.float64)
