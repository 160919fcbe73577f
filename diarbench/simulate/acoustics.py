"""From dry speech to a recording: levels, room and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diarbench.simulate.speech import SAMPLE_RATE
from diarbench.types import Seconds

_FADE = 80  # samples: 5 ms at both ends of a turn, so that cuts don't click


@dataclass(frozen=True, slots=True)
class Acoustics:
    """How the conversation is heard."""

    level_spread: float = 6.0
    """Speakers' levels are drawn evenly from a range this wide, dB."""
    noise_snr: tuple[float, float] | None = (25.0, 40.0)
    """Range, in dB, of the ratio of speech to background noise (pink, the whole recording long); None: no noise."""
    reverberation: tuple[Seconds, Seconds] | None = None
    """Range of the rooms' reverberation time (60 dB), s; None: dry. A room is white noise that dies away
    exponentially behind the direct sound, another one for each speaker (J.-D. Polack's statistical model)."""
    direct_to_reverberant: float = 5.0
    """Energy of the direct sound over that of the reverberation, dB."""


def mix(
    stems: dict[str, NDArray[np.float32]], rng: np.random.Generator, acoustics: Acoustics
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """The recording of some stems, shape (samples,), and the dry stems at their level in it."""
    spread = acoustics.level_spread / 2
    levelled = {name: stem * _gain(rng.uniform(-spread, spread)) for name, stem in stems.items()}
    total = np.zeros(len(next(iter(stems.values()))), dtype=np.float64)
    for stem in levelled.values():
        total += stem if acoustics.reverberation is None else _reverberate(stem, rng, acoustics)
    if acoustics.noise_snr is not None:
        speech = total[total != 0.0]
        noise = _pink_noise(len(total), rng)
        snr = rng.uniform(*acoustics.noise_snr)
        total += noise * np.sqrt(np.mean(speech**2)) * 10 ** (-snr / 20)
    peak = float(np.abs(total).max(initial=0.0))
    scale = 0.95 / peak if peak > 0.95 else 1.0
    return (total * scale).astype(np.float32), {name: stem * np.float32(scale) for name, stem in levelled.items()}


def fade(stem: NDArray[np.float32], spans: list[tuple[int, int]]) -> NDArray[np.float32]:
    """A stem with everything outside `spans` (samples) set to 0, and 5 ms of rise and fall inside each."""
    gate = np.zeros(len(stem), dtype=np.float32)
    for start, stop in spans:
        gate[start:stop] = 1.0
        edge = min(_FADE, (stop - start) // 2)
        rise = np.sin(np.linspace(0, np.pi / 2, edge, endpoint=False, dtype=np.float32)) ** 2
        gate[start : start + edge] = rise
        gate[stop - edge : stop] = rise[::-1]
    return stem * gate


def _gain(decibels: float) -> np.float32:
    return np.float32(10 ** (decibels / 20))


def _pink_noise(length: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise of RMS 1 whose power falls as 1/f above 50 Hz, and is even below."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequencies = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequencies, 50.0)), length)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


def _reverberate(stem: NDArray[np.float32], rng: np.random.Generator, acoustics: Acoustics) -> NDArray[np.float64]:
    """The stem in a room: direct sound at delay 0, so that the reference still fits, then the tail."""
    from scipy.signal import fftconvolve

    assert acoustics.reverberation is not None
    time = rng.uniform(*acoustics.reverberation)
    delays = np.arange(1, round(time * SAMPLE_RATE) + 1)
    tail = rng.standard_normal(len(delays)) * 10 ** (-3 * delays / (time * SAMPLE_RATE))
    tail *= 10 ** (-acoustics.direct_to_reverberant / 20) / np.sqrt(np.sum(tail**2))
    return np.asarray(fftconvolve(stem, np.concatenate([[1.0], tail]))[: len(stem)])
