"""The wavlm-eend family: networks in diarbench's own layout as systems, whose cards need no code."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_weights import SMALL, shapes, tell_apart, voices
from numpy.typing import NDArray
from small_networks import small

from diarbench.cards import SystemCard, read_card
from diarbench.checking import check_card
from diarbench.compress.quantize import quantize
from diarbench.errors import DiarbenchError
from diarbench.measure.calls import CallRecorder, PipelineCounter
from diarbench.measure.counts import build_networks, count_system
from diarbench.nn.eend import Eend
from diarbench.nn.eend_folder import load_eend, save_eend
from diarbench.nn.fbank import FbankEend
from diarbench.nn.pyannet import PyanNet, PyanNetShape
from diarbench.nn.quantmodes import quant_mode
from diarbench.pipelines.eend_recipes import RECIPES
from diarbench.pipelines.wavlm_eend import WavlmEend
from diarbench.registry import Registry, shipped
from diarbench.types import Audio

FOLDER = Path(__file__).resolve().parents[2] / "systems" / "wavlm-eend"
CARDS = sorted(path.stem for path in FOLDER.glob("*.toml"))
AHC = {"method": "ahc", "threshold": 0.6, "min_cluster_size": 2}
HEAD = {"units": 16, "feed_forward": 24, "heads": 2, "blocks": 1, "kernel": 5}
STRUCTURE = {key: value for key, value in json.loads(small("base").to_json()).items() if key != "format"}

Build = Callable[..., Any]
AsAudio = Callable[..., Audio]


@pytest.fixture(scope="module", params=["wavlm", "fbank"])
def front_end(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def sound() -> NDArray[np.float32]:
    return voices(12.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, front_end: str, sound: NDArray[np.float32]) -> Path:
    torch.manual_seed(0)
    network = (FbankEend(SMALL) if front_end == "fbank" else Eend(small("base"), SMALL)).eval()
    tell_apart(network, sound, 2)
    return save_eend(tmp_path_factory.mktemp(front_end), network, window=2)


@pytest.fixture(scope="module")
def build(folder: Path, front_end: str, weights: dict[str, Path]) -> Build:
    """The system with GE2E, which ships in a wheel."""

    def make(**options: Any) -> WavlmEend:
        chosen = {
            "recipe": "diarizen-meeting",
            "embedding": "ge2e",
            "clustering": AHC,
            "front_end": front_end,
        } | options
        return WavlmEend(weights={"segmentation": folder, "embedding": weights["embedding"]}, **chosen)

    return make


def test_the_card_holds() -> None:
    assert CARDS == ["fbank-eend"]
    (check,) = check_card(Registry((shipped(),)), "fbank-eend", run=False)
    assert check.problem is None
    assert f"{6_115_851 + 6_634_336:,} parameters" in check.summary
    assert read_card(FOLDER / "fbank-eend.toml", SystemCard).options["front_end"] == "fbank"


def test_it_runs_and_its_calls_are_counted(
    build: Build, front_end: str, as_audio: AsAudio, sound: NDArray[np.float32]
) -> None:
    system = build()
    said = {"front_end": front_end, "head": HEAD, "embedding": "ge2e", "window": 2}
    networks = build_networks(WavlmEend, said | ({"structure": STRUCTURE} if front_end == "wavlm" else {}))
    assert networks is not None
    modules = system.modules()
    recorder = CallRecorder(modules)
    with recorder.recording() as calls:
        turns = system.diarize(as_audio(sound))
    assert len(turns.labels) > 1
    assert turns.ends.max() <= 12.0 + 0.03
    found = PipelineCounter(modules, networks).count(calls)
    assert found.problem is None
    assert found.total is not None
    for stage, module in modules.items():
        assert shapes(module) == shapes(networks[stage].module)
    assert [name for name, network in networks.items() if network.encoder is not None] == ["segmentation"]


@pytest.mark.skipif(find_spec("torchao") is None, reason="quantizing needs torchao")
@pytest.mark.parametrize("mode", ["w8a8-dynamic", "w4a8-static", "bf16"])
def test_a_quantized_network_runs_is_counted_in_float_and_held_as_codes(
    folder: Path,
    weights: dict[str, Path],
    front_end: str,
    as_audio: AsAudio,
    sound: NDArray[np.float32],
    tmp_path: Path,
    mode: str,
) -> None:
    found = load_eend(folder)
    windows = torch.from_numpy(sound[: 4 * 32000].copy()).reshape(4, 32000)
    done = quantize(found.network, quant_mode(mode), calibration=[windows])
    save_eend(tmp_path, done.network, window=2)
    said: dict[str, Any] = {"recipe": "diarizen-meeting", "embedding": "ge2e", "clustering": AHC, "window": 2}
    said |= {"front_end": front_end, "head": HEAD, "quantization": mode}
    said |= {"structure": STRUCTURE} if front_end == "wavlm" else {}
    files = {"segmentation": tmp_path, "embedding": weights["embedding"]}
    system = WavlmEend(weights=files, **said)
    assert len(system.diarize(as_audio(sound)).labels) > 1
    networks = build_networks(WavlmEend, said)
    size, plain = (count_system(modules, networks, None) for modules in (system.modules(), None))
    assert size is not None
    assert plain is not None
    assert (size.parameters, size.stages) == (plain.parameters, plain.stages)
    assert system.timed == (done.report.kernel == "real")
    assert mode != "w4a8-static" or not system.timed
    assert size.held["bfloat16" if mode == "bf16" else "int8"].weights >= done.report.weights_covered
    for change, message in (
        ({"quantization": None}, f'is quantized: "{mode}", and the card says no quantization'),
        ({"quantization": "w8"}, f'"{mode}", and the card says quantization = "w8"'),
        ({"quantization": "w9"}, "there is no quantization 'w9'; known: w4"),
        ({"precision": "bf16"}, 'take precision = "bf16" out'),
    ):
        with pytest.raises(DiarbenchError, match=message):
            WavlmEend(weights=files, **said | change)
    with pytest.raises(DiarbenchError, match=f'is not quantized, and the card says quantization = "{mode}"'):
        WavlmEend(weights=files | {"segmentation": folder}, **said)


def test_a_pyannet_is_a_front_end_as_well(
    weights: dict[str, Path], as_audio: AsAudio, sound: NDArray[np.float32], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    shape = PyanNetShape(lstm=(9, 8), linear=(6,), stride=10)
    save_eend(tmp_path, PyanNet(shape).eval(), window=2)
    said: dict[str, Any] = {"recipe": "diarizen-meeting", "embedding": "ge2e", "clustering": AHC, "window": 2}
    said |= {"front_end": "pyannet", "head": {"lstm": [9, 8], "linear": [6]}}
    files = {"segmentation": tmp_path, "embedding": weights["embedding"]}
    system = WavlmEend(weights=files, **said)
    system.diarize(as_audio(sound))
    networks = build_networks(WavlmEend, said)
    assert networks is not None
    assert shapes(system.modules()["segmentation"]) == shapes(networks["segmentation"].module)
    size = count_system(system.modules(), networks, None)
    assert size is not None
    assert set(size.stages["segmentation"].parts) == {"SincNet", "LSTM", "linear"}
    for change, message in (
        ({"head": {"lstm": [9, 9], "linear": [6]}}, "another than the card says"),
        ({"head": {"lstm": 9}}, "the card: head: lstm is a list of whole numbers, not 9"),
        ({"head": {"units": 9}}, "the card: head: unknown key 'units'"),
        ({"structure": "wavlm-large"}, 'front_end = "pyannet" has no structure'),
        ({"front_end": "fbank", "head": None}, "its front end is not fbank"),
    ):
        with pytest.raises(DiarbenchError, match=message):
            WavlmEend(weights=files, **said | change)


def test_the_window_is_the_trained_one_unless_said(build: Build) -> None:
    pipeline = build()._system.pipeline
    assert (pipeline.window, pipeline.hop) == (2.0, 0.2)
    assert pipeline.recipe.rules == RECIPES["diarizen-meeting"].rules
    pipeline = build(window=4, hop=1)._system.pipeline
    assert (pipeline.window, pipeline.hop) == (4.0, 1.0)


def test_the_card_may_say_again_what_the_folder_says(build: Build, front_end: str) -> None:
    build(head=HEAD)
    with pytest.raises(DiarbenchError, match="its head is HeadShape"):
        build(head=HEAD | {"overlap": 4})
    with pytest.raises(DiarbenchError, match="its front end is not"):
        build(front_end={"wavlm": "fbank", "fbank": "wavlm"}[front_end])
    if front_end == "wavlm":
        build(structure=STRUCTURE)
        with pytest.raises(DiarbenchError, match="its WavLM has another structure"):
            build(structure="wavlm-large")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "the card doesn't say the structure of WavLM"),
        ({"front_end": "cqt"}, "no front_end 'cqt'"),
        ({"front_end": "fbank", "structure": "wavlm-large"}, "has no structure: take it out"),
        ({"structure": {**STRUCTURE, "withd": 3}}, "structure: unknown key withd; did you mean width"),
        ({"structure": "wavlm-large", "head": {"units": 17}}, "the card: head: 17 units"),
        ({"structure": "wavlm-large", "embedding": "ecapa"}, "no embedding 'ecapa'"),
    ],
    ids=str,
)
def test_what_can_not_be_counted(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DiarbenchError, match=message):
        build_networks(WavlmEend, options)
