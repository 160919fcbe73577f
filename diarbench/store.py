"""Results on disk: one folder per run, one RTTM and one JSON per recording, each whole or absent.

    runs/MACHINE/machine.json                                     the fingerprint
    runs/MACHINE/_datasets/NAME/DIGEST/dataset.json               facts, ids, lengths
                                      /reference.rttm, evaluation.uem
    runs/MACHINE/_measures/SESSION.json                           cost of several systems, measured side by side
    runs/MACHINE/SYSTEM/DATASET/PLACE/KEY/run.json                identity, card, complexity
                                         /sessions/SESSION.json   provenance of each process that worked on it
                                         /recordings/ID.rttm, ID.json

Every key is documented in docs/results.md. Merging machines is copying folders. Texts are stored without the home
folder in them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from diarbench import memo
from diarbench.errors import RttmError, StoreError
from diarbench.files import read_json, sha256_of, without_home, write_json, write_whole
from diarbench.leaderboard import Place
from diarbench.measure.machine import machine_name
from diarbench.rttm import check_id, format_rttm, format_uem, read_rttm, read_uem
from diarbench.types import LabelledRecording, Recording, Spans, Timing, Turns

FORMAT = 1

# A file that changed as lately as this, when it was read, may have changed again within the same tick of its clock.
_SETTLED = 2_000_000_000  # ns

# Files that another process may be writing now, in a folder that nobody locks.
_ABANDONED = 600.0  # s


class Stored(NamedTuple):
    """What is stored of one recording."""

    result: dict[str, Any]  # ID.json, without `detail`
    intact: bool  # whether its RTTM is the one that was stored with it; True for a failure


@dataclass(frozen=True)
class RunFolder:
    """The results of one system on one dataset at one place, under one run key."""

    path: Path

    @contextlib.contextmanager
    def locked(self, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the folder. While another process does, wait, after a call of `on_wait`.

        The lock goes with the process that holds it. Raises StoreError where the folder can't be written.
        """
        with _locked(self.path, on_wait or (lambda: None)):
            for folder in (self.path, self.path / "recordings", self.path / "sessions"):
                _remove_leftovers(folder)
            yield

    def is_done(self, recording: Recording) -> bool:
        """Whether the recording has a result, made from the very audio that is there now."""
        return self._json_path(recording.id).exists() and holds(self.stored(recording.id), recording)

    def stored(self, recording_id: str) -> Stored | None:
        """What is stored of one recording; None where there is nothing, or nothing that can be read."""
        result = self.result(recording_id)
        if result is None:
            return None
        intact = result["status"] == "failed" or _digest(self.rttm_path(recording_id)) == result["rttm_sha256"]
        return Stored({key: value for key, value in result.items() if key != "detail"}, intact)

    def all_stored(self) -> dict[str, Stored]:
        """What is stored, by recording id. Of many recordings, only those are read that changed since the last time."""
        signatures = self._signatures()
        known = memo.recall(self.path, f"stored {FORMAT}") if len(signatures) >= memo.WORTHWHILE else {}
        found, entries, fresh = {}, {}, 0
        for recording_id, signature in signatures.items():
            before = known.get(recording_id)
            if before is not None and before[0] == signature:
                stored: Stored | None = Stored(before[1], before[2])
            else:
                stored = self.stored(recording_id)
                fresh += 1
            if stored is not None:
                found[recording_id] = stored
                if max(signature) < time.time_ns() - _SETTLED:
                    entries[recording_id] = [signature, *stored]
        if fresh >= memo.WORTHWHILE:
            memo.keep(self.path, f"stored {FORMAT}", entries)
        return found

    @property
    def has_results(self) -> bool:
        """Whether any recording was done, or failed."""
        return any((self.path / "recordings").glob("[!.]*.json"))

    def _signatures(self) -> dict[str, list[int]]:
        """Of each result, bytes and times of change (ns) of JSON and RTTM, without opening them."""
        found: dict[str, list[int]] = {}
        rttms: dict[str, list[int]] = {}
        try:
            with os.scandir(self.path / "recordings") as entries:
                for entry in entries:
                    name, _, suffix = entry.name.rpartition(".")
                    if suffix in ("json", "rttm") and not name.startswith("."):
                        status = entry.stat()
                        (found if suffix == "json" else rttms)[name] = [status.st_size, status.st_mtime_ns]
        except OSError:
            return {}
        return {name: [*signature, *rttms.get(name, (-1, -1))] for name, signature in found.items()}

    def result(self, recording_id: str) -> dict[str, Any] | None:
        """The stored JSON of one recording; None where there is none, or none that can be read."""
        try:
            value = read_json(self._json_path(recording_id))
        except StoreError:
            return None
        return value if _is_result(value, recording_id) else None

    def write_result(
        self,
        recording_id: str,
        turns: Turns,
        timing: Timing | None,
        session: str,
        *,
        audio: Mapping[str, Any] | None,
        timing_problem: str | None,
        macs: Mapping[str, int | None] | None = None,
        macs_problem: str | None = None,
    ) -> None:
        """Store a hypothesis and its timing. The JSON is written last: without it, nothing counts as done.

        What of the turns lies before 0 s is cut off. `audio` is what `describe_audio` said, or None for a system that
        used none. `timing_problem` says why a timing is no speed to show. `macs` are the multiply-accumulates of the
        networks by stage, None where they can't be told, for which `macs_problem` gives the reason.
        """
        # What lies before 0 would be written as negative times, which no reader takes.
        rttm = format_rttm(recording_id, turns.crop(0.0, math.inf)).encode()
        # One sync of the folder, after the JSON, makes both names durable. Where the power goes before it, an RTTM
        # without JSON is not done, nor is a JSON without the RTTM whose digest it holds.
        write_whole(self.rttm_path(recording_id), rttm, sync_folder=False)
        value: dict[str, Any] = {
            "format": FORMAT,
            "recording": recording_id,
            "status": "done",
            "session": session,
            "rttm_sha256": hashlib.sha256(rttm).hexdigest(),
            "audio": audio,
            "timing": None,
            "timing_counts": timing is not None and timing_problem is None,
            "timing_problem": timing_problem,
            "macs": None if macs is None else dict(macs),
            "macs_problem": macs_problem,
        }
        if timing is not None:
            value["timing"] = {"wall": timing.wall, "audio": timing.audio, "stages": dict(timing.stages)}
        write_json(self._json_path(recording_id), _public(value))

    def write_failure(self, recording_id: str, error: str, detail: str, session: str) -> None:
        """Store that a recording failed, and why; an earlier hypothesis of this run is removed."""
        try:
            self.rttm_path(recording_id).unlink(missing_ok=True)
        except OSError as error_:
            raise StoreError(f"{self.rttm_path(recording_id)}: can't be removed ({error_.strerror})") from error_
        value = {
            "format": FORMAT,
            "recording": recording_id,
            "status": "failed",
            "session": session,
            "error": error,
            "detail": detail,
        }
        write_json(self._json_path(recording_id), _public(value))

    def note_audio(self, recording: Recording) -> None:
        """Store the time of change of audio that was touched, not changed, so that it is not read whole each time."""
        result = self.result(recording.id)
        if result is None or not result.get("audio") or recording.path is None:
            return
        status = recording.path.stat()
        if status.st_mtime_ns != result["audio"]["mtime_ns"]:
            result["audio"]["mtime_ns"] = status.st_mtime_ns
            write_json(self._json_path(recording.id), result)

    def write_run(self, value: Mapping[str, Any]) -> None:
        """Store what the run is (run.json), where that is not there yet."""
        path = self.path / "run.json"
        content = {"format": FORMAT, **_public(value)}
        with contextlib.suppress(StoreError):
            if read_json(path) == content:
                return
        write_json(path, content)
        self.__dict__.pop("run", None)

    def ensure_run(self, value: Mapping[str, Any]) -> None:
        """Store what the run is; what an earlier process counted of the system stays."""
        known = None
        with contextlib.suppress(StoreError):
            known = self.run.get("complexity")
        self.write_run({**value, "complexity": known})

    def write_session(self, value: Mapping[str, Any]) -> None:
        """Store the provenance of one process."""
        write_json(self.path / "sessions" / f"{value['session']}.json", {"format": FORMAT, **_public(value)})

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
        return _read(self.path / "run.json", ("machine", "system", "dataset", "device", "threads", "identity", "card"))

    @cached_property
    def sessions(self) -> list[dict[str, Any]]:
        """Provenance of the processes that worked on it, in order of their start."""
        found = [_read(path, ("session", "started")) for path in (self.path / "sessions").glob("[!.]*.json")]
        return sorted(found, key=lambda session: (str(session["started"]), str(session["session"])))

    @property
    def place(self) -> Place:
        """Where it ran."""
        run = self.run
        return Place(run["machine"], run["device"], run["threads"])

    @property
    def newest(self) -> str:
        """When a process last began to work on it."""
        return str(self.sessions[-1]["started"]) if self.sessions else ""


