"""Recipes: lengths in steps and epochs, changes from the command line, and those that are shipped."""

from __future__ import annotations

import pytest
import torch

from diarbench.compress.objective import Target
from diarbench.errors import DiarbenchError, InputError
from diarbench.nn.conformer import HeadShape
from diarbench.nn.fbank import FbankEend
from diarbench.nn.structures import named_structure
from diarbench.registry import Registry, shipped
from diarbench.training.begin import band_passes, with_overlap
from diarbench.training.recipes import DistilStage, New, QuantizeStage, read_recipe
from tests.training.small_data import HEAD

PAPER = sorted((shipped() / "systems" / "diarizen" / "recipes").glob("*.toml"))


def test_epochs_are_steps_of_whole_batches():
    stage = DistilStage(kind="distil", epochs=1.5, batch=4, accumulate=2)
    assert stage.epoch(33) == 5
    assert stage.length(33) == 8
    assert DistilStage(kind="distil", steps=7).length(33) == 7
    for wrong in ({}, {"steps": 3, "epochs": 1.0}):
        with pytest.raises(ValueError, match="say how long"):
            DistilStage(kind="distil", **wrong)


def test_changes_of_a_recipe():
    path = shipped() / "systems" / "diarizen" / "recipes" / "wavlm-base-plus-80.toml"
    changed = read_recipe(
        path, ["stages.2.sparsity=0.9", 'stages.2.measure = "macs"', "data.window=12", 'data.train=["ami-array-train"]']
    )
    assert changed.stages[1].sparsity == 0.9
    assert changed.stages[1].measure == "macs"
    assert changed.data.window == 12
    assert changed.data.train == ["ami-array-train"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("stages.2.sparsity", "KEY=VALUE"),
        ("stages.2.sparsity=nine", "no value in TOML"),
        ("stages.9.sparsity=0.9", "no '9'"),
        ("stages.2.sparsety=0.9", "sparsety"),
        ("stages.2.sparsity=9.0", "stages.2.sparsity: "),
        ("stages.0.rate=0.5", "no '0'"),
        ("stages.-1.rate=0.5", "no '-1'"),
        ('stages.2.kind="quantize"', "stages.2.mode: "),
        ("title.more.still=1", "title"),
        ("=1", "KEY=VALUE"),
    ],
)
def test_changes_that_cant_be(change, said):
    path = shipped() / "systems" / "diarizen" / "recipes" / "wavlm-base-plus-80.toml"
    with pytest.raises(InputError, match="--set") as caught:
        read_recipe(path, [change])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", PAPER, ids=[path.stem for path in PAPER])
def test_recipes_of_the_paper_name_data_systems_and_targets_that_are_there(path):
    made = read_recipe(path)
    registry = Registry((shipped(),))
    assert {*made.data.train, *made.data.development} <= registry.datasets.keys()
    assert made.start.pretrained is not None
    assert made.card.baseline in registry.systems
    structure = named_structure(made.start.pretrained.structure)
    for stage in made.stages:
        if stage.kind == "prune":
            target = Target(stage.sparsity, stage.cnn_sparsity, stage.transformer_sparsity, stage.measure)
            assert target.sizes(structure)
            assert (stage.rate, stage.gate_rate, stage.multiplier_rate) == (2e-4, 2e-2, 2e-2)
        elif stage.kind == "train":
            assert (stage.rate, stage.encoder_rate) == (1e-3, 2e-5)
        assert stage.accumulate * stage.batch in (32, 64)


def test_quantizing_takes_steps_or_epochs_or_nothing():
    assert not QuantizeStage(kind="quantize", mode="w8").trains
    assert not QuantizeStage(kind="quantize", mode="w8", steps=0).trains
    stage = QuantizeStage(kind="quantize", mode="w8", epochs=2, batch=4)
    assert stage.trains
    assert stage.length(10) == 6
    with pytest.raises(ValueError, match="say how long"):
        QuantizeStage(kind="quantize", mode="w8", epochs=2, steps=2)


@pytest.mark.parametrize("wrong", [{"structure": "wavlm-base-plus"}, {"filters": "mel"}])
@pytest.mark.parametrize("front_end", ["pyannet", "fbank"])
def test_what_is_a_wavlms_is_for_a_wavlm(front_end, wrong):
    New(front_end=front_end)
    with pytest.raises(ValueError, match=f"a WavLM's.*{front_end}"):
        New(front_end=front_end, **wrong)


def test_a_new_classifier_leaves_dropout_as_it_is():
    wider = with_overlap(FbankEend(HeadShape(**HEAD), dropout=0.3), 3, 0.3)
    assert {module.p for module in wider.modules() if isinstance(module, torch.nn.Dropout)} == {0.3}


def test_a_file_is_told_of_as_changes_are(tmp_path):
    path = tmp_path / "x.toml"
    text = 'title = "x"\n[start]\nsystem = "y"\n[data]\ntrain = ["a"]\ndevelopment = ["b"]\n[card]\ntitle = "x"\n'
    stage = '[[stages]]\nkind = "train"\nsteps = 3\n'
    path.write_text(text + stage + stage + "rate = -1.0\n")
    with pytest.raises(DiarbenchError, match=r"x\.toml.*'stages\.2\.rate'"):
        read_recipe(path)


def test_a_quantized_network_is_stored_as_its_mode_says(tmp_path):
    path = tmp_path / "x.toml"
    text = 'title = "x"\n[start]\nsystem = "y"\n[data]\ntrain = ["a"]\ndevelopment = ["b"]\n'
    text += '[card]\ntitle = "x"\nstore = "fp16"\n[[stages]]\nkind = "train"\nsteps = 3\n'
    path.write_text(text)
    assert read_recipe(path).card.store == "fp16"
    assert read_recipe(path, ['card.store="fp32"']).card.store == "fp32"
    path.write_text(text + '[[stages]]\nkind = "quantize"\nmode = "w8"\n')
    with pytest.raises(DiarbenchError, match=r"x\.toml.*\[card\] store: .*leave it out") as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(DiarbenchError, match="store"):
        read_recipe(path, ['stages.2.mode="bf16"'])


def test_pairs_of_band_passes():
    filters = band_passes(8, 400)
    assert filters.shape == (8, 400)
    assert torch.allclose(filters.norm(dim=1), torch.ones(8))
    peaks = torch.fft.rfft(filters, n=16000).abs().argmax(dim=1)
    assert (peaks[0::2] - peaks[1::2]).abs().max() <= 20, "a cosine and a sine of one frequency, Hz"
    assert abs(int(peaks[-2]) - 7600) <= 5
    assert (peaks[0:-2:2] < peaks[2::2]).all()


def test_a_recipe_that_is_none(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("title = 1\n")
    with pytest.raises(DiarbenchError, match=r"x\.toml"):
        read_recipe(path)
