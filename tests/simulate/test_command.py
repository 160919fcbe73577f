"""`diarbench data simulate` in rooms."""

from __future__ import annotations

import json
import sys

import pytest

from diarbench.cli import main


def run(monkeypatch, capsys, *arguments) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["diarbench", "data", "simulate", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0), capsys.readouterr().err
    return 0, ""


def test_options_reach_the_simulator(speech, tmp_path, monkeypatch, capsys):
    small = ["--speech", speech, "--conversations", 2, "--duration", 8, "--speakers", "1-2", "--format", "json"]
    room = ["--preset", "far", "--varied", "--without", "D", "--only", "A", "--only", "B", "--speed", "0.9-1.1"]
    assert run(monkeypatch, capsys, *small, *room, "--out", tmp_path / "set") == (0, "")
    written = json.loads((tmp_path / "set" / "simulation.json").read_text())
    assert written["acoustics"]["name"] == "far"
    assert written["only"] == ["A", "B"]
    assert written["without"] == ["D"]
    assert written["speed"] == [0.9, 1.1]
    assert "no corpus" in written["statistics"]["source"]
    assert set(written["heard"]) == {"set01", "set02"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--speed", "fast"], "--speed 'fast' is no range such as 0.9-1.1"),
        (["--speed", "3-4"], "speech can't be from 3 to 4 times as fast"),
        (["--varied", "--statistics", "x.json"], "give one of them"),
        (["--preset", "hall"], "hall"),
        (["--only", "Z"], "there is no speaker 'Z'"),
    ],
)
def test_wrong_options_are_told_and_nothing_is_made(speech, tmp_path, monkeypatch, capsys, wrong, said):
    code, error = run(monkeypatch, capsys, "--speech", speech, "--out", tmp_path / "set", *wrong)
    assert code == 2
    assert said in error.replace("\n", " ")
    assert not (tmp_path / "set").exists()
