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
from diarbench.compress.quantize import quantize
from diarbench.errors import AdapterError
from diarbench.measure.calls import CallRecorder, PipelineCounter
from diarbench.measure.counts import build_networks, count_system, macs_of
from diarbench.measure.held import Holding
from diarbench.measure.stages import measured_stages
from diarbench.nn.ge2e import Ge2eEncoder, keep_widths
from diarbench.nn.ge2e_file import save_ge2e
from diarbench.nn.quantmodes import quant_mode
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
    def make(card: SystemCard | None = None, **options: Any) -> Any:
        own = {name: FOLDER / source.path for name, source in (card.weights if card else {}).items() if source.path}
        return adapter.SileroGe2e(weights={**weights, **own}, **options)

    return make


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
        "silero-ge2e-pruned-70",
        "silero-ge2e-pruned-70-distilled",
        "silero-ge2e-spectral",
        "silero-ge2e-units-50-distilled",
        "silero-ge2e-units-75",
        "silero-ge2e-units-75-distilled",
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
        system = build(card, **card.options)
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


FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"


@pytest.mark.parametrize(
    ("options", "parameters", "nonzero", "held"),
    [
        ({}, 1_423_616, 1_423_616, {FLOAT32: (1_423_616, 5_694_464)}),
        # 6,400 biases stay; seven matrices have a scale and a zero point of 16 bytes each.
        ({"precision": "int8"}, 1_423_616, None, {INT8: (1_417_216, 1_417_328), FLOAT32: (6_400, 25_600)}),
        ({"precision": "int8-mixed"}, 1_423_616, None, {INT8: (1_114_112, 1_114_192), FLOAT32: (309_504, 1_238_016)}),
        ({"precision": "bf16"}, 1_423_616, 1_423_616, {BFLOAT16: (1_423_616, 2_847_232)}),
        ({"sparsity": 0.5}, 1_423_616, 715_008, {FLOAT32: (1_423_616, 5_694_464)}),
        ({"keep_units": 0.75}, 822_016, 822_016, {FLOAT32: (822_016, 3_288_064)}),
    ],
    ids=str,
)
def test_what_is_counted_is_what_was_built(
    build: Build,
    adapter: ModuleType,
    options: dict[str, Any],
    parameters: int,
    nonzero: int | None,
    held: dict[str, tuple[int, int]],
) -> None:
    modules = build(**options).modules()
    networks = build_networks(adapter.SileroGe2e, options)
    found = count_system(modules, networks, None)
    assert found is not None
    assert found.parameters_by_stage == {"vad": 309_633, "embedding": parameters}
    embedding = Holding()
    embedding.add(modules["embedding"])
    assert embedding.total == parameters
    assert {name: (part.weights, part.bytes) for name, part in embedding.as_held().items()} == held
    assert embedding.nonzero is not None
    # INT8 makes zeros of the smallest weights.
    assert embedding.nonzero == nonzero or (nonzero is None and 0.9 < embedding.nonzero / parameters < 1)


@pytest.mark.parametrize(("keep_units", "width"), [(1.0, 256), (0.75, 192)])
def test_multiplications(adapter: ModuleType, keep_units: float, width: int) -> None:
    networks = build_networks(adapter.SileroGe2e, {"keep_units": keep_units, "precision": "int8", "window": 0.8})
    assert networks is not None
    # Four gates that read 40 mels or the layer below, and their own states; then 256 outputs of the last state.
    frame = 4 * width * ((40 + width) + 2 * (width + width))
    embedding = macs_of(networks["embedding"], 1.0)
    assert (embedding.total, embedding.encoder) == (100 * frame + 256 * width,) * 2
    assert embedding.by_part == {"LSTM": 100 * frame, "linear": 256 * width}
    assert networks["embedding"].window == 0.8
    # 32 chunks, the last one filled up: 258 filters of 256 samples at 4 places, four convolutions, one LSTM step.
    convolutions = 3 * (129 * 128 * 4 + 128 * 64 * 2 + 64 * 64 * 1 + 64 * 128 * 1)
    vad = macs_of(networks["vad"], 1.0)
    assert vad.by_part == {
        "STFT": 32 * 258 * 256 * 4,
        "CNN": 32 * convolutions,
        "LSTM": 32 * 4 * 128 * 256,
        "output": 32 * 128,
    }
    assert vad.total == sum(vad.by_part.values())


