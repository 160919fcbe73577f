"""The GE2E encoder made smaller without labels: its task, what it hears, and recipes through the command line."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import time
import tomllib

import pytest
import tomli_w
import torch

from diarbench.compress.heard import Heard
from diarbench.errors import InputError
from diarbench.nn.ge2e import Ge2eEncoder, keep_widths, prune_rows
from diarbench.nn.ge2e_file import load_ge2e, save_ge2e
from diarbench.nn.quantized import quantization_in
from diarbench.registry import shipped
from diarbench.training.ge2e import Imitate, pieces
from diarbench.training.recipes import read_recipe
from diarbench.training.windows import Batch
from tests.training.small_data import make_data
from tests.training.test_stages import command, compress, diarbench

UNITS = (12, 10, 8)
PRUNE = {"kind": "magnitude", "units": "weights", "sparsity": 0.5, "rounds": 1, "steps": 0, "heard": 3}
IMITATE = {"kind": "imitate", "steps": 6, "batch": 2, "validate_every": 3, "average": 1}


def encoder(seed=0):
    torch.manual_seed(seed)
    return Ge2eEncoder(UNITS).eval().requires_grad_(False)


def some_speech(windows=2, seconds=3.5, seed=1):
    return torch.randn(windows, round(seconds * 16000), generator=torch.Generator().manual_seed(seed)) * 0.1


def test_windows_are_cut_into_pieces_of_one_level():
    samples = some_speech()
    mels = pieces(samples)
    assert mels.shape == (160, 4, 40), "3.5 s are two pieces of 1.6 s"
    torch.testing.assert_close(pieces(samples * 0.01), mels, rtol=1e-4, atol=1e-7)
    louder = pieces(samples, torch.tensor([10.0, 0.0]))
    torch.testing.assert_close(louder[:, :2], 10 * mels[:, :2], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(louder[:, 2:], mels[:, 2:])
    assert pieces(torch.zeros(1, 32000)).isfinite().all()


def test_an_imitator_comes_nearer_and_keeps_its_zeros():
    teacher = encoder()
    student = prune_rows(teacher, 0.5).requires_grad_(True)
    zero = {name: parameter == 0 for name, parameter in student.named_parameters()}
    task = Imitate(student, teacher, rate=1e-2)
    batch = Batch(some_speech(), torch.zeros(2, 1, 1))
    optimizer = torch.optim.AdamW(task.groups())
    before = task.validate(iter([batch]))
    for step in range(20):
        student.zero_grad()
        torch.autograd.backward(task.loss(batch, step).total)
        optimizer.step()
    after = task.validate(iter([batch]))
    assert after["loss"] < 0.7 * before["loss"]
    assert after["cosine"] > before["cosine"]
    for name, parameter in student.named_parameters():
        assert torch.equal(parameter == 0, zero[name]), name
    assert task.validate(iter([batch])) == after, "validation draws no gains"


def test_the_first_layer_may_stay_as_it_is():
    teacher = encoder()
    student = prune_rows(teacher, 0.5).requires_grad_(True)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    task = Imitate(student, teacher, rate=1e-2, first_layer=False)
    optimizer = torch.optim.AdamW(task.groups())
    torch.autograd.backward(task.loss(Batch(some_speech(), torch.zeros(2, 1, 1)), 0).total)
    optimizer.step()
    changed = {name for name, tensor in student.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not any(name.startswith("layers.0.") for name in changed)
    assert {"layers.1.weight_ih_l0", "layers.2.weight_hh_l0", "linear.weight"} <= changed


def test_states_are_compared_with_those_of_the_units_that_were_kept():
    """Units that do nothing can go: what is left has the teacher's own states, and there is nothing to learn."""
    teacher = encoder()
    idle = torch.tensor([1, 4])
    for layer, reader in zip(teacher.layers, [*(m.weight_ih_l0 for m in teacher.layers[1:]), teacher.linear.weight],
                             strict=True):  # fmt: skip
        rows = torch.cat([idle + gate * layer.hidden_size for gate in range(4)])
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            getattr(layer, name)[rows] = 0
        layer.weight_hh_l0[:, idle] = 0
        reader[:, idle] = 0
    student = keep_widths(teacher, [width - 2 for width in UNITS])
    assert all(not set(kept) & {1, 4} for kept in student.kept)
    measures = Imitate(student, teacher).validate(iter([Batch(some_speech(), torch.zeros(2, 1, 1))]))
    assert measures["loss"] == pytest.approx(0, abs=1e-5)
    assert measures["cosine"] == pytest.approx(1, abs=1e-5)
    again = keep_widths(student, [width - 4 for width in UNITS])
    for first, second in zip(student.kept, again.kept, strict=True):
        assert set(second) < set(first), "counted in the full network's units, however often it was pruned"


