"""Recipes from beginning to card: through the command line, as users do it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
import tomli_w
import torch

from diarbench.cli import main
from diarbench.compress.sizes import exact_size
from diarbench.compress.surgery import Kept
from diarbench.files import read_json
from diarbench.nn.eend_folder import load_eend
from diarbench.registry import shipped
from diarbench.training import stages
from diarbench.training.begin import trainable
from diarbench.training.recipes import read_recipe
from diarbench.training.windows import Windows
from tests.training.small_data import HEAD, STRUCTURE, make_data

COMMON = {"steps": 6, "batch": 2, "validate_every": 3}
TRAIN = {"kind": "train", "rate": 1e-3, "encoder_rate": 1e-3, "average": 2, **COMMON}
PRUNE = {"kind": "prune", "sparsity": 0.5, "target_warm_up": 0.4, **COMMON}
DISTIL = {"kind": "distil", "average": 1, **COMMON}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with data, and a system "start" to begin with."""
    root = tmp_path_factory.mktemp("lab")
    make_data(root, "tones-train", seed=1)
    make_data(root, "tones-development", recordings=2, seed=2)
    recipe(root, "start", [TRAIN], start={"new": {"structure": "small.json", "head": HEAD}})
    (root / "small.json").write_text(STRUCTURE.to_json())
    assert compress(root, "start").returncode == 0
    return root


def recipe(root, name, steps, start=None, **card):
    table = {
        "title": f"A recipe called {name}",
        "start": start or {"system": "start"},
        "data": {
            "train": ["tones-train"],
            "development": ["tones-development"],
            "window": 2.0,
            "shift": 1.0,
            "development_shift": 2.0,
        },
        "stages": steps,
        "card": {
            "title": name,
            "licence": "none",
            "options": {"recipe": "diarizen-meeting", "mode": "stock", "embedding": "ge2e",
                        "clustering": {"method": "ahc", "threshold": 0.7, "min_cluster_size": 2}},
            "embedding": {"path": "ge2e.pt"},
            **card,
        },
    }  # fmt: skip
    path = root / f"{name}.toml"
    path.write_text(tomli_w.dumps(table))
    return path


def command(root, name, *more):
    out = root / "systems" / "made"
    words = {"--recipe": root / f"{name}.toml", "--out": out, "--work": root / "training", "--cards": root}
    options = [str(word) for pair in words.items() for word in pair]
    return [sys.executable, "-m", "diarbench", "compress", *options, "--threads", "1", "--device", "cpu", *more]


class Done(NamedTuple):
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def compress(root, name, *more):
    return diarbench(*command(root, name, *more)[3:])


