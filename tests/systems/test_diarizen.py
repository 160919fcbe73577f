"""The diarizen family: cards, public layouts with random weights, what config.toml may say, and what goes wrong."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from made_up_weights import RATE, SMALL, diarizen_folder, shapes, voices, wespeaker_file
from numpy.typing import NDArray
from small_networks import small

from diarbench.cards import SystemCard, expand, read_card
from diarbench.checking import check_card
from diarbench.errors import DiarbenchError
from diarbench.measure.calls import CallRecorder, PipelineCounter
from diarbench.measure.counts import build_networks, macs_of
from diarbench.nn.checkpoints import read_state
from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import load_diarizen
from diarbench.pipelines.diarizen_folder import read_diarizen
from diarbench.pipelines.eend_recipes import DIARIZEN, RECIPES, STOCK, Ahc, Vbx
from diarbench.pipelines.eend_system import Choices, eend_stage, embedding_stage
from diarbench.pipelines.eend_vc import EendVc
from diarbench.registry import Registry, shipped
from diarbench.types import Audio, Turns

FOLDER = Path(__file__).resolve().parents[2] / "systems" / "diarizen"
CARDS = sorted(path.stem for path in FOLDER.glob("*.toml"))
WINDOW = 2  # s, of the small network

Build = Callable[..., Any]
AsAudio = Callable[..., Audio]


@pytest.fixture(scope="module")
def adapter(family: Callable[[str], ModuleType]) -> ModuleType:
    return family("diarizen")


@pytest.fixture(scope="module")
def sound() -> NDArray[np.float32]:
    return voices(5.0)


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory, sound: NDArray[np.float32]) -> Path:
    return wespeaker_file(tmp_path_factory.mktemp("wespeaker") / "pytorch_model.bin", sound)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, sound: NDArray[np.float32]) -> Path:
    """A small network with a structure of its own, VBx."""
    place = tmp_path_factory.mktemp("small")
    return diarizen_folder(place, "my/wavlm.bin", shape=SMALL, own=small("base"), window=WINDOW, samples=sound)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def build(adapter: ModuleType, folder: Path, embedding: Path) -> Build:
    """The adapter on the small network; a hop of 0.5 s unless told otherwise, since tenths of a window take long."""
    weights = {"segmentation": folder, "embedding": embedding}
    return lambda hop=0.5, **options: adapter.DiariZen(weights=weights, hop=hop, **options)


def test_the_cards_are_the_public_models_and_what_they_are_compared_with() -> None:
    assert CARDS == [
        "diarizen-meeting-base",
        "diarizen-wavlm-base-s80-md",
        "diarizen-wavlm-base-s80-windows",
        "diarizen-wavlm-base-unpruned",
        "diarizen-wavlm-large-s80-md",
        "diarizen-wavlm-large-s80-md-v2",
        "diarizen-wavlm-large-s80-mlc",
        "diarizen-wavlm-large-s80-windows",
        "diarizen-wavlm-large-unpruned",
    ]
    names = set()
    for name in CARDS:
        card = read_card(FOLDER / f"{name}.toml", SystemCard)
        names |= {spec.name for spec in expand(name, FOLDER / f"{name}.toml", card)}
        licence = card.weights["segmentation"].licence
        assert licence == ("MIT" if "meeting" in name else None if "unpruned" in name else "CC BY-NC 4.0"), name
        assert card.compression["method"] == ("params" if "s80" in name else "none")
    baselines = {read_card(FOLDER / f"{name}.toml", SystemCard).baseline for name in CARDS}
    assert baselines - {None} <= names


@pytest.mark.parametrize("name", CARDS)
def test_each_card_holds(name: str) -> None:
    for check in check_card(Registry((shipped(),)), name, run=False):
        assert check.problem is None
        assert "parameters in segmentation, embedding" in check.summary


def numel(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


# DiariZen's own classes (diarbench's tests of nn compare them with the pruning paper) have so many weights; the
# embedding has 6,634,336 more.
@pytest.mark.parametrize(
    ("name", "encoder", "segmentation"),
    [
        ("diarizen-meeting-base", 94_381_168, 100_673_160),
        ("diarizen-wavlm-base-s80-md", 18_881_683, 25_173_675),
        ("diarizen-wavlm-large-s80-md", 63_095_530, 69_453_070),
        ("diarizen-wavlm-large-s80-md-v2", 63_095_530, 69_454_355),
        ("diarizen-wavlm-large-unpruned", 315_452_096, 321_809_636),
    ],
)
def test_counts_need_no_weights(adapter: ModuleType, name: str, encoder: int, segmentation: int) -> None:
    path = FOLDER / f"{name}.toml"
    options = expand(name, path, read_card(path, SystemCard))[0].options
    networks = build_networks(adapter.DiariZen, options)
    assert networks is not None
    network = networks["segmentation"]
    assert numel(network.module.get_submodule(network.encoder or "")) == encoder
    assert (numel(network.module), numel(networks["embedding"].module)) == (segmentation, 6_634_336)
    assert network.window == options["window"]


# Per second of the window, WavLM and head: base_s80 1.56, 1.62 and 1.67 G at 8, 12 and 16 s, ..., by hand.
@pytest.mark.parametrize(
    ("structure", "giga"),
    [
        ("wavlm_base_s80_md", (1.56, 1.62, 1.67)),
        ("wavlm_large", (19.3, 19.8, 20.3)),
    ],
)
def test_longer_windows_cost_more(adapter: ModuleType, structure: str, giga: tuple[float, ...]) -> None:
    networks = build_networks(adapter.DiariZen, {"structure": structure, "overlap": 2})
    assert networks is not None
    for window, expected in zip((8, 12, 16), giga, strict=True):
        found = macs_of(networks["segmentation"], window).total / window / 1e9
        assert found == pytest.approx(expected, abs=0.005 * (10 if expected > 10 else 1) + 0.001)


@pytest.fixture(params=["base-s80", "large-s80", "large-s80-v2", "meeting"])
def public(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder in the layout of each public repository, of the real sizes, and the card that is for it."""
    name, card, shape, window = {
        "base-s80": ("wavlm_base_s80_md", "diarizen-wavlm-base-s80-md", HeadShape(), 16),
        "large-s80": ("wavlm_large_s80_md", "diarizen-wavlm-large-s80-md", HeadShape(), 16),
        "large-s80-v2": ("wavlm_large_s80_md", "diarizen-wavlm-large-s80-md-v2", HeadShape(overlap=4), 16),
        "meeting": ("wavlm_base", "diarizen-meeting-base", HeadShape(), 8),
    }[request.param]
    folder = tmp_path / "repository"
    yield diarizen_folder(folder, name, shape=shape, window=window, vbx=request.param != "meeting"), card
    shutil.rmtree(folder)  # hundreds of megabytes


