"""docs/results.md against the files of a real run: each key of each file is documented, and nothing else is."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # small_lab.py

from small_lab import Lab

from diarbench.bench import Wanted, measure
from diarbench.measure.machine import fingerprint
from diarbench.plan import prepare
from diarbench.store import store_measure

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results.md"

# Stages, networks that are counted and one that can't be, weights, files, a failure.
FULL = """
import torch
from diarbench.measure import Network, stage

class System:
    def __init__(self, *, weights, files, deep):
        self.net = torch.nn.Linear(4, 2)
    def modules(self):
        return {"all": self.net}
    @classmethod
    def networks(cls, deep):
        inputs = lambda batch, seconds: (torch.randn(batch, 4),)
        return {"all": Network(torch.nn.Linear(4, 2), inputs, 2.0, {"head": [""]}, encoder="")}
    def diarize(self, audio):
        if audio.recording.id == "b":
            raise ValueError("no")
        with stage("all"):
            self.net(torch.zeros(1, 4))
            return [(-0.1, 1.0, "A")]  # from before the recording to after its end
"""
BARE = "class System:\n timed = needs_audio = False\n def diarize(self, audio): return []\n"


class Unseen:
    """Progress that nobody watches."""

    def step(self, what: str, total: int) -> None: ...

    def part(self, what: str) -> None: ...

    def advance(self) -> None: ...


def documented() -> dict[str, dict[str, bool]]:
    """By the title of the section: the keys of its table, and whether they are always there."""
    found: dict[str, dict[str, bool]] = {}
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        rows = re.findall(r"^\| `([^`]+)`(\??) \|", section, flags=re.MULTILINE)
        if rows:
            found[section.splitlines()[0].replace("`", "")] = {key: not mark for key, mark in rows}
    return found


def keys_of(value: object, free: set[str], at: str = "") -> Iterator[str]:
    """Dotted keys of a JSON value; below those in `free`, only "key.*"."""
    if isinstance(value, dict):
        if at in free:
            if value:
                yield f"{at}.*"
            return
        if at:
            yield at
        for key, item in value.items():
            yield from keys_of(item, free, f"{at}.{key}" if at else key)
    elif isinstance(value, list):
        yield at
        for item in value:
            if isinstance(item, dict):
                yield from keys_of(item, free, f"{at}[]")
    else:
        yield at


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """All JSON files of a run with everything in it, by the titles of the page."""
    pytest.importorskip("torch", reason="torch is not installed")
    lab = Lab.alone(tmp_path, monkeypatch)
    dataset = lab.dataset()
    (lab.path / "net.bin").write_bytes(b"1234")
    text = lab.path / "net.bin"
    more = f'[compression]\nmethod = "none"\n[weights.net]\npath = "{text}"\n[files]\ntable = "{text}"'
    gpu = {"name": "A GPU", "memory_bytes": 1 << 30, "driver": "1.0"}
    facts = {**fingerprint(), "gpus": [gpu]}
    card = dataset.card.model_copy(update={"channel": "first", "source": "A paper", "description": "Made up"})
    dataset = type(dataset)(dataset.name, card, dataset.recordings)
    systems = [lab.system("full", FULL, card=more, deep=[1]), lab.system("bare", BARE), lab.system("broken", "1 / 0")]
    outcome = lab.run(systems, dataset, facts=facts)
    assert (outcome.done, len(outcome.failures)) == (5, 2), outcome.failures
    quick = lab.system("quick")
    wanted = Wanted(
        [prepare(quick)], "quick", "cpu", 1, "d", "0", [dataset.recordings[0].recording], rounds=5, turn=0.01
    )
    session = measure(wanted, machine="box", facts=facts, progress=Unseen())
    store_measure(lab.runs, "box", session["session"], session)
    found: dict[str, list[dict[str, Any]]] = {}
    for path in lab.runs.rglob("*.json"):
        value = json.loads(path.read_text())
        title = path.name
        if path.parent.name == "recordings":
            title = f"recordings/ID.json, {value['status']}"
        elif path.parent.name == "sessions":
            title = "sessions/SESSION.json"
        elif path.parent.name == "_measures":
            title = "_measures/SESSION.json"
        found.setdefault(title, []).append(value)
    return found


def test_every_key_is_documented_and_every_documented_key_is_written(files: dict[str, list[dict[str, Any]]]):
    pages = documented()
    assert set(files) == set(pages)
    for title, keys in pages.items():
        free = {key.removesuffix(".*") for key in keys if key.endswith(".*")}
        written = [set(keys_of(value, free)) for value in files[title]]
        # Objects that hold only documented keys need no line of their own.
        holders = {key.rsplit(".", n)[0] for key in keys for n in range(1, key.count(".") + 1)}
        assert set().union(*written) - holders <= set(keys), f"{title}: a key is not documented"
        assert set(keys) <= set().union(*written), f"{title}: a documented key is not written"
        always = {key for key, present in keys.items() if present}
        for found in written:
            assert always <= found, f"{title}: a key is absent that is said to be always there"
        assert all(value["format"] == 1 for value in files[title])


def test_the_tree_names_every_kind_of_file():
    tree = PAGE.read_text().split("```")[1]
    for title in documented():  # which are all, as the test above sees to
        assert title.split(",")[0] in tree
