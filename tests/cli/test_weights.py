"""Weights from a hub, and from a folder, through the whole command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")

from diarbench import hub as hub_module

sys.path.insert(0, str(Path(__file__).parents[1]))  # hub_server.py

from hub_server import TOKEN, serve

ADAPTER = """\
from pathlib import Path


class System:
    def __init__(self, *, weights: dict):
        names = sorted(path.name for path in Path(weights["seg"]).iterdir())
        assert names == ["config.txt", "model.bin"], names
        self.end = float((Path(weights["seg"]) / "config.txt").read_text())

    def diarize(self, audio):
        return [(0.0, self.end, "A")]
"""
CARD = """\
title   = "From a hub"
adapter = "./adapter.py:System"

[weights.seg]
hub      = "o/r"
revision = "main"
files    = ["config.txt", "*.bin"]
licence  = "CC BY-NC 4.0"
gated    = true
"""
FILES = {"config.txt": b"2.5", "model.bin": b"w" * 100, "README.md": b"words"}


@pytest.fixture
def hub(here, tmp_path, own_cache, monkeypatch):
    """A hub with a gated repository o/r, and a system `far` whose weights it has."""
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DIARBENCH_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    folder = here / "systems" / "far"
    folder.mkdir(parents=True)
    (folder / "adapter.py").write_text(ADAPTER)
    (folder / "far.toml").write_text(CARD)
    hub_module._fetched.cache_clear()
    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.add("o/r", FILES, gated=True, members={TOKEN})
        yield server


def test_a_gated_system_from_refusal_to_leaderboard(hub, here, diarbench, monkeypatch):
    refused = diarbench("run", "-s", "far", "-d", "mine", "--limit", 1)
    assert refused.code == 1
    assert f"failed: far: o/r is gated: accept the conditions at {hub.url}/o/r" in refused.err
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    done = diarbench("run", "-s", "far", "-d", "mine", "--limit", 1)
    assert done.code == 0, done.err
    commit = hub.repositories["o/r"].main
    notes = [line for line in done.err.splitlines() if line.startswith("note: weights o/r: ")]
    assert notes == [
        f"note: weights o/r: licence CC BY-NC 4.0; not pinned: main is commit {commit[:12]} here, which results record"
    ]
    runs = [json.loads(path.read_text()) for path in (here / "runs").rglob("run.json")]
    (run,) = [run for run in runs if run["identity"]["system"]["weights"]]
    found = run["card"]["weights"]["seg"]
    assert (found["hub"], found["commit"], found["licence"]) == ("o/r", commit, "CC BY-NC 4.0")
    assert sorted(found["sha256"]) == ["config.txt", "model.bin"]
    assert "CC BY-NC 4.0" in (here / "runs" / "leaderboard.html").read_text()
    stored = [path for path in here.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in stored)
    assert TOKEN not in done.out + done.err + refused.err

    # What is here is enough, and a copy of it elsewhere is the same run.
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("DIARBENCH_OFFLINE", "1")
    hub.seen.clear()
    folder = here / "copies" / "r"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    for more in ((), ("--weights", here / "copies")):
        kept = diarbench("run", "-s", "far", "-d", "mine", "--limit", 1, *more)
        assert kept.code == 0, kept.err
        assert "0 recordings run, 1 already there" in kept.out
    assert hub.seen == []


def test_check_with_and_without_weights(hub, here, diarbench, monkeypatch):
    looked = diarbench("check", "far", "--no-weights")
    assert looked.code == 0
    assert "weights seg from o/r (CC BY-NC 4.0, not pinned)" in looked.out
    assert hub.seen == []
    assert "o/r is gated: accept the conditions" in diarbench("check", "far").out
    folder = here / "mine" / "o" / "r"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    checked = diarbench("check", "far", "--weights", here / "mine")
    assert checked.code == 0, checked.out
    assert f"licence CC BY-NC 4.0; taken from {folder}" in checked.err
    (folder / "model.bin").unlink()
    assert "mine/o/r holds no *.bin, which the card names" in diarbench("check", "far", "--weights", "mine").out


def test_options_that_contradict_each_other_and_folders_that_are_none(hub, diarbench):
    both = diarbench("check", "far", "--weights", ".", "--no-weights")
    assert (both.code, both.err) == (
        2,
        "error: --weights DIR and --no-weights exclude each other; leave one of them out\n",
    )
    for verb in (("check", "far"), ("run", "-s", "far", "-d", "mine")):
        gone = diarbench(*verb, "--weights", "gone")
        assert gone.code == 2
        assert gone.err.startswith("error: --weights gone: no such folder")