@dataclass(frozen=True)
class StoredDataset:
    """References and scoring regions as they were when something ran, so that scores can be made anew anywhere."""

    path: Path

    @cached_property
    def facts(self) -> dict[str, Any]:
        """dataset.json. Raises StoreError."""
        return _read(self.path / "dataset.json", ("name", "digest", "recordings", "reference_sha256", "uem_sha256"))

    @property
    def digests(self) -> tuple[str, str]:
        """SHA-256 of the references and of the scoring regions, as they were stored."""
        return self.facts["reference_sha256"], self.facts["uem_sha256"]

    @cached_property
    def references(self) -> dict[str, Turns]:
        """References by recording id. Raises StoreError where the file is not the one that was stored."""
        read = read_rttm(self._whole("reference.rttm", self.facts["reference_sha256"]))
        return {recording["id"]: read.get(recording["id"], Turns.of([])) for recording in self.facts["recordings"]}

    @cached_property
    def uems(self) -> dict[str, Spans]:
        """Scoring regions by recording id. Raises StoreError where the file is not the one that was stored."""
        return read_uem(self._whole("evaluation.uem", self.facts["uem_sha256"]))

    def _whole(self, name: str, sha256: str) -> Path:
        path = self.path / name
        if _digest(path) != sha256:
            raise StoreError(f"{path}: not the file that was stored; copy it again, or remove {self.path} and run anew")
        return path


