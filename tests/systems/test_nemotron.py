"""The nemotron family on a tiny model with random weights: streams of any pieces, and what transformers itself says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diarbench.bench.streaming import stream_through
from diarbench.cards import SystemCard, expand, read_card
from diarbench.errors import AdapterError
from diarbench.measure.calls import CallRecorder, PipelineCounter
from diarbench.measure.counts import build_networks, count_system
from diarbench.measure.stages import measured_stages
from diarbench.types import Audio, Turn, Turns

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
if not hasattr(transformers, "Nemotron3DiarizationForAudioFrameClassification"):
    pytest.skip("this transformers has no Nemotron 3 Diarization", allow_module_level=True)

FOLDER = Path(__file__).resolve().parents[2] / "systems" / "nemotron"
PUBLISHED = {  # C and R of the model card (s)
    "low_latency": (0.72, 0.32),
    "very_low_latency": (0.48, 0.16),
    "ultra_low_latency": (0.24, 0.08),
}

Build = Callable[..., Any]
AsAudio = Callable[..., Audio]


@pytest.fixture(scope="module")
def adapter(family: Callable[[str], ModuleType]) -> ModuleType:
    return family("nemotron")


def tiny_model(**config: Any) -> Any:
    """Four speakers who come and go: random weights, the last of them enlarged so that probabilities vary."""
    torch.manual_seed(3)
    model = transformers.Nemotron3DiarizationForAudioFrameClassification(
        transformers.Nemotron3DiarizationConfig(
            audio_config={
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 64,
                "num_mel_bins": 16,
            },
            head_config={"hidden_size": 16, "num_speakers": 4, "audio_hidden_size": 32},
            streaming_config={
                "num_speakers": 4,
                "fifo_length": 16,
                "speaker_cache_update_period": 12,
                "speaker_cache_length": 24,
            },
            **(
                {"chunk_length": 10, "chunk_right_context": 2, "fifo_length": 16, "speaker_cache_update_period": 12}
                | config
            ),
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.3)
        model.classifier.out_proj.bias.zero_()
        model.silence_embeds.normal_()
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the repository on the hub has, tiny; its modes also chunk as its whole recordings do."""
    folder = tmp_path_factory.mktemp("tiny-nemotron")
    extractor = transformers.NemotronAsrStreamingFeatureExtractor(feature_size=16)
    modes = {"low_latency": (9, 4), "very_low_latency": (6, 2), "ultra_low_latency": (3, 1), "as_offline": (10, 2)}
    transformers.Nemotron3DiarizationProcessor(extractor, streaming_modes=modes).save_pretrained(folder)
    tiny_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def offline(adapter: ModuleType, folder: Path) -> Any:
    return adapter.Nemotron(weights={"model": folder})


@pytest.fixture(scope="module")
def online(adapter: ModuleType, folder: Path) -> Build:
    return lambda mode="low_latency", **options: adapter.NemotronStreaming(
        weights={"model": folder}, mode=mode, **options
    )


def in_pieces(system: Any, audio: Audio, sizes: Sequence[int]) -> list[Turn]:
    """All that a stream tells of the recording, pushed in pieces of these sizes, again and again."""
    stream, turns, first, turn = system.open(audio.recording), [], 0, 0
    while first < audio.samples.shape[1]:
        size = sizes[turn % len(sizes)]
        turns += stream.push(audio.samples[:, first : first + size])
        first, turn = first + size, turn + 1
    return [*turns, *stream.finish()]


