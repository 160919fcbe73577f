"""A laboratory in a temporary folder: tiny recordings, adapters of a few lines, runs without the command line."""

from __future__ import annotations

import json
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from diarbench.board import read_board
from diarbench.cards import DatasetCard, SystemCard, SystemSpec, expand, read_card
from diarbench.execute import Failure, Outcome, execute
from diarbench.leaderboard import Entry, Leaderboard
from diarbench.loaders import Dataset, load_dataset
from diarbench.plan import plan
from diarbench.scoring import FULL, RULES
from diarbench.store import RunFolder, find_runs

RATE = 8000  # Hz

# One turn whose end tells the recordings apart; `seconds` of work on each.
PLAIN = """
import time

class System:
    def __init__(self, *, seconds=0.0, end=None):
        self.seconds, self.end = seconds, end

    def diarize(self, audio):
        time.sleep(self.seconds)
        level = float(abs(audio.mono()).max())
        return [(0.0, self.end or round(level, 3), "A"), (0.05, 0.15, "B")]
"""


@dataclass
class Shown:
    """What a run reports while it goes on."""

    begun: tuple[int, float] = (0, 0.0)
    systems: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    recordings: list[tuple[str, str, str]] = field(default_factory=list)  # system, recording, status

    def begin(self, recordings: int, audio: float) -> None:
        self.begun = (recordings, audio)

    def system(self, name: str, position: int, count: int) -> None:
        self.systems.append(name)

    def failed(self, failure: Failure) -> None:
        self.failures.append(str(failure))

    def recording(self, system: str, recording: str, audio: float, status: str) -> None:
        self.recordings.append((system, recording, status))


class Lab:
    """Everything below one folder; results in `runs`."""

    def __init__(self, path: Path) -> None:
        self.path, self.runs = path, path / "runs"
        self.shown = Shown()

    @classmethod
    def alone(cls, path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
        """A laboratory with a temporary folder and a cache of its own: it sees no other runs of this machine."""
        (path / "temporary").mkdir()
        monkeypatch.setenv("TMPDIR", str(path / "temporary"))
        monkeypatch.setattr(tempfile, "tempdir", None)
        monkeypatch.setenv("DIARBENCH_CACHE", str(path / "cache"))
        return cls(path / "lab")

    def system(self, name: str, code: str = PLAIN, *, card: str = "", **options: Any) -> SystemSpec:
        """A system in a folder of its own; `card` is more of the card's text."""
        folder = self.path / "systems" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter.py").write_text(textwrap.dedent(code))
        lines = [f'title = "{name}"', 'adapter = "./adapter.py:System"', card, "[options]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in options.items()]
        (folder / f"{name}.toml").write_text("\n".join(lines) + "\n")
        return expand(name, folder / f"{name}.toml", read_card(folder / f"{name}.toml", SystemCard))[0]

    def dataset(self, name: str = "mine", ids: Sequence[str] = ("a", "b", "c"), *, seconds: float = 0.2) -> Dataset:
        """Recordings of one level each, in which A speaks from the beginning to the end."""
        folder = self.path / "datasets" / name
        (folder / "audio").mkdir(parents=True, exist_ok=True)
        for position, recording_id in enumerate(ids):
            write_level(folder / "audio" / f"{recording_id}.wav", 0.1 + 0.001 * position, seconds=seconds)
        lines = [f"SPEAKER {recording_id} 1 0.000 {seconds:.3f} <NA> <NA> A <NA> <NA>\n" for recording_id in ids]
        (folder / "reference.rttm").write_text("".join(lines))
        card = self.path / "datasets" / f"{name}.toml"
        card.write_text(
            f'title = "{name}"\nlicence = "CC0"\nget = "it is here"\nuem = "whole-file"\nsample_rate = {RATE}\n'
            f'[folder]\nroot = "{name}"\nreference = "reference.rttm"\n'
        )
        return load_dataset(name, card, read_card(card, DatasetCard))

    def run(
        self,
        systems: SystemSpec | Sequence[SystemSpec],
        datasets: Dataset | Sequence[Dataset],
        *,
        limit: int | None = None,
        threads: int = 1,
        machine: str = "box",
        facts: Mapping[str, Any] | None = None,
        **how: Any,
    ) -> Outcome:
        """Plan and execute."""
        systems = [systems] if isinstance(systems, SystemSpec) else systems
        datasets = [datasets] if isinstance(datasets, Dataset) else datasets
        jobs = plan(systems, datasets, device="cpu", threads=threads, limit=limit)
        self.shown = Shown()
        return execute(jobs, root=self.runs, machine=machine, machine_facts=facts or {}, progress=self.shown, **how)

    def folders(self, system: str | None = None) -> list[RunFolder]:
        """The runs stored, perhaps of one system."""
        return [run for run in find_runs([self.runs]) if system in (None, run.run["system"])]

    def folder(self, system: str) -> RunFolder:
        """The only run of a system."""
        (found,) = self.folders(system)
        return found

    def rttms(self) -> dict[str, bytes]:
        """All hypotheses stored, by their path below the results."""
        return {str(p.relative_to(self.runs)): p.read_bytes() for p in sorted(self.runs.rglob("recordings/*.rttm"))}

    def sessions_of_results(self, system: str) -> dict[str, str]:
        """Which process made each result."""
        return {name: stored.result["session"] for name, stored in self.folder(system).all_stored().items()}

    def leftovers(self) -> list[Path]:
        """Temporary files in the results."""
        return list(self.runs.rglob(".writing-*"))

    def board(self, **how: Any) -> Leaderboard:
        """The leaderboard of all that is stored."""
        how = {"title": "Lab", "rules": list(RULES.values()), "rule": FULL, **how}
        return read_board(how.pop("roots", [self.runs]), **how)

    def entry(self, system: str, **how: Any) -> Entry:
        """One system on the board."""
        return next(line.entry for line in self.board(**how).lines if line.entry.system == system)


def write_level(path: Path, level: float, *, seconds: float = 0.2) -> None:
    """A WAV whose samples all have one value; as many bytes for every level."""
    soundfile.write(str(path), np.full(round(seconds * RATE), level), RATE, subtype="PCM_16")
