from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from diarbench.checking import check_card
from diarbench.errors import CardError, NotFoundError
from diarbench.registry import Registry

ADAPTER = """
print("imported")


class System:
    def __init__(self, *, weights, window=1):
        raise RuntimeError("built")

    def diarize(self, audio): ...
"""
DATASET = 'title = "D"\nuem = "whole-file"\nlicence = "CC0"\nget = "ask Anna"\n'


@pytest.fixture
def registry(cards, write_audio) -> Registry:
    """A system, a dataset of one recording of 36 seconds with two speakers, and a report."""
    cards.system("fam/sys", 'title = "S"\nadapter = "./adapter.py:System"\n[sweep]\nwindow = [1, 2]\n')
    (cards.path / "systems" / "fam" / "adapter.py").write_text(ADAPTER)
    write_audio(cards.path / "datasets" / "audio" / "a.wav", seconds=36.0, rate=8000)
    lines = (f"SPEAKER a 1 {start} 1 <NA> <NA> {who} <NA> <NA>\n" for start, who in ((0, "A"), (3, "B"), (5, "A")))
    (cards.path / "datasets" / "all.rttm").write_text("".join(lines))
    cards.dataset("data", DATASET + '[folder]\nreference = "all.rttm"\n')
    cards.report("board", 'title = "R"\nsystems = ["sys*"]\ndatasets = ["data"]\n')
    return Registry((cards.path,))


def problems(registry: Registry, name: str | Path) -> list[str | None]:
    return [check.problem for check in check_card(registry, str(name), run=False)]


def test_whole_cards(registry):
    found = [check for name in ("sys", "data", "board") for check in check_card(registry, name, run=False)]
    assert [(check.kind, check.name, check.problem) for check in found] == [
        ("system", "sys@window=1", None),
        ("system", "sys@window=2", None),
        ("dataset", "data", None),
        ("report", "board", None),
    ]
    assert found[2].summary == "1 recordings, 0.01 hours, 2 speakers"
    assert found[3].summary == "2 systems, 1 datasets"


@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        ("recordings = 1\nspeakers = 2\nhours = 0.01\n", None),
        ("hours = 0.01005\n", None),
        ("recordings = 2\n", "1 recordings, the card expects 2"),
        ("speakers = 3\n", "2 speakers, the card expects 3"),
        ("hours = 0.02\n", "0.01 hours, the card expects 0.02"),
    ],
)
def test_facts_that_a_dataset_is_checked_against(registry, cards, expect, problem):
    cards.dataset("data", DATASET + f'[folder]\nreference = "all.rttm"\n[expect]\n{expect}')
    assert problems(registry, "data") == [problem]


def test_a_dataset_card_by_path_is_checked_itself_and_not_its_namesake(registry, cards, tmp_path):
    away = tmp_path / "datasets"
    away.mkdir()
    (away / "data.toml").write_text(DATASET + '[folder]\nroot = "nowhere"\n')
    (problem,) = problems(registry, away / "data.toml")
    assert problem is not None
    assert "no folder 'nowhere'" in problem
    (away / "stranger.toml").write_text((cards.path / "datasets" / "data.toml").read_text())
    (problem,) = problems(registry, away / "stranger.toml")
    assert problem is not None
    assert "all.rttm: can't be read" in problem


def test_rules_that_are_none(registry, cards):
    cards.dataset("data", DATASET + 'rules = ["full", "fairr"]\n[folder]\nreference = "all.rttm"\n')
    (problem,) = problems(registry, "data")
    assert problem.startswith("no scoring rule 'fairr'; did you mean fair?")
    cards.dataset("data", DATASET + 'rules = ["full", "collar=0.5,overlap=skip"]\n[folder]\nreference = "all.rttm"\n')
    assert "rule" not in str(problems(registry, "data"))
    cards.report("board", 'title = "R"\nsystems = ["sys"]\ndatasets = ["data"]\nrule = "ful"\n')
    (problem,) = problems(registry, "board")
    assert problem.startswith("no scoring rule 'ful'; did you mean full?")


def test_what_a_report_names_must_be_there(registry, cards):
    cards.report("board", 'title = "R"\nsystems = ["sis"]\ndatasets = ["data"]\n')
    assert problems(registry, "board") == ["no system 'sis'; did you mean sys?"]


def test_systems_that_lack_something(registry, cards):
    cards.system("fam/sys", 'title = "S"\nadapter = "./gone.py:System"\n')
    (problem,) = problems(registry, "sys")
    assert problem is not None
    assert "its adapter is not there" in problem


def test_unknown_names_and_unreadable_cards(registry, cards):
    with pytest.raises(NotFoundError, match="no system, dataset or report 'dato'; did you mean data"):
        check_card(registry, "dato", run=False)
    cards.system("broken", "title = \n")
    with pytest.raises(CardError, match="not valid TOML"):
        check_card(Registry((cards.path,)), "broken", run=False)


def look(cards, adapter: str, card: str = "") -> str:
    """What is said of a system whose adapter is this, without its weights."""
    (cards.path / "systems" / "fam" / "adapter.py").write_text(adapter)
    cards.system("fam/sys", 'title = "S"\nadapter = "./adapter.py:System"\n' + card)
    (check,) = check_card(Registry((cards.path,)), "sys", run=False)
    return check.problem or f"ok: {check.summary}"


