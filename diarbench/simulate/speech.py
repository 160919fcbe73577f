"""Single-speaker speech: where in an utterance somebody speaks, and the files of a folder by speaker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diarbench.audio import AUDIO_SUFFIXES, decode, resample
from diarbench.errors import InputError
from diarbench.types import Recording, Seconds

SAMPLE_RATE = 16000  # Hz, of everything here
PHRASE_PAUSE: Seconds = 0.15  # a silence of this length or more ends a phrase
LEVEL = 10 ** (-26 / 20)  # RMS of levelled speech, full scale 1: the -26 dB that ITU-T P.56 levels are set to

# Measured on 51 utterances of LibriSpeech train-clean-100 against Silero VAD: 1.7 % of what we call speech it doesn't,
# 3.8 % of what it calls speech we don't (a conversation doesn't hold that either).
_FRAME, _HOP = 400, 80  # samples: 25 ms every 5 ms
_MARGIN = 400  # samples kept on both sides of an island: weak onsets, and consonants that die away
_CRACKLE = 640  # samples: an island shorter than this (40 ms) is no speech
_CLICK = 2400  # samples: a phrase shorter than this (0.15 s, with its margins) is none
_BELOW_LOUD = 35.0  # dB below the utterance's loud frames (their 95 % quantile) that speech may be
_ABOVE_FLOOR = 12.0  # dB above the utterance's quiet frames (their 5 % quantile) that speech must be
_LEAST_BELOW_LOUD = 20.0  # dB: but a noisy utterance's bar is never higher than this below its loud frames
_DIGITAL_SILENCE = -90.0  # dBFS


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something that one speaker says, with the phrases in it."""

    id: str
    samples: NDArray[np.float32]  # (samples,), 16 kHz
    islands: tuple[tuple[int, int], ...]  # where there is speech, (start, stop) in samples, sorted, apart
    phrases: tuple[tuple[int, int], ...]  # the same with silences below PHRASE_PAUSE bridged, and clicks left out

    gain: float  # the factor that brings the RMS of the phrases to LEVEL

    @classmethod
    def of(cls, name: str, samples: NDArray[np.float32]) -> Utterance:
        """An utterance with the speech that `speech_islands` finds in it."""
        islands = tuple(speech_islands(samples))
        bridged = bridge(islands, round(PHRASE_PAUSE * SAMPLE_RATE))
        phrases = tuple(phrase for phrase in bridged if phrase[1] - phrase[0] >= _CLICK)
        energy = sum(float(np.sum(samples[start:stop].astype(np.float64) ** 2)) for start, stop in phrases)
        length = sum(stop - start for start, stop in phrases)
        return cls(name, samples, islands, phrases, LEVEL * np.sqrt(length / energy) if phrases else 1.0)

    @property
    def speech(self) -> int:
        """Samples inside phrases."""
        return sum(stop - start for start, stop in self.phrases)


def speech_islands(samples: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Where a clean recording of one speaker, shape (samples,) at 16 kHz, holds speech: (start, stop) in samples.

    By energy: frames of 25 ms every 5 ms that lie at most 35 dB below the loud ones and 12 dB above the quiet ones.
    Islands get a margin of 25 ms on both sides, and are joined where these meet. Digital silence has none.
    """
    if len(samples) < _FRAME:
        return []
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_HOP]
    level = 10 * np.log10(np.einsum("ij,ij->i", frames, frames, dtype=np.float64) / _FRAME + 1e-12)
    quiet, loud = np.quantile(level, (0.05, 0.95))
    if loud < _DIGITAL_SILENCE:
        return []
    if level.min() < _DIGITAL_SILENCE:
        quiet = _DIGITAL_SILENCE  # synthesised or gated: there is no room to rise above
    bar = min(max(loud - _BELOW_LOUD, quiet + _ABOVE_FLOOR), loud - _LEAST_BELOW_LOUD)
    active = np.concatenate([[False], level > max(bar, _DIGITAL_SILENCE), [False]])
    edges = np.flatnonzero(active[1:] != active[:-1])
    islands: list[tuple[int, int]] = []
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        # A frame stands for the hop in its middle.
        start, stop = first * _HOP + (_FRAME - _HOP) // 2, (last - 1) * _HOP + (_FRAME + _HOP) // 2
        if stop - start >= _CRACKLE:
            islands.append((max(0, start - _MARGIN), min(len(samples), stop + _MARGIN)))
    return bridge(islands, 1)


def quietest(samples: NDArray[np.float32], low: int, high: int) -> int:
    """The sample from `low` to `high` in the middle of the quietest 25 ms; `low` where there is no room to choose."""
    near = samples[max(0, low - _FRAME // 2) : high + _FRAME // 2].astype(np.float64)
    if high <= low or len(near) <= _FRAME:
        return low
    energy = np.cumsum(np.concatenate([[0.0], near**2]))
    return min(high, max(low, low + int(np.argmin(energy[_FRAME:] - energy[:-_FRAME]))))


def bridge(spans: Sequence[tuple[int, int]], below: int) -> list[tuple[int, int]]:
    """Sorted spans, those with less than `below` samples between them joined.

    >>> bridge([(0, 10), (14, 20), (40, 50)], below=5)
    [(0, 20), (40, 50)]
    """
    joined: list[tuple[int, int]] = []
    for start, stop in spans:
        if joined and start - joined[-1][1] < below:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return joined


def find_speech(folder: Path) -> dict[str, list[Path]]:
    """The audio files under a folder, by speaker, both sorted by name.

    The speaker of a file in a sub-folder is that sub-folder's name (`1688/1688-142285-0000.opus`), of a file
    directly in the folder its own name up to the first dash (`103-1240-0000.opus`). Raises InputError where the
    folder is missing or holds no audio file.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of speech")
    speakers: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file():
            inside = path.relative_to(folder).parts
            speaker = inside[0] if len(inside) > 1 else path.stem.split("-", 1)[0]
            speakers.setdefault(speaker, []).append(path)
    if not speakers:
        raise InputError(f"{folder}: holds no audio ({', '.join(AUDIO_SUFFIXES)})")
    for speaker, paths in speakers.items():
        if not speaker or speaker.split() != [speaker]:
            raise InputError(f"{paths[0]}: the speaker name {speaker!r} is empty or holds white space")
    return dict(sorted(speakers.items()))


def read_utterance(path: Path, folder: Path, speed: float = 1.0) -> Utterance:
    """The mean of a file's channels at 16 kHz, named by its path inside `folder`. Raises AudioError.

    With a `speed` other than 1 it is played so much faster, and sounds higher by as much: another speaker
    (T. Ko et al., "Audio augmentation for speech recognition", 2015).
    """
    samples = decode(Recording(path.stem, path, 0.0, SAMPLE_RATE, "mix")).mono()
    if speed != 1.0:
        samples = resample(samples[None], round(SAMPLE_RATE * speed), SAMPLE_RATE)[0]
    return Utterance.of(path.relative_to(folder).as_posix(), samples)
