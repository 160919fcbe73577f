from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import diarbench.measure.machine
from diarbench.cards import DatasetCard, SystemCard, SystemSpec, expand, read_card
from diarbench.errors import CardError, InputError
from diarbench.loaders import Dataset
from diarbench.plan import Adapter, find_adapter, missing_requirements, plan, prepare, without_audio
from diarbench.types import LabelledRecording, Recording, Turns

NUMPY = importlib.metadata.version("numpy")


@pytest.fixture
def spec(cards):
    """One system with an adapter file beside its card."""
    cards.system("fam/sys")
    (cards.path / "systems" / "fam" / "adapter.py").write_text("class System: ...\n")

    def make(text: str = "", adapter: str = "./adapter.py:System") -> SystemSpec:
        path = cards.system("fam/sys", f'title = "t"\nadapter = "{adapter}"\n{text}')
        (one,) = expand("sys", path, read_card(path, SystemCard))
        return one

    return make


@pytest.fixture
def dataset(cards):
    path = cards.dataset("d", 'title = "D"\nuem = "whole-file"\nlicence = "CC0"\nget = "here"\n[folder]\n')
    card = read_card(path, DatasetCard)

    def labelled(name: str) -> LabelledRecording:
        return LabelledRecording(Recording(name, Path(name), 2.0, 16000), Turns.of([(0, 1, "A")]), ((0.0, 2.0),))

    return Dataset("d", card, tuple(labelled(name) for name in "abc"))


def job(spec, dataset, *, device="cpu", threads=1, limit=None):
    (one,) = plan([spec], [dataset], device=device, threads=threads, limit=limit)
    return one


# --- the run key


def test_the_key_is_the_same_for_the_same_things(spec, dataset):
    assert job(spec(), dataset).key == job(spec(), dataset).key
    assert len(job(spec(), dataset).key) == 12


def test_words_and_limits_do_not_change_the_key(spec, dataset):
    before = job(spec(), dataset).key
    assert job(spec('description = "x"\nbaseline = "y"\n[compression]\nmethod = "z"\n'), dataset).key == before
    assert job(spec(), dataset, limit=1).key == before
    other = replace(dataset, card=dataset.card.model_copy(update={"title": "other"}))
    assert job(spec(), other).key == before


def test_all_that_results_depend_on_changes_the_key(spec, dataset, cards, monkeypatch):
    folder = cards.path / "systems" / "fam"
    (folder / "w.bin").write_bytes(b"1")
    (folder / "tool").mkdir()
    (folder / "tool" / "run.sh").write_text("1")
    card = '[weights.seg]\npath = "w.bin"\n[files]\ntool = "tool"\n[options]\nwindow = 8\n'
    seen = {job(spec(card), dataset).key}

    def changed(text: str = card, on: Dataset = dataset, **how) -> None:
        key = job(spec(text), on, **how).key
        assert key not in seen
        seen.add(key)

    changed(card.replace("8", "9"))
    changed(card.replace("8", "8.0"))
    changed(card + "more = 1\n")
    changed(threads=2)
    changed(on=replace(dataset, recordings=dataset.recordings[:2]))
    (folder / "w.bin").write_bytes(b"2")
    changed()
    (folder / "tool" / "run.sh").write_text("2")
    changed()
    (folder / "tool" / "helper.sh").write_text("")
    changed()
    (folder / "adapter.py").write_text("class System:\n    pass\n")
    changed()
    (folder / "helper.py").write_text("")
    changed()
    changed('requires = ["pytest"]\n' + card)
    monkeypatch.setattr(diarbench.measure.machine, "gpus", lambda: [{"name": "a GPU"}])
    changed('devices = ["cpu", "cuda"]\n' + card, device="auto")


def test_a_new_version_of_a_library_is_another_run(spec, dataset, monkeypatch):
    before = job(spec('requires = ["pytest"]\n'), dataset).key
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "999" if name == "pytest" else version(name))
    assert job(spec('requires = ["pytest"]\n'), dataset).key != before


