"""The parent: starts one worker process per system, watches it, and records what it can't record itself."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Protocol

from diarbench.errors import StoreError
from diarbench.execute.messages import Order, Task
from diarbench.files import without_home
from diarbench.plan import Job
from diarbench.store import RunFolder, run_folder, store_dataset, store_machine
from diarbench.types import Recording, Seconds

# Building a system may mean reading gigabytes of weights.
_LOAD_LIMIT = 1800.0  # s


@dataclass(frozen=True)
class Outcome:
    """What happened to a plan."""

    done: int = 0
    kept: int = 0  # already there
    failures: tuple[str, ...] = ()  # one line each
    folders: Mapping[tuple[str, str], RunFolder] = field(default_factory=dict)  # by (system, dataset)


class Progress(Protocol):
    """What shows a run's progress."""

    def begin(self, recordings: int, audio: Seconds) -> None:
        """So much is to be done."""

    def system(self, name: str, position: int, count: int) -> None:
        """The next system starts."""

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

    `time_limit` is for one recording; without it, ten minutes and twenty times the recording's length.
    Raises StoreError where results can't be written.
    """
    store_machine(root, machine, machine_facts)
    for dataset in {job.dataset.name: job.dataset for job in jobs}.values():
        store_dataset(root, machine, dataset.name, dataset.digest, dataset.facts, dataset.recordings)
    pending = {id(job): _missing(job, _folder(job, root, machine), again) for job in jobs}
    kept = sum(len(job.recordings) - len(pending[id(job)]) for job in jobs)
    progress.begin(
        sum(len(recordings) for recordings in pending.values()),
        sum(recording.duration for recordings in pending.values() for recording in recordings),
    )
    folders = {(job.system.spec.name, job.dataset.name): _folder(job, root, machine) for job in jobs}
    done, failures = 0, []
    systems = [list(group) for _, group in groupby(jobs, key=lambda job: job.system.spec.name)]
    with _alone() as quiet:
        for position, group in enumerate(systems, start=1):
            work = [(job, pending[id(job)]) for job in group if pending[id(job)]]
            if not work:
                continue
            progress.system(group[0].system.spec.name, position, len(systems))
            runner = _Runner(work, root, machine, progress, again, time_limit, quiet)
            runner.run()
            done += runner.done
            failures += runner.failures
    return Outcome(done, kept, tuple(failures), folders)


class _Runner:
    """One system's jobs, in as many worker processes as it takes: a process that dies costs one recording."""

    def __init__(
        self,
        work: Sequence[tuple[Job, list[Recording]]],
        root: Path,
        machine: str,
        progress: Progress,
        again: bool,
        time_limit: Seconds | None,
        quiet: bool,
    ) -> None:
        self._work = [(job, list(recordings)) for job, recordings in work]
        self._root, self._machine, self._progress, self._again = root, machine, progress, again
        self._time_limit, self._quiet = time_limit, quiet
        self._name = work[0][0].system.spec.name
        self._recordings = {(job.dataset.name, r.id): r for job, recordings in work for r in recordings}
        self.done = 0
        self.failures: list[str] = []

    def run(self) -> None:
        problem = self._work[0][0].system.problem
        if problem is not None:
            self._system_failed(problem, record=True)
            return
        while any(recordings for _, recordings in self._work):
            before = sum(len(recordings) for _, recordings in self._work)
            self._one_process()
            if sum(len(recordings) for _, recordings in self._work) == before:
                return  # nothing moved: the system can't be built, and that is recorded

    def _one_process(self) -> None:
        tasks = tuple(
            Task(
                folder=_folder(job, self._root, self._machine).path,
                run=_run_json(job, self._machine),
                dataset=job.dataset.name,
                recordings=tuple(recordings),
                again=self._again,
            )
            for job, recordings in self._work
            if recordings
        )
        order = Order.of(self._work[0][0], tasks, self._quiet)
        with tempfile.TemporaryFile() as errors, _worker(order, errors) as (process, events):
            current: tuple[str, str] | None = None
            while True:
                limit = self._limit(current)
                try:
                    event = events.get(timeout=limit)
                except queue.Empty:
                    process.kill()
                    process.wait()
                    self._process_failed(current, f"no answer within {limit:.0f} s; the process was ended")
                    return
                if event is None:
                    break
                current = self._handle(event, current)
            code = process.wait()
            if code != 0 or self._unfinished():
                self._process_failed(current, _reason(code, errors))

    def _handle(self, event: Mapping[str, Any], current: tuple[str, str] | None) -> tuple[str, str] | None:
        kind = event["event"]
        if kind == "fatal":
            raise StoreError(event["error"])
        if kind == "unloadable":
            self._system_failed(event["error"], record=False)
            return None
        if kind == "start":
            return event["dataset"], event["recording"]
        if kind in ("done", "kept", "failed"):
            key = (event["dataset"], event["recording"])
            if kind == "failed":
                self.failures.append(f"{self._name} on {key[0]}, {key[1]}: {event['error']}")
            else:
                self.done += 1
            self._strike(key, kind)
            return None
        return current

    def _strike(self, key: tuple[str, str], status: str) -> None:
        for job, recordings in self._work:
            if job.dataset.name == key[0]:
                recordings[:] = [recording for recording in recordings if recording.id != key[1]]
        recording = self._recordings[key]
        self._progress.recording(self._name, recording.id, recording.duration, status)

    def _unfinished(self) -> bool:
        return any(recordings for _, recordings in self._work)

    def _limit(self, current: tuple[str, str] | None) -> Seconds:
        if current is None:
            return _LOAD_LIMIT
        if self._time_limit is not None:
            return self._time_limit
        return 600.0 + 20.0 * self._recordings[current].duration

    def _process_failed(self, current: tuple[str, str] | None, reason: str) -> None:
        """The process ended without a word: book it to the recording it was at, or to the system."""
        if current is None:
            self._system_failed(reason, record=True)
            return
        for job, _ in self._work:
            if job.dataset.name == current[0]:
                folder = _folder(job, self._root, self._machine)
                with folder.locked():
                    folder.write_failure(current[1], reason, "", session="")
        self.failures.append(f"{self._name} on {current[0]}, {current[1]}: {reason}")
        self._strike(current, "failed")

    def _system_failed(self, reason: str, *, record: bool) -> None:
        reason = without_home(reason)
        if record:
            now = datetime.now(UTC)
            session = f"{now:%Y%m%dT%H%M%S.%f}-{os.getpid()}"
            for job, recordings in self._work:
                if recordings:
                    folder = _folder(job, self._root, self._machine)
                    with folder.locked():
                        folder.ensure_run(_run_json(job, self._machine))
                        stamp = now.isoformat(timespec="microseconds")
                        value = {"session": session, "started": stamp, "ended": stamp, "error": reason, "detail": ""}
                        folder.write_session(session, value)
        self.failures.append(f"{self._name}: {reason}")
        for job, recordings in self._work:
            for recording in list(recordings):
                self._strike((job.dataset.name, recording.id), "failed")


