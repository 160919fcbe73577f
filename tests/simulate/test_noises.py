"""Noise: as coloured, as loud and as frequent as asked for."""

from __future__ import annotations

import numpy as np
import pytest

from diarbench.simulate import noises
from diarbench.simulate.noises import babble, events, hum_spectrum, noise_spectrum

RATE = 16000


@pytest.mark.parametrize("slope", [0.0, -3.0, -8.0])
def test_noise_falls_by_its_slope(slope):
    power = np.abs(noise_spectrum(320000, slope, np.random.default_rng(0))) ** 2
    frequencies = np.fft.rfftfreq(320000, 1 / RATE)
    levels = [
        10 * np.log10(power[(frequencies >= at / 2**0.5) & (frequencies < at * 2**0.5)].mean())
        for at in (125, 250, 500, 1000, 2000, 4000)
    ]
    # Within an octave band, the mean lies a little above the power in its middle, and in all bands alike.
    np.testing.assert_allclose(np.diff(levels), slope, atol=0.3)


def test_hum_is_the_mains():
    for seed in range(6):
        frequencies = np.flatnonzero(hum_spectrum(320000, np.random.default_rng(seed))) / 20
        assert frequencies[0] in (50.0, 60.0)
        np.testing.assert_allclose(frequencies, frequencies[0] * np.arange(1, 9), atol=0.05)


@pytest.mark.parametrize("kind", noises._KINDS)
def test_each_kind_of_noise_ends_and_is_as_loud_as_drawn(kind, monkeypatch):
    monkeypatch.setattr(noises, "_KINDS", (kind,))
    rng = np.random.default_rng(0)
    signal = np.zeros(1)
    while not signal.any():
        signal = events(30 * RATE, 1.0, (-6.0, -6.0), rng)
    loudest = np.sqrt(np.convolve(signal.astype(float) ** 2, np.full(320, 1 / 320), "valid").max())
    expected = -14.0 if kind is noises._rustle else -6.0
    assert 20 * np.log10(loudest) == pytest.approx(expected, abs=2.5)  # two may meet
    assert np.mean(np.abs(signal) < 1e-3) > 0.5


def test_as_many_noises_as_asked_for():
    rng = np.random.default_rng(1)
    assert not events(RATE, 0.0, (0.0, 0.0), rng).any()
    signal = events(600 * RATE, 6.0, (0.0, 0.0), rng)
    loud = np.add.reduceat(signal**2, np.arange(0, len(signal), RATE)) > 1.0
    assert 30 <= np.count_nonzero(loud[1:] & ~loud[:-1]) <= 75  # 60, in seconds some of which are next to each other


def test_babble_is_all_voices_at_once():
    rng = np.random.default_rng(0)
    voices = [np.sin(2 * np.pi * f * np.arange(RATE) / RATE).astype(np.float32) for f in (300, 700)]
    crowd = babble(voices, 3 * RATE, rng)
    assert crowd.shape == (3 * RATE,)
    assert np.sqrt(np.mean(crowd**2)) == pytest.approx(1.0, rel=1e-3)
    spectrum = np.abs(np.fft.rfft(crowd))
    assert spectrum[900] == pytest.approx(spectrum[2100], rel=0.01)
    assert not babble([np.zeros(100, dtype=np.float32)], 50, rng).any()
