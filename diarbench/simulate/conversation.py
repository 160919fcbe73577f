"""One simulated conversation: who takes the turn when, then the signal and its exact reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from diarbench.errors import InputError
from diarbench.simulate.acoustics import Acoustics, fade, mix
from diarbench.simulate.scenes import Heard, Mixture, Scene, Voices, record
from diarbench.simulate.speech import SAMPLE_RATE, Utterance, bridge, quietest
from diarbench.simulate.statistics import TurnStatistics, draw
from diarbench.simulate.variety import VariedTurns
from diarbench.types import Seconds, Turns

# A silence of 0.3 s or more ends a turn, as in the references of NIST's Rich Transcription evaluations.
MIN_PAUSE: Seconds = 0.3
_LONGEST_INNER_PAUSE: Seconds = 0.6  # between two phrases of a turn; AMI's references hardly part turns below 0.7 s
_INNER_PAUSES: tuple[Seconds, Seconds] = (0.15, 0.6)  # drawn between phrases that come from different places
_SEARCHED: Seconds = 1.5  # a turn shorter than this takes the piece of the nearest length
_SHORTEST: Seconds = 0.15  # no turn is meant to be shorter
_EDGE: Seconds = 0.05  # what lies this near to the edge of an island of speech may be its margin
_LEAST: Seconds = 3.0  # who has said less than this when half is over takes the floor next
_HEARD: Seconds = 1.5  # nobody says less than this in a conversation
_DRAWS = 20  # how often a turn, or a whole conversation, is drawn anew to find one that fits
_STRETCH = 1.5  # a piece may be so much longer than what is wanted before it is cut


@dataclass(frozen=True, slots=True)
class Conversation:
    """A simulated conversation with what is known of it."""

    samples: NDArray[np.float32]  # (samples,), 16 kHz, in [-1, 1]
    reference: Turns  # exact to the sample
    stems: Mapping[str, NDArray[np.float32]]  # by speaker, (samples,): the dry speech at its level in the mixture
    sources: Mapping[str, tuple[str, ...]]  # by speaker, the ids of the utterances heard
    repeats: Mapping[str, int]  # by speaker, how often all utterances were used up and begun anew
    heard: Heard | None = None  # what a scene drew; None for plain `Acoustics`


@dataclass(frozen=True, slots=True)
class _Piece:
    """A phrase, or a part of one, that has not been used yet; all in samples."""

    utterance: Utterance
    start: int
    stop: int
    after: int  # where the piece before it in the utterance stops; -1 for the first

    @property
    def size(self) -> int:
        return self.stop - self.start

    def follows(self, other: _Piece) -> bool:
        """Whether the two can be heard together as they were spoken, with their own pause between."""
        close = self.start - self.after <= _samples(_LONGEST_INNER_PAUSE)
        return self.utterance is other.utterance and self.after == other.stop and close

    def cut(self, size: int, limit: int) -> tuple[_Piece, _Piece]:
        """Two pieces, parted where it is quietest within a third of `size` from `size`, and before `limit`."""
        low = max(size * 2 // 3, _samples(_SHORTEST))
        at = quietest(self.utterance.samples, self.start + low, self.start + min(size * 4 // 3, limit))
        # A cut that falls in a short silence, or in the margin beside it, leaves the silence to neither.
        islands, edge = self.utterance.islands, _samples(_EDGE)
        stop = min(at, max(last for first, last in islands if first + edge < at))
        start = max(at, min((first for first, last in islands if last - edge > at), default=self.stop))
        return replace(self, stop=stop), replace(self, start=start, after=stop)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A piece at its place, in samples, in a turn or in the conversation."""

    at: int
    piece: _Piece
    joined: bool  # to the one before, so that the pause between is heard as it was recorded

    @property
    def stop(self) -> int:
        return self.at + self.piece.size


