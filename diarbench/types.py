"""What the parts of diarbench hand to each other: frozen, documented, in seconds unless a name says otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diarbench.errors import AdapterError

if TYPE_CHECKING:
    from pyannote.core import Annotation

Seconds: TypeAlias = float
Samples: TypeAlias = NDArray[np.float32]  # (channels, samples), in [-1, 1]
Spans: TypeAlias = tuple[tuple[Seconds, Seconds], ...]  # sorted (start, end) pairs that don't touch

# What may be said of a speed-up, beside the noise floor of its session.
Verdict: TypeAlias = Literal["faster", "slower", "within noise"]

# Longer than any recording, short enough that a double still tells microseconds apart.
MAX_TIME: Seconds = 1e9

# A first window that is padded on the left may begin before the recording, by no more than it is long.
_LONGEST_PADDING: Seconds = 10.0


class Turn(NamedTuple):
    """One speaker speaking from `start` to `end` (s)."""

    start: Seconds
    end: Seconds
    speaker: str


@dataclass(frozen=True, slots=True)
class Recording:
    """One audio file as a system may know it: no labels.

    `channel` says which channels of the file make the signal: "first", "mix" (their mean), a number counted
    from 0, or None for a file that has one. `path` is None where a dataset comes without audio (then only
    systems that replay stored outputs can run on it).
    """

    id: str
    path: Path | None
    duration: Seconds
    sample_rate: int  # Hz, of the signal that the system is handed (16000 unless a dataset says otherwise)
    channel: str | int | None = None


@dataclass(frozen=True, slots=True)
class Audio:
    """The decoded signal of a recording: all that a system is handed."""

    recording: Recording
    samples: Samples  # float32 (channels, samples) in [-1, 1]; read-only

    @property
    def sample_rate(self) -> int:
        """Samples per second (Hz)."""
        return self.recording.sample_rate

    @property
    def duration(self) -> Seconds:
        """Length of the signal (s)."""
        return float(self.samples.shape[-1] / self.recording.sample_rate)

    def mono(self) -> NDArray[np.float32]:
        """The mean of the channels, shape (samples,)."""
        one = self.samples.shape[0] == 1
        return np.asarray(self.samples[0] if one else self.samples.mean(axis=0, dtype=np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Turns:
    """Who spoke when in one recording: columns sorted by start, then end, then speaker.

    Speakers may overlap, and two may share the very same start and end. Arrays are read-only.

    >>> turns = Turns.of([(1.0, 2.5, "B"), (0.0, 1.2, "A")])
    >>> list(turns)
    [Turn(start=0.0, end=1.2, speaker='A'), Turn(start=1.0, end=2.5, speaker='B')]
    >>> turns.labels
    ('A', 'B')
    """

    starts: NDArray[np.float64]  # (turns,), s
    ends: NDArray[np.float64]  # (turns,), s
    codes: NDArray[np.int64]  # (turns,): the speaker of each turn, as its place in `labels`
    labels: tuple[str, ...]  # the speakers, sorted, each once

    @classmethod
    def of(cls, turns: Iterable[tuple[float, float, object]]) -> Turns:
        """Turns from any iterable of (start, end, speaker).

        Zero-length turns carry no time and are dropped. Raises ValueError for a turn that ends before it
        starts, or for times that are not finite.
        """
        rows = sorted((float(start), float(end), str(speaker)) for start, end, speaker in turns)
        for start, end, speaker in rows:
            if not (math.isfinite(start) and math.isfinite(end)):
                raise ValueError(f"the turn ({start}, {end}, {speaker}) has a time that is not finite")
            if end < start:
                raise ValueError(f"the turn ({start}, {end}, {speaker}) ends before it starts")
        rows = [row for row in rows if row[1] > row[0]]
        labels = tuple(sorted({row[2] for row in rows}))
        places = {label: place for place, label in enumerate(labels)}
        starts = np.array([row[0] for row in rows], dtype=np.float64)
        ends = np.array([row[1] for row in rows], dtype=np.float64)
        codes = np.array([places[row[2]] for row in rows], dtype=np.int64)
        for column in (starts, ends, codes):
            column.flags.writeable = False
        return cls(starts, ends, codes, labels)

    @classmethod
    def from_annotation(cls, annotation: Annotation) -> Turns:
        """Turns from a pyannote.core.Annotation, one per track."""
        return cls.of(
            (segment.start, segment.end, label) for segment, _, label in annotation.itertracks(yield_label=True)
        )

    @classmethod
    def from_output(cls, output: object) -> Turns:
        """Turns from whatever a system's `diarize` may return; their starts may lie up to 10 s before 0.

        Raises AdapterError where it is neither Turns, a pyannote Annotation, nor (start, end, speaker) rows, where a
        turn starts earlier, or where RTTM could not hold a speaker's name, which is empty or has white space in it.
        """
        try:
            if isinstance(output, cls):
                turns = output
            elif hasattr(output, "itertracks"):
                turns = cls.from_annotation(output)
            else:
                turns = cls.of(output)  # type: ignore[arg-type]
            for label in turns.labels:
                label.encode()  # a lone surrogate could not be written; its UnicodeEncodeError is a ValueError
                if label.split() != [label]:
                    raise ValueError(f"the speaker name {label!r} is empty or holds white space")
            if len(turns) and turns.starts[0] < -_LONGEST_PADDING:
                raise ValueError(f"a turn starts at {turns.starts[0]:g} s, long before the recording")
            if len(turns) and turns.ends.max() > MAX_TIME:
                raise ValueError(f"a turn ends at {turns.ends.max():g} s, after any recording")
            return turns
        except (TypeError, ValueError, OverflowError) as error:
            # What went wrong first: where there is little room, the end is cut.
            returned = "None" if output is None else f"{type(output).__name__}: {error}"
            raise AdapterError(
                f"diarize() returned {returned}; it must return Turns, a pyannote Annotation, or an iterable of "
                "(start, end, speaker) in seconds"
            ) from error

    def to_annotation(self, recording_id: str | None = None) -> Annotation:
        """A pyannote.core.Annotation with one track per turn, so that shared segments keep both speakers."""
        from pyannote.core import Annotation, Segment

        annotation = Annotation(uri=recording_id)
        for track, turn in enumerate(self):
            annotation[Segment(turn.start, turn.end), track] = turn.speaker
        return annotation

    def crop(self, start: Seconds, end: Seconds) -> Turns:
        """The part of each turn inside [start, end], on the same clock."""
        return Turns.of(
            (max(turn.start, start), min(turn.end, end), turn.speaker)
            for turn in self
            if turn.end > start and turn.start < end
        )

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speaker of each turn."""
        return tuple(self.labels[code] for code in self.codes.tolist())

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[Turn]:
        for start, end, speaker in zip(self.starts.tolist(), self.ends.tolist(), self.speakers, strict=True):
            yield Turn(start, end, speaker)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Turns) and list(self) == list(other)


