"""`diarbench list`, `check` and `new`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def test_list_has_what_is_shipped_and_what_is_here(diarbench, here):
    found = json.loads(diarbench("list", "--format", "json").out)
    assert {"good", "deaf", "silero-ge2e", "silence"} <= {row["name"] for row in found["systems"]}
    assert {"mine", "sample", "voices"} <= {row["name"] for row in found["datasets"]}
    assert "demo" in {row["name"] for row in found["reports"]}
    assert "good" in diarbench("list", "systems").out
    assert "mine" not in diarbench("list", "systems").out


def test_a_broken_card_hides_no_other(diarbench, here):
    Path("systems/broken.toml").write_text('title = "Broken"\nadaptor = "./adapter.py:System"\n')
    answer = diarbench("list", "systems")
    assert answer.code == 1
    assert "good" in answer.out
    assert "did you mean adapter?" in answer.out


def test_new_system_passes_check(diarbench, here):
    assert diarbench("new", "system", "fresh").code == 0
    adapter = Path("systems/fresh/adapter.py")
    assert len(adapter.read_text().splitlines()) <= 25
    answer = diarbench("check", "fresh")
    assert answer.code == 0, answer.out
    assert "ok" in answer.out
    second = diarbench("new", "system", "fresh")
    assert second.code == 2
    assert "already there" in second.err


@pytest.mark.parametrize("name", ["../evil", "Upper", "", "a b", ".hidden"])
def test_new_system_refuses_names(diarbench, here, name):
    before = sorted(here.rglob("*"))
    answer = diarbench("new", "system", name)
    assert answer.code == 2
    assert sorted(here.rglob("*")) == before


def test_check_tells_what_is_wrong(diarbench, here):
    Path("systems/adapter.py").write_text(
        "class System:\n    def diarize(self, audio):\n        return [(3, 1, 'A')]\n"
    )
    answer = diarbench("check", "good", "--format", "json")
    assert answer.code == 1
    (result,) = json.loads(answer.out)["checks"]
    assert "ends before it starts" in result["problem"]
    assert diarbench("check", "good", "--no-weights").code == 0


def test_check_datasets_and_reports(diarbench, here):
    assert "3 recordings" in diarbench("check", "mine").out
    with Path("datasets/mine.toml").open("a") as file:
        file.write("[expect]\nrecordings = 4\n")
    answer = diarbench("check", "mine")
    assert answer.code == 1
    assert "3 recordings, the card expects 4" in answer.out
    Path("reports").mkdir()
    Path("reports/ours.toml").write_text('title = "Ours"\nsystems = ["god"]\ndatasets = ["mine"]\n')
    assert "did you mean good" in diarbench("check", "ours").out


def test_every_shipped_card_is_whole(diarbench, here):
    answer = diarbench("check", "silero-ge2e*", "one-speaker", "silence", "vad-only", "demo", "--no-weights")
    assert answer.code == 0, answer.out
