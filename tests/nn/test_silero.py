"""Silero VAD: the published model's probabilities, at any length, level and block size."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diarbench.errors import MissingRequirementError
from diarbench.nn import silero
from diarbench.nn.silero import CHUNK, SileroVad


@pytest.fixture(scope="module")
def random_network() -> SileroVad:
    torch.manual_seed(0)
    network = SileroVad().eval()
    torch.nn.init.normal_(network.output.weight, std=3.0)  # so that probabilities spread
    return network


def noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def test_probabilities_are_those_of_the_published_model(weights: dict[str, Path], speech: NDArray[np.float32]) -> None:
    """The TorchScript model in the wheel, called chunk by chunk as its package does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        published = torch.jit.load(str(weights["vad"]))
    published.reset_states()
    signal = torch.from_numpy(speech[:-100])  # so that the last chunk is not full
    padded = torch.nn.functional.pad(signal, (0, -len(signal) % CHUNK))
    with torch.inference_mode():
        expected = torch.cat([published(chunk[None], 16000) for chunk in padded.split(CHUNK)])[:, 0]
    found = SileroVad.load(weights["vad"])(signal)
    assert expected.min() < 0.05, "the excerpt must hold silence"
    assert expected.max() > 0.95, "the excerpt must hold speech"
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_blocks_carry_the_state_on(random_network: SileroVad, monkeypatch: pytest.MonkeyPatch) -> None:
    signal = torch.from_numpy(noise(30 * CHUNK + 7))
    whole = random_network(signal)
    monkeypatch.setattr(silero, "_BLOCK", 4)
    assert whole.std() > 1e-4
    torch.testing.assert_close(random_network(signal), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("samples", "chunks"), [(0, 0), (1, 1), (CHUNK, 1), (CHUNK + 1, 2)])
def test_one_probability_per_chunk_begun(random_network: SileroVad, samples: int, chunks: int) -> None:
    assert random_network.probabilities(noise(samples)).shape == (chunks,)


def test_how_loud_a_recording_is_does_not_matter(random_network: SileroVad) -> None:
    signal = noise(20 * CHUNK)
    np.testing.assert_allclose(
        random_network.probabilities(signal), random_network.probabilities(signal * np.float32(0.01)), atol=1e-5
    )


def test_digital_silence_and_read_only_samples(random_network: SileroVad) -> None:
    zeros = np.zeros(5 * CHUNK, dtype=np.float32)
    zeros.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(random_network.probabilities(zeros)).all()


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vad.jit"
    path.write_bytes(b"no model")
    with pytest.raises(MissingRequirementError, match=r"vad\.jit: can't be read as a TorchScript model"):
        SileroVad.load(path)
    with pytest.raises(MissingRequirementError, match="absent"):
        SileroVad.load(tmp_path / "absent.jit")


def test_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.jit"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    with pytest.raises(MissingRequirementError, match=r"other\.jit: not the weights of SileroVad"):
        SileroVad.load(path)
