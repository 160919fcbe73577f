"""The parent: starts one worker process per system, watches it, and records what it can't record itself."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from diarbench.errors import StoreError
from diarbench.execute.child import shortened
from diarbench.execute.messages import Order, Task
from diarbench.execute.process import WorkerProcess
from diarbench.measure.beside import marked
from diarbench.store import RunFolder, Stored, holds, new_session, run_folder, store_dataset, store_machine
from diarbench.types import Recording, Seconds

if TYPE_CHECKING:
    from diarbench.plan import Job

# Building a system may mean reading gigabytes of weights; decoding, hours of audio over a network.
_PATIENCE = 1800.0  # s

# What a process printed last that is stored with its failure: its stack, and something before it.
_LAST_WORDS = 5000  # characters

# A system whose process dies on every recording would take days to say so.
_DEATHS = 5  # in a row

# What sessions note of turns outside the recordings: what it is, and what becomes of it.
_OUTSIDE = {
    "turns_start": ("turns start before the recording", "they were cut off at 0 s"),
    "turns_end": (
        "turns end after the recording, by more than 0.5 s", "what lies outside the scored regions isn't scored",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failure:
    """A recording without a result, or a system that was given up; as text, one line."""

    system: str
    dataset: str | None  # None: the system as a whole, as in the next one
    recording: str | None
    error: str
    count: int = 1  # of recordings that have no result for it

    def __str__(self) -> str:
        where = f" on {self.dataset}, {self.recording}" if self.dataset is not None else ""
        return f"{self.system}{where}: {self.error}"


@dataclass(frozen=True)
class Outcome:
    """What happened to a plan."""

    done: int = 0
    kept: int = 0  # already there
    failed: tuple[Failure, ...] = ()
    folders: Mapping[tuple[str, str], RunFolder] = field(default_factory=dict)  # by (system, dataset)
    details: tuple[Path, ...] = ()  # files of the results whose `detail` has the traceback, or what a process said last

    @property
    def failures(self) -> tuple[str, ...]:
        """What failed, one line each."""
        return tuple(map(str, self.failed))


class Progress(Protocol):
    """What shows a run's progress."""

    def begin(self, recordings: int, audio: Seconds) -> None:
        """So much is to be done."""

    def system(self, name: str, position: int, count: int) -> None:
        """The next system starts."""

    def failed(self, failure: Failure) -> None:
        """A recording failed, or a system was given up, and why."""

    def recording(self, system: str, recording: str, audio: Seconds, status: str) -> None:
        """A recording is done, failed or was already there."""


def execute(
    jobs: Sequence[Job],
    *,
    root: Path,
    machine: str,
    machine_facts: Mapping[str, Any],
    progress: Progress,
    again: bool = False,
    time_limit: Seconds | None = None,
) -> Outcome:
    """Do what is missing. One failing recording or system leaves the rest.

    `time_limit` is for one call of `diarize`; without it, ten minutes and twenty times the recording's length.
    Raises StoreError where results can't be written.
    """
    store_machine(root, machine, machine_facts)
    for dataset in {job.dataset.name: job.dataset for job in jobs}.values():
        store_dataset(root, machine, dataset.name, dataset.digest, dataset.facts, dataset.recordings)
    work = [_Work(job, _folder(job, root, machine), _run_json(job, machine), again) for job in jobs]
    kept = sum(len(part.job.recordings) - len(part.missing) for part in work)
    progress.begin(
        sum(len(part.missing) for part in work),
        sum(recording.duration for part in work for recording in part.missing),
    )
    done = 0
    failed: list[Failure] = []
    details: list[Path] = []
    names = list(dict.fromkeys(job.system.spec.name for job in jobs))
    with marked() as mark:
        for (name, *_), parts in itertools.groupby(work, key=_process):
            group = list(parts)
            for part in group:
                part.refresh()
            missing = [part for part in group if part.missing]
            if not missing:
                continue
            progress.system(name, names.index(name) + 1, len(names))
            runner = _Runner(missing, machine_facts, progress, again, time_limit, mark)
            runner.run()
            done, kept = done + runner.done, kept + runner.kept
            failed += runner.failed
            details += runner.details
    folders = {(part.job.system.spec.name, part.job.dataset.name): part.folder for part in work}
    return Outcome(done, kept, tuple(failed), folders, tuple(details))


def _process(part: _Work) -> tuple[Any, ...]:
    """What jobs have in common that one process does: the system, and of a replay the dataset that its files are of."""
    system = part.job.system
    return system.spec.name, system.files, system.problem


