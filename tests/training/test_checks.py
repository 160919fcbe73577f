"""What can't work is found out before anything is trained, and it is said of which stage."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from diarbench.errors import InputError
from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import Eend
from diarbench.nn.fbank import FbankEend
from diarbench.nn.ge2e import Ge2eEncoder
from diarbench.nn.pyannet import PyanNet, PyanNetShape
from diarbench.nn.wavlm import WavLM
from diarbench.training.begin import Model
from diarbench.training.checks import check_recipe
from diarbench.training.losses import PowersetLoss
from diarbench.training.recipes import Recipe
from tests.training.small_data import HEAD, STRUCTURE, load, make_data

TRAIN = {"kind": "train", "steps": 2}
PRUNE = {"kind": "prune", "sparsity": 0.5, "steps": 2}
DISTIL = {"kind": "distil", "steps": 2}
IMITATE = {"kind": "imitate", "steps": 2}
UNITS = {"kind": "magnitude", "units": "hidden", "sparsity": 0.5, "steps": 0}
SEPARATE = {"kind": "prune", "steps": 2, "cnn_sparsity": 0.0, "transformer_sparsity": 0.4}

AHC = {"method": "ahc", "threshold": 0.7, "min_cluster_size": 2}
OPTIONS = {"recipe": "diarizen-meeting", "embedding": "ge2e", "clustering": AHC}


def quantize(**more):
    return {"kind": "quantize", "mode": "w8a8-dynamic", **more}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load(make_data(tmp_path_factory.mktemp("checks"), "tones", recordings=1, seconds=6.0))


def network(kind):
    torch.manual_seed(0)
    if kind == "wavlm":
        return Eend(STRUCTURE, HeadShape(**HEAD))
    if kind == "crowd":
        return FbankEend(HeadShape(**HEAD, speakers=8))
    if kind == "pyannet":
        return PyanNet(PyanNetShape(lstm=(8,), linear=()))
    return Ge2eEncoder((6, 5, 4))


def check(
    dataset,
    kind,
    stages,
    *,
    teacher=None,
    window=2.0,
    adapter=None,
    options=None,
    development=None,
    embedding={"path": "ge2e.pt"},  # noqa: B006
    **card,
):
    adapter = adapter or ("some.where:System" if kind == "ge2e" else None)
    options = {**({} if kind == "ge2e" else OPTIONS), **(options or {})}
    recipe = Recipe.model_validate(
        {
            "title": "x",
            "start": {"system": "x"},
            "data": {"train": ["tones"], "development": ["tones"], "shift": 1.0},
            "stages": stages,
            "card": {"title": "x", "adapter": adapter, "options": options, "embedding": embedding, **card},
        }
    )
    model = Model(network(kind), window)
    check_recipe(
        recipe, model, teacher, train=[dataset], development=[development or dataset], recipe_folder=Path("nowhere")
    )


def skip_without_torchao(stages):
    if any(stage["kind"] == "quantize" for stage in stages):
        pytest.importorskip("torchao", reason="quantizing needs torchao")


GOOD = {
    "all": ("wavlm", [TRAIN, PRUNE, DISTIL, TRAIN, quantize(steps=2)]),
    "rising": ("wavlm", [{**PRUNE, "sparsity": 0.3}, PRUNE, {**PRUNE, "sparsity": 0.3, "measure": "macs"}]),
    "separate": ("wavlm", [SEPARATE, {**SEPARATE, "transformer_sparsity": 0.5}]),
    "longer": ("wavlm", [{**TRAIN, "window": 6.0}]),
    "eight, not trained": ("crowd", [quantize()]),
    "units": ("ge2e", [UNITS, {**UNITS, "units": "weights", "heard": 2}, IMITATE]),
    "short, not read": ("ge2e", [{**UNITS, "window": 1.0}, {**IMITATE, "window": 2.0}]),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_can_work(dataset, name):
    skip_without_torchao(GOOD[name][1])
    check(dataset, *GOOD[name])


WRONG = {
    "too much, later": ("wavlm", [TRAIN, {**PRUNE, "sparsity": 0.99}], r"stages\.2 .*can't be removed"),
    "without gates": ("wavlm", [{**PRUNE, "gates": ["heads"], "sparsity": 0.8}], r"stages\.1 .*gates on heads alone"),
    "coarse": (
        "wavlm",
        [TRAIN, {**PRUNE, "gates": ["feed_forward_layers"], "sparsity": 0.2}],
        r"stages\.2 .*feed_forward_layers are too coarse",
    ),
    "falling": ("wavlm", [PRUNE, {**PRUNE, "sparsity": 0.4}], r"stages\.2 .*removed 50\.00% already"),
    "level": ("wavlm", [PRUNE, PRUNE], r"stages\.2 .*removed 50\.00% already"),
    "mode": ("wavlm", [TRAIN, quantize(mode="w9")], r"stages\.2 .*w9"),
    "skip": ("wavlm", [TRAIN, quantize(skip=["nothing"])], r"stages\.2 .*names no module"),
    "skip, of what is pruned": (
        "wavlm",
        [PRUNE, quantize(skip=["wavlm.encoder.*", "wavlm.encodr.*"])],
        r"stages\.2 .*'wavlm\.encodr\.\*' names no module of Eend",
    ),
    "halves": ("wavlm", [quantize(mode="bf16", steps=3)], "needs no training"),
    "layers": ("wavlm", [PRUNE, {**DISTIL, "layers": [0, 9]}], r"stages\.2 .*layer 9, the last one is 3"),
    "layers twice": ("wavlm", [{**PRUNE, "layers": [1, 1]}], "each once"),
    "own teacher": ("wavlm", [TRAIN, DISTIL], r"stages\.2 .*the very network"),
    "long windows": ("wavlm", [TRAIN, {**TRAIN, "window": 7.0}], r"stages\.2 .*no scoring region of 7 s"),
    "tiny windows": ("wavlm", [{**TRAIN, "window": 0.02}], "hold no frame"),
    "overlap": ("wavlm", [{**TRAIN, "overlap": 9}], r"stages\.1 .*9"),
    "overlap of PyanNet": ("pyannet", [{**TRAIN, "overlap": 3}], "not for PyanNet"),
    "linear": ("pyannet", [{**UNITS, "units": "linear"}], "no linear layers"),
    "eight": ("crowd", [TRAIN], "8.*40,320 of them.*7 speakers"),
    "eight, rounded": ("crowd", [quantize(steps=2)], "40,320"),
    "states of mels": ("crowd", [PRUNE], "only a WavLM"),
    "short": ("ge2e", [{**IMITATE, "window": 1.5}], r"stages\.1 .*1\.6 s"),
    "short, heard": ("ge2e", [{**UNITS, "window": 1.5, "heard": 3}], r"1\.6 s"),
    "short, calibrated": ("ge2e", [quantize(window=1.5)], r"1\.6 s"),
    "short, inherited": ("ge2e", [{**UNITS, "window": 1.5}, IMITATE], r"stages\.2 .*1\.6 s"),
    "labels": ("ge2e", [TRAIN], "can't learn to diarize"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cant_work(dataset, name):
    kind, stages, said = WRONG[name]
    skip_without_torchao(stages)
    with pytest.raises(InputError, match=said):
        check(dataset, kind, stages)


def test_what_follows_from_the_network_is_no_option(dataset):
    check(dataset, "ge2e", [IMITATE], options={"window": 1.6})
    for kind, key in (("wavlm", "window"), ("wavlm", "quantization"), ("ge2e", "units")):
        with pytest.raises(InputError, match=f"{key} follows from the network"):
            check(dataset, kind, [IMITATE if kind == "ge2e" else TRAIN], options={key: 1})


UNFIT = {
    "misspelt": ({"clusterin": AHC}, "unexpected keyword argument 'clusterin'; did you mean clustering?"),
    "of another type": ({"hop": "2"}, "hop should be a number, found '2'"),
    "settings": ({"clustering": {**AHC, "treshold": 0.7}}, "no setting 'treshold'; did you mean threshold?"),
    "recipe": ({"recipe": "diarizen-meting"}, "no recipe 'diarizen-meting'; did you mean diarizen-meeting"),
    "embedding": ({"embedding": "ge3e"}, "no embedding 'ge3e'; did you mean ge2e"),
    "mode": ({"mode": "stok"}, "no mode 'stok'; did you mean stock"),
    "clustering of others": ({"embedding": "wespeaker", "clustering": "diarizen-s80"}, r"add \[card\.plda\]"),
}


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.parametrize("kind", ["wavlm", "pyannet"])
def test_options_that_the_system_would_not_take(dataset, kind, name):
    pytest.importorskip("pyannote.audio", reason="the pipeline is pyannote.audio's")
    options, said = UNFIT[name]
    check(dataset, kind, [TRAIN])
    with pytest.raises(InputError, match=rf"\[card\]: .*{said}"):
        check(dataset, kind, [TRAIN], options=options)


def test_weights_that_the_system_would_lack(dataset):
    pytest.importorskip("pyannote.audio", reason="the pipeline is pyannote.audio's")
    with pytest.raises(InputError, match=r"\[card\]: .*embeds .*add \[card\.embedding\]"):
        check(dataset, "wavlm", [TRAIN], embedding=None)


ADAPTER = """
class System:
    def __init__(self, *, weights, units, window: float = 1.6): ...

    def diarize(self, audio): ...