def test_rows_are_fitted_as_least_squares_says():
    full, mels = encoder(), pieces(some_speech())
    heard = Heard(full, [mels])
    pruned = heard.prune(full, 0.5)
    fitted = heard.fit(pruned)
    states = full.states(mels)
    own = torch.cat([torch.zeros_like(states[1][:1]), states[1][:-1]])
    read = torch.cat([states[0], own, torch.ones_like(own[..., :1])], dim=-1).flatten(0, 1).double()
    for row in (0, 7, 39):
        parts = [full.layers[1].weight_ih_l0[row], full.layers[1].weight_hh_l0[row]]
        bias = full.layers[1].bias_ih_l0[row] + full.layers[1].bias_hh_l0[row]
        sums = read @ torch.cat([*parts, bias[None]]).double()
        found = torch.cat([fitted.layers[1].weight_ih_l0[row], fitted.layers[1].weight_hh_l0[row],
                           fitted.layers[1].bias_ih_l0[row, None]]).double()  # fmt: skip
        plain = torch.cat([pruned.layers[1].weight_ih_l0[row], pruned.layers[1].weight_hh_l0[row],
                           bias[None]]).double()  # fmt: skip
        there = found != 0
        assert torch.equal(there[:-1], plain[:-1] != 0)
        best = torch.linalg.lstsq(read[:, there], sums[:, None]).solution[:, 0]
        errors = [(read[:, there] @ best - sums), read @ found - sums, read @ plain - sums]
        least, ours, before = [error.square().mean().item() for error in errors]
        assert least <= ours * (1 + 1e-6)
        assert ours - least < 0.2 * (before - least), "all but what the damping costs"


def test_nothing_pruned_nothing_changed():
    full, mels = encoder(), pieces(some_speech())
    fitted = Heard(full, [mels]).fit(full)
    lengths = torch.full((4,), 160)
    torch.testing.assert_close(fitted(mels, lengths), full(mels, lengths), rtol=0, atol=1e-4)


def test_weights_that_hear_much_are_kept():
    full = encoder()
    full.layers[0].weight_ih_l0.fill_(1.0)
    mels = pieces(some_speech())
    mels[..., :20] *= 1e-3
    kept = Heard(full, [mels]).prune(full, 0.5).layers[0].weight_ih_l0 != 0
    assert kept[:, 20:].all()
    assert not kept[:, :20].any()


def test_weights_are_weighed_by_what_the_units_that_are_left_read():
    full, mels = encoder(), pieces(some_speech())
    smaller = keep_widths(full, [9, 7, 5])
    heard = Heard(full, [mels])
    found = heard.prune(smaller, 0.5)
    states = full.states(mels)
    below, kept = states[0][..., list(smaller.kept[0])], list(smaller.kept[1])
    before = torch.cat([torch.zeros_like(states[1][:1]), states[1][:-1]])[..., kept]
    for name, inputs in (("weight_ih_l0", below), ("weight_hh_l0", before)):
        size = getattr(smaller.layers[1], name).abs() * inputs.flatten(0, 1).norm(dim=0)
        zeros = (getattr(found.layers[1], name) == 0).sum(dim=1)
        assert (zeros == round(0.5 * size.shape[1])).all()
        left = torch.where(getattr(found.layers[1], name) == 0, torch.inf, size).amin(dim=1)
        gone = torch.where(getattr(found.layers[1], name) == 0, size, -torch.inf).amax(dim=1)
        assert (left >= gone * (1 - 1e-4)).all()
    assert torch.equal(heard.fit(found).layers[1].weight_hh_l0 == 0, found.layers[1].weight_hh_l0 == 0)