class _Work:
    """A job, and those of its recordings that are still to be done."""

    def __init__(self, job: Job, folder: RunFolder, run: Mapping[str, Any], again: bool) -> None:
        self.job, self.folder, self.run = job, folder, run
        self.dataset = job.dataset.name
        stored = folder.all_stored()
        done = {recording.id for recording in job.recordings if holds(stored.get(recording.id), recording)}
        self.missing = [recording for recording in job.recordings if again or recording.id not in done]
        self._kept = bool(done)
        self._touched = [r for r in job.recordings if r.id in done and _touched(stored[r.id], r)]

    def refresh(self) -> None:
        """Store what changed without making another run: the card's title, say, or the time of copied audio."""
        if not self._kept:
            return
        with contextlib.suppress(_BusyError), self.folder.locked(_give_up):
            self.folder.ensure_run(self.run)
            for recording in self._touched:
                self.folder.note_audio(recording)

    def strike(self, recording_id: str) -> None:
        """Nothing more is to be done about this recording."""
        self.missing = [recording for recording in self.missing if recording.id != recording_id]


class _Runner:
    """One system's jobs, in as many worker processes as it takes: a process that dies costs one recording."""

    def __init__(
        self,
        work: Sequence[_Work],
        machine: Mapping[str, Any],
        progress: Progress,
        again: bool,
        time_limit: Seconds | None,
        mark: Path | None,
    ) -> None:
        self._work, self._machine, self._progress = work, machine, progress
        self._again, self._time_limit, self._mark = again, time_limit, mark
        self._name = work[0].job.system.spec.name
        self._recordings = {(part.dataset, r.id): r for part in work for r in part.missing}
        # Dataset and recording of what the process has begun: what it is at comes last, and while it reads that, the
        # result of the one before may still be being written.
        self._begun: list[tuple[str, str]] = []
        self._limit: Seconds | None = _PATIENCE
        self._calling = False  # whether `diarize` is what the limit is for
        self._deaths = 0
        self._session = ""  # of the process at work
        self.done = self.kept = 0
        self.failed: list[Failure] = []
        self.details: list[Path] = []

    def run(self) -> None:
        problem = self._work[0].job.system.problem
        if problem is not None:
            self._system_failed(problem, "")
        while left := self._left():
            self._one_process()
            if self._left() == left:
                self._system_failed("its process ended without a result or a reason", "")

    def _left(self) -> int:
        return sum(len(part.missing) for part in self._work)

    def _one_process(self) -> None:
        tasks = tuple(
            Task(part.folder.path, part.run, part.dataset, tuple(part.missing), self._again)
            for part in self._work
            if part.missing
        )
        self._session = session = _session()
        job = self._work[0].job
        order = Order.of(
            job.system,
            tasks,
            device=job.device,
            threads=job.threads,
            session=session,
            machine=self._machine,
            mark=self._mark,
        )
        left = self._left()
        with WorkerProcess(order) as worker:
            reason = self._listen(worker)
            said = worker.said() if reason is not None else ""
        if reason is None:
            return
        for key in self._begun[:-1]:
            self._take_what_is_stored(key, session)  # else the next process does it again: it was not at fault
        if self._left() < left:
            self._deaths = 0
        self._deaths += 1
        if self._begun:
            self._recording_failed(self._begun[-1], reason, said, session)
        elif self._left() == left:
            self._system_failed(reason, said)
        # Else it died between two recordings, and the next process goes on.
        if self._deaths >= _DEATHS and self._left():
            self._system_failed(f"its process died {_DEATHS} times in a row, so the rest is not tried: {reason}", said)

    def _listen(self, worker: WorkerProcess) -> str | None:
        """Follow the process to its end; why it ended, where it didn't say so itself."""
        self._begun, self._limit, self._calling = [], _PATIENCE, False
        try:
            while (event := worker.next(self._limit)) is not None:
                self._handle(event)
                if event["event"] in ("finished", "restart"):
                    worker.wait()
                    return None
        except TimeoutError:
            worker.ask_where()
            worker.kill()
            cure = "; --time-limit gives it more" if self._calling else ""
            return f"no answer within {self._limit:g} s, so the process was ended{worker.place()}{cure}"
        return worker.reason()

    def _handle(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        key = (event.get("dataset", ""), event.get("recording", ""))
        self._limit, self._calling = _PATIENCE, kind == "call"
        if kind == "fatal":
            raise StoreError(event["error"])
        if kind == "unloadable":
            self._give_up_system(event["error"], self._session)
        elif kind == "waiting":
            self._limit = None
        elif kind == "start":
            self._begun.append(key)
        elif kind == "call":
            self._limit = self._time_limit or 600.0 + 20.0 * self._recordings[key].duration
        elif kind in ("done", "kept", "failed"):
            if kind == "failed":
                self._tell_failed(key, event["error"])
            self._strike(key, kind)

    def _strike(self, key: tuple[str, str], status: str) -> None:
        self.done += status == "done"
        self.kept += status == "kept"
        self._begun = [begun for begun in self._begun if begun != key]
        next(part for part in self._work if part.dataset == key[0]).strike(key[1])
        recording = self._recordings[key]
        self._progress.recording(self._name, recording.id, recording.duration, status)

    def _recording_failed(self, key: tuple[str, str], reason: str, said: str, session: str) -> None:
        """The process ended without a word, at this recording."""
        with self._folder_of(key).locked():
            if self._take_what_is_stored(key, session):
                return
            self._folder_of(key).write_failure(key[1], reason, said[-_LAST_WORDS:], session)
        self._tell_failed(key, reason)
        self._strike(key, "failed")

    def _tell_failed(self, key: tuple[str, str], reason: str) -> None:
        self._tell(Failure(self._name, *key, reason))
        self.details.append(self._folder_of(key).rttm_path(key[1]).with_suffix(".json"))

    def _tell(self, failure: Failure) -> None:
        self.failed.append(failure)
        self._progress.failed(failure)

    def _take_what_is_stored(self, key: tuple[str, str], session: str) -> bool:
        """Whether a recording that was begun is done after all: the process may have ended after it had stored the
        result, or another run has made one while we waited."""
        stored = self._folder_of(key).stored(key[1])
        if stored is None or not holds(stored, self._recordings[key]):
            return False
        own = stored.result["session"] == session
        if own or not self._again:
            self._strike(key, "done" if own else "kept")
        return own or not self._again

    def _folder_of(self, key: tuple[str, str]) -> RunFolder:
        return next(part for part in self._work if part.dataset == key[0]).folder

    def _system_failed(self, reason: str, said: str) -> None:
        """The system can't run, and its process didn't record why."""
        reason = shortened(reason)
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        session = new_session(_session(), now)
        session |= {"ended": now, "machine": dict(self._machine), "error": reason, "detail": said[-_LAST_WORDS:]}
        for part in self._work:
            if part.missing:
                with part.folder.locked():
                    part.folder.ensure_run(part.run)
                    part.folder.write_session(session)
        self._give_up_system(reason, session["session"])

    def _give_up_system(self, reason: str, session: str) -> None:
        self._tell(Failure(self._name, None, None, reason, self._left()))
        self.details += [part.folder.path / "sessions" / f"{session}.json" for part in self._work if part.missing][:1]
        for part in self._work:
            for recording in list(part.missing):
                self._strike((part.dataset, recording.id), "failed")


def overhangs(folders: Mapping[tuple[str, str], RunFolder]) -> list[str]:
    """What `run` says of systems whose turns begin before the recordings or end after them, once for each and of each
    kind; `folders` as in `Outcome`."""
    found: dict[tuple[str, str], list[tuple[str, str, Seconds]]] = {}
    for (system, dataset), folder in folders.items():
        for session, key in itertools.product(folder.sessions, _OUTSIDE):
            for recording_id, time in session.get(key, {}).items():
                result = folder.result(recording_id)  # of a later process, if it was run again
                if result is not None and result["session"] == session["session"]:
                    found.setdefault((system, key), []).append((dataset, recording_id, time))
    said = []
    for (system, key), of in found.items():
        dataset, recording_id, time = of[0]
        what, meaning = _OUTSIDE[key]
        count = f"{len(of)} recording{'s' if len(of) != 1 else ''}"
        said.append(f"{system}: {what}, in {count}, such as {dataset}, {recording_id} (at {time:g} s); {meaning}")
    return said


class _BusyError(Exception):
    """Another process works on the folder."""


def _give_up() -> None:
    raise _BusyError


def _touched(stored: Stored, recording: Recording) -> bool:
    """Whether the audio is newer than what is stored says, though the same."""
    audio, path = stored.result["audio"], recording.path
    return audio is not None and path is not None and path.is_file() and path.stat().st_mtime_ns != audio["mtime_ns"]


def _session() -> str:
    """A name for a process in the results; by name they are in the order of their start."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:8]}"


def _folder(job: Job, root: Path, machine: str) -> RunFolder:
    place = f"{job.device}-{job.threads}t"
    return run_folder(root, machine, job.system.spec.name, job.dataset.name, place, job.key)


def _run_json(job: Job, machine: str) -> dict[str, Any]:
    return {
        "key": job.key,
        "machine": machine,
        "system": job.system.spec.name,
        "dataset": job.dataset.name,
        "device": job.device,
        "threads": job.threads,
        "identity": job.identity,
        "card": job.system.spec.facts,
    }
