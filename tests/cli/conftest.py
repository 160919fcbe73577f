"""The command line, called as a user would, and a small dataset to call it on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from diarbench.cli import main


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def diarbench(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Call `diarbench ARGUMENTS` in this process; gives the exit code and what was printed."""

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["diarbench", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code: object = 0
        except SystemExit as stop:
            code = stop.code
        printed = capfd.readouterr()
        return Answer(int(code or 0), printed.out, printed.err)  # type: ignore[call-overload]

    return call


SYSTEM = """\
import numpy as np

class System:
    def __init__(self, *, threshold=0.05):
        self.threshold = threshold

    def diarize(self, audio):
        loud = np.abs(audio.mono().reshape(-1, audio.sample_rate // 10)).max(axis=1) > self.threshold
        return [(i / 10, (i + 1) / 10, "A") for i in np.flatnonzero(loud)]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a dataset `mine` (three recordings, one speaker from 1 s to 3 s of 5) and two systems."""
    monkeypatch.chdir(tmp_path)
    audio = tmp_path / "datasets" / "mine" / "audio"
    audio.mkdir(parents=True)
    signal = np.zeros(5 * 16000, dtype=np.float32)
    signal[16000:48000] = 0.1 * np.sin(np.arange(32000) * 0.1)
    for name in ("a", "b", "c"):
        soundfile.write(str(audio / f"{name}.wav"), signal, 16000)
    lines = [f"SPEAKER {name} 1 1.0 2.0 <NA> <NA> Anna <NA> <NA>\n" for name in ("a", "b", "c")]
    (tmp_path / "datasets" / "mine" / "reference.rttm").write_text("".join(lines))
    (tmp_path / "datasets" / "mine.toml").write_text(
        'title = "Mine"\nlicence = "CC0"\nget = "it is here"\nuem = "whole-file"\n'
        '[folder]\nroot = "mine"\nreference = "reference.rttm"\n'
    )
    systems = tmp_path / "systems"
    systems.mkdir()
    (systems / "adapter.py").write_text(SYSTEM)
    (systems / "good.toml").write_text('title = "Good"\nadapter = "./adapter.py:System"\n')
    (systems / "deaf.toml").write_text(
        'title = "Deaf"\nadapter = "./adapter.py:System"\nbaseline = "good"\n[options]\nthreshold = 2.0\n'
    )
    return tmp_path