def diarbench(*words):
    """The command line, in this process: importing torch takes longer than all that is trained here."""
    out, err = io.StringIO(), io.StringIO()
    before, code = list(sys.argv), 0
    sys.argv = ["diarbench", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = before
    return Done(code, out.getvalue(), err.getvalue())


def state(root, name):
    return load_eend(root / "systems" / "made" / "weights" / name).network.state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_pruned_distilled_and_trained_again(lab):
    recipe(lab, "half", [PRUNE, DISTIL, TRAIN])
    done = compress(lab, "half")
    assert done.returncode == 0, done.stderr
    assert "half.toml" in done.stdout
    folder = lab / "systems" / "made" / "weights" / "half"
    found = load_eend(folder)
    full, now = exact_size(STRUCTURE, "parameters"), exact_size(found.structure, "parameters")
    assert 0.495 < now.total / full.total < 0.5001
    kept = Kept.from_json((folder / "kept.json").read_text())
    assert [len(row) for row in kept.feed_forward] == list(found.structure.feed_forward)
    done_in = found.training["stages"]
    assert [stage["kind"] for stage in done_in] == ["train", "prune", "distil", "train"]
    assert done_in[1]["reached"]["parameters"]["all"] == pytest.approx(1 - now.total / full.total)
    card = tomllib.loads((lab / "systems" / "made" / "half.toml").read_text())
    assert card["compression"] == {"method": "params", "sparsity": 0.5, "stage": "segmentation"}
    assert card["trained_parts"] == ["tones/train"]
    assert card["options"]["structure"]["feed_forward"] == list(found.structure.feed_forward)
    assert "half" in (folder / "README.md").read_text()
    # The card is one of the registry, and its networks can be counted without its weights.
    counted = diarbench("count", "half", "--cards", str(lab), "--format", "json")
    assert counted.returncode == 0, counted.stderr
    assert str(sum(parameter.numel() for parameter in found.network.parameters())) in counted.stdout


def test_a_second_pruning_maps_back_to_the_first_network(lab):
    recipe(lab, "twice", [{**PRUNE, "sparsity": 0.3}, DISTIL, {**PRUNE, "sparsity": 0.6}])
    assert compress(lab, "twice").returncode == 0
    folder = lab / "systems" / "made" / "weights" / "twice"
    first = load_eend(lab / "training" / "twice" / "01-prune" / "result")
    found = load_eend(folder)
    full = exact_size(STRUCTURE, "parameters").total
    assert 0.69 < exact_size(first.structure, "parameters").total / full < 0.7001
    assert 0.39 < exact_size(found.structure, "parameters").total / full < 0.4001
    earlier = Kept.from_json((lab / "training" / "twice" / "01-prune" / "result" / "kept.json").read_text())
    kept = Kept.from_json((folder / "kept.json").read_text())
    for layer in range(STRUCTURE.layers):
        assert set(kept.feed_forward[layer]) <= set(earlier.feed_forward[layer])
        assert set(kept.heads[layer]) <= set(earlier.heads[layer])
        assert max(kept.feed_forward[layer], default=0) < 64


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("macs", {"measure": "macs"}),
        ("separate", {"sparsity": None, "cnn_sparsity": 0.4, "transformer_sparsity": 0.6}),
        ("task", {"objective": "task"}),
        ("both", {"objective": "both", "masks": "clamp", "start": "open"}),
    ],
)
def test_other_ways_to_prune(lab, name, stage):
    merged = {key: value for key, value in {**PRUNE, **stage}.items() if value is not None}
    recipe(lab, name, [merged])
    done = compress(lab, name)
    assert done.returncode == 0, done.stderr
    structure = load_eend(lab / "systems" / "made" / "weights" / name).structure
    measure = merged.get("measure", "parameters")
    full, now = exact_size(STRUCTURE, measure), exact_size(structure, measure)
    if name == "separate":
        assert 0.58 < now.cnn / full.cnn < 0.6001
        assert 0.396 < now.transformer / full.transformer < 0.4001
    else:
        assert 0.49 < now.total / full.total < 0.5001


def test_pyannet_loses_units_and_learns_in_between(lab):
    head = {"lstm": [8, 8], "linear": [6]}
    magnitude = {"kind": "magnitude", "units": "hidden", "sparsity": 0.5, "rounds": 2, "average": 0, **COMMON}
    start = {"new": {"front_end": "pyannet", "head": head}}
    recipe(lab, "units", [TRAIN, magnitude], start=start)
    done = compress(lab, "units")
    assert done.returncode == 0, done.stderr
    network = load_eend(lab / "systems" / "made" / "weights" / "units").network
    assert network.shape.lstm == (4, 4), "8, 6, 4: round(8 / 4) and then round(6 / 4) go"
    assert (lab / "training" / "units" / "02-magnitude" / "round-2" / "log.csv").is_file()


