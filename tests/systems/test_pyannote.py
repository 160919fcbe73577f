"""The pyannote family: cards, checkpoints as pyannote publishes them with random weights, and what goes wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from made_up_weights import RATE, lightning_file, segmentation_file, shapes, voices, wespeaker_file
from numpy.typing import NDArray
from random_networks import pyannote_pipeline, random_plda

from diarbench.cards import SystemCard, read_card
from diarbench.checking import check_card
from diarbench.errors import DiarbenchError
from diarbench.measure.calls import CallRecorder, PipelineCounter
from diarbench.measure.counts import build_networks, macs_of
from diarbench.pipelines.eend_recipes import DIARIZEN, RECIPES, STOCK
from diarbench.registry import Registry, shipped
from diarbench.types import Audio, Turns

FOLDER = Path(__file__).resolve().parents[2] / "systems" / "pyannote"
CARDS = sorted(path.stem for path in FOLDER.glob("*.toml"))

Build = Callable[..., Any]
AsAudio = Callable[..., Audio]


@pytest.fixture(scope="module")
def adapter(family: Callable[[str], ModuleType]) -> ModuleType:
    return family("pyannote")


@pytest.fixture(scope="module")
def sound() -> NDArray[np.float32]:
    return voices(12.0)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory, sound: NDArray[np.float32]) -> Path:
    """Laid out as speaker-diarization-community-1."""
    folder = tmp_path_factory.mktemp("community")
    segmentation_file(folder / "segmentation" / "pytorch_model.bin", sound)
    wespeaker_file(folder / "embedding" / "pytorch_model.bin", sound)
    random_plda(folder / "plda")
    return folder


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory, sound: NDArray[np.float32]) -> Path:
    """As pyannote/segmentation of July 2022: 5 s, each speaker for itself."""
    return segmentation_file(tmp_path_factory.mktemp("legacy") / "pytorch_model.bin", sound, overlap=None, window=5.0)


@pytest.fixture(scope="module")
def build(adapter: ModuleType, pipeline: Path) -> Build:
    """The adapter, windows of 4 s one each second unless told otherwise: fewer and shorter take less time."""

    def make(*, window: float | None = 4.0, hop: float | None = 1.0, **options: Any) -> Any:
        files = options.pop("weights", {"pipeline": pipeline})
        chosen = {"recipe": "pyannote-community-1"} | options
        return adapter.Pyannote(weights=files, window=window, hop=hop, **chosen)

    return make


def test_the_cards_are_the_published_pipelines() -> None:
    assert CARDS == ["pyannote-2.1-wespeaker", "pyannote-3.1", "pyannote-3.1-two-speakers", "pyannote-community-1"]
    for name in CARDS:
        card = read_card(FOLDER / f"{name}.toml", SystemCard)
        gated = {key for key, source in card.weights.items() if source.gated}
        assert gated == {"pipeline" if "community" in name else "segmentation"}
        assert card.baseline == (None if name == "pyannote-3.1" else "pyannote-3.1")
        assert card.options["recipe"] in RECIPES


# pyannote.audio's segmentation-3.0 has 1,473,265 weights; the linear map to 3 speakers has 516 fewer than to 7 classes.
@pytest.mark.parametrize(
    ("name", "segmentation"), [(name, 1_472_749 if "2.1" in name else 1_473_265) for name in CARDS]
)
def test_each_card_holds(name: str, segmentation: int) -> None:
    (check,) = check_card(Registry((shipped(),)), name, run=False)
    assert check.problem is None
    assert f"{segmentation + 6_634_336:,} parameters in segmentation, embedding" in check.summary


@pytest.mark.parametrize("name", CARDS)
def test_each_card_runs_on_files_in_its_layout(
    name: str,
    adapter: ModuleType,
    pipeline: Path,
    legacy: Path,
    as_audio: AsAudio,
    sound: NDArray[np.float32],
) -> None:
    options = read_card(FOLDER / f"{name}.toml", SystemCard).options
    files = {
        "pyannote-2.1-wespeaker": {"segmentation": legacy},
        "pyannote-community-1": {"pipeline": pipeline},
    }.get(name, {"segmentation": pipeline / "segmentation" / "pytorch_model.bin"})
    system = adapter.Pyannote(weights={"embedding": pipeline / "embedding" / "pytorch_model.bin", **files}, **options)
    turns = system.diarize(as_audio(sound[: 6 * RATE]))
    assert isinstance(turns, Turns)
    assert len(turns) > 0
    assert "two" not in name or len(turns.labels) <= 2
    networks = build_networks(adapter.Pyannote, options)
    assert networks is not None
    for stage, module in system.modules().items():
        assert shapes(module) == shapes(networks[stage].module)
        assert system._system.pipeline.window == networks[stage].window


def test_the_same_as_pyannotes_own_pipeline_from_the_same_files(
    adapter: ModuleType, pipeline: Path, as_audio: AsAudio, sound: NDArray[np.float32]
) -> None:
    from pyannote.audio import Model

    system = adapter.Pyannote(weights={"pipeline": pipeline}, recipe="pyannote-community-1", hop=2.5)
    parts = [Model.from_pretrained(pipeline / part / "pytorch_model.bin") for part in ("segmentation", "embedding")]
    recipe = RECIPES["pyannote-community-1"]
    stock = pyannote_pipeline(*parts, recipe, pipeline / "plda", hop_share=0.25, batch=4)
    output = stock({"waveform": torch.from_numpy(sound)[None], "sample_rate": RATE, "uri": "recording"})
    assert system.diarize(as_audio(sound)) == Turns.from_annotation(output.speaker_diarization)


def test_all_calls_are_seen_and_counted(
    build: Build, adapter: ModuleType, as_audio: AsAudio, sound: NDArray[np.float32]
) -> None:
    system = build()
    modules, networks = system.modules(), build_networks(adapter.Pyannote, {"window": 4})
    assert networks is not None
    recorder = CallRecorder(modules)
    with recorder.recording() as calls:
        system.diarize(as_audio(sound[: 8 * RATE]))
    found = PipelineCounter(modules, networks).count(calls)
    assert found.problem is None
    # 8 s in windows of 4 s, one each second: 5. The filters of SincNet are computed once per batch.
    assert found.by_stage["segmentation"] == pytest.approx(5 * macs_of(networks["segmentation"], 4.0).total, rel=1e-4)
    embedding = found.by_stage["embedding"]
    assert embedding is not None
    assert 4 < embedding / macs_of(networks["embedding"], 4.0).total < 7


def test_rules_and_clustering_can_be_chosen(build: Build) -> None:
    recipe = build()._system.pipeline.recipe
    assert (recipe.rules, recipe.clustering) == (STOCK, RECIPES["pyannote-community-1"].clustering)
    recipe = build(recipe="pyannote-3.1", mode="diarizen")._system.pipeline.recipe
    assert (recipe.rules, recipe.clustering) == (DIARIZEN, RECIPES["pyannote-3.1"].clustering)
    assert build(window=None, hop=None)._system.pipeline.window == 10.0


def test_a_plda_of_its_own(build: Build, pipeline: Path, tmp_path: Path) -> None:
    files = {part: pipeline / part / "pytorch_model.bin" for part in ("segmentation", "embedding")}
    with pytest.raises(DiarbenchError, match="VBx clustering needs a PLDA model"):
        build(weights=files)
    build(weights={**files, "plda": random_plda(tmp_path)})
    with pytest.raises(DiarbenchError, match=r"the card has no \[weights.embedding\]"):
        build(weights={"segmentation": files["segmentation"]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 0}, "its classes are of 2 speakers at once, not 0"),
        ({"recipe": "pyannote"}, "no recipe 'pyannote'"),
        ({"mode": "diarizen", "min_speakers": 2}, "heeds no number of speakers"),
        ({"embedding": "ge2e"}, "GE2E's embeddings"),
    ],
    ids=str,
)
def test_options_that_can_not_be(build: Build, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DiarbenchError, match=message) as caught:
        build(**options)
    assert "\n" not in str(caught.value)


class Stranger:
    """An object that no file of weights should hold."""


def changed(*path: str, to: Any) -> Callable[[dict[str, Any]], object]:
    """What changes an entry of nested dicts."""

    def change(content: dict[str, Any]) -> None:
        *outer, last = path
        for key in outer:
            content = content[key]
        content[last] = to

    return change


def name_another(content: dict[str, Any]) -> None:
    content["pyannote.audio"]["architecture"] = {"module": "somewhere", "class": "SSeRiouSS"}


@pytest.mark.parametrize("part", ["segmentation", "embedding"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (changed("state_dict", "more", to=torch.zeros(1)), "unexpected more"),
        (changed("state_dict", "more", to="text"), "more.*(no|not a) tensor"),
        (changed("state_dict", to={}), "missing|holds no weights"),
        (changed("callbacks", to=Stranger()), "Stranger, which is no weights"),
    ],
)
def test_spoilt_files_give_one_line(
    build: Build, pipeline: Path, tmp_path: Path, part: str, spoil: Callable[[dict[str, Any]], object], message: str
) -> None:
    expect_one_line(build, pipeline, tmp_path, part, spoil, message)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (name_another, "network 'SSeRiouSS'.*only PyanNet"),
        (lambda content: content.pop("pyannote.audio"), "no checkpoint of pyannote.audio"),
        (lambda content: content["pyannote.audio"].pop("specifications"), "doesn't say which speakers"),
        (changed("hyper_parameters", "lstn", to={}), "unknown hyper-parameter 'lstn'; did you mean lstm"),
        (changed("hyper_parameters", "lstm", "hidden_size", to=64), r"lstm.weight_ih_l0 is \(512, 60\) instead of"),
        (changed("hyper_parameters", "lstm", "hiden_size", to=64), "no PyanNet can be built"),
    ],
)
def test_spoilt_segmentation_files_give_one_line(
    build: Build, pipeline: Path, tmp_path: Path, spoil: Callable[[dict[str, Any]], object], message: str
) -> None:
    expect_one_line(build, pipeline, tmp_path, "segmentation", spoil, message)


def expect_one_line(
    build: Build, pipeline: Path, tmp_path: Path, part: str, spoil: Callable[[dict[str, Any]], object], message: str
) -> None:
    copy = Path(shutil.copytree(pipeline, tmp_path / "copy"))
    file = copy / part / "pytorch_model.bin"
    content = torch.load(file, weights_only=False)
    spoil(content)
    torch.save(content, file)
    with pytest.raises(DiarbenchError, match=message) as caught:
        build(weights={"pipeline": copy})
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("part", ["segmentation", "embedding"])
def test_a_flipped_byte(build: Build, pipeline: Path, tmp_path: Path, part: str) -> None:
    copy = Path(shutil.copytree(pipeline, tmp_path / "copy"))
    file = copy / part / "pytorch_model.bin"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DiarbenchError, match="damaged"):
        build(weights={"pipeline": copy})


def test_weights_of_a_loss_are_left_out(build: Build, pipeline: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(pipeline, tmp_path / "copy"))
    file = copy / "segmentation" / "pytorch_model.bin"
    content = torch.load(file, weights_only=False)
    content["state_dict"]["loss_func.weight"] = torch.zeros(3)
    torch.save(content, file)
    assert build(weights={"pipeline": copy})


def test_one_lstm_per_layer(adapter: ModuleType, pipeline: Path, tmp_path: Path) -> None:
    """pyannote.audio's other way to stack them, which its checkpoints may say."""
    from made_up_weights import pyannet_model

    file = lightning_file(tmp_path / "pytorch_model.bin", pyannet_model(monolithic=False))
    files = {"pipeline": pipeline, "segmentation": file}
    assert adapter.Pyannote(weights=files, recipe="pyannote-3.1")