def new_session(session: str, started: str) -> dict[str, Any]:
    """The provenance of a process that has just begun: every key of a session file, what is not known yet as None."""
    return {
        "session": session,
        "started": started,
        "ended": None,
        "error": None,
        "detail": None,
        "machine": None,
        "software": None,
        "settings": None,
        "import": None,
        "load": None,
        "count_problem": None,
        "load_average_before": None,
        "load_average_after": None,
        "peak_memory_bytes": None,
        "spent": None,
    }


def holds(stored: Stored | None, recording: Recording) -> bool:
    """Whether what is stored is a whole result, made from the very audio that is there now."""
    if stored is None or stored.result["status"] != "done" or not stored.intact:
        return False
    audio = stored.result["audio"]
    return audio is None or recording.path is None or _same_audio(recording.path, audio)


def run_folder(root: Path, machine: str, system: str, dataset: str, place: str, key: str) -> RunFolder:
    """The folder of one run."""
    return RunFolder(root / machine / system / dataset / place / key)


def store_dataset(
    root: Path, machine: str, name: str, digest: str, facts: Mapping[str, Any], recordings: Sequence[LabelledRecording]
) -> None:
    """Store references and scoring regions beside the runs, once per version of the dataset."""
    folder = root / machine / "_datasets" / name / digest[:12]
    reference = "".join(format_rttm(r.recording.id, r.reference, digits=6) for r in recordings).encode()
    uem = format_uem({r.recording.id: r.uem for r in recordings}).encode()
    content = {
        "format": FORMAT,
        "name": name,
        "digest": digest,
        **_public(facts),
        "reference_sha256": hashlib.sha256(reference).hexdigest(),
        "uem_sha256": hashlib.sha256(uem).hexdigest(),
        "recordings": [{"id": r.recording.id, "duration": r.recording.duration} for r in recordings],
    }
    with _locked(root / machine):
        _remove_leftovers(folder)
        for path, data in ((folder / "reference.rttm", reference), (folder / "evaluation.uem", uem)):
            if _digest(path) != hashlib.sha256(data).hexdigest():
                write_whole(path, data)
        with contextlib.suppress(StoreError):
            if read_json(folder / "dataset.json") == content:
                return
        write_json(folder / "dataset.json", content)