TYPED = """
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np


class Shared(TypedDict, total=False):
    batch: int | None


class System:
    def __init__(self, *, weights: Mapping[str, Path], hop: float, sizes: tuple[int, ...] = (), file: Path = Path(),
                 other: np.dtype = None, **shared: Unpack[Shared]): ...

    def diarize(self, audio): ...
"""
TYPED_ALIKE = TYPED.replace(" hop: float,", " hop: int | float, batch=None, botch: Nothing = None,")


def test_values_that_an_adapter_says_it_takes(registry, cards):
    said = "[options]\nhop = 2\nsizes = [1, 2]\nbatch = 3\nfile = 'x'\nother = 'anything'\n"
    assert look(cards, TYPED, said).startswith("ok")
    assert look(cards, TYPED_ALIKE, "[options]\nhop = 'what only a type checker knows'\n").startswith("ok")


def test_a_look_at_a_system_builds_and_prints_nothing(registry, cards, capsys):
    assert look(cards, ADAPTER) == "ok: card, adapter, options and requirements hold; not run"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("adapter", "card", "says"),
    [
        (ADAPTER, "[options]\nwindov = 1\n", "can't be built from the card's [options]: got an unexpected keyword"),
        (ADAPTER, "[options]\nwindov = 1\n", "'windov'; did you mean window?"),
        (ADAPTER, "[options]\nzzz = 1\n", "'zzz'; known: window"),
        (TYPED, "[options]\nhop = '2'\n", "built from the card's [options]: hop should be a number, found '2'"),
        (TYPED, "[options]\nhop = true\n", "hop should be a number, found True"),
        (TYPED, "[options]\nhop = 2\nsizes = [1, 2.5]\n", "sizes should be a whole number, found 2.5"),
        (TYPED, "[options]\nhop = 2\nbatch = 1.5\n", "batch should be a whole number, found 1.5"),
        (
            "class System:\n    def __init__(self, *, size): ...\n    def diarize(self, audio): ...\n",
            "",
            "missing a required argument: 'size'",
        ),
        ("class Sistem: ...\n", "", "System"),
        ("raise RuntimeError('two\\nlines')\n", "", "its adapter can't be imported: RuntimeError: two lines"),
        ("raise SystemExit(3)\n", "", "its adapter can't be imported: SystemExit: 3"),
        ("class System\n", "", "its adapter can't be imported: SyntaxError: "),
        ("import no_such_module\n", "", "its adapter can't be imported: ModuleNotFoundError: "),
    ],
)
def test_adapters_that_do_not_fit_their_card(registry, cards, adapter, card, says):
    problem = look(cards, adapter, card)
    assert says in problem
    assert not problem.startswith("ok")
    assert "\n" not in problem


NETWORKS = """
import torch
from diarbench.measure import Network


class System:
    def __init__(self, *, weights, width=2): ...

    def diarize(self, audio): ...

    @classmethod
    def networks(cls, *, width=2):
        shared = torch.nn.Linear(width, width)
        both = torch.nn.Sequential(shared, torch.nn.Linear(width, 1))
        inputs = lambda batch, seconds: (torch.zeros(batch, width),)
        return {"one": Network(shared, inputs), "two": Network(both, inputs)}
"""


def test_networks_are_built_without_weights_and_counted_once(registry, cards):
    pytest.importorskip("torch", reason="torch is not installed")
    weights = '[weights.seg]\nhub = "o/r"\nrevision = "main"\nfiles = ["x.bin"]\nlicence = "CC BY-NC 4.0"\n'
    said = look(cards, NETWORKS, "[options]\nwidth = 100\n" + weights)
    assert "; 10,201 parameters in one, two; weights seg from o/r (CC BY-NC 4.0, not pinned); not run" in said
    assert "networks() failed with the card's [options]: " in look(cards, NETWORKS, "[options]\nwidth = -1\n")


NEEDY = 'requires = ["no-such-thing>=1"]\n'


def test_a_run_needs_what_the_card_requires(registry, cards):
    cards.system("fam/sys", 'title = "S"\nadapter = "./adapter.py:System"\n' + NEEDY)
    (check,) = check_card(registry, "sys", run=True)
    assert (check.problem, check.missing) == ("not installed: pip install 'no-such-thing>=1'", ("no-such-thing>=1",))


def test_a_look_needs_it_only_where_the_adapter_does(registry, cards):
    needs = "needs what is not installed: pip install 'no-such-thing>=1'; the rest of the card holds"
    assert look(cards, ADAPTER, NEEDY) == f"ok: {needs}; not run"
    (check,) = check_card(Registry((cards.path,)), "sys", run=False)
    assert check.missing == ("no-such-thing>=1",)
    assert look(cards, NETWORKS, NEEDY).startswith(f"ok: {needs}; 9 parameters in one, two")


