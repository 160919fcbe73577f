"""The sortformer family on NeMo itself: tiny random models, saved by NeMo. Skipped where it is not installed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diarbench.errors import AdapterError
from diarbench.types import Audio, Turn

pytest.importorskip("nemo.collections.asr.models", reason="NVIDIA NeMo is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # NeMo's and Lightning's own

AsAudio = Callable[..., Audio]
RATE = 16000


def settings(*, streaming: bool, normalize: str) -> dict[str, Any]:
    """NeMo's keys; the sizes are small."""
    asr, tf, fc = "nemo.collections.asr", 16, 32
    return {
        "sample_rate": RATE,
        "max_num_of_spks": 4,
        "streaming_mode": streaming,
        "model_defaults": {"fc_d_model": fc, "tf_d_model": tf},
        "train_ds": None,
        "validation_ds": None,
        "test_ds": None,
        "preprocessor": {
            "_target_": f"{asr}.modules.AudioToMelSpectrogramPreprocessor",
            "normalize": normalize,
            "window_size": 0.025,
            "sample_rate": RATE,
            "window_stride": 0.01,
            "window": "hann",
            "features": 32,
            "n_fft": 512,
            "frame_splicing": 1,
            "dither": 1e-5,
        },
        "sortformer_modules": {
            "_target_": f"{asr}.modules.sortformer_modules.SortformerModules",
            "num_spks": 4,
            "fc_d_model": fc,
            "tf_d_model": tf,
        },
        "encoder": {
            "_target_": f"{asr}.modules.ConformerEncoder",
            "feat_in": 32,
            "feat_out": -1,
            "n_layers": 2,
            "d_model": fc,
            "subsampling": "dw_striding",
            "subsampling_factor": 8,
            "subsampling_conv_channels": 16,
            "ff_expansion_factor": 2,
            "self_attention_model": "rel_pos",
            "n_heads": 4,
            "att_context_size": [-1, -1],
            "conv_kernel_size": 9,
        },
        "transformer_encoder": {
            "_target_": f"{asr}.modules.transformer.transformer_encoders.TransformerEncoder",
            "num_layers": 2,
            "hidden_size": tf,
            "inner_size": 32,
            "num_attention_heads": 4,
        },
        "loss": {"_target_": f"{asr}.losses.bce_loss.BCELoss", "weight": None, "reduction": "mean"},
    }


def saved(path: Path, samples: NDArray[np.float32], *, streaming: bool, normalize: str) -> Path:
    """A .nemo file whose four speakers come and go over these samples."""
    from nemo.collections.asr.models import SortformerEncLabelModel
    from omegaconf import OmegaConf

    torch.manual_seed(0)
    model = SortformerEncLabelModel(OmegaConf.create(settings(streaming=streaming, normalize=normalize))).eval()
    last, seen = model.sortformer_modules.single_hidden_to_spks, []
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(0, 1)))
    with torch.inference_mode():
        model(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
    handle.remove()
    hidden = torch.cat(seen)
    spread = hidden.std(dim=0)
    weight = 3.0 * torch.randn(4, hidden.shape[1]) / spread.clamp(min=float(spread.max()) / 100)
    last.weight.data, last.bias.data = weight, -weight @ hidden.mean(dim=0)
    model.save_to(str(path))
    return path


@pytest.fixture(scope="module")
def sound() -> NDArray[np.float32]:
    """20.05 s of noise that changes its colour: no whole number of decisions."""
    random = np.random.default_rng(0)
    pieces = []
    for _ in range(40):
        noise = np.convolve(random.standard_normal(8020), random.standard_normal(12), mode="same")
        pieces.append(0.02 * random.uniform(0.1, 1.0) * noise)
    return np.concatenate(pieces).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, sound: NDArray[np.float32]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("nemo")
    kinds = {"whole": (False, "per_feature"), "online": (True, "NA"), "normalised": (True, "per_feature")}
    return {
        name: saved(folder / f"{name}.nemo", sound, streaming=streaming, normalize=normalize)
        for name, (streaming, normalize) in kinds.items()
    }


@pytest.fixture(scope="module")
def adapter(family: Callable[[str], ModuleType]) -> ModuleType:
    return family("sortformer")


def frames(turns: Iterable[Turn], count: int) -> NDArray[np.int64]:
    """Who speaks in each decision, (frames, speakers); turns lie on their borders, or end with the recording."""
    found = np.zeros((count, 4), dtype=np.int64)
    for turn in turns:
        start, end = turn.start / 0.08, math.ceil(turn.end / 0.08 - 1e-6)
        assert start == pytest.approx(round(start), abs=1e-6)
        assert end <= count
        found[round(start) : end, int(turn.speaker[-1])] += 1
    return found


def test_whole_recordings(
    adapter: ModuleType, files: dict[str, Path], sound: NDArray[np.float32], as_audio: AsAudio
) -> None:
    audio = as_audio(sound)
    plain = adapter.Sortformer(weights={"model": files["whole"]}).diarize(audio)
    assert len(plain.labels) >= 2
    assert len(plain) > 10
    found = {
        name: adapter.Sortformer(weights={"model": files["whole"]}, postprocessing=name).diarize(audio)
        for name in adapter.POST_PROCESSING
    }
    assert len({str(list(turns)) for turns in (plain, *found.values())}) == 5  # NeMo read each of the files


@pytest.mark.parametrize("latency", ["30.4s", "10.0s", "1.04s", "0.32s"])
@pytest.mark.parametrize("length", [20.05, 0.3, 0.02])
def test_streams_decide_as_whole_recordings_do(
    latency: str,
    length: float,
    adapter: ModuleType,
    files: dict[str, Path],
    sound: NDArray[np.float32],
    as_audio: AsAudio,
) -> None:
    system = adapter.StreamingSortformer(weights={"model": files["online"]}, latency=latency)
    audio = as_audio(sound[: round(length * RATE)])
    count = math.ceil(audio.samples.shape[1] // 160 / 8)  # NeMo decides on eight whole feature frames, or the rest
    whole = frames(system.diarize(audio), count)
    for size in (round(system.chunk * RATE), 777):
        stream = system.open(audio.recording)
        turns: list[Turn] = []
        for first in range(0, audio.samples.shape[1], size):
            turns += stream.push(audio.samples[:, first : first + size])
            heard = min(first + size, audio.samples.shape[1]) / RATE
            assert all(turn.end <= heard - system.look_ahead + 1e-6 for turn in turns)
        turns += stream.finish()
        online = frames(turns, count)
        assert online.max(initial=0) <= 1
        np.testing.assert_array_equal(online, whole)
    if length > 20:
        assert (whole.sum(axis=0) > 10).sum() >= 2
        assert np.abs(np.diff(whole, axis=0)).sum() > 20


def test_what_can_not_be_run_so(
    adapter: ModuleType, files: dict[str, Path], sound: NDArray[np.float32], as_audio: AsAudio
) -> None:
    with pytest.raises(AdapterError, match=r"online\.nemo is a streaming model: give it a latency"):
        adapter.Sortformer(weights={"model": files["online"]})
    with pytest.raises(AdapterError, match=r"whole\.nemo is a model of whole recordings: take out its latency"):
        adapter.StreamingSortformer(weights={"model": files["whole"]}, latency="0.32s")
    system = adapter.StreamingSortformer(weights={"model": files["normalised"]}, latency="10.0s")
    assert len(system.diarize(as_audio(sound)))
    with pytest.raises(AdapterError, match="normalises its features over the whole recording"):
        system.open(as_audio(sound).recording)