def test_public_layouts_load_strictly_and_run(
    public: tuple[Path, str], adapter: ModuleType, embedding: Path, as_audio: AsAudio, sound: NDArray[np.float32]
) -> None:
    folder, card = public
    options = read_card(FOLDER / f"{card}.toml", SystemCard).options
    recipe = read_diarizen(folder).recipe
    assert recipe is not None
    # A folder says its hop; the recipe by name has none, which means a tenth of the window.
    assert (recipe.hop, recipe.window) == (0.1 * options["window"], options["window"])
    assert replace(recipe, hop=None) == RECIPES["diarizen-meeting" if "meeting" in card else "diarizen-s80"]
    system = adapter.DiariZen(weights={"segmentation": folder, "embedding": embedding}, **{**options, "window": 1.5})
    assert isinstance(system.diarize(as_audio(sound[: 2 * RATE])), Turns)
    networks = build_networks(adapter.DiariZen, options)
    assert networks is not None
    for stage, module in system.modules().items():
        assert shapes(module) == shapes(networks[stage].module)


def test_the_adapter_is_the_pipeline_with_the_folders_settings(
    build: Build, folder: Path, embedding: Path, as_audio: AsAudio, sound: NDArray[np.float32]
) -> None:
    state = read_state(folder / "pytorch_model.bin")
    network = load_diarizen(small("base"), state, folder, SMALL)
    direct = EendVc(
        eend_stage(network, float(WINDOW)).model,
        embedding_stage("wespeaker", embedding).model,
        replace(RECIPES["diarizen-s80"], window=2.0, hop=0.5),
        plda=folder / "plda",
    )
    turns = build().diarize(as_audio(sound))
    assert turns == direct.diarize(sound, RATE)
    assert len(turns.labels) > 1