def test_later_rounds_go_on_in_the_data_where_the_one_before_stopped(lab, monkeypatch):
    firsts = []
    shuffled = Windows.shuffled

    def watched(windows, **settings):
        firsts.append(settings["first"])
        return shuffled(windows, **settings)

    monkeypatch.setattr(Windows, "shuffled", watched)
    rounds = {"kind": "magnitude", "units": "hidden", "sparsity": 0.5, "rounds": 3, "average": 0, **COMMON}
    start = {"new": {"front_end": "pyannet", "head": {"lstm": [8], "linear": [6]}}}
    recipe(lab, "rounds", [TRAIN, {**rounds, "steps": 2, "accumulate": 3}], start=start)
    done = compress(lab, "rounds")
    assert done.returncode == 0, done.stderr
    assert firsts == [0, 0, 6, 12], "batches: those of a stage begin anew, those of a round go on"
    said = read_json(lab / "training" / "rounds" / "02-magnitude" / "stage.json")["rounds"]
    assert len({part["development"]["loss"] for part in said}) == 3
    loss = f"| magnitude | 2 + 2 + 2 | 0.0 | {said[-1]['development']['loss']:.4f} |"
    assert loss in (lab / "systems" / "made" / "weights" / "rounds" / "README.md").read_text()


@pytest.mark.parametrize("steps", [0, 4])
def test_quantized_last(lab, steps):
    name = f"int8-{steps}"
    recipe(lab, name, [{"kind": "quantize", "mode": "w8a8-dynamic", "calibration": 2, "batch": 2, "steps": steps}])
    done = compress(lab, name)
    assert done.returncode == 0, done.stderr
    found = load_eend(lab / "systems" / "made" / "weights" / name)
    assert found.quantization is not None
    assert found.quantization.method == ("qat" if steps else "ptq")
    said = found.training["stages"][-1]
    assert said["bytes_quantized"] < said["bytes_float"]
    card = tomllib.loads((lab / "systems" / "made" / f"{name}.toml").read_text())
    assert card["options"]["quantization"] == "w8a8-dynamic"
    before = trainable(load_eend(lab / "systems" / "made" / "weights" / "start").network)
    whole = sum(parameter.numel() for parameter in before.parameters())
    readme = (lab / "systems" / "made" / "weights" / name / "README.md").read_text()
    assert f"- Parameters: {whole:,}\n" in readme, "as many as before, though torch calls codes no parameters"


def test_a_new_head_and_longer_windows(lab):
    recipe(lab, "wide", [{**TRAIN, "overlap": 4, "window": 4.0}])
    assert compress(lab, "wide").returncode == 0
    found = load_eend(lab / "systems" / "made" / "weights" / "wide")
    assert found.shape.overlap == 4
    assert found.window == 4.0


