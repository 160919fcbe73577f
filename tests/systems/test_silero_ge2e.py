"""The silero-ge2e family: every card runs, the variants differ where they should, odd recordings do no harm."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diarbench.cards import SystemCard, read_card
from diarbench.errors import AdapterError
from diarbench.measure.stages import measured_stages
from diarbench.types import Audio, Turns

FOLDER = Path(__file__).resolve().parents[2] / "systems" / "silero-ge2e"
CARDS = sorted(path.stem for path in FOLDER.glob("*.toml"))

Build = Callable[..., Any]
AsAudio = Callable[..., Audio]


@pytest.fixture(scope="module")
def adapter(family: Callable[[str], ModuleType]) -> ModuleType:
    return family("silero-ge2e")


@pytest.fixture(scope="module")
def build(adapter: ModuleType, weights: dict[str, Path]) -> Build:
    return lambda **options: adapter.SileroGe2e(weights=weights, **options)


@pytest.fixture(scope="module")
def system(build: Build) -> Any:
    return build()


def test_the_family_is_the_one_intended() -> None:
    assert CARDS == [
        "silero-ge2e",
        "silero-ge2e-bf16",
        "silero-ge2e-int8",
        "silero-ge2e-int8-mixed",
        "silero-ge2e-pruned-50",
        "silero-ge2e-spectral",
        "silero-ge2e-units-75",
        "silero-ge2e-window-0.8",
        "silero-ge2e-window-2.4",
    ]


@pytest.mark.parametrize("name", CARDS)
def test_each_card_runs_and_says_what_it_was_tuned_on(
    name: str, build: Build, speech: NDArray[np.float32], as_audio: AsAudio
) -> None:
    card = read_card(FOLDER / f"{name}.toml", SystemCard)
    assert card.baseline == (None if name == "silero-ge2e" else "silero-ge2e")
    assert "train" in " ".join(card.tuned_on)
    assert ("cuda" in card.devices) == ("int8" not in name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        system = build(**card.options)
        turns = system.diarize(as_audio(speech))
    assert isinstance(turns, Turns)
    assert len(turns) > 0
    assert turns.starts.min() >= 0
    assert turns.ends.max() <= 30.0


def test_two_speakers_are_told_apart(system: Any, speech: NDArray[np.float32], as_audio: AsAudio) -> None:
    assert len(system.diarize(as_audio(speech)).labels) >= 2


def test_the_same_twice_and_from_another_system(
    system: Any, build: Build, speech: NDArray[np.float32], as_audio: AsAudio
) -> None:
    first = system.diarize(as_audio(speech))
    assert system.diarize(as_audio(speech)) == first
    assert build().diarize(as_audio(speech)) == first


def test_how_loud_a_recording_is_does_not_matter(system: Any, speech: NDArray[np.float32], as_audio: AsAudio) -> None:
    loud, quiet = system.diarize(as_audio(speech)), system.diarize(as_audio(speech * np.float32(1 / 64)))
    assert quiet.speakers == loud.speakers
    np.testing.assert_allclose(quiet.starts, loud.starts, atol=1e-6)


@pytest.mark.parametrize("clusters", ["ahc", "spectral"])
@pytest.mark.parametrize(
    "cut", [slice(0, 0), slice(0, 100), slice(32000, 40000), slice(32000, 48000), slice(0, 80000)], ids=str
)
def test_short_recordings(
    build: Build, clusters: str, cut: slice, speech: NDArray[np.float32], as_audio: AsAudio
) -> None:
    audio = as_audio(speech[cut])
    turns = build(clusters=clusters).diarize(audio)
    assert (turns.starts >= 0).all()
    assert (turns.ends <= audio.duration + 1e-9).all()


@pytest.mark.parametrize("clusters", ["ahc", "spectral"])
def test_silence_and_noise_have_no_speakers(build: Build, clusters: str, as_audio: AsAudio) -> None:
    system = build(clusters=clusters)
    noise = np.random.default_rng(0).standard_normal(160000) * 0.05
    assert len(system.diarize(as_audio(np.zeros(160000)))) == 0
    assert len(system.diarize(as_audio(noise))) == 0


@pytest.mark.parametrize("clusters", ["ahc", "spectral"])
def test_windows_without_any_sound_do_no_harm(build: Build, clusters: str) -> None:
    """Digital silence that the VAD took for speech: mel power, and so embeddings, without direction."""
    system = build(clusters=clusters)
    windows, embeddings = system.embed(np.zeros(160000, dtype=np.float32), ((0.0, 10.0),))
    assert np.isfinite(embeddings).all()
    assert len(system.cluster(embeddings)) == len(windows)


def test_another_sample_rate_is_refused(system: Any, speech: NDArray[np.float32], as_audio: AsAudio) -> None:
    with pytest.raises(AdapterError, match=r"'some-recording' asks for 8000 Hz.*sample_rate"):
        system.diarize(as_audio(speech[::2], rate=8000))


def test_stages(system: Any, speech: NDArray[np.float32], as_audio: AsAudio) -> None:
    with measured_stages() as clock:
        system.diarize(as_audio(speech))
    assert list(clock.seconds) == ["vad", "embedding", "clustering"]


@pytest.mark.parametrize(
    ("options", "parameters", "nonzero"),
    [
        ({}, 1_423_616, 1_423_616),
        ({"precision": "int8"}, 1_423_616, 1_423_616),
        ({"precision": "bf16"}, 1_423_616, 1_423_616),
        ({"sparsity": 0.5}, 1_423_616, 715_008),
        ({"sparsity": 0.5, "precision": "int8-mixed"}, 1_423_616, 715_008),
        ({"keep_units": 0.75}, 822_016, 822_016),
    ],
    ids=str,
)
def test_modules_count_what_was_built(build: Build, options: dict[str, Any], parameters: int, nonzero: int) -> None:
    modules = build(**options).modules()
    assert list(modules) == ["vad", "embedding"]
    assert sum(weight.numel() for weight in modules["vad"].parameters()) == 309_633
    assert sum(weight.numel() for weight in modules["embedding"].parameters()) == parameters
    assert sum(int((weight != 0).sum()) for weight in modules["embedding"].parameters()) == nonzero


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": "kmeans"}, "clusters must be one of ahc, spectral; got 'kmeans'"),
        ({"precision": "fp8"}, "precision must be one of fp32, bf16, int8, int8-mixed; got 'fp8'"),
        ({"window": 0.0}, "0 < hop <= window"),
        ({"hop": 2.0}, "0 < hop <= window"),
        ({"onset": 0.1}, "offset <= onset"),
        ({"min_neighbours": 1}, "min_neighbours must be 2 or more"),
        ({"threshold": 3.0}, "threshold must be from 0 to 2"),
        ({"min_speaker": -1.0}, "min_speaker 0 s or more"),
        ({"centring": 1.5}, "centring from 0 to 1"),
        ({"sparsity": -0.5}, "sparsity is the fraction"),
        ({"keep_units": 1.5}, "keep is the fraction"),
        ({"precision": "int8", "device": "cuda"}, "'int8' runs on the CPU only"),
    ],
    ids=str,
)
def test_options_that_can_not_be(build: Build, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)
