"""`diarbench list`, `check` and `new`."""

from __future__ import annotations

import json
import re
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
    assert second.err == "error: the name 'fresh' is taken by systems/fresh/fresh.toml; choose another name\n"


@pytest.mark.parametrize(
    ("name", "card"), [("silence", "silence.toml"), ("mine", "datasets/mine.toml"), ("demo", "demo.toml")]
)
def test_new_system_refuses_a_name_in_use(diarbench, here, name, card):
    before = sorted(here.rglob("*"))
    answer = diarbench("new", "system", name)
    assert answer.code == 2
    assert answer.err.startswith(f"error: the name '{name}' is taken by ")
    assert f"{card}; choose another name\n" in answer.err
    assert sorted(here.rglob("*")) == before


def test_a_card_that_hides_a_shipped_one_is_told(diarbench, here):
    assert "hides" not in diarbench("list").err
    Path("systems/silence.toml").write_text(Path("systems/good.toml").read_text())
    note = "note: silence: systems/silence.toml hides the card of that name that comes with diarbench; "
    for words in ("list", "list systems --format json", "run -s silence -d mine", "report --format md"):
        assert diarbench(*words.split()).err.count(note) == 1, words
    for words in ("list datasets", "run -s good -d mine", "report -s good --format md"):
        assert "hides" not in diarbench(*words.split()).err, words


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
    Path("systems/adapter.py").write_text("class System:\n    def diarize(self, audio):\n        return {}['x']\n")
    assert "KeyError: 'x' (systems/adapter.py, line 3)\n" in diarbench("check", "good").out


@pytest.mark.parametrize(
    ("end", "problem", "notes"),
    [
        ("10.4", None, []),
        ("12", None, ["good: turns end at 12 s, the recording at 10 s"]),
        ("2500", "turns end at 2500 s, the recording at 10 s; are these milliseconds?", []),
    ],
)
def test_turns_that_end_after_the_recording(diarbench, here, end, problem, notes):
    adapter = f"class System:\n    def diarize(self, audio):\n        return [(1, {end}, 'A')]\n"
    Path("systems/adapter.py").write_text(adapter)
    answer = diarbench("check", "good", "--format", "json")
    (result,) = json.loads(answer.out)["checks"]
    assert (result["problem"], result["notes"]) == (problem, notes)
    assert answer.code == (1 if problem else 0)
    assert all(f"note: {note}\n" in answer.err for note in notes)


def test_notes_of_a_dataset_are_shown(diarbench, here):
    Path("datasets/mine/audio/d.wav").write_bytes(Path("datasets/mine/audio/a.wav").read_bytes())
    answer = diarbench("check", "mine", "--format", "json")
    assert answer.code == 0
    (result,) = json.loads(answer.out)["checks"]
    (note,) = result["notes"]
    assert "1 audio file has no reference and is left out (d" in note
    assert f"note: {note}\n" in answer.err
    assert note in diarbench("check", "mine").err


def test_the_keys_of_check_are_documented(diarbench, here):
    from diarbench.registry import shipped

    (result,) = json.loads(diarbench("check", "mine", "--format", "json").out)["checks"]
    page = (shipped() / "docs" / "json.md").read_text().split("# Checks as JSON")[1]
    documented = re.findall(r"^\| `checks\[\]\.(\w+)(?:\[\])?` \|", page, re.MULTILINE)
    assert list(result) == documented


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