def store_machine(root: Path, machine: str, facts: Mapping[str, Any]) -> None:
    """Store the machine's fingerprint. Raises StoreError where the name stands for other hardware already."""
    path = root / machine / "machine.json"
    content = {"format": FORMAT, "name": machine, **facts}
    with _locked(root / machine):
        _remove_leftovers(root / machine)
        _remove_leftovers(root, older_than=_ABANDONED)
        if path.is_file():
            known = _read(path, ("name",))
            if known == content:
                return
            # Older results don't know the processor's generation.
            comparable = {key: value for key, value in facts.items() if key in known or key != "cpu_generation"}
            if "cpu" in known and "cpu" in facts and machine_name(known) != machine_name(comparable):
                raise StoreError(
                    f"{path}: {machine!r} stands for another machine ({machine_name(known)}; this one is "
                    f"{machine_name(dict(facts))}); speeds of two machines share no folder: choose another --machine"
                )
        write_json(path, content)


def find_runs(roots: Sequence[Path]) -> list[RunFolder]:
    """All stored runs below some folders of results, in the order of their paths."""
    return [RunFolder(path.parent) for root in roots for path in sorted(root.glob("*/*/*/*/*/run.json"))]


def find_datasets(roots: Sequence[Path]) -> dict[tuple[str, str], StoredDataset]:
    """Stored datasets by name and digest: two channels of a corpus have the same references and scoring regions."""
    found = [StoredDataset(path.parent) for root in roots for path in sorted(root.glob("*/_datasets/*/*/dataset.json"))]
    return {(dataset.facts["name"], dataset.facts["digest"]): dataset for dataset in found}


def find_machines(roots: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Fingerprints by machine name."""
    paths = [path for root in roots for path in sorted(root.glob("*/machine.json"))]
    return {path.parent.name: _read(path, ("name",)) for path in paths}


def store_measure(root: Path, machine: str, session: str, value: Mapping[str, Any]) -> Path:
    """Store what one measuring session found; the file. Raises StoreError where a name can't be a file's name."""
    folder = root / machine / "_measures"
    for name in (machine, session):
        try:
            check_id(name, folder)
        except RttmError as error:
            raise StoreError(f"{folder}: {name[:60]!r} can't be a folder's or file's name; choose another") from error
    path = folder / f"{session}.json"
    write_json(path, {"format": FORMAT, **_public({**value, "machine": machine, "session": session})})
    return path


def find_measures(roots: Sequence[Path]) -> list[dict[str, Any]]:
    """All stored measuring sessions, in order of their start. Raises StoreError for one that can't be read."""
    kinds = dict.fromkeys(("session", "started", "machine", "device", "baseline"), str) | {"threads": int}
    found = []
    for path in (path for root in roots for path in sorted(root.glob("*/_measures/[!.]*.json"))):
        measure = _read(path, (*kinds, "systems"))
        if not _has(measure, {**kinds, "systems": dict}) or not all(
            isinstance(it, dict) for it in measure["systems"].values()
        ):
            raise StoreError(f"{path}: not what `diarbench measure` writes; remove it, and measure again")
        found.append(measure)
    return sorted(found, key=lambda measure: (measure["started"], measure["session"]))


def describe_audio(recording: Recording) -> dict[str, Any] | None:
    """Which audio a result is made from: size, time of change, SHA-256. None where there is none. Raises OSError."""
    if recording.path is None or not recording.path.is_file():
        return None
    status = recording.path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256_of(recording.path)}