@dataclass(frozen=True, slots=True)
class LabelledRecording:
    """A recording with its reference and its scoring region: never handed to a system."""

    recording: Recording
    reference: Turns
    uem: Spans  # what is scored


@dataclass(frozen=True, slots=True)
class Timing:
    """One timed call of `diarize` on one recording."""

    wall: Seconds  # the call alone: no loading, decoding, writing or scoring
    audio: Seconds  # length of the recording
    stages: Mapping[str, Seconds] = field(default_factory=dict)  # exclusive time per marked stage

    @property
    def rtf(self) -> float:
        """Real-time factor: wall time per second of audio."""
        return self.wall / self.audio


@dataclass(frozen=True, slots=True)
class PartSize:
    """Part of a network: its CNN, its Transformer, its head."""

    parameters: int
    macs_1s: int  # multiply-accumulates on one second of audio, batch 1, as part of the whole network


@dataclass(frozen=True, slots=True)
class StageSize:
    """One network of a system. Its multiply-accumulates (MACs) are for a batch of 1, each with its own input."""

    parameters: int
    macs_1s: int | None  # on one second of audio; None where the adapter doesn't say what a second is to the network
    window: Seconds | None  # of audio that the network takes at a time; None: any length
    macs_window: int | None  # on one such window
    parts: Mapping[str, PartSize] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeldWeights:
    """Weights of one number type, as a built system holds them in memory."""

    weights: int
    bytes: int  # with the scales and zero points of quantized ones


@dataclass(frozen=True, slots=True)
class Complexity:
    """Size of a system's networks, counted by the harness; None where a system exposes no modules.

    Parameters and MACs are those of the networks unquantized, whatever precision they run at; `held` says what a
    built system really holds.
    """

    parameters: int | None  # weights as built: what a dense run computes with
    nonzero_parameters: int | None  # of these, not exactly zero
    parameters_by_stage: Mapping[str, int] = field(default_factory=dict)
    weight_bytes: int | None = None  # the weight files that the card names, on disk
    stages: Mapping[str, StageSize] = field(default_factory=dict)  # where the adapter has `networks`
    # The encoder is what the pruning papers count: the pretrained network without the head that follows it.
    encoder_parameters: int | None = None
    encoder_macs_1s: int | None = None  # alone, on one second
    encoder_macs_window: int | None = None  # alone, on its own window
    encoder_window: Seconds | None = None
    held: Mapping[str, HeldWeights] = field(default_factory=dict)  # by number type: "float32", "int8", ...


class System(Protocol):
    """All that an adapter must have. The card's [options] arrive as keyword arguments of its constructor.

    A constructor that also takes `device` ("cpu" or "cuda") or `weights` (the card's [weights.*] as a mapping
    from name to local path) is given them.
    """

    def diarize(self, audio: Audio) -> Turns | Annotation | Iterable[tuple[float, float, Any]]:
        """Who spoke when in this recording, in seconds from its start."""
        ...


class Stream(Protocol):
    """One recording, fed chunk by chunk. What a call returns is final: later calls only add to it."""

    def push(self, samples: Samples) -> Turns | Annotation | Iterable[tuple[float, float, Any]]:
        """Take the next chunk, (channels, samples); turns that are now final."""
        ...

    def finish(self) -> Turns | Annotation | Iterable[tuple[float, float, Any]]:
        """The recording is over: the turns that are left."""
        ...


class Streaming(Protocol):
    """What an adapter has besides `diarize` if it works online.

    `chunk` and `look_ahead` (s) are its algorithmic latency, C + R: a turn can be final only once the chunk that holds
    it is complete and so much more has been heard. Both may be attributes or properties.
    """

    chunk: Seconds  # C
    look_ahead: Seconds  # R

    def open(self, recording: Recording) -> Stream:
        """A stream for one recording, of which nothing but its sample rate is known yet."""
        ...