@contextlib.contextmanager
def _worker(order: Order, errors: IO[bytes]) -> Iterator[tuple[subprocess.Popen[bytes], queue.Queue[Any]]]:
    """A worker at work, and its events; None in the queue says that it ended. It never outlives the block."""
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        environment[name] = str(order.threads)
    # -P: files in the working folder don't shadow modules.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "diarbench.execute.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    events: queue.Queue[Any] = queue.Queue()
    reader = threading.Thread(target=_read_events, args=(process.stdout, events), daemon=True)
    reader.start()
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(order.to_json()).encode() + b"\n")
            process.stdin.flush()  # and stays open: its end would tell the worker that we are gone
        yield process, events
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        reader.join(timeout=10)
        process.stdout.close()


def _read_events(stream: IO[bytes], events: queue.Queue[Any]) -> None:
    for line in stream:
        events.put(json.loads(line))
    events.put(None)


def _reason(code: int, errors: IO[bytes]) -> str:
    errors.seek(0)
    said = [line for line in errors.read()[-20000:].decode(errors="replace").splitlines() if line.strip()]
    last = without_home(said[-1].strip())[:300] if said else "no message"
    if code == -9:
        return f"the process was killed (signal 9; out of memory?): {last}"
    if code < 0:
        return f"the process died of signal {-code}: {last}"
    return f"the process ended with exit code {code}: {last}"


def _folder(job: Job, root: Path, machine: str) -> RunFolder:
    place = f"{job.device}-{job.threads}t"
    return run_folder(root, machine, job.system.spec.name, job.dataset.name, place, job.key)


def _missing(job: Job, folder: RunFolder, again: bool) -> list[Recording]:
    return [recording for recording in job.recordings if again or not folder.is_done(recording)]


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


@contextlib.contextmanager
def _alone() -> Iterator[bool]:
    """Whether no other diarbench runs on this machine now; others that start meanwhile find this one."""
    import filelock

    user = os.getuid() if hasattr(os, "getuid") else "user"
    lock = filelock.FileLock(Path(tempfile.gettempdir()) / f"diarbench-{user}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        yield False
        return
    except OSError:  # a temporary folder that can't be written: nothing is known, so nothing is claimed
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