def test_embeddings_are_those_of_pyannotes_own_network(embedding: Path, sound: NDArray[np.float32]) -> None:
    from pyannote.audio import Model

    ours, theirs = embedding_stage("wespeaker", embedding).model, Model.from_pretrained(embedding).eval()
    waveforms = torch.from_numpy(sound[: 2 * RATE].reshape(2, 1, -1))
    weights = torch.rand(2, 4, 99).round()
    with torch.inference_mode():
        frames = theirs.forward_frames(waveforms)
        torch.testing.assert_close(ours.forward_frames(waveforms), frames, rtol=0, atol=0)
        expected = theirs.forward_embedding(frames, weights)
        torch.testing.assert_close(ours.forward_embedding(frames, weights), expected, rtol=0, atol=0)
        torch.testing.assert_close(ours(waveforms), theirs(waveforms), rtol=0, atol=0)


def test_all_calls_are_seen_and_counted(
    build: Build, adapter: ModuleType, as_audio: AsAudio, sound: NDArray[np.float32]
) -> None:
    system = build()
    networks = build_networks(adapter.DiariZen, {"structure": "wavlm_base_s80_md", "window": WINDOW})
    assert networks is not None
    modules = system.modules()
    recorder = CallRecorder(modules)
    with recorder.recording() as calls:
        system.diarize(as_audio(sound))
    assert calls.problems == {}
    found = PipelineCounter(modules, None).count(calls)
    assert found.problem is None
    # 5 s in windows of 2 s, one each 0.5 s: 7. The embedding network sees those in which anybody speaks, for silent
    # slots one more, and short noises, by which pyannote.audio finds the least that it takes.
    windows = sum(times * arguments[0].shape[0] for (arguments, _), times in calls.counts["segmentation"].items())
    assert windows == 7
    whole = macs_of(networks["embedding"], WINDOW).total
    counted = PipelineCounter({"embedding": modules["embedding"]}, {"embedding": networks["embedding"]}).count(
        replace(calls, counts={"embedding": calls.counts["embedding"]})
    )
    assert counted.total is not None
    assert windows - 1 < counted.total / whole < windows + 2


def test_rules_and_clustering_can_be_chosen(build: Build) -> None:
    def built(**options: Any) -> Any:
        return build(hop=None, **options)._system.pipeline.recipe

    recipe = built()
    assert (recipe.rules, recipe.clustering, recipe.window, recipe.hop) == (DIARIZEN, Vbx(), 2.0, 0.2)
    recipe = built(mode="stock", clustering="pyannote-3.1", window=4)
    assert (recipe.rules, recipe.clustering) == (STOCK, RECIPES["pyannote-3.1"].clustering)
    assert (recipe.window, recipe.hop) == (4, pytest.approx(0.4))
    assert built(recipe="diarizen-meeting").max_speakers == 8


def test_what_is_not_chosen_is_as_published() -> None:
    published = RECIPES["diarizen-s80"]
    assert Choices().recipe(published) == published
    assert Choices(mode="diarizen").recipe(RECIPES["pyannote-3.1"]).rules == DIARIZEN
    ahc = {"method": "ahc", "threshold": 0.9, "min_cluster_size": 2, "linkage": "average"}
    assert Choices(clustering=ahc).recipe(published).clustering == Ahc(0.9, 2, "average")
    assert Choices(clustering={"method": "vbx", "fb": 2.0}).recipe(published).clustering == Vbx(fb=2.0)
    chosen = Choices(window=4.0).recipe(replace(published, hop=4.0))  # a quarter of the window, and so it stays
    assert (chosen.window, chosen.hop) == (4.0, 1.0)
    assert Choices(window=4.0, hop=2.0).recipe(published).hop == 2.0
    assert Choices(hop=2.0).recipe(published).window == 16.0


def test_a_number_of_speakers_is_heeded(build: Build, as_audio: AsAudio, sound: NDArray[np.float32]) -> None:
    found = {number: len(build(mode="stock", speakers=number).diarize(as_audio(sound)).labels) for number in (1, 2)}
    assert found == {1: 1, 2: 2}