@pytest.mark.parametrize(
    ("adapter", "card", "says"),
    [
        ("import no_such_thing\n" + ADAPTER, "", "its adapter can't be imported: ModuleNotFoundError"),
        (ADAPTER, "[options]\nwindov = 1\n", "got an unexpected keyword argument 'windov'; did you mean window?"),
        (
            NETWORKS.replace("shared = ", "import no_such_thing\n        shared = "),
            "",
            "networks() failed with the card's [options]: ModuleNotFoundError",
        ),
    ],
)
def test_what_can_not_be_looked_at_without_it_fails(registry, cards, adapter, card, says):
    problem = look(cards, adapter, NEEDY + card)
    assert problem.startswith("not installed: pip install 'no-such-thing>=1'; without, ")
    assert says in problem


def test_networks_that_need_a_missing_torch_are_not_passed_over(registry, cards, monkeypatch):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, find=importlib.util.find_spec: None if name == "torch" else find(name)
    )
    monkeypatch.setattr("diarbench.checking.missing_requirements", lambda requires: list(requires))
    monkeypatch.setitem(sys.modules, "torch", None)
    adapter = NETWORKS.replace("import torch\nfrom diarbench.measure import Network\n", "")
    assert "without, counting needs torch" in look(cards, adapter, 'requires = ["torch>=2"]\n')
    assert look(cards, adapter).startswith("ok: card, adapter")


def test_stored_outputs_are_read_as_far_as_they_are_here(registry, cards, monkeypatch, tmp_path):
    monkeypatch.setenv("DIARBENCH_DATA", str(tmp_path))
    cards.system("fam/stored", 'title = "S"\nadapter = "diarbench.adapters:Replay"\n[files]\nd = "out"\ne = "gone"\n')
    assert "its file 'd' is not there" in str(check_card(registry, "stored", run=True)[0].problem)
    (look,) = check_card(registry, "stored", run=False)
    assert (look.problem, look.summary) == (None, "not here: 2 of 2 datasets")
    (tmp_path / "out").mkdir()
    for run in (True, False):
        assert "out: no .rttm file in this folder" in str(check_card(registry, "stored", run=run)[0].problem)
    for name in "ab":
        (tmp_path / "out" / f"{name}.rttm").write_text("")
    for run in (True, False):
        (found,) = check_card(registry, "stored", run=run)
        assert (found.problem, found.summary) == (None, "stored outputs of d (2); not here: 1 of 2 datasets")
    (tmp_path / "out" / "a.rttm").write_text("broken")
    assert "a.rttm, line 1" in str(check_card(registry, "stored", run=True)[0].problem)


def test_stored_outputs_are_held_against_the_datasets_that_are_here(registry, cards, monkeypatch, tmp_path):
    monkeypatch.setenv("DIARBENCH_DATA", str(tmp_path))
    cards.dataset(
        "meetings", DATASET.replace("whole-file", "all.uem") + '[folder]\nroot = "meetings"\naudio = "none"\n'
    )
    files = 'data = "out"\nmeetings = "out"\nunknown = "out"\n'
    cards.system("fam/stored", f'title = "S"\nadapter = "diarbench.adapters:Replay"\n[files]\n{files}')
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.rttm").write_text("")
    assert problems(registry, "stored") == [None]  # of meetings nothing is here
    reference = tmp_path / "meetings" / "reference"
    reference.mkdir(parents=True)
    for name in "abcde":
        (reference / f"{name}.rttm").write_text(f"SPEAKER {name} 1 0 1 <NA> <NA> A <NA> <NA>\n")
    (tmp_path / "meetings" / "all.uem").write_text("".join(f"{name} 1 0 2\n" for name in "abcde"))
    for run in (True, False):
        assert check_card(registry, "stored", run=run)[0].problem == (
            "no RTTM of meetings for 4 of 5 recordings (b, c, d, …); an empty ID.rttm says that nobody speaks"
        )
    for name in "bcde":
        (tmp_path / "out" / f"{name}.rttm").write_text("")
    (found,) = check_card(registry, "stored", run=True)
    assert (found.problem, found.summary) == (None, "stored outputs of data (5), meetings (5), unknown (5)")
    # Of a dataset that is scored over whole files, the audio is needed, and is here.
    (tmp_path / "out" / "a.rttm").unlink()
    assert str(problems(registry, "stored")[0]).startswith(
        "no RTTM of data for 1 of 1 recordings (a); no RTTM of meetings "
    )


def test_notes_of_a_dataset_are_told(registry, cards, write_audio):
    write_audio(cards.path / "datasets" / "audio" / "b.wav", seconds=1.0, rate=8000)
    with (cards.path / "datasets" / "all.rttm").open("a") as file:
        file.write("SPEAKER a 1 35 5 <NA> <NA> A <NA> <NA>\n")
    (found,) = check_card(registry, "data", run=False)
    assert found.problem is None
    assert any("reference goes on after its audio ends" in note for note in found.notes)
    assert any("1 audio file has no reference and is left out (b" in note for note in found.notes)
    cards.dataset("data", DATASET + '[folder]\nreference = "all.rttm"\n[expect]\nrecordings = 9\n')
    (found,) = check_card(registry, "data", run=False)
    assert found.problem is not None
    assert found.notes
