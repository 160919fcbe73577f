"""A folder of results that are made up: nothing is run, and what a board has to say of them is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diarbench import store
from diarbench.board import read_board
from diarbench.leaderboard import Entry, Leaderboard, Place
from diarbench.scoring import FAIR, FORGIVING, FULL
from diarbench.store import RunFolder, run_folder, store_dataset, store_machine
from diarbench.types import LabelledRecording, Recording, Timing, Turns

RULES = (FULL, FAIR, FORGIVING)
BOX = Place("box", "cpu", 1)
SPEECH = 8.0  # s of reference speech in each recording


class Shelf:
    """Made-up results: nothing is run. One reference speaker from 1 s to 9 s; a hypothesis has the first part right."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._clock = 0

    def dataset(self, name: str = "d", version: str = "1", ids: str = "abc", machine: str = "box") -> str:
        reference = Turns.of([(1.0, 1.0 + SPEECH, "A")])
        recordings = [LabelledRecording(Recording(i, None, 10.0, 16000), reference, ((0.0, 10.0),)) for i in ids]
        digest = f"{name}{version}".ljust(64, "0")
        facts = {"title": name.upper(), "licence": "CC0", "synthetic": False}
        store_machine(self.root, machine, {})
        store_dataset(self.root, machine, name, digest, facts, recordings)
        return digest

    def run(
        self,
        system: str = "s",
        dataset: str = "d",
        results: Mapping[str, float | str | None] | None = None,
        *,
        version: str = "1",
        place: Place = BOX,
        key: str = "0",
        wall: float | None = 1.0,
        problem: str | None = None,
        error: str | None = None,
        complexity: Mapping[str, Any] | None = None,
        identity: Mapping[str, Any] | None = None,
        **card: Any,
    ) -> RunFolder:
        """`results` by id: the DER that the hypothesis has, or the text of a failure."""
        self._clock += 1
        folder = run_folder(self.root, place.machine, system, dataset, f"{place.device}-{place.threads}t", key)
        session = store.new_session(f"{self._clock:04d}", f"2026-01-01T00:00:{self._clock:02d}")
        folder.write_session({**session, "error": error})
        folder.write_run(
            {
                "key": key, "machine": place.machine, "system": system, "dataset": dataset, "device": place.device,
                "threads": place.threads, "card": {"title": system.upper(), **card}, "complexity": complexity,
                "identity": {"system": dict(identity or {}), "dataset": f"{dataset}{version}".ljust(64, "0")},
            }
        )  # fmt: skip
        for name, value in (results if results is not None else dict.fromkeys("abc", 0.25)).items():
            if isinstance(value, str):
                folder.write_failure(name, value, "", session["session"])
            elif value is not None:
                turns = Turns.of([(1.0, 1.0 + SPEECH * (1 - value), "X")])
                timing = Timing(wall, 10.0) if wall is not None else None
                folder.write_result(name, turns, timing, session["session"], audio=None, timing_problem=problem)
        return folder

    def measure(
        self,
        ratios: Mapping[str, float | str | None],
        *,
        place: Place = BOX,
        baseline: str = "base",
        identities: Mapping[str, Mapping[str, Any]] | None = None,
        noise: Mapping[str, Any] | None = None,
        weights: bool = True,
    ) -> str:
        """Store a measuring session; `ratios` by system: the speed-up, None for the baseline, or why it failed."""
        self._clock += 1
        systems: dict[str, Any] = {}
        for name, ratio in ratios.items():
            speedup = {"median": ratio, "low": ratio, "high": ratio, "verdict": "faster"} if ratio else None
            systems[name] = {
                "identity": (identities or {}).get(name, {}),
                "error": ratio if isinstance(ratio, str) else None,
                "speed": {place.device: {"rtf": 0.1, "speedup": None if isinstance(ratio, str) else speedup}},
            }
        session = f"m{self._clock:04d}"
        value = {
            "started": f"2026-01-01T00:00:{self._clock:02d}", "device": place.device, "threads": place.threads,
            "baseline": baseline, "noise": {"floor": 0.02, "busy": False, **(noise or {})}, "systems": systems,
            "weights": weights,
        }  # fmt: skip
        store.store_measure(self.root, place.machine, session, value)
        return session

    def board(self, **how: Any) -> Leaderboard:
        how = {"title": "T", "rules": RULES, "rule": FULL, **how}
        return read_board(how.pop("roots", [self.root]), **how)

    def entry(self, system: str = "s", **how: Any) -> Entry:
        return next(line.entry for line in self.board(**how).lines if line.entry.system == system)