def test_encoders_from_files_of_our_own(
    adapter: ModuleType, weights: dict[str, Path], speech: NDArray[np.float32], as_audio: AsAudio, tmp_path: Path
) -> None:
    full = Ge2eEncoder.load(weights["embedding"])
    path = save_ge2e(tmp_path / "encoder.safetensors", keep_widths(full, (200, 180, 160)))
    own, units = {**weights, "embedding": path}, [200, 180, 160]
    system = adapter.SileroGe2e(weights=own, units=units)
    assert isinstance(system.diarize(as_audio(speech)), Turns)
    assert system.timed
    networks = build_networks(adapter.SileroGe2e, {"units": units})
    assert networks is not None
    found, untrained = system.modules()["embedding"].state_dict(), networks["embedding"].module.state_dict()
    assert {name: weight.shape for name, weight in found.items()} == {n: w.shape for n, w in untrained.items()}
    with pytest.raises(ValueError, match=r"units must be those of the encoder's file, \[200, 180, 160\]"):
        adapter.SileroGe2e(weights=own)


def test_simulated_arithmetic_is_not_timed(
    adapter: ModuleType, weights: dict[str, Path], speech: NDArray[np.float32], as_audio: AsAudio, tmp_path: Path
) -> None:
    pytest.importorskip("torchao", reason="quantizing needs torchao")
    done = quantize(Ge2eEncoder.load(weights["embedding"]), quant_mode("w8a8-dynamic", skip=["layers.0"]))
    own = {**weights, "embedding": save_ge2e(tmp_path / "encoder.safetensors", done.network)}
    system = adapter.SileroGe2e(weights=own, quantization="w8a8-dynamic")
    assert not system.timed
    baseline = adapter.SileroGe2e(weights=weights)
    spans = baseline.speech(speech)
    cosines = (system.embed(speech, spans)[1] * baseline.embed(speech, spans)[1]).sum(axis=1)
    assert cosines.mean() > 0.995
    assert len(system.diarize(as_audio(speech))) > 0
    with pytest.raises(ValueError, match="quantization must be that of the encoder's file, w8a8-dynamic"):
        adapter.SileroGe2e(weights=own)


def test_networks_have_the_shapes_of_what_runs(build: Build, adapter: ModuleType) -> None:
    for options in ({}, {"keep_units": 0.3}):
        networks, modules = build_networks(adapter.SileroGe2e, options), build(**options).modules()
        assert networks is not None
        for stage, module in modules.items():
            untrained = networks[stage].module.state_dict()
            assert {name: weight.shape for name, weight in module.state_dict().items()} == {
                name: weight.shape for name, weight in untrained.items()
            }


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int8-mixed"])
def test_calls_are_counted_whatever_the_precision(
    build: Build, adapter: ModuleType, speech: NDArray[np.float32], as_audio: AsAudio, precision: str
) -> None:
    system = build(precision=precision)
    networks = build_networks(adapter.SileroGe2e, {"precision": precision})
    recorder, counter = CallRecorder(system.modules()), PipelineCounter(system.modules(), networks)
    with recorder.recording() as calls:
        system.diarize(as_audio(speech))
    found = counter.count(calls)
    assert found.problem is None
    assert sum(calls.counts["vad"].values()) == 1
    assert networks is not None
    assert found.by_stage["vad"] == macs_of(networks["vad"], 30.0).total
    # Batches of windows that are almost all of 1.6 s, one each 0.4 s of speech or less.
    embedding = found.by_stage["embedding"]
    assert embedding is not None
    one = macs_of(networks["embedding"], 1.6).total
    assert 30 * one < embedding < 90 * one


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
        ({"units": [128, 128, 128]}, "units must be those of the encoder's file"),
        ({"quantization": "w8a8-dynamic"}, "quantization must be that of the encoder's file, none"),
    ],
    ids=str,
)
def test_options_that_can_not_be(build: Build, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)