@dataclass(slots=True)
class _Speaker:
    """A speaker's supply of speech, and what of it has been placed."""

    name: str
    utterances: Sequence[Utterance]
    rng: np.random.Generator
    share: float
    queue: list[_Piece] = field(default_factory=list)
    free_from: int = 0  # samples: when the next turn may begin
    placed: list[_Placed] = field(default_factory=list)
    rounds: int = 0

    @property
    def spoken(self) -> int:
        """Samples placed so far."""
        return sum(placed.piece.size for placed in self.placed)

    def take(self, length: int, limit: int) -> list[_Placed]:
        """Unused speech of about `length` samples and never more than `limit`, laid out from 0; or nothing.

        Pieces that follow each other stay together; one that is much too long is cut where it is quietest. Once
        all is used, it begins anew in another order of utterances.
        """
        length = min(length, limit)
        if length < _samples(_SHORTEST):
            return []
        if not self.queue:
            self.refill()
        first = self._first(length)
        self._cut_to(first, length, limit)
        laid = [_Placed(0, self.queue[first], joined=False)]
        position = first + 1
        while position < len(self.queue) and length - laid[-1].stop > _samples(_SHORTEST):
            joined = self.queue[position].follows(laid[-1].piece)
            pause = self.queue[position].start - laid[-1].piece.stop if joined else self._pause()
            at = laid[-1].stop + pause
            if length - at < _samples(_SHORTEST):
                break
            self._cut_to(position, length - at, limit - at)
            laid.append(_Placed(at, self.queue[position], joined))
            position += 1
        del self.queue[first:position]
        return laid

    def refill(self) -> None:
        """All phrases again, utterances in a new order."""
        self.rounds += 1
        for index in self.rng.permutation(len(self.utterances)).tolist():
            utterance, after = self.utterances[index], -1
            for start, stop in utterance.phrases:
                self.queue.append(_Piece(utterance, start, stop, after))
                after = stop

    def _first(self, length: int) -> int:
        """The next piece; for a short turn, the one of the nearest length."""
        if length >= _samples(_SEARCHED):
            return 0
        return min(range(len(self.queue)), key=lambda index: abs(self.queue[index].size - length))

    def _cut_to(self, position: int, length: int, limit: int) -> None:
        """Part the piece at `position` if it is longer than `limit`, or by more than half longer than `length`."""
        if self.queue[position].size > min(limit, length * _STRETCH):
            first, rest = self.queue[position].cut(round(length / _STRETCH), limit)
            # A scrap too short for a turn is let go.
            self.queue[position : position + 1] = [first, rest] if rest.size >= _samples(_SHORTEST) else [first]

    def _pause(self) -> int:
        return _samples(self.rng.uniform(*_INNER_PAUSES))