def test_ge2e_in_place_of_wespeaker(
    adapter: ModuleType, folder: Path, weights: dict[str, Path], as_audio: AsAudio, speech: NDArray[np.float32]
) -> None:
    chosen = {"segmentation": folder, "embedding": weights["embedding"]}
    ahc = {"method": "ahc", "threshold": 0.7, "min_cluster_size": 2}
    system = adapter.DiariZen(weights=chosen, embedding="ge2e", clustering=ahc)
    recorder = CallRecorder(system.modules())
    with recorder.recording() as calls:
        system.diarize(as_audio(speech[: 6 * RATE]))
    options = {"structure": "wavlm_base_s80_md", "embedding": "ge2e"}
    networks = build_networks(adapter.DiariZen, options)
    assert networks is not None
    counted = PipelineCounter({"embedding": system.modules()["embedding"]}, {"embedding": networks["embedding"]}).count(
        replace(calls, counts={"embedding": calls.counts["embedding"]})
    )
    assert counted.problem is None
    for clustering in (None, "diarizen-s80"):
        with pytest.raises(DiarbenchError, match=r"GE2E's embeddings.*threshold of your own"):
            adapter.DiariZen(weights=chosen, embedding="ge2e", clustering=clustering)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "fast"}, "no mode 'fast'; known: diarizen, stock"),
        ({"recipe": "diarizen"}, "no recipe 'diarizen'; did you mean"),
        ({"clustering": {"method": "kmeans"}}, "method is 'kmeans', not ahc or vbx"),
        ({"clustering": {"method": "vbx", "fs": 1}}, "vbx has no setting 'fs'; known: fa, fb"),
        ({"clustering": {"method": "ahc"}}, "clustering: .*threshold"),
        ({"clustering": {"method": "ahc", "threshold": 3.0, "min_cluster_size": 1}}, "above 0 to 2; got 3"),
        ({"window": -1}, "a window is longer than 0 s"),
        ({"window": 1, "hop": 2}, "a hop of 2 s leaves gaps"),
        ({"embedding": "ecapa"}, "no embedding 'ecapa'; known: ge2e, wespeaker"),
        ({"speakers": 2}, 'heeds no number of speakers: with one, say mode = "stock"'),
        ({"structure": "wavlm_base_s80_md"}, "another structure than wavlm_base_s80_md, which the card says"),
        ({"structure": "wavlm_bse"}, "no WavLM structure is named wavlm_bse; did you mean"),
        ({"overlap": 4}, "its classes are of 2 speakers at once, the card says 4"),
        ({"precision": "fp8"}, "no precision 'fp8'"),
    ],
    ids=str,
)
def test_options_that_can_not_be(build: Build, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DiarbenchError, match=message) as caught:
        build(**options)
    assert "\n" not in str(caught.value)


def substituted(old: str, new: str) -> Callable[[Path], None]:
    """What changes a line of config.toml."""

    def change(folder: Path) -> None:
        path = folder / "config.toml"
        text, count = re.subn(old, new, path.read_text())
        assert count
        path.write_text(text)

    return change


