"""Results on disk: one folder per run, one RTTM and one JSON per recording, each whole or absent.

    runs/MACHINE/machine.json                                     the fingerprint
    runs/MACHINE/_datasets/NAME/DIGEST/dataset.json               facts, ids, lengths
                                      /reference.rttm, evaluation.uem
    runs/MACHINE/SYSTEM/DATASET/PLACE/KEY/run.json                identity, card, complexity
                                         /sessions/SESSION.json   provenance of each process that worked on it
                                         /recordings/ID.rttm, ID.json

Every key is documented in docs/results.md. Merging machines is copying folders.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from diarbench.errors import StoreError
from diarbench.files import read_json, sha256_of, write_json, write_whole
from diarbench.leaderboard import Place
from diarbench.rttm import check_id, format_rttm, format_uem, read_rttm, read_uem
from diarbench.types import LabelledRecording, Recording, Spans, Timing, Turns

FORMAT = 1


@dataclass(frozen=True)
class RunFolder:
    """The results of one system on one dataset at one place, under one run key."""

    path: Path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder: a second process waits here. The lock goes with the process that holds it."""
        import filelock

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.path / ".lock")
            lock.acquire()
        except OSError as error:
            raise StoreError(f"{self.path}: can't be written ({error.strerror})") from error
        try:
            for folder in (self.path, self.path / "recordings", self.path / "sessions"):
                for leftover in folder.glob(".writing-*"):  # of a process that was killed while writing
                    leftover.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def is_done(self, recording: Recording) -> bool:
        """Whether the recording has a result, made from the very audio that is there now."""
        result = self.result(recording.id)
        if result is None or result["status"] != "done":
            return False
        rttm = self.rttm_path(recording.id)
        if not rttm.is_file() or sha256_of(rttm) != result["rttm_sha256"]:
            return False
        return recording.path is None or _same_audio(recording.path, result["audio"])

    def result(self, recording_id: str) -> dict[str, Any] | None:
        """The stored JSON of one recording; None where there is none, or none that can be read."""
        try:
            value = read_json(self._json_path(recording_id))
        except StoreError:
            return None
        return value if isinstance(value, dict) and value.get("format") == FORMAT else None

    def write_result(
        self, recording: Recording, turns: Turns, timing: Timing | None, session: str, extra: Mapping[str, Any]
    ) -> None:
        """Store a hypothesis and its timing. The JSON is written last: without it, nothing counts as done."""
        rttm = format_rttm(recording.id, turns)
        write_whole(self.rttm_path(recording.id), rttm)
        value: dict[str, Any] = {
            "format": FORMAT,
            "recording": recording.id,
            "status": "done",
            "session": session,
            "rttm_sha256": sha256_of(self.rttm_path(recording.id)),
            "audio": describe_audio(recording),
            "timing": None,
            **extra,
        }
        if timing is not None:
            value["timing"] = {"wall": timing.wall, "audio": timing.audio, "stages": dict(timing.stages)}
        write_json(self._json_path(recording.id), value)

    def write_failure(self, recording_id: str, error: str, detail: str, session: str) -> None:
        """Store that a recording failed, and why; an earlier hypothesis of this run is removed."""
        self.rttm_path(recording_id).unlink(missing_ok=True)
        write_json(
            self._json_path(recording_id),
            {
                "format": FORMAT,
                "recording": recording_id,
                "status": "failed",
                "session": session,
                "error": error,
                "detail": detail,
            },
        )

    def write_run(self, value: Mapping[str, Any]) -> None:
        """Store what the run is (run.json)."""
        write_json(self.path / "run.json", {"format": FORMAT, **value})

    def ensure_run(self, value: Mapping[str, Any]) -> None:
        """Store what the run is, unless an earlier process did: one that could build the system knows more."""
        if not (self.path / "run.json").is_file():
            self.write_run({**value, "complexity": None})

    def write_session(self, session: str, value: Mapping[str, Any]) -> None:
        """Store the provenance of one process."""
        write_json(self.path / "sessions" / f"{session}.json", {"format": FORMAT, **value})

    def forget(self, recording_ids: Sequence[str]) -> None:
        """Remove results, so that they are made again."""
        for recording_id in recording_ids:
            self._json_path(recording_id).unlink(missing_ok=True)
            self.rttm_path(recording_id).unlink(missing_ok=True)

    def hypothesis(self, recording_id: str) -> Turns:
        """The stored turns. Raises RttmError."""
        return read_rttm(self.rttm_path(recording_id)).get(recording_id, Turns.of([]))

    def rttm_path(self, recording_id: str) -> Path:
        """Where a recording's RTTM lies; the id is checked before it becomes a path."""
        return self.path / "recordings" / f"{check_id(recording_id, self.path)}.rttm"

    def _json_path(self, recording_id: str) -> Path:
        return self.path / "recordings" / f"{check_id(recording_id, self.path)}.json"

    @cached_property
    def run(self) -> dict[str, Any]:
        """run.json. Raises StoreError where it is missing, broken, or of a newer diarbench."""
        value = read_json(self.path / "run.json")
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise StoreError(
                f"{self.path / 'run.json'}: written by another version of diarbench (format {FORMAT} is read)"
            )
        return value

    @cached_property
    def sessions(self) -> list[dict[str, Any]]:
        """Provenance of the processes that worked on it, in order of their start."""
        found = [read_json(path) for path in sorted((self.path / "sessions").glob("*.json"))]
        return sorted(found, key=lambda session: str(session.get("started")))

    @property
    def place(self) -> Place:
        """Where it ran."""
        run = self.run
        return Place(run["machine"], run["device"], run["threads"])

    @property
    def newest(self) -> str:
        """When a process last began to work on it."""
        return max((str(session.get("started")) for session in self.sessions), default="")