def test_the_files_are_those_that_the_cards_name(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    for card in FOLDER.glob("*.toml"):
        assert set(read_card(card, SystemCard).weights["model"].files or ()) <= names
    assert json.loads((folder / "processor_config.json").read_text())["streaming_modes"]["low_latency"] == [9, 4]


def test_turns_are_those_of_transformers(offline: Any, speech: NDArray[np.float32], as_audio: AsAudio) -> None:
    speech = speech[:-77]  # where the frame beyond the recording fills up a group of eight: see `diarize`
    turns = offline.diarize(as_audio(speech))
    inputs = offline._processor(speech, sampling_rate=16000)
    with torch.inference_mode():
        logits = offline._model(**inputs).logits
    (segments,) = offline._processor.extract_speaker_dict(logits, inputs["attention_mask"])
    assert turns == Turns.of((one["Start"], one["End"], f"spk{one['Speaker']}") for one in segments)
    # Or else nothing would be tested: several speakers, with overlap, and borders of chunks inside turns.
    assert len(turns) > 50
    assert len(turns.labels) >= 3


def test_a_stream_cut_as_whole_recordings_are_tells_the_same(
    offline: Any, online: Build, speech: NDArray[np.float32], as_audio: AsAudio
) -> None:
    for length in (480000, 479923, 160 * 8 * 100, 160 * (8 * 100 + 1)):
        audio = as_audio(speech[:length])
        assert online("as_offline").diarize(audio) == offline.diarize(audio)


@pytest.mark.parametrize("mode", PUBLISHED)
def test_a_recording_within_one_chunk_is_what_a_whole_one_is(
    mode: str, offline: Any, online: Build, speech: NDArray[np.float32], as_audio: AsAudio
) -> None:
    system = online(mode)
    audio = as_audio(speech[: round(16000 * (system.chunk + system.look_ahead)) - 200])
    turns = system.diarize(audio)
    assert turns == offline.diarize(audio)
    assert len(turns) > 0


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 20000), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) > 2000),
    cut=st.integers(1, 64000),
    mode=st.sampled_from(sorted(PUBLISHED)),
)
def test_pieces_of_any_size_give_the_same_turns(
    sizes: list[int], cut: int, mode: str, online: Build, speech: NDArray[np.float32], as_audio: AsAudio
) -> None:
    system, audio = online(mode), as_audio(speech[:cut])
    pieces = in_pieces(system, audio, sizes)
    assert pieces == in_pieces(system, audio, [cut])
    assert {turn.speaker for turn in pieces} == set(system.diarize(audio).labels)
    assert sum(turn.end - turn.start for turn in pieces) == pytest.approx(
        float((system.diarize(audio).ends - system.diarize(audio).starts).sum())
    )


def test_diarize_joins_what_only_borders_of_chunks_had_cut(
    online: Build, speech: NDArray[np.float32], as_audio: AsAudio
) -> None:
    system, audio = online("ultra_low_latency"), as_audio(speech)
    turns = list(system.diarize(audio))
    assert len(turns) < len(in_pieces(system, audio, [5000]))
    assert not {(turn.end, turn.speaker) for turn in turns} & {(turn.start, turn.speaker) for turn in turns}


@pytest.mark.parametrize("mode", PUBLISHED)
def test_what_is_told_keeps_the_published_latency(
    mode: str, online: Build, speech: NDArray[np.float32], as_audio: AsAudio
) -> None:
    system, audio = online(mode), as_audio(speech[:160000])
    assert (system.chunk, system.look_ahead) == pytest.approx(PUBLISHED[mode])
    stream, step, told = system.open(audio.recording), 80, 0.0
    for first in range(0, audio.samples.shape[1], step):
        heard = (first + step) / 16000
        for turn in stream.push(audio.samples[:, first : first + step]):
            # No turn waits longer than C + R, the analysis windows (9 ms) and the piece that was pushed.
            assert heard - turn.start <= system.chunk + system.look_ahead + 0.009 + step / 16000 + 1e-9
            assert turn.end + system.look_ahead <= heard + 1e-9
            told = max(told, turn.end)
    assert told > 8.0


def test_diarbench_measures_the_latency(online: Build, speech: NDArray[np.float32], as_audio: AsAudio) -> None:
    found = stream_through(online(), [as_audio(speech[:48000])], "cpu")
    assert found["algorithmic"] == pytest.approx(1.04)
    assert found["chunks"] == 5
    assert found["turns"] > 0


def test_memory_of_a_stream_does_not_grow(online: Build, speech: NDArray[np.float32], as_audio: AsAudio) -> None:
    audio = as_audio(np.tile(speech, 3))
    stream = online().open(audio.recording)
    stream.push(audio.samples)
    assert stream._samples.base is None
    assert len(stream._samples) < 2 * 16000
    assert stream._cache.num_cache_frames + stream._cache.num_fifo_frames <= 24 + 16


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 1000])
def test_short_recordings(
    samples: int, offline: Any, online: Build, speech: NDArray[np.float32], as_audio: AsAudio
) -> None:
    audio = as_audio(speech[32000 : 32000 + samples])
    for system in (offline, online()):
        turns = system.diarize(audio)
        assert len(turns) == 0 or turns.ends.max() <= audio.duration + 1e-9
    assert online().diarize(audio) == offline.diarize(audio)


def test_channels_are_mixed(offline: Any, online: Build, speech: NDArray[np.float32], as_audio: AsAudio) -> None:
    mono = as_audio(speech[:80000])
    stereo = Audio(mono.recording, np.stack([speech[:80000] * 2, speech[:80000] * 0]))
    for system in (offline, online()):
        assert system.diarize(stereo) == system.diarize(mono)


def test_the_threshold(
    online: Build, adapter: ModuleType, folder: Path, speech: NDArray[np.float32], as_audio: AsAudio
) -> None:
    audio = as_audio(speech[:160000])
    for build in (online, lambda **options: adapter.Nemotron(weights={"model": folder}, **options)):
        low, high = (build(threshold=threshold).diarize(audio) for threshold in (0.2, 0.9))
        assert (low.ends - low.starts).sum() > (high.ends - high.starts).sum()