def test_a_teacher_may_lack_units_itself():
    teacher = keep_widths(encoder(), [9, 7, 5])
    batch = Batch(some_speech(), torch.zeros(2, 1, 1))
    same = Imitate(copy.deepcopy(teacher), teacher).validate(iter([batch]))
    assert same["loss"] == pytest.approx(0, abs=1e-5)
    student = keep_widths(teacher, [6, 5, 3])
    heard = Heard(teacher, [pieces(batch.samples)])
    fitted = heard.fit(student)
    before, after = (Imitate(one, teacher).validate(iter([batch]))["loss"] for one in (student, fitted))
    assert after < before
    with pytest.raises(InputError, match="lacks some of its units"):
        Imitate(teacher, student)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with data, and an encoder to begin with."""
    root = tmp_path_factory.mktemp("lab")
    make_data(root, "tones-train", seed=1)
    make_data(root, "tones-development", recordings=2, seed=2)
    save_ge2e(root / "small.safetensors", encoder())
    (root / "adapter.py").write_text(
        "class System:\n"
        "    def __init__(self, *, weights, window=1.6, units=(), quantization=None): ...\n"
        "    def diarize(self, audio): ...\n"
    )
    return root


def recipe(root, name, stages, start=None, **card):
    table = {
        "title": f"A recipe called {name}",
        "start": start or {"ge2e": {"path": "small.safetensors"}},
        "data": {"train": ["tones-train"], "development": ["tones-development"], "window": 4.0, "shift": 1.0},
        "stages": stages,
        "card": {"title": name, "adapter": "adapter.py:System", "options": {"window": 1.6}, **card},
    }
    (root / f"{name}.toml").write_text(tomli_w.dumps(table))


def made(root, name):
    return load_ge2e(root / "systems" / "made" / "weights" / name / "encoder.safetensors")


def test_zeros_of_half_the_weights_and_a_card(lab):
    recipe(lab, "half", [PRUNE, IMITATE])
    done = compress(lab, "half")
    assert done.returncode == 0, done.stderr
    found = made(lab, "half")
    for name, parameter in found.encoder.named_parameters():
        if parameter.ndim == 2:
            assert ((parameter == 0).float().mean(dim=1) - 0.5).abs().max() < 0.05, name
    stages = found.about["training"]["stages"]
    assert [stage["kind"] for stage in stages] == ["magnitude", "imitate"]
    assert stages[0]["achieved"] == pytest.approx(0.5, abs=0.02)
    assert set(stages[1]["development"]) == {"loss", "cosine"}
    card = tomllib.loads((lab / "systems" / "made" / "half.toml").read_text())
    assert card["adapter"] == "../../adapter.py:System"
    assert card["options"] == {"window": 1.6, "units": list(UNITS)}
    assert card["weights"]["embedding"]["path"] == "weights/half/encoder.safetensors"
    assert card["compression"]["sparsity"] == 0.5
    said = (lab / "systems" / "made" / "weights" / "half" / "README.md").read_text()
    assert "cosine" in said
    assert "local error" not in said


def test_fewer_units_in_rounds_with_training_between(lab):
    recipe(lab, "fewer", [{**PRUNE, "units": "hidden", "rounds": 2, **{k: IMITATE[k] for k in ("steps", "batch")}}])
    done = compress(lab, "fewer")
    assert done.returncode == 0, done.stderr
    found = made(lab, "fewer").encoder
    assert found.units == (7, 6, 4), "12, 9, 7: round(12 / 4) and then round(9 / 4) go; and so on"
    assert [len(kept) for kept in found.kept] == [7, 6, 4]
    assert (lab / "training" / "fewer" / "01-magnitude" / "round-2" / "log.csv").is_file()


def test_what_was_made_smaller_before_goes_on(lab):
    recipe(lab, "units", [{**PRUNE, "units": "hidden", "heard": 2}, PRUNE])
    done = compress(lab, "units")
    assert done.returncode == 0, done.stderr
    assert tomllib.loads((lab / "systems" / "made" / "units.toml").read_text())["trained_parts"] == ["tones/train"]
    start = {"ge2e": {"path": "systems/made/weights/units/encoder.safetensors"}}
    recipe(lab, "again", [{**IMITATE, "steps": 1}], start=start)
    done = compress(lab, "again", "-d", "tones-development")
    assert done.returncode == 0, done.stderr
    card = tomllib.loads((lab / "systems" / "made" / "again.toml").read_text())
    assert card["compression"]["method"] == "magnitude-weights"
    assert card["trained_parts"] == ["tones/development", "tones/train"]
    stages = made(lab, "again").about["training"]["stages"]
    assert [stage["kind"] for stage in stages] == ["magnitude", "magnitude", "imitate"]


@pytest.mark.parametrize("steps", [0, 2])
def test_quantized_but_for_the_first_layer(lab, steps):
    pytest.importorskip("torchao", reason="quantizing needs torchao")
    name = f"int8-{steps}"
    stage = {"kind": "quantize", "mode": "w8a8-dynamic", "skip": ["layers.0"], "calibration": 2, "steps": steps}
    recipe(lab, name, [{**stage, "batch": 1}])
    done = compress(lab, name)
    assert done.returncode == 0, done.stderr
    found = made(lab, name)
    quantization = quantization_in(found.encoder)
    assert quantization is not None
    assert set(quantization.modules) == {"layers.1", "layers.2", "linear"}
    said = found.about["training"]["stages"][-1]
    covered = sum(p.numel() for n, p in encoder().named_parameters() if p.ndim == 2 and not n.startswith("layers.0"))
    assert said["weights_covered"] == covered
    assert said["bytes_quantized"] < said["bytes_float"]
    card = tomllib.loads((lab / "systems" / "made" / f"{name}.toml").read_text())
    assert card["options"]["quantization"] == "w8a8-dynamic"


def test_the_same_again_and_killed(lab):
    for name in ("whole", "killed"):
        recipe(lab, name, [PRUNE, {**IMITATE, "steps": 60}])
    assert compress(lab, "whole").returncode == 0
    with subprocess.Popen(command(lab, "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        folder = lab / "training" / "killed" / "02-imitate"
        deadline = time.monotonic() + 120
        while not (folder / "checkpoint.pt").is_file():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert not (folder / "stage.json").is_file()
    done = compress(lab, "killed")
    assert done.returncode == 0, done.stderr
    assert "magnitude: kept" in done.stderr
    whole, killed = (made(lab, name).encoder.state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(tensor, killed[name]) for name, tensor in whole.items())


WRONG = {
    "diarizing": ({"stages": [{"kind": "train", "steps": 2}]}, "can't learn to diarize"),
    "channels": ({"stages": [{**PRUNE, "units": "linear"}]}, "no linear channels"),
    "no-adapter": ({"card": {"title": "x"}}, "[card] adapter"),
    "lost-adapter": ({"card": {"title": "x", "adapter": "lost.py:System"}}, "lost.py"),
    "own-units": (
        {"card": {"title": "x", "adapter": "adapter.py:System", "options": {"units": [1, 1, 1]}}},
        "units follows from the network",
    ),
    "misspelt-option": (
        {"card": {"title": "x", "adapter": "adapter.py:System", "options": {"windw": 1.6}}},
        "did you mean window?",
    ),
    "no-encoder": ({"start": {"new": {"front_end": "fbank"}}}, "only a GE2E encoder"),
    "heard-by-another": (
        {
            "start": {"new": {"front_end": "pyannet", "head": {"lstm": [8], "linear": [6]}}},
            "stages": [{**PRUNE, "units": "hidden"}],
        },
        "GE2E",
    ),
    "short-windows": ({"stages": [{**IMITATE, "window": 1.0}]}, "1.6 s"),
    "lost-weights": ({"start": {"ge2e": {"path": "lost.safetensors"}}}, "lost.safetensors"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_recipes_are_one_line(lab, name):
    changes, said = WRONG[name]
    recipe(lab, name, [{**IMITATE, "steps": 1}])
    path = lab / f"{name}.toml"
    path.write_text(tomli_w.dumps({**tomllib.loads(path.read_text()), **changes}))
    done = compress(lab, name)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last
    assert "Traceback" not in done.stderr
    assert not (lab / "systems" / "made" / f"{name}.toml").exists()


RECIPES = sorted((shipped() / "systems" / "silero-ge2e" / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_shipped_recipes_hold(path):
    said = read_recipe(path)
    assert said.start.ge2e is not None
    assert said.card.adapter is not None
    assert (path.parent / said.card.adapter.partition(":")[0]).is_file()
    assert f"recipes/{path.name}" in str(said.card.description), "it says how it was made"
    assert not any("test" in name for name in (*said.data.train, *said.data.development))


def test_no_path_of_this_machine_gets_into_what_is_published(lab):
    assert diarbench("count", "half", "--cards", str(lab)).returncode in (0, 2)
    for file in (lab / "systems" / "made").rglob("*"):
        if file.is_file():
            assert str(lab).encode() not in file.read_bytes()
