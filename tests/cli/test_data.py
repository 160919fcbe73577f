"""`diarbench data`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from diarbench.registry import shipped
from diarbench.rttm import read_rttm


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Flat single-speaker files of three speakers: four bursts of noise in each."""
    folder = tmp_path / "speech"
    folder.mkdir()
    for seed in range(9):
        rng = np.random.default_rng(seed)
        signal = np.zeros(16000 * 8, dtype=np.float32)
        for second in range(0, 8, 2):
            signal[second * 16000 + 4000 : second * 16000 + 26000] = 0.1 * rng.standard_normal(22000)
        soundfile.write(folder / f"s{seed % 3}-{seed}.flac", signal, 16000)
    return folder


def test_conversations_from_speech(diarbench, speech, tmp_path):
    arguments = ("--speech", speech, "--conversations", 2, "--duration", 30, "--speakers", "2-3")
    answer = diarbench("data", "simulate", *arguments, "--out", tmp_path / "set", "--format", "json")
    assert (answer.code, answer.err) == (0, "")
    facts = json.loads(answer.out)
    assert facts.keys() == {
        "folder", "conversations", "duration", "speech", "overlap",
        "least_speakers", "most_speakers", "different_speakers", "turns",
    }  # fmt: skip
    assert (facts["conversations"], facts["duration"]) == (2, 60.0)
    assert (facts["least_speakers"], facts["most_speakers"], facts["different_speakers"]) == (2, 3, 3)
    assert 0 < facts["overlap"] < facts["speech"] < 60
    references = read_rttm(tmp_path / "set" / "reference.rttm")
    assert list(references) == ["set01", "set02"]
    assert sum(len(turns) for turns in references.values()) == facts["turns"]
    assert soundfile.info(tmp_path / "set" / "audio" / "set02.flac").duration == 30.0

    again = diarbench("data", "simulate", *arguments, "--out", tmp_path / "more" / "set")
    assert again.code == 0
    assert "2 to 3 in each, 3 different ones" in again.out
    for name in ("reference.rttm", "evaluation.uem", "simulation.json", "audio/set01.flac", "audio/set02.flac"):
        assert (tmp_path / "set" / name).read_bytes() == (tmp_path / "more" / "set" / name).read_bytes()

    other = diarbench("data", "simulate", *arguments, "--seed", 1, "--out", tmp_path / "other" / "set")
    assert other.code == 0
    rttm = (tmp_path / "other" / "set" / "reference.rttm").read_text()
    assert rttm != (tmp_path / "set" / "reference.rttm").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x"], "either --speech DIR or --voices"),
        (["--out", "x", "--speech", "speech", "--voices"], "either --speech DIR or --voices"),
        (["--out", "x", "--speech", "nowhere"], "nowhere: no such folder of speech"),
        (["--out", "x", "--speech", "speech", "--speakers", "2-9"], "holds 3 speakers (s0, s1, s2); 9 were asked for"),
        (["--out", "x", "--speech", "speech", "--speakers", "two"], "--speakers 'two' is no number and no range"),
        (["--out", "x", "--speech", "speech", "--speakers", "3-2"], "from 3 to 2 speakers"),
        (["--out", "x", "--speech", "speech", "--seed", "-1"], "the seed -1 is negative"),
        (["--out", "x", "--speech", "speech", "--duration", "0"], "can't last 0 s"),
        (["--out", "x", "--speech", "speech", "--statistics", "no.json"], "no.json: can't be read"),
        (["--out", "speech", "--speech", "speech"], "speech: exists already"),
        (["--out", "speech", "--voices"], "speech: exists already"),
        (["--out", "speech/s0-0.flac/x", "--speech", "speech", "--speakers", "2"], "speech/s0-0.flac/x: can't be made"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(diarbench, speech, monkeypatch, arguments, message):
    monkeypatch.chdir(speech.parent)
    answer = diarbench("data", "simulate", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert [path.name for path in speech.parent.iterdir()] == ["speech"]


def test_statistics_are_fitted_and_used(diarbench, speech, tmp_path):
    rows = "".join(
        f"SPEAKER a 1 {start} {length} <NA> <NA> {who} <NA> <NA>\n"
        for start, length, who in ((0, 4, "A"), (1, 0.5, "B"), (3.5, 2, "B"), (6, 3, "B"))
    )
    (tmp_path / "a.rttm").write_text(rows)
    answer = diarbench("data", "statistics", tmp_path / "a.rttm", "--out", tmp_path / "s.json", "--source", "mine")
    assert (answer.code, answer.err) == (0, "")
    assert "4 turns of 1 recordings" in answer.out
    content = json.loads((tmp_path / "s.json").read_text())
    assert (content["format"], content["source"], content["turns"]) == (1, "mine", 4)
    assert set(content["gaps"]) == {-0.5}
    arguments = ("--speech", speech, "--conversations", 1, "--duration", 30, "--speakers", 2)
    answer = diarbench("data", "simulate", *arguments, "--statistics", tmp_path / "s.json", "--out", tmp_path / "set")
    assert answer.code == 0
    assert json.loads((tmp_path / "set" / "simulation.json").read_text())["statistics"]["source"] == "mine"

    (tmp_path / "alone.rttm").write_text("SPEAKER a 1 0 1 <NA> <NA> A <NA> <NA>\n")
    answer = diarbench("data", "statistics", tmp_path / "alone.rttm", "--out", tmp_path / "t.json")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert not (tmp_path / "t.json").exists()


def test_a_bar_on_a_terminal_only(diarbench, speech, tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    arguments = ("--speech", speech, "--conversations", 1, "--duration", 30, "--speakers", 2)
    answer = diarbench("data", "simulate", *arguments, "--out", tmp_path / "set", "--format", "json")
    assert answer.code == 0
    assert "conversations" in answer.err
    assert json.loads(answer.out)["conversations"] == 1


def test_the_shipped_voices_can_be_made_again(diarbench, tmp_path):
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    folder = shipped() / "datasets" / "voices"
    [command] = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("diarbench ")]
    # The first conversation is the same however many are made, and one is made in seconds.
    words = ["1" if word == "12" else word for word in command.split()[1:]]
    made = tmp_path / words.pop()
    assert diarbench(*words, made).code == 0
    described, expected = (json.loads((f / "simulation.json").read_text()) for f in (made, folder))
    if described["origin"] != expected["origin"]:
        pytest.skip(f"another espeak-ng speaks here: {described['origin']}")
    assert described["recordings"]["voices01"] == expected["recordings"]["voices01"]
    ours, theirs = (read_rttm(place / "reference.rttm")["voices01"] for place in (made, folder))
    assert ours == theirs
    ours, theirs = (soundfile.read(place / "audio" / "voices01.opus")[0] for place in (made, folder))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