"""


def test_an_adapter_of_ones_own_is_held_against_the_options_too(dataset, tmp_path):
    (tmp_path / "adapter.py").write_text(ADAPTER)
    (tmp_path / "needy.py").write_text("import what_is_not_here\n" + ADAPTER)
    (tmp_path / "wrong.py").write_text("import diarbench.what_is_not_here\n" + ADAPTER)
    made = partial(check, dataset, "ge2e", [IMITATE])
    made(adapter=f"{tmp_path}/adapter.py:System", options={"window": 2})
    made(adapter=f"{tmp_path}/needy.py:System", options={"windw": 2})
    for file, stages, options, said in (
        ("adapter.py:System", [IMITATE], {"windw": 2}, "'windw'; did you mean window"),
        ("adapter.py:System", [IMITATE], {"window": "2"}, "window should be a number"),
        ("adapter.py:System", [IMITATE, quantize(mode="bf16")], {}, "'quantization'"),
        ("adapter.py:Sistem", [IMITATE], {}, "no class 'Sistem'"),
        ("wrong.py:System", [IMITATE], {}, "diarbench.what_is_not_here"),
    ):
        with pytest.raises(InputError, match=rf"\[card\]: .*{said}"):
            check(dataset, "ge2e", stages, adapter=f"{tmp_path}/{file}", options=options)


def test_a_teacher_is_another_network_of_that_width(dataset):
    with torch.device("meta"):
        narrow = WavLM(replace(STRUCTURE, width=8, position_groups=2))
        shallow = WavLM(replace(STRUCTURE, heads=((0,),), feed_forward=(4,)))
    for teacher in (narrow, shallow):
        for stage in (PRUNE, DISTIL):
            with pytest.raises(InputError, match=r"stages\.1 .*as many layers as its teacher"):
                check(dataset, "wavlm", [stage], teacher=teacher)
    same = network("wavlm").wavlm
    with pytest.raises(InputError, match="the very network"):
        check(dataset, "wavlm", [DISTIL], teacher=same)
    other = copy.deepcopy(same)
    with torch.no_grad():
        other.encoder.norm.weight.mul_(2)
    check(dataset, "wavlm", [DISTIL], teacher=other)
    check(dataset, "wavlm", [TRAIN, DISTIL], teacher=same)


def test_development_data_may_be_too_short_too(dataset, tmp_path):
    short = load(make_data(tmp_path, "brief", recordings=1, seconds=3.0))
    with pytest.raises(InputError, match="brief"):
        check(dataset, "wavlm", [TRAIN], window=4.0, development=short)


def test_the_loss_itself_refuses_too_many_speakers():
    PowersetLoss(7, 1)
    with pytest.raises(InputError, match=r"362,880 of them"):
        PowersetLoss(9, 1)