@dataclass(frozen=True)
class StoredDataset:
    """References and scoring regions as they were when something ran, so that scores can be made anew anywhere."""

    path: Path

    @cached_property
    def facts(self) -> dict[str, Any]:
        """dataset.json."""
        value = read_json(self.path / "dataset.json")
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise StoreError(f"{self.path}: written by another version of diarbench (format {FORMAT} is read)")
        return value

    @cached_property
    def references(self) -> dict[str, Turns]:
        """References by recording id."""
        read = read_rttm(self.path / "reference.rttm")
        return {recording["id"]: read.get(recording["id"], Turns.of([])) for recording in self.facts["recordings"]}

    @cached_property
    def uems(self) -> dict[str, Spans]:
        """Scoring regions by recording id."""
        return read_uem(self.path / "evaluation.uem")


def run_folder(root: Path, machine: str, system: str, dataset: str, place: str, key: str) -> RunFolder:
    """The folder of one run."""
    return RunFolder(root / machine / system / dataset / place / key)


def store_dataset(
    root: Path, machine: str, name: str, digest: str, facts: Mapping[str, Any], recordings: Sequence[LabelledRecording]
) -> None:
    """Store references and scoring regions beside the runs, once per version of the dataset."""
    folder = root / machine / "_datasets" / name / digest[:12]
    if (folder / "dataset.json").is_file():
        return
    write_whole(
        folder / "reference.rttm", "".join(format_rttm(r.recording.id, r.reference, digits=6) for r in recordings)
    )
    write_whole(folder / "evaluation.uem", format_uem({r.recording.id: r.uem for r in recordings}))
    write_json(
        folder / "dataset.json",
        {
            "format": FORMAT,
            "name": name,
            "digest": digest,
            **facts,
            "recordings": [{"id": r.recording.id, "duration": r.recording.duration} for r in recordings],
        },
    )


def store_machine(root: Path, machine: str, facts: Mapping[str, Any]) -> None:
    """Store the machine's fingerprint."""
    write_json(root / machine / "machine.json", {"format": FORMAT, "name": machine, **facts})


def find_runs(roots: Sequence[Path]) -> list[RunFolder]:
    """All stored runs below some folders of results, in the order of their paths."""
    return [RunFolder(path.parent) for root in roots for path in sorted(root.glob("*/*/*/*/*/run.json"))]


def find_datasets(roots: Sequence[Path]) -> dict[str, StoredDataset]:
    """Stored datasets by digest."""
    found = [StoredDataset(path.parent) for root in roots for path in sorted(root.glob("*/_datasets/*/*/dataset.json"))]
    return {dataset.facts["digest"]: dataset for dataset in found}


def find_machines(roots: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Fingerprints by machine name."""
    return {path.parent.name: read_json(path) for root in roots for path in sorted(root.glob("*/machine.json"))}


def describe_audio(recording: Recording) -> dict[str, Any] | None:
    """Which audio a result was made from: size, time of change, SHA-256."""
    if recording.path is None:
        return None
    status = recording.path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256_of(recording.path)}


def _same_audio(path: Path, stored: Mapping[str, Any] | None) -> bool:
    if stored is None or not path.is_file():
        return False
    status = os.stat(path)
    if status.st_size != stored["bytes"]:
        return False
    # Only a file that was touched has to be read again.
    return bool(status.st_mtime_ns == stored["mtime_ns"] or sha256_of(path) == stored["sha256"])