def resaved(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """What changes the weights."""

    def spoil(folder: Path) -> None:
        state = torch.load(folder / "pytorch_model.bin", weights_only=True)
        change(state)
        torch.save(state, folder / "pytorch_model.bin")

    return spoil


class Stranger:
    """An object that no file of weights should hold."""


def flip_a_byte(folder: Path) -> None:
    path = folder / "pytorch_model.bin"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(folder: Path) -> None:
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.toml").unlink(), "config.toml: can't be read.*No such file"),
        (substituted(r"\[model\]", "[model"), "config.toml: not valid TOML"),
        (substituted(r"model_wavlm_conformer\.", "model_fbank_conformer."), "model_fbank_conformer.*only .*wavlm"),
        (
            substituted("attention_in = 16", "atention_in = 16"),
            r"\[model.args\]: unknown key atention_in; did you mean",
        ),
        (substituted("attention_in = 16", 'attention_in = "16"'), "attention_in is no whole number, but '16'"),
        (substituted("attention_in = 16", "attention_in = 17"), "17 units can't be shared by 2 heads"),
        (substituted("use_posi = false", "use_posi = true"), "use_posi is True; only False can be run"),
        (substituted("wavlm_layer_num = 4", "wavlm_layer_num = 13"), "wavlm_layer_num is 13, but of structure.json"),
        (substituted("max_iters = 20", "max_iters = 40"), "max_iters is 40; only 20"),
        (substituted("VBxClustering", "KMeansClustering"), "method is 'KMeansClustering'"),
        (substituted("ahc_threshold = 0.6\n", ""), "ahc_threshold is missing"),
        (substituted("Fb = 0.8", "FB = 0.8"), r"\[clustering.args\]: unknown key FB"),
        (substituted("ahc_threshold = 0.6", "ahc_threshold = 6"), "above 0 to 2; got 6"),
        (substituted("seg_duration = 2\n", ""), "seg_duration is missing"),
        (substituted("median_filtering = true", "median_filtering = 1"), "apply_median_filtering is true or false"),
        (substituted(r"\[clustering", "[clustring"), r"no table \[clustering\]"),
        (lambda folder: (folder / "structure.json").unlink(), "named my/wavlm.bin.*put its structure.json beside"),
        (lambda folder: (folder / "structure.json").write_text("{"), "structure.json: no JSON"),
        (lambda folder: shutil.rmtree(folder / "plda"), "VBx clustering needs a PLDA model"),
        (lambda folder: (folder / "plda" / "plda.npz").write_bytes(b"no"), "no PLDA model"),
        (lambda folder: (folder / "pytorch_model.bin").unlink(), "pytorch_model.bin: no such weight file"),
        (resaved(lambda state: state.pop("proj.weight")), "missing proj.weight"),
        (resaved(lambda state: state.update(more=torch.zeros(1))), "unexpected more"),
        (resaved(lambda state: state.update({"proj.bias": torch.zeros(3)})), r"proj.bias is \(3,\) instead of \(16,\)"),
        (resaved(lambda state: state.update(more=Stranger())), "Stranger, which is no weights"),
        (flip_a_byte, "damaged"),
        (cut_short, "damaged"),
    ],
)
def test_spoilt_folders_give_one_line(
    adapter: ModuleType, copy: Path, embedding: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(copy)
    with pytest.raises(DiarbenchError, match=message) as caught:
        adapter.DiariZen(weights={"segmentation": copy, "embedding": embedding})
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value) or "VBx" in str(caught.value)


def test_an_old_config_needs_a_recipe(adapter: ModuleType, copy: Path, embedding: Path) -> None:
    text = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(text[text.index("[model]") :])
    chosen = {"segmentation": copy, "embedding": embedding}
    with pytest.raises(DiarbenchError, match=r"config.toml is an old one.*say recipe"):
        adapter.DiariZen(weights=chosen)
    assert adapter.DiariZen(weights=chosen, recipe="diarizen-meeting")._system.pipeline.window == 8.0


def test_what_the_folder_leaves_out_is_as_in_diarizens_code(copy: Path) -> None:
    substituted("apply_median_filtering = true\n", "")(copy)
    substituted("segmentation_step = 0.1", "segmentation_step = 0.25")(copy)
    found = read_diarizen(copy)
    assert (found.shape, found.recipe.hop) == (SMALL, 0.5)
    substituted("Fb = 0.8", "Fb = 0.8\nmin_cluster_size = 30")(copy)  # the other method's
    substituted(r"\[inference.args\]", "[inference.args]\napply_median_filtering = false")(copy)
    assert read_diarizen(copy).recipe.rules == replace(DIARIZEN, median_frames=1)


@pytest.mark.slow
def test_a_card_finds_its_weights_in_a_folder_and_runs(
    cards: Any, folder: Path, embedding: Path, tmp_path: Path
) -> None:
    """Through the door that users take: a process of its own, weights by --weights DIR, ten seconds of audio."""
    repositories = tmp_path / "weights"
    shutil.copytree(folder, repositories / "diarizen-wavlm-base-s80-md")
    (repositories / "wespeaker-voxceleb-resnet34-LM").mkdir()
    shutil.copy(embedding, repositories / "wespeaker-voxceleb-resnet34-LM" / "pytorch_model.bin")
    text = (FOLDER / "diarizen-wavlm-base-s80-md.toml").read_text().split("[options]")[0]
    text = text.replace("./adapter.py", str(FOLDER / "adapter.py"))
    cards.system("mine/mine", text.replace('"config.toml", ', '"config.toml", "structure.json", '))
    (check,) = check_card(Registry((cards.path,)), "mine", run=True, weights=repositories)
    assert check.problem is None
    assert "turns of" in check.summary
    assert any("CC BY-NC 4.0" in note for note in check.notes)
