"""What a microphone hears beside speech: fans and hum, taps and doors, and people talking far away."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from diarbench.simulate.speech import SAMPLE_RATE
from diarbench.types import Seconds

_LOWEST = 40.0  # Hz: below, noise does not grow any more
_LONGEST: Seconds = 1.5  # of a single noise
_RUSTLE_BELOW = 8.0  # dB


def noise_spectrum(length: int, slope: float, rng: np.random.Generator) -> NDArray[np.complex128]:
    """The spectrum, as `rfft` gives it, of `length` samples of noise whose power changes by `slope` dB per octave.

    0 is white, -3 pink, -6 what a fan or the air conditioning sounds like behind a wall.
    """
    bins = length // 2 + 1
    spectrum = rng.standard_normal(bins) + 1j * rng.standard_normal(bins)
    frequencies = np.maximum(np.fft.rfftfreq(length, 1 / SAMPLE_RATE), _LOWEST)
    spectrum *= (frequencies / 1000.0) ** (slope / (20 * np.log10(2)))
    spectrum[0] = 0.0
    return np.asarray(spectrum)


def hum_spectrum(length: int, rng: np.random.Generator) -> NDArray[np.complex128]:
    """The spectrum of `length` samples of mains hum: 50 or 60 Hz and multiples to the eighth, each weaker at random."""
    spectrum = np.zeros(length // 2 + 1, dtype=np.complex128)
    base = 50.0 if rng.uniform() < 0.5 else 60.0
    for multiple in range(1, 9):
        strength = 10 ** (-rng.uniform(0, 30) / 20)
        spectrum[round(base * multiple * length / SAMPLE_RATE)] = strength * np.exp(2j * np.pi * rng.uniform())
    return spectrum


def events(
    length: int, per_minute: float, levels: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Noises that come and go, shape (length,), `per_minute` of them on average, anywhere.

    Each is a click, a tap on a table, a thump (a door, a chair) or rustling paper; the RMS of its loudest 20 ms is
    drawn from `levels`, dB relative to 1, and rustling, which goes on for longer, is 8 dB weaker.
    """
    signal = np.zeros(length + round(_LONGEST * SAMPLE_RATE), dtype=np.float32)
    for _ in range(int(rng.poisson(per_minute * length / SAMPLE_RATE / 60))):
        kind = _KINDS[int(rng.integers(len(_KINDS)))]
        noise = kind(rng)[: len(signal)]
        window = min(320, len(noise))
        loudest = np.sqrt(np.convolve(noise**2, np.full(window, 1 / window), "valid").max())
        at = int(rng.integers(length))
        level = rng.uniform(*levels) - (_RUSTLE_BELOW if kind is _rustle else 0.0)
        signal[at : at + len(noise)] += noise / loudest * 10 ** (level / 20)
    return signal[:length]


def babble(voices: list[NDArray[np.float32]], length: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Several voices at once, shape (length,), each repeated from a random place on, RMS 1 in all."""
    signal = np.zeros(length, dtype=np.float32)
    for samples in voices:
        level = np.sqrt(np.mean(samples.astype(np.float64) ** 2))
        if level > 0:
            signal += np.resize(np.roll(samples, int(rng.integers(len(samples)))), length) / np.float32(level)
    total = np.sqrt(np.mean(signal.astype(np.float64) ** 2))
    return signal / np.float32(total) if total > 0 else signal


def _click(rng: np.random.Generator) -> NDArray[np.float64]:
    """A mouse, a pen, a key: noise that is gone after a few milliseconds; at times twice."""
    noise = _dying(rng, 0.03, rng.uniform(0.0005, 0.003))
    if rng.uniform() < 0.5:
        gap = round(rng.uniform(0.06, 0.15) * SAMPLE_RATE)
        noise = np.concatenate([noise, np.zeros(gap), _dying(rng, 0.03, rng.uniform(0.0005, 0.003)) * 0.7])
    return noise


def _tap(rng: np.random.Generator) -> NDArray[np.float64]:
    """A cup or a hand on the table: a knock, and three resonances that ring."""
    times = np.arange(round(0.25 * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.zeros(len(times))
    for _ in range(3):
        ringing = np.exp(-times / rng.uniform(0.01, 0.05))
        noise += ringing * np.sin(2 * np.pi * rng.uniform(80, 900) * times)
    knock = _dying(rng, 0.25, 0.002)
    return np.asarray(noise + 0.5 * knock)


def _thump(rng: np.random.Generator) -> NDArray[np.float64]:
    """A door or a chair: a low knock, some of it rumbling on."""
    noise = _dying(rng, 0.8, rng.uniform(0.05, 0.2))
    return np.asarray(_low(noise, rng.uniform(100, 400)))


def _rustle(rng: np.random.Generator) -> NDArray[np.float64]:
    """Paper or clothes: high noise, in bursts of some tens of milliseconds."""
    count = round(rng.uniform(0.3, _LONGEST) * SAMPLE_RATE)
    knots = rng.uniform(0, 1, max(4, count // 800)) ** 3
    envelope = np.interp(np.linspace(0, len(knots) - 1, count), np.arange(len(knots)), knots)
    white = rng.standard_normal(count)
    return np.asarray(envelope * (white - _low(white, rng.uniform(500, 2000))))


_KINDS: tuple[Callable[[np.random.Generator], NDArray[np.float64]], ...] = (_click, _tap, _thump, _rustle)


def _dying(rng: np.random.Generator, length: Seconds, time: Seconds) -> NDArray[np.float64]:
    """Noise whose amplitude falls to 1/e within `time`."""
    count = round(length * SAMPLE_RATE)
    return np.asarray(rng.standard_normal(count) * np.exp(-np.arange(count) / (time * SAMPLE_RATE)))


def _low(signal: NDArray[np.float64], cutoff: float) -> NDArray[np.float64]:
    """A low-pass of the first order, in Hz."""
    from scipy.signal import lfilter

    kept = np.exp(-2 * np.pi * cutoff / SAMPLE_RATE)
    return np.asarray(lfilter([1 - kept], [1, -kept], signal))