def test_wrong_options(adapter: ModuleType, online: Build, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"mode must be one of .*\blow_latency, .*; got 'fast'"):
        online("fast")
    with pytest.raises(ValueError, match=r"threshold must be between 0 and 1, a probability; got 50"):
        adapter.Nemotron(weights={"model": folder}, threshold=50)


def test_another_sample_rate_is_refused(
    offline: Any, online: Build, speech: NDArray[np.float32], as_audio: AsAudio
) -> None:
    for call in (offline.diarize, online().diarize, lambda audio: online().open(audio.recording)):
        with pytest.raises(AdapterError, match=r"'some-recording' asks for 8000 Hz.*sample_rate"):
            call(as_audio(speech[::2], rate=8000))


def test_a_finished_stream_takes_no_more(online: Build, speech: NDArray[np.float32], as_audio: AsAudio) -> None:
    audio = as_audio(speech[:16000])
    stream = online().open(audio.recording)
    stream.push(audio.samples)
    stream.finish()
    with pytest.raises(AdapterError, match=r"finished; open another"):
        stream.push(audio.samples)


def test_weights_that_do_not_fit_are_one_clear_error(adapter: ModuleType, folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    save_file({name: weights[name] for name in sorted(weights)[1:]}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(AdapterError, match=r"1 missing keys, the first is classifier\.dense\.bias"):
        adapter.Nemotron(weights={"model": tmp_path})
    save_file(weights | {"more": torch.zeros(1)}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(AdapterError, match=r"1 unexpected keys, the first is more"):
        adapter.Nemotron(weights={"model": tmp_path})


def test_stages(offline: Any, online: Build, speech: NDArray[np.float32], as_audio: AsAudio) -> None:
    for system in (offline, online()):
        with measured_stages() as clock:
            system.diarize(as_audio(speech[:80000]))
        assert set(clock.seconds) == {"features", "network"}


def test_the_published_size(adapter: ModuleType) -> None:
    found = count_system(None, build_networks(adapter.NemotronStreaming, {"mode": "low_latency"}), None)
    assert found is not None
    # The file on the hub has 396,954,592 bytes: four per parameter, the silence embedding's 512 among them, and names.
    assert found.parameters == 99_225_992
    assert 0 < 396_954_592 - 4 * (99_225_992 + 512) < 100_000


@pytest.mark.parametrize("mode", [None, "low_latency"])
def test_every_call_is_seen_and_counted(
    mode: str | None,
    adapter: ModuleType,
    offline: Any,
    online: Build,
    speech: NDArray[np.float32],
    as_audio: AsAudio,
) -> None:
    system = offline if mode is None else online(mode)
    with CallRecorder(system.modules()).recording() as calls:
        system.diarize(as_audio(speech[:80000]))
    found = PipelineCounter(system.modules(), None).count(calls)
    assert found.problem is None
    # 62.5 frames of 80 ms in chunks of 10; or of 9, six of them with 4 more to look ahead at, and the rest.
    chunks = 7
    assert sum(calls.counts["network"].values()) == chunks
    assert sum(calls.counts["stacking"].values()) == (1 if mode is None else chunks)
    assert sum(calls.counts["classifier"].values()) == chunks
    assert found.total is not None
    assert found.total > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_turns_on_a_gpu_are_those_on_the_cpu(
    adapter: ModuleType, folder: Path, speech: NDArray[np.float32], as_audio: AsAudio
) -> None:
    audio = as_audio(speech)
    for build in (adapter.Nemotron, adapter.NemotronStreaming):
        turns, expected = (build(weights={"model": folder}, device=name).diarize(audio) for name in ("cuda", "cpu"))
        # A frame whose probability is next to the threshold may fall on either side of it.
        seconds = float((expected.ends - expected.starts).sum())
        assert float((turns.ends - turns.starts).sum()) == pytest.approx(seconds, rel=0.02)
        assert turns.labels == expected.labels


def test_cards_say_what_they_should(adapter: ModuleType) -> None:
    cards = {path.stem: read_card(path, SystemCard) for path in FOLDER.glob("*.toml")}
    assert sorted(cards) == ["nemotron-3", "nemotron-3-streaming"]
    for card in cards.values():
        assert card.weights["model"].pinned
        assert card.licence == card.weights["model"].licence == "OpenMDW-1.1"
        assert card.options == {"threshold": adapter.THRESHOLD}
        assert any("VoxConverse" in data for data in card.trained_on)
        assert "8 speakers" in (card.description or "")
    specs = expand("nemotron-3-streaming", FOLDER / "nemotron-3-streaming.toml", cards["nemotron-3-streaming"])
    assert [spec.options["mode"] for spec in specs] == list(PUBLISHED)
