"""The wavlm-eend family: networks in diarbench's own layout as systems, whose cards need no code."""

from __future__ import annotations

import json
from collections.abc import Callable
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
from diarbench.errors import DiarbenchError
from diarbench.measure.calls import CallRecorder, PipelineCounter
from diarbench.measure.counts import build_networks
from diarbench.nn.eend import Eend
from diarbench.nn.eend_folder import save_eend
from diarbench.nn.fbank import FbankEend
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