def simulate_conversation(
    speech: Mapping[str, Sequence[Utterance]],
    duration: Seconds,
    statistics: TurnStatistics | VariedTurns,
    rng: np.random.Generator,
    *,
    acoustics: Acoustics | Scene | Mixture | None = None,
    voices: Voices | None = None,
) -> Conversation:
    """A conversation of `duration` seconds between all the speakers of `speech`, nobody heard for less than 1.5 s.

    Turn lengths, pauses, gaps and overlaps, backchannels and the speakers' shares are drawn from `statistics`;
    a turn is filled with a speaker's phrases, consecutive ones where it is long, each used once (`repeats` says
    where a speaker ran out and began anew). The reference is where phrases lie, with a speaker's own silences
    below `MIN_PAUSE` bridged; outside of it his stem is exactly 0. With reverberation, the reference is still
    that of the dry speech. The same arguments and generator state give the same samples.

    `VariedTurns` draws the turn-taking too, and long silences. In a `Scene`, or one drawn from a `Mixture`, people sit
    in a room and are recorded from there; `voices` gives it others who talk in the background.

    Raises InputError for a speaker without speech, or a duration too short for everybody to be heard.
    """
    for name, utterances in speech.items():
        if not any(utterance.phrases for utterance in utterances):
            raise InputError(f"speaker {name}: no speech was found in the utterances given")
    if not speech:
        raise InputError("a conversation needs at least one speaker")
    length = _samples(duration)
    if isinstance(statistics, VariedTurns):
        speakers, silences = _plan_varied(speech, length, statistics, rng)
    else:
        speakers, silences = _plan(speech, length, statistics, rng), []
    stems: dict[str, NDArray[np.float32]] = {}
    rows: list[tuple[float, float, str]] = []
    for speaker in speakers:
        spans = bridge([(placed.at, placed.stop) for placed in speaker.placed], _samples(MIN_PAUSE))
        stems[speaker.name] = _stem(speaker, spans, length)
        rows += [(start / SAMPLE_RATE, stop / SAMPLE_RATE, speaker.name) for start, stop in spans]
    heard = None
    if isinstance(acoustics, Scene | Mixture):
        samples, stems, heard = record(stems, silences, rng, acoustics, voices)
    else:
        samples, stems = mix(stems, rng, acoustics or Acoustics())
    return Conversation(
        samples,
        Turns.of(rows),
        stems,
        {s.name: tuple(dict.fromkeys(placed.piece.utterance.id for placed in s.placed)) for s in speakers},
        {s.name: s.rounds - 1 for s in speakers},
        heard,
    )


def _plan(
    speech: Mapping[str, Sequence[Utterance]], length: int, statistics: TurnStatistics, rng: np.random.Generator
) -> list[_Speaker]:
    """The speakers with all their turns placed; drawn anew where somebody is hardly heard."""
    for _ in range(_DRAWS):
        speakers = [
            _Speaker(name, utterances, np.random.default_rng(rng.integers(2**63)), draw(statistics.shares, rng))
            for name, utterances in sorted(speech.items())
        ]
        _take_turns(speakers, length, statistics, rng)
        if all(speaker.spoken >= _samples(_HEARD) for speaker in speakers):
            return speakers
    raise InputError(
        f"in {length / SAMPLE_RATE:g} s, {len(speech)} speakers can't all be heard for {_HEARD:g} s; "
        "ask for longer conversations or fewer speakers"
    )


def _plan_varied(
    speech: Mapping[str, Sequence[Utterance]], length: int, varied: VariedTurns, rng: np.random.Generator
) -> tuple[list[_Speaker], list[tuple[int, int]]]:
    """The speakers with their turns placed, and the long silences; habits that leave somebody out are drawn anew."""
    for attempt in range(_DRAWS):
        statistics, parts = varied.draw(rng)
        blocks = [round(part * length) for part in parts]
        try:
            speakers = _plan(speech, length - sum(blocks), statistics, rng)
        except InputError:
            if attempt == _DRAWS - 1:
                raise
        else:
            return speakers, _insert_silences(speakers, length - sum(blocks), blocks, rng)
    raise AssertionError


