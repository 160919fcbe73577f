from __future__ import annotations

import os
import zipfile
from collections import OrderedDict
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diarbench.errors import InputError, MissingRequirementError
from diarbench.nn import checkpoints
from diarbench.nn.checkpoints import read_checkpoint, read_state

STATE = {"a.weight": torch.arange(600.0).reshape(20, 30), "a.bias": torch.ones(3), "n": torch.tensor(7)}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def saved(path: Path, content, **how) -> Path:
    torch.save(content, path, **how)
    return path


def complaint(path: Path, read=read_state, kind=InputError) -> str:
    with pytest.raises(kind) as error:
        read(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        OrderedDict(STATE),
        {"state_dict": STATE, "config": {"widths": [1, 2], "name": "x", "prune": False}},
        {"model_state": STATE, "step": 3},
        {"state_dict": OrderedDict(STATE), "epoch": 1, "optimizer_states": [{"state": {0: {"step": torch.ones(1)}}}]},
    ],
    ids=["flat", "ordered", "with a config", "GE2E", "Lightning"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_states_wherever_they_lie(tmp_path, content, zipped):
    path = saved(tmp_path / "w.bin", content, _use_new_zipfile_serialization=zipped)
    assert same(read_state(path), STATE)
    assert read_checkpoint(path).keys() == content.keys()


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    path = tmp_path / "model.safetensors"
    safetensors.save_file(STATE, path)
    assert same(read_state(path), STATE)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:100], b"", b"\xff" * 8 + whole[8:], whole[:20] + b"\0" + whole[21:]):
        path.write_bytes(content)
        assert "damaged, cut short, or no checkpoint" in complaint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_are_cut_short(tmp_path, zipped):
    path = saved(tmp_path / "w.bin", STATE, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in (0, 1, 10, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "damaged, cut short, or no checkpoint" in complaint(path)


@given(st.data())
def test_a_flipped_bit_is_seen_or_changes_nothing(tmp_path_factory, data):
    path = saved(tmp_path_factory.mktemp("flip") / "w.bin", STATE)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) * 8 - 1))
    content[at // 8] ^= 1 << at % 8
    path.write_bytes(content)
    try:
        found = read_state(path)
    except InputError:
        return
    assert same(found, STATE)


def test_torch_alone_would_read_past_it(tmp_path):
    """Why the checksums are compared here: should torch do it one day, this fails and ours may go."""
    path = saved(tmp_path / "w.bin", STATE)
    content = bytearray(path.read_bytes())
    content[content.index(STATE["a.weight"].numpy().tobytes()[:400]) + 200] ^= 4
    path.write_bytes(content)
    assert not same(torch.load(path, weights_only=True), STATE)
    assert "the checksum of w/data/0 is wrong" in complaint(path)


class _Touches:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_that_a_file_brings_is_run(tmp_path, zipped):
    mark = tmp_path / "was-run"
    content = {"state_dict": STATE, "callbacks": _Touches(mark)}
    path = saved(tmp_path / "w.bin", content, _use_new_zipfile_serialization=zipped)
    assert f"holds {os.system.__module__}.system, which is no weights" in complaint(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (torch.nn.Linear(2, 2), "holds torch.nn.modules.linear.Linear, which is no weights"),
        ({"a": Path("x")}, "holds pathlib."),
        ([1, 2], "holds a list where weights by name should be"),
        (torch.ones(2), "holds a Tensor where weights by name should be"),
        ({"a": torch.ones(1), "b": 3}, "no state dict: its 'b' is a int, not a tensor"),
        ({"state_dict": {"a": "x"}}, "no state dict: its 'a' is a str, not a tensor"),
        ({}, "holds no weights"),
    ],
)
def test_what_is_no_state_dict(tmp_path, content, says):
    assert says in complaint(saved(tmp_path / "w.bin", content))


def test_files_of_other_kinds(tmp_path):
    path = tmp_path / "w.bin"
    for content in (b"<html>Access denied</html>", b"version https://git-lfs.github.com/spec/v1\n", b"\0" * 100):
        path.write_bytes(content)
        assert "no checkpoint" in complaint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")
    assert "no checkpoint" in complaint(path)
    assert "no such weight file" in complaint(tmp_path / "gone.bin", kind=MissingRequirementError)


def test_checkpoints_as_pyannote_writes_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PYANNOTE_METRICS_ENABLED", "0")
    pytest.importorskip("pyannote.audio", reason="pyannote.audio is not installed")
    from pyannote.audio.core import task
    from pyannote.audio.models.segmentation import PyanNet

    told = {"duration": 10.0, "classes": ["a", "b", "c"], "powerset_max_classes": 2, "permutation_invariant": True}
    kinds = {"problem": task.Problem.MONO_LABEL_CLASSIFICATION, "resolution": task.Resolution.FRAME}
    model = PyanNet(lstm={"hidden_size": 4, "num_layers": 1, "bidirectional": True})
    model.specifications = task.Specifications(**kinds, **told)
    model.build()
    content = {"state_dict": model.state_dict(), "epoch": 3, "hyper_parameters": dict(model.hparams)}
    model.on_save_checkpoint(content)
    content["pyannote.audio"]["versions"]["torch"] = torch.__version__
    path = saved(tmp_path / "pytorch_model.bin", content)

    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(path, weights_only=True)
    read = read_checkpoint(path)
    assert same(read_state(path), model.state_dict())
    assert read["hyper_parameters"] == dict(model.hparams)
    found = read["pyannote.audio"]
    assert found["architecture"] == {"module": PyanNet.__module__, "class": "PyanNet"}
    assert found["versions"]["torch"] == torch.__version__
    assert asdict(found["specifications"]) == asdict(
        checkpoints.Specifications(checkpoints.Problem.MONO_LABEL_CLASSIFICATION, checkpoints.Resolution.FRAME, **told)
    )
    # The stand-ins say what the originals say.
    for ours, theirs in ((checkpoints.Problem, task.Problem), (checkpoints.Resolution, task.Resolution)):
        assert {one.name: one.value for one in ours} == {one.name: one.value for one in theirs}
    assert [(one.name, one.default) for one in fields(checkpoints.Specifications)] == [
        (one.name, one.default) for one in fields(task.Specifications)
    ]
    content["callbacks"] = _Touches(tmp_path / "was-run")
    assert "system, which is no weights" in complaint(saved(path, content))
    assert not (tmp_path / "was-run").exists()


class _ByName:
    """Pickled as `getattr(owner, name)`, as Python 3.11.2 does with members of an enumeration."""

    def __init__(self, owner, name):
        self.parts = owner, name

    def __reduce__(self):
        return getattr, self.parts


def test_members_of_an_enumeration_are_read_however_python_pickled_them(tmp_path):
    task = pytest.importorskip("pyannote.audio.core.task", reason="pyannote.audio is not installed")
    path = saved(tmp_path / "m.ckpt", {"kind": _ByName(task.Resolution, "FRAME"), "state_dict": STATE})
    assert read_checkpoint(path)["kind"] is checkpoints.Resolution.FRAME


@pytest.mark.parametrize("parts", [("text", "upper"), ((1, 2), "__class__")])
def test_getattr_gets_nothing_else(tmp_path, parts):
    path = saved(tmp_path / "m.ckpt", {"kind": _ByName(*parts), "state_dict": STATE})
    assert "holds builtins.getattr, which is no weights" in complaint(path)