def test_the_code_of_a_module_counts(spec, dataset, tmp_path, monkeypatch):
    """A module that no distribution owns (on PYTHONPATH, say) has no version: its files speak for it."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    package = tmp_path / "site" / "probe_package" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "site" / "probe_package" / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "system.py").write_text("1")
    (tmp_path / "site" / "probe_module.py").write_text("1")
    for adapter, file in (
        ("probe_package.inner.system:System", package / "system.py"),
        ("probe_package.inner:System", package / "system.py"),
        ("probe_module:System", tmp_path / "site" / "probe_module.py"),
    ):
        before = job(spec(adapter=adapter), dataset).key
        file.write_text(file.read_text() + "1")
        assert job(spec(adapter=adapter), dataset).key != before
    assert not {"probe_package", "probe_module"} & set(sys.modules)


def test_compiled_leftovers_do_not_count(spec, dataset, cards):
    folder = cards.path / "systems" / "fam" / "tool"
    folder.mkdir()
    (folder / "run.py").write_text("1")
    before = job(spec('[files]\ntool = "tool"\n'), dataset).key
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "run.pyc").write_bytes(b"x")
    assert job(spec('[files]\ntool = "tool"\n'), dataset).key == before


# --- jobs


def test_jobs_are_every_system_on_every_dataset(spec, dataset):
    one, two = spec(), spec().model_copy(update={"name": "two"})
    other = replace(dataset, name="e")
    jobs = plan([one, two], [dataset, other], device="cpu", threads=1, limit=2)
    assert [(j.system.spec.name, j.dataset.name) for j in jobs] == [
        ("sys", "d"),
        ("sys", "e"),
        ("two", "d"),
        ("two", "e"),
    ]
    assert [[r.id for r in j.recordings] for j in jobs] == [["a", "b"]] * 4


def test_a_system_never_sees_a_label(spec, dataset):
    assert all(type(recording) is Recording for recording in job(spec(), dataset).recordings)


@pytest.mark.parametrize(
    ("devices", "gpu", "asked", "gets", "problem"),
    [
        ('["cpu"]', False, "auto", "cpu", None),
        ('["cpu"]', True, "auto", "cpu", None),
        ('["cpu", "cuda"]', True, "auto", "cuda", None),
        ('["cpu", "cuda"]', False, "auto", "cpu", None),
        ('["cpu", "cuda"]', True, "cpu", "cpu", None),
        ('["cpu", "cuda"]', True, "cuda", "cuda", None),
        ('["cuda"]', True, "auto", "cuda", None),
        ('["cuda"]', False, "auto", "cpu", "runs on cuda only, not on the cpu"),
        ('["cuda"]', True, "cpu", "cpu", "runs on cuda only, not on the cpu"),
    ],
)
def test_devices(spec, dataset, monkeypatch, devices, gpu, asked, gets, problem):
    monkeypatch.setattr(diarbench.measure.machine, "gpus", lambda: [{"name": "a GPU"}] if gpu else [])
    planned = job(spec(f"devices = {devices}\n"), dataset, device=asked)
    assert (planned.device, planned.system.problem) == (gets, problem)


def test_a_gpu_that_is_not_there(spec, dataset, monkeypatch):
    monkeypatch.setattr(diarbench.measure.machine, "gpus", list)
    with pytest.raises(InputError, match="--device cuda: no NVIDIA GPU with a driver is found here"):
        job(spec(), dataset, device="cuda")


# --- what a system lacks is its problem; what its card has wrong is an error


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('requires = ["no-such-thing>=1"]\n', "needs what is not installed: pip install 'no-such-thing>=1'"),
        ('requires = ["numpy", "numpy>=999"]\n', "needs what is not installed: pip install 'numpy>=999'"),
        ('[weights.seg]\npath = "gone.bin"\n', "its file 'seg' is not there: "),
        ('[files]\ntool = "gone"\n', "its file 'tool' is not there: "),
        ('[files]\ntool = "~nobody-of-that-name/x"\n', "its file 'tool' is not there: "),
        (f'[weights.seg]\npath = "adapter.py"\nsha256 = "{"0" * 64}"\n', "adapter.py has SHA-256 "),
        (f'[weights.seg]\nwheel = "no wheel"\nmember = "x"\nsha256 = "{"0" * 64}"\n', "'no wheel' names no wheel"),
    ],
)
def test_what_is_lacking_is_a_problem_of_that_system(spec, dataset, text, says):
    one, two = plan([spec(text), spec()], [dataset], device="cpu", threads=1, limit=None)
    assert one.system.problem is not None
    assert says in one.system.problem
    assert two.system.problem is None


def test_what_is_there_is_found(spec, cards):
    folder = cards.path / "systems" / "fam"
    (folder / "w.bin").write_bytes(b"1")
    digest = hashlib.sha256(b"1").hexdigest()
    found = prepare(spec(f'[weights.seg]\npath = "w.bin"\nsha256 = "{digest}"\n[files]\nhere = "."\n'))
    assert found.problem is None
    assert found.weights["seg"].read_bytes() == b"1"
    assert found.files["here"].samefile(folder)
    assert found.identity["weights"] == {"seg": digest}


@pytest.mark.parametrize(
    ("adapter", "says"),
    [
        ("adapter", "must be './file.py:Class' or 'package.module:Class'"),
        ("./adapter.py", "must be"),
        ("./adapter.py:", "must be"),
        (":System", "must be"),
        ("./adapter.py:two words", "must be"),
        ("./gone.py:System", "its adapter is not there: "),
        ("gone.py:System", "its adapter is not there: "),
        ("../../../etc/passwd:System", "its adapter is not there: "),
        (".:System", "its adapter is not there: "),
        ("a-b:System", "'a-b' is no module name"),
        ("a..b:System", "'a..b' is no module name"),
        ("os;rm:System", "is no module name"),
    ],
)
def test_bad_adapters(spec, adapter, says):
    with pytest.raises(CardError) as error:
        find_adapter(spec(adapter=adapter))
    assert says in str(error.value)
    assert "system sys: " in str(error.value)


def test_good_adapters(spec, cards):
    file = cards.path / "systems" / "fam" / "adapter.py"
    assert find_adapter(spec()) == Adapter(file.resolve(), None, "System")
    assert find_adapter(spec(adapter=f"{file}:System")).file == file
    assert find_adapter(spec(adapter="pkg.module_1:Class")) == Adapter(None, "pkg.module_1", "Class")


@pytest.mark.parametrize("text", ["not a requirement", "numpy>>1", "", "numpy==1; python_versio<'3'"])
def test_requirements_that_can_not_be_read(spec, dataset, text):
    with pytest.raises(CardError, match="is not a requirement as pip reads it"):
        missing_requirements([text])
    if text:
        with pytest.raises(CardError, match="is not a requirement as pip reads it"):
            job(spec(f'requires = ["{text}"]\n'), dataset)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("numpy", False),
        ("NumPy>=1.0", False),
        (f"numpy=={NUMPY}", False),
        (f"numpy!={NUMPY}", True),
        ("no-such-distribution", True),
        ("no-such-distribution; python_version < '3'", False),
        ("no-such-distribution; python_version >= '3'", True),
    ],
)
def test_requirements(text, missing):
    assert missing_requirements([text]) == ([text] if missing else [])


def test_a_release_candidate_will_do(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.1.0rc1")
    assert missing_requirements(["torch>=2"]) == []
    assert missing_requirements(["torch>=2.1"]) == ["torch>=2.1"]


# --- replays


REPLAY = "diarbench.adapters:Replay"


def test_each_job_of_a_replay_has_its_datasets_outputs_alone(spec, dataset, cards):
    family = cards.path / "systems" / "fam"
    for name in ("d", "e"):
        (family / name).mkdir()
        (family / name / "a.rttm").write_text(f"SPEAKER a 1 0 1 <NA> <NA> {name} <NA> <NA>\n")
    other, third = replace(dataset, name="e"), replace(dataset, name="f")
    stored = spec('[files]\nd = "d"\ne = "e"\ng = "gone"\n', adapter=REPLAY)
    one, two, none = plan([stored], [dataset, other, third], device="cpu", threads=1, limit=None)
    assert [dict(job.system.files) for job in (one, two)] == [{"hypotheses": family / name} for name in "de"]
    assert one.key != two.key
    assert (one.system.problem, two.system.problem) == (None, None)
    assert none.system.problem is not None
    assert "no outputs of f: its card's [files] lacks f = " in none.system.problem
    before = two.key
    (family / "d" / "a.rttm").write_text("")
    again = plan([stored], [dataset, other], device="cpu", threads=1, limit=None)
    assert (again[0].key != one.key, again[1].key) == (True, before)


def test_a_replay_of_one_folder_has_it_for_all_datasets(spec, dataset, cards):
    (cards.path / "systems" / "fam" / "all.rttm").write_text("")
    stored = spec('[files]\nhypotheses = "all.rttm"\n', adapter=REPLAY)
    jobs = plan([stored], [dataset, replace(dataset, name="e")], device="cpu", threads=1, limit=None)
    assert {job.system.problem for job in jobs} == {None}
    assert len({str(job.system.files) for job in jobs}) == 1


def test_files_lie_in_data_folders_too(spec, cards, tmp_path, monkeypatch):
    monkeypatch.setenv("DIARBENCH_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "tool").mkdir(parents=True)
    one = spec('[files]\nhere = "tool"\n')
    assert prepare(one).files == {"here": tmp_path / "data" / "tool"}
    beside = cards.path / "systems" / "fam" / "tool"
    beside.write_text("")
    assert prepare(one).files == {"here": beside}
    lacking = prepare(spec('[files]\nhere = "gone"\n')).problem
    assert lacking is not None
    assert lacking.endswith(f"gone, nor in {tmp_path / 'data'} (DIARBENCH_DATA)")


@pytest.mark.parametrize(
    ("uem", "layout", "can"),
    [
        ("all.uem", "[folder]", True),
        ("all.uem", "[kaldi]", True),
        ("layout", '[pyannote]\nprotocol = "A.B.C"', True),
        ("whole-file", "[folder]", False),
        ("layout", "[huggingface]", False),
    ],
)
def test_which_datasets_can_do_without_their_audio(cards, uem, layout, can):
    path = cards.dataset("silent", f'title = "S"\nuem = "{uem}"\nlicence = "CC0"\nget = "here"\n{layout}\n')
    silent = without_audio(read_card(path, DatasetCard))
    assert (silent is not None) is can
    if silent is not None:
        table = silent.folder or silent.kaldi or silent.pyannote
        assert table is not None
        assert table.audio == "none"