def _insert_silences(
    speakers: list[_Speaker], length: int, blocks: list[int], rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Let silences of so many samples in where nobody speaks, or at an end; where they lie then, sorted.

    What follows a silence is moved behind it. A place inside of what a reference bridges is none.
    """
    spoken = sorted(
        span
        for speaker in speakers
        for span in bridge([(placed.at, placed.stop) for placed in speaker.placed], _samples(MIN_PAUSE))
    )
    places = [0, *[start for start, _ in bridge(spoken, 0)][1:], length]
    chosen = sorted((places[int(rng.integers(len(places)))], size) for size in blocks)
    for speaker in speakers:
        speaker.placed = [
            replace(placed, at=placed.at + sum(size for at, size in chosen if at <= placed.at))
            for placed in speaker.placed
        ]
    silences, before = [], 0
    for at, size in chosen:
        silences.append((at + before, at + before + size))
        before += size
    return bridge(silences, 1)


def _take_turns(speakers: list[_Speaker], length: int, statistics: TurnStatistics, rng: np.random.Generator) -> None:
    """Lay floor turns one after another, and backchannels inside each, until `length` samples are full."""
    previous: _Speaker | None = None
    start, end = _samples(rng.uniform(0.0, 1.0)), 0
    while True:
        unheard = [speaker for speaker in speakers if end > length / 2 and speaker.spoken < _samples(_LEAST)]
        speaker = unheard[0] if unheard else _next_speaker(speakers, previous, statistics, rng)
        wanted = _samples(draw(statistics.turn_lengths, rng))
        if unheard:
            wanted = max(wanted, _samples(_LEAST))
        if previous is not None:
            gap = _samples(draw(statistics.pauses if speaker is previous else statistics.gaps, rng))
            # A turn no longer than its overlap would lie inside the other's: a longer one is drawn.
            for _ in range(_DRAWS):
                if wanted > _samples(_SHORTEST) - gap:
                    break
                wanted = _samples(draw(statistics.turn_lengths, rng))
            start = max(start, end + gap, speaker.free_from)
        # No single turn takes more than an even part of the time: all are to be heard in short conversations too.
        laid = speaker.take(min(wanted, length // len(speakers)), length - start)
        if not laid:
            return
        start = max(start, end + _samples(_SHORTEST) - laid[-1].stop)
        end = start + laid[-1].stop
        if end > length:
            return
        _place(speaker, laid, start)
        _add_backchannels(speakers, speaker, start, end, statistics, rng)
        previous = speaker


def _next_speaker(
    speakers: list[_Speaker], previous: _Speaker | None, statistics: TurnStatistics, rng: np.random.Generator
) -> _Speaker:
    others = [speaker for speaker in speakers if speaker is not previous]
    if previous is not None and (not others or rng.uniform() < statistics.same_speaker):
        return previous
    return _pick(others, rng)


def _add_backchannels(
    speakers: list[_Speaker],
    holder: _Speaker,
    start: int,
    stop: int,
    statistics: TurnStatistics,
    rng: np.random.Generator,
) -> None:
    others = [speaker for speaker in speakers if speaker is not holder]
    if not others:
        return
    count = int(rng.poisson(statistics.backchannels_per_second * (stop - start) / SAMPLE_RATE))
    lengths = [_samples(draw(statistics.backchannel_lengths, rng)) for _ in range(count)]
    # Anywhere inside the turn, so long as they end before it does.
    for at, wanted in sorted((round(rng.uniform(start, stop - size)), size) for size in lengths if size < stop - start):
        speaker = _pick(others, rng)
        if at >= speaker.free_from:
            _place(speaker, speaker.take(wanted, stop - at), at)


def _pick(speakers: list[_Speaker], rng: np.random.Generator) -> _Speaker:
    shares = np.array([speaker.share for speaker in speakers])
    return speakers[int(rng.choice(len(speakers), p=shares / shares.sum()))]


def _place(speaker: _Speaker, laid: list[_Placed], start: int) -> None:
    speaker.placed += [replace(placed, at=placed.at + start) for placed in laid]
    if laid:
        speaker.free_from = start + laid[-1].stop + _samples(MIN_PAUSE)


def _stem(speaker: _Speaker, spans: list[tuple[int, int]], length: int) -> NDArray[np.float32]:
    """The speaker's dry signal, shape (length,): each utterance at one level, exactly 0 outside `spans`."""
    stem = np.zeros(length, dtype=np.float32)
    for placed in speaker.placed:
        piece = placed.piece
        start = piece.after if placed.joined else piece.start
        stem[placed.stop - (piece.stop - start) : placed.stop] = piece.utterance.samples[
            start : piece.stop
        ] * np.float32(piece.utterance.gain)
    return fade(stem, spans)


def _samples(seconds: Seconds) -> int:
    return round(seconds * SAMPLE_RATE)