def _same_audio(path: Path, stored: Mapping[str, Any]) -> bool:
    try:
        status = path.stat()
        if status.st_size != stored["bytes"]:
            return False
        # Only a file that was touched has to be read again.
        return bool(
            status.st_mtime_ns == stored["mtime_ns"]
            or _audio_digest(path, status.st_size, status.st_mtime_ns) == stored["sha256"]
        )
    except OSError:
        return False


@functools.lru_cache(maxsize=100_000)
def _audio_digest(path: Path, size: int, mtime_ns: int) -> str:
    """One reading serves all systems."""
    return sha256_of(path)


def _digest(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


@contextlib.contextmanager
def _locked(folder: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    import filelock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The folder decides who may write here; the lock is for all of them.
        # And it is let go by whichever thread has written the last file.
        lock = filelock.FileLock(folder / ".lock", mode=0o666, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            on_wait()
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StoreError(f"{folder}: can't be written or locked ({reason}); name another folder with --runs") from error
    try:
        yield
    finally:
        lock.release()


def _remove_leftovers(folder: Path, older_than: float = 0.0) -> None:
    """Files of a process that was killed while it wrote them."""
    for leftover in folder.glob(".writing-*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime >= older_than:
                leftover.unlink()


def _read(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """A JSON object of this format that has these keys. Raises StoreError."""
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise StoreError(f"{path}: written by another version of diarbench (format {FORMAT} is read)")
    if lacking := [key for key in keys if key not in value]:
        raise StoreError(f"{path}: lacks the key {lacking[0]!r}; remove it, and the next run makes it anew")
    return value


def _is_result(value: object, recording_id: str) -> bool:
    """Whether a JSON value is what `write_result` or `write_failure` stored for this recording."""
    if not isinstance(value, dict) or value.get("format") != FORMAT or value.get("recording") != recording_id:
        return False
    if not isinstance(value.get("session"), str):
        return False
    if value.get("status") == "failed":
        return isinstance(value.get("error"), str)
    counts, problem = value.get("timing_counts"), value.get("timing_problem")
    return (
        value.get("status") == "done"
        and isinstance(value.get("rttm_sha256"), str)
        and _has(value.get("audio", ""), {"bytes": int, "mtime_ns": int, "sha256": str})
        and _has(value.get("timing", ""), {"wall": float | int, "audio": float | int, "stages": dict})
        and isinstance(counts, bool)
        and (problem is None or isinstance(problem, str))
        and not (counts and value["timing"] is None)
        and _are_macs(value.get("macs"))  # older results have none
        and isinstance(value.get("macs_problem"), str | None)
    )


def _has(value: object, kinds: Mapping[str, Any]) -> bool:
    """Whether a JSON value is null, or an object with keys of these kinds."""
    return value is None or (
        isinstance(value, dict) and all(isinstance(value.get(key), kind) for key, kind in kinds.items())
    )


def _are_macs(value: object) -> bool:
    return value is None or (
        isinstance(value, dict) and all(macs is None or (type(macs) is int and macs >= 0) for macs in value.values())
    )


def _public(value: Any) -> Any:
    """The value with the home folder taken out of its texts."""
    if isinstance(value, str):
        return without_home(value)
    if isinstance(value, Mapping):
        return {key: _public(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_public(item) for item in value]
    return value