def test_the_same_again_and_killed_in_each_stage(lab):
    longer = [{**stage, "steps": 30} for stage in (TRAIN, PRUNE, DISTIL, TRAIN)]
    for name in ("whole", "killed"):
        recipe(lab, name, longer)
    with subprocess.Popen(command(lab, "whole"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as whole:
        folder = lab / "training" / "killed"
        for stage in ("01-train", "02-prune", "03-distil", "04-train"):
            with subprocess.Popen(
                command(lab, "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                log = folder / stage / "log.csv"
                deadline = time.monotonic() + 120
                while not (log.is_file() and log.read_text().count("\n") > 1):
                    assert process.poll() is None, f"it ended before {stage} began"
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                os.kill(process.pid, signal.SIGKILL)
            assert not (folder / stage / "stage.json").is_file()
        done = compress(lab, "killed")
        assert done.returncode == 0, done.stderr
    assert whole.returncode == 0
    assert same(state(lab, "killed"), state(lab, "whole"))
    assert not list(folder.rglob("*.part"))
    # What is done is kept: nothing is trained again.
    (lab / "systems" / "made" / "killed.toml").unlink()
    again = compress(lab, "killed")
    assert again.stderr.count("kept") == 4


def test_windows_are_carried_on_and_the_one_trained_last_is_published(lab):
    half = {"kind": "quantize", "mode": "bf16", "window": 1.5, "calibration": 1}
    recipe(lab, "carried", [{**PRUNE, "steps": 2, "window": 1.0}, {**DISTIL, "steps": 2}, half])
    done = compress(lab, "carried")
    assert done.returncode == 0, done.stderr
    assert load_eend(lab / "systems" / "made" / "weights" / "carried").window == 1.0
    recipe(lab, "from-halves", [DISTIL], start={"system": "carried"})
    done = compress(lab, "from-halves")
    assert done.returncode == 2, done.stderr
    assert "quantized already" in done.stderr


def test_dropout_is_there_while_rounding_is_learned(lab, monkeypatch):
    pytest.importorskip("torchao", reason="quantizing needs torchao")
    found = []
    prepare = stages.prepare

    def watched(network, mode):
        found.append({module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)})
        return prepare(network, mode)

    monkeypatch.setattr(stages, "prepare", watched)
    stage = {"kind": "quantize", "mode": "w8a8-dynamic", "calibration": 1, "batch": 1, "epochs": 0.01}
    recipe(lab, "rounded", [stage], start={"system": "start", "dropout": 0.25})
    done = compress(lab, "rounded", "--steps", "1", "--name", "rounded")
    assert done.returncode == 0, done.stderr
    assert found == [{0.25}]


def test_a_trial_stands_in_nobodys_way(lab):
    recipe(lab, "tried", [{**TRAIN, "steps": 2}])
    assert compress(lab, "tried", "--steps", "1").returncode == 0
    assert (lab / "systems" / "made" / "tried-steps-1.toml").is_file()
    assert not (lab / "training" / "tried").exists()
    done = compress(lab, "tried")
    assert done.returncode == 0, done.stderr
    assert read_json(lab / "training" / "tried" / "01-train" / "stage.json")["steps"] == 2


def test_another_teacher_is_another_training(lab):
    recipe(lab, "teacher", [{**TRAIN, "steps": 1}], start={"new": {"structure": "small.json", "head": HEAD}})
    recipe(lab, "pupil", [{**PRUNE, "steps": 2}], start={"system": "start", "teacher": "teacher"})
    assert compress(lab, "teacher", "-d", "tones-development").returncode == 0
    done = compress(lab, "pupil")
    assert done.returncode == 0, done.stderr
    card = lab / "systems" / "made" / "pupil.toml"
    parts = tomllib.loads(card.read_text())["trained_parts"]
    assert parts == ["tones/development", "tones/train"], "its teacher's too"
    for old in (card, lab / "systems" / "made" / "teacher.toml"):
        old.unlink()
    shutil.rmtree(lab / "training" / "teacher")
    assert compress(lab, "teacher", "--set", "seed=1").returncode == 0
    done = compress(lab, "pupil")
    assert done.returncode == 2
    assert "the weights it begins with" in done.stderr


def test_development_data_in_which_nobody_speaks(lab):
    make_data(lab, "silent", recordings=1, seed=3)
    turn = "SPEAKER silent0 1 5.9950 0.0010 <NA> <NA> a <NA> <NA>\n"
    (lab / "data" / "silent" / "reference.rttm").write_text(turn)
    recipe(lab, "unheard", [{**TRAIN, "steps": 1}])
    done = compress(lab, "unheard", "--set", 'data.development=["silent"]')
    assert done.returncode == 0, done.stderr
    said = load_eend(lab / "systems" / "made" / "weights" / "unheard").training["stages"][-1]
    assert set(said["development"]) == {"loss"}
    assert "local error is" not in (lab / "systems" / "made" / "weights" / "unheard" / "README.md").read_text()


def test_words_that_cant_be_meant(lab):
    recipe(lab, "words", [TRAIN])
    file = lab / "small.json"
    for more, said in (
        (("--name", "a/b"), "--name a/b"),
        (("-s", "eend-mini-params-80*"), "training begins with one system"),
        (("--out", str(file)), "is a file where a folder"),
    ):
        done = compress(lab, "words", *more)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert not (lab / "training" / "words").exists()


def test_begun_with_a_system_and_data_named_on_the_command_line(lab):
    start = {"new": {"structure": "small.json", "head": HEAD}}
    recipe(lab, "other", [TRAIN], start=start, trained_on=["what only the recipe knows"])
    done = compress(lab, "other", "-s", "start", "-d", "tones-development", "--steps", "2", "--name", "renamed")
    assert done.returncode == 0, done.stderr
    training = load_eend(lab / "systems" / "made" / "weights" / "renamed").training
    assert training["data"] == ["tones-development"]
    card = tomllib.loads((lab / "systems" / "made" / "renamed.toml").read_text())
    assert card["trained_on"] == ["tones-development"]
    assert [stage["steps"] for stage in training["stages"]] == [6, 2]


def card(**options):
    return {"card": {"title": "x", "options": options, "embedding": {"path": "ge2e.pt"}}}


WRONG = {
    "misspelt-option": (card(recipe="diarizen-meeting", embeding="ge2e"), "did you mean embedding"),
    "no-such-key": ({"stagess": 1}, "stagess"),
    "too-much": ({"stages": [{**PRUNE, "sparsity": 0.999}]}, "can't be removed"),
    "too-much-later": ({"stages": [TRAIN, {**PRUNE, "sparsity": 0.999}]}, "stages.2"),
    "two-targets": ({"stages": [{**PRUNE, "cnn_sparsity": 0.5}]}, "cnn_sparsity"),
    "quantized-first": (
        {"stages": [{"kind": "quantize", "mode": "w8"}, TRAIN]},
        "comes last",
    ),
    "unknown-mode": ({"stages": [{"kind": "quantize", "mode": "w9"}]}, "w9"),
    "unknown-system": ({"start": {"system": "strat"}}, "start"),
    "unknown-data": ({"data": {"train": ["tones-trai"], "development": ["tones-development"]}}, "tones-train"),
    "two-starts": ({"start": {"system": "start", "new": {"structure": "small.json"}}}, "say where training begins"),
    "no-structure": ({"start": {"new": {"structure": "none.json"}}}, "none.json"),
    "magnitude-of-wavlm": (
        {"stages": [{"kind": "magnitude", "units": "hidden", "sparsity": 0.5, **COMMON}]},
        "PyanNet",
    ),
    "long-windows": (
        {"data": {"train": ["tones-train"], "development": ["tones-development"], "window": 60.0}},
        "tones-train",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_recipes_are_one_line(lab, name):
    changes, said = WRONG[name]
    path = recipe(lab, name, [TRAIN])
    path.write_text(tomli_w.dumps({**tomllib.loads(path.read_text()), **changes}))
    done = compress(lab, name)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last
    assert "Traceback" not in done.stderr
    assert not (lab / "systems" / "made" / f"{name}.toml").exists()
    assert not (lab / "training" / name).exists(), "it was found out before anything was trained"


def test_a_card_that_is_there_is_not_replaced(lab):
    done = compress(lab, "start")
    assert done.returncode == 2
    assert "exists already" in done.stderr


def test_a_full_recipe_folder_of_another_recipe_is_not_gone_on_with(lab):
    recipe(lab, "changed", [{**TRAIN, "steps": 4}])
    assert compress(lab, "changed").returncode == 0
    (lab / "systems" / "made" / "changed.toml").unlink()
    recipe(lab, "changed", [{**TRAIN, "steps": 4, "rate": 2e-3}])
    done = compress(lab, "changed")
    assert done.returncode == 2
    assert "move its folder away" in done.stderr


RECIPES = sorted((shipped() / "systems" / "eend-mini" / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_shipped_recipes_hold(path):
    made = read_recipe(path)
    names = {other.stem for other in RECIPES}
    assert made.start.system is None or made.start.system in names, "each row can be made from nothing"
    assert made.card.baseline is None or made.card.baseline in names


def test_stage_files_say_what_was_done(lab):
    said = read_json(lab / "training" / "start" / "01-train" / "stage.json")
    assert said["kind"] == "train"
    assert said["steps"] == 6
    assert set(said["development"]) == {"loss", "local_error", "missed", "false_alarm", "confusion"}


def test_no_path_of_this_machine_gets_into_what_is_published(lab):
    for file in (lab / "systems" / "made").rglob("*"):
        if file.is_file() and file.suffix in {".toml", ".json", ".md"}:
            assert str(Path.home()) not in file.read_text()
            assert str(lab) not in file.read_text()
