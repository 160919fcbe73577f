"""Signals read window by window, from memory and from files, give the same samples."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyannote.core import Segment

from diarbench.errors import AudioError
from diarbench.pipelines.eend_networks import SegmentationModel, SlidingSegmentation
from diarbench.pipelines.signals import SignalInFile, SignalInMemory

RATE = 16000
MODEL = SegmentationModel(torch.nn.Identity(), window=1.0)  # never called


@pytest.fixture
def noise() -> np.ndarray:
    """Two seconds and 7 samples that 16 bits hold exactly."""
    return (np.random.default_rng(1).integers(-9000, 9000, 2 * RATE + 7) / 32768).astype(np.float32)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize(("start", "stop"), [(0, 400), (16001, 20000), (30000, 33000), (2 * RATE, 2 * RATE + 50)])
def test_a_file_holds_what_memory_holds(start, stop, suffix, noise, tmp_path):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise, RATE, subtype="PCM_16")
    held, read = SignalInMemory(noise, RATE, RATE), SignalInFile(path, RATE)
    assert held.length == read.length == len(noise)
    expected = np.pad(noise, (0, 3000))[None, start:stop]
    assert np.array_equal(held.part(start, stop).numpy(), expected)
    assert np.array_equal(read.part(start, stop).numpy(), expected)
    assert held.part(start, stop).dtype == read.part(start, stop).dtype == torch.float32


def test_memory_is_not_copied(noise):
    noise.flags.writeable = False
    part = SignalInMemory(noise, RATE, RATE).part(100, 200)
    assert part.data_ptr() == noise.ctypes.data + 4 * 100


def test_channels_of_a_file(noise, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([noise, noise[::-1]], axis=1), RATE, subtype="FLOAT")
    assert np.array_equal(SignalInFile(path, RATE, 1).part(5, 50)[0].numpy(), noise[::-1][5:50])
    assert np.allclose(SignalInFile(path, RATE, "mix").part(5, 50)[0].numpy(), (noise + noise[::-1])[5:50] / 2)
    with pytest.raises(AudioError, match="2 channels"):
        SignalInFile(path, RATE)


def test_another_rate_is_resampled_window_by_window(tmp_path):
    times = np.arange(2 * 48000) / 48000
    path = tmp_path / "a.wav"
    soundfile.write(path, np.sin(2 * np.pi * 440 * times).astype(np.float32), 48000, subtype="FLOAT")
    signal = SignalInFile(path, RATE)
    assert signal.length == 2 * RATE
    expected = np.sin(2 * np.pi * 440 * np.arange(9000, 15000) / RATE)
    assert np.allclose(signal.part(9000, 15000)[0].numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite(value, noise, tmp_path):
    noise[20000] = value
    with pytest.raises(AudioError, match="not finite"):
        SignalInMemory(noise, RATE, RATE)
    path = tmp_path / "a.wav"
    soundfile.write(path, noise, RATE, subtype="FLOAT")
    signal = SignalInFile(path, RATE)
    signal.part(0, 20000)
    with pytest.raises(AudioError, match="no numbers"):
        signal.part(0, 20001)


@given(length=st.integers(1, 400), window=st.integers(1, 120), hop=st.integers(1, 120), size=st.integers(1, 9))
def test_windows_are_those_of_pyannote(length, window, hop, size):
    """`Inference.slide` passes the very same batches to the network."""
    seen: list[torch.Tensor] = []

    class Recorder(SlidingSegmentation):
        def infer(self, chunks):
            seen.append(chunks.clone())
            return np.zeros((len(chunks), 1, 1), dtype=np.float32)

    recorder = Recorder(MODEL, window=window / RATE, hop=min(hop, window) / RATE, batch=size)
    samples = np.arange(1, length + 1, dtype=np.float32)
    found = recorder({"signal": SignalInMemory(samples, RATE, RATE)})
    ours = seen.copy()
    seen.clear()
    expected = recorder.slide(torch.from_numpy(samples)[None], RATE, hook=None)
    assert len(ours) == len(seen)
    assert all(torch.equal(one, other) for one, other in zip(ours, seen, strict=True))
    assert found.data.shape == expected.data.shape
    ours_said, said = found.sliding_window, expected.sliding_window
    assert (ours_said.start, ours_said.duration, ours_said.step) == (said.start, said.duration, said.step)


def test_a_segment_of_pyannote_is_the_same_part(noise):
    """The windows of embeddings: `Audio.crop` rounds both ends."""
    from pyannote.audio import Audio

    audio = Audio(sample_rate=RATE, mono="downmix")
    file = {"waveform": torch.from_numpy(noise)[None], "sample_rate": RATE}
    held = SignalInMemory(noise, RATE, RATE)
    for start in (0.0, 0.1, 0.7 + 0.1 + 0.1, 1.3):
        chunk = Segment(start, start + 0.9)
        expected, _ = audio.crop(file, chunk, mode="pad")
        assert torch.equal(held.part(round(chunk.start * RATE), round(chunk.end * RATE)), expected)
