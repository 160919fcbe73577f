"""`diarbench count`: sizes from cards alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

ADAPTER = """\
import torch
from diarbench.measure import Network
from helper import WIDTH

print("imported")

class System:
    def __init__(self, *, weights, wide=False):
        raise RuntimeError("a system was built")

    @classmethod
    def networks(cls, *, wide=False):
        net = torch.nn.Sequential(torch.nn.Linear(4, WIDTH * (1 + wide)))
        inputs = lambda batch, seconds: (torch.zeros(batch, round(10 * seconds), 4),)
        return {"net": Network(net, inputs, 2.0, {"head": ["0"]}, encoder="")}

    def diarize(self, audio):
        return []
"""
CARD = """\
title = "Counted"
adapter = "./adapter.py:System"
[weights.net]
wheel = "no-such-wheel-anywhere==1.0"
member = "net.bin"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
"""


@pytest.fixture
def family(here: Path) -> None:
    """Two families with a helper of the same name, and a card with a sweep."""
    for name, width in (("one", 3), ("two", 5)):
        folder = here / "systems" / name
        folder.mkdir()
        (folder / "adapter.py").write_text(ADAPTER)
        (folder / "helper.py").write_text(f"WIDTH = {width}\n")
        (folder / f"{name}.toml").write_text(CARD)
    (here / "systems" / "one" / "wider.toml").write_text(f"{CARD}[sweep]\nwide = [false, true]\n")


def test_json(diarbench, family):
    answer = diarbench("count", "one", "two", "--format", "json")
    assert (answer.code, answer.err.count("imported")) == (0, 2)
    systems = json.loads(answer.out)["systems"]
    assert list(systems) == ["one", "two"]
    assert systems["one"] == {
        "error": None,
        "parameters": 15,
        "encoder_parameters": 15,
        "bytes": {"files": None, "held": None, "by_type": {}},
        "macs": {"encoder_1s": 120, "window_per_s": 120.0, "window": 2.0, "pipeline_per_s": None},
        "macs_at": None,
        "parts": {"head": {"parameters": 15, "macs_1s": 120}},
        "stages": {"net": {"parameters": 15, "macs_1s": 120, "window": 2.0, "macs_window": 240}},
    }
    assert systems["two"]["parameters"] == 25


def test_patterns_sweeps_and_paths(diarbench, family):
    systems = json.loads(diarbench("count", "wider", "tw*", "systems/one/one.toml", "--format", "json").out)["systems"]
    assert {name: one["parameters"] for name, one in systems.items()} == {
        "wider@wide=False": 15,
        "wider@wide=True": 30,
        "two": 25,
        "one": 15,
    }


def test_another_length(diarbench, family):
    answer = diarbench("count", "one", "--seconds", "8", "--format", "json")
    found = json.loads(answer.out)["systems"]["one"]
    assert found["macs_at"] == {"seconds": 8.0, "encoder": 960, "stages": {"net": 960}}
    assert "its 8 s" in diarbench("count", "one", "--seconds", "8").out
    for wrong in ("0", "-1", "long"):
        assert diarbench("count", "one", "--seconds", wrong).code == 2


def test_table(diarbench, family):
    answer = diarbench("count", "one", "wider")
    assert answer.code == 0
    assert "one, wider@wide=False\n" in answer.out
    assert [line.split() for line in answer.out.splitlines() if line.strip().startswith("head")] == [
        ["head", "15", "120"],
        ["head", "30", "240"],
    ]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("class System:\n    def diarize(self, audio): ...\n", "has no class method networks(**options): add one"),
        ("1 / 0\n", "imported: ZeroDivisionError: division by zero (systems/two/adapter.py, line 1)"),
        ("import no_such_package\n", "its adapter can't be imported: ModuleNotFoundError"),
        (ADAPTER.replace("cls, *, wide", "cls, *, deep"), "networks() failed with the card's [options]: TypeError"),
        (ADAPTER.replace("(batch, round", "(3, batch, round").replace(", 4),)", ", 9),)"), "can't be counted on 1 s"),
    ],
    ids=["no networks", "raises", "lacks a package", "other options", "wrong inputs"],
)
def test_one_line_for_each_that_can_not_be_counted(diarbench, here, family, code, message):
    (here / "systems" / "two" / "adapter.py").write_text(code)
    (here / "systems" / "two" / "two.toml").write_text(f"{CARD}[options]\nwide = true\n")
    alone = diarbench("count", "two")
    assert alone.code == 2
    assert alone.out == ""
    lines = [line for line in alone.err.splitlines() if line != "imported"]
    assert len(lines) == 1
    assert lines[0].startswith("error: two: ")
    assert message in lines[0]
    both = diarbench("count", "one", "two", "--format", "json")
    assert both.code == 1
    assert "not counted: two: " in both.err
    systems = json.loads(both.out)["systems"]
    assert message in systems["two"]["error"]
    assert systems["two"]["parameters"] is None
    assert systems["one"]["parameters"] == 15


def test_what_is_not_installed(diarbench, here, family, monkeypatch):
    card = here / "systems" / "two" / "two.toml"
    card.write_text(card.read_text().replace("[weights", 'requires = ["no-such-thing>=1"]\n[weights'))
    answer = diarbench("count", "two")
    assert answer.code == 2
    assert "two: not installed: pip install 'no-such-thing>=1'" in answer.err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "counting needs torch: pip install" in diarbench("count", "one").err


def test_unknown_names(diarbench, family):
    answer = diarbench("count", "tvo")
    assert answer.code == 2
    assert "did you mean two?" in answer.err
    assert diarbench("count").code == 2


def test_files_that_are_here_are_weighed(diarbench, here, family):
    (here / "systems" / "one" / "net.bin").write_bytes(b"12345")
    card = 'title = "Counted"\nadapter = "./adapter.py:System"\n[weights.net]\npath = "net.bin"\n'
    (here / "systems" / "one" / "one.toml").write_text(card)
    found = json.loads(diarbench("count", "one", "--format", "json").out)["systems"]["one"]
    assert found["bytes"]["files"] == 5


def test_the_shipped_systems(diarbench, here):
    answer = diarbench("count", "silero-ge2e", "silero-ge2e-int8", "silero-ge2e-units-75", "vad-only", "--format=json")
    systems = json.loads(answer.out)["systems"]
    assert {name: one["parameters"] for name, one in systems.items()} == {
        "silero-ge2e": 1_733_249,
        "silero-ge2e-int8": 1_733_249,
        "silero-ge2e-units-75": 1_131_649,
        "vad-only": 309_633,
    }
    assert systems["silero-ge2e"]["macs"]["encoder_1s"] == 135_233_536
    assert systems["silero-ge2e-int8"]["macs"] == systems["silero-ge2e"]["macs"]
    assert systems["vad-only"]["macs"]["encoder_1s"] is None
