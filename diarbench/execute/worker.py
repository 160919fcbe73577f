"""A process that runs one system: loads it, feeds it decoded audio, times the call, stores each result at once.

A result is counted and written while the next recording is read, and is on disk before that one's call begins:

    main    read 1        | diarize 1 | read 2                          | diarize 2 | read 3
    beside  digest 1      |           | count 1, write 1, digest 2      |           | count 2, write 2, …
    events  start 1       | call 1    | start 2                  done 1 | call 2    | start 3

Started by the parent as `python -m diarbench.execute.worker`. Standard input brings one order, and its end means
that the parent is gone. Events go to the original standard output; what an adapter prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, NamedTuple, TextIO

import numpy as np

from diarbench.audio import decode
from diarbench.errors import AdapterError, AudioError, StoreError
from diarbench.execute.beside import Beside, Spent
from diarbench.execute.child import all_of, begin, cpu_time, now, one_line, tell, trace, wait_for_gpu
from diarbench.execute.loading import Adapter, Randomness, load_adapter, set_threads, source_of
from diarbench.execute.messages import Order, Task
from diarbench.files import size_of
from diarbench.measure.beside import COMPANY, look
from diarbench.measure.calls import CallRecorder, Calls, PipelineCounter, PipelineMacs
from diarbench.measure.counts import build_networks, count_system
from diarbench.measure.machine import load_average, peak_memory, settings, software
from diarbench.measure.stages import measured_stages
from diarbench.store import RunFolder, describe_audio, new_session
from diarbench.types import Audio, Recording, Seconds, Timing, Turns

# Long enough for a network to see speech-like input once; short enough not to matter.
_WARM_UP = 5.0  # s of audio

# A call may use a little more CPU time than its threads allow: clocks are coarse, and libraries tidy up beside it.
_CPU_EXCESS = 1.25
_CPU_SLACK = 0.1  # s

# Windows and frames are padded, so turns may end a little after the recording; some systems write whole windows.
_OVERHANG = 0.5  # s
_LONGEST_WINDOW = 10.0  # s
# Turns that end later than so many times the recording's length are not in seconds.
_NO_SECONDS = 10.0


def main() -> int:
    """Read an order, do it, report each step."""
    line, events = begin()
    if not line:
        return 4  # the parent ended before it had said what to do
    order = Order.from_json(json.loads(line))
    try:
        last = Worker(order, events).work()
    except StoreError as error:
        tell(events, event="fatal", error=str(error))
        return 3
    tell(events, event=last)
    return 0


class _Call(NamedTuple):
    recording_id: str
    turns: Turns
    timing: Timing
    problem: str | None  # why the timing doesn't count
    calls: Calls | None  # of the system's networks, where it shows them


class _Outside(NamedTuple):
    """Where turns begin before their recording, and where they end after it, by recording."""

    starts: dict[str, Seconds]
    ends: dict[str, Seconds]


class Worker:
    """One system, built once, and the recordings it has to do."""

    def __init__(self, order: Order, events: TextIO) -> None:
        self._order, self._events = order, events
        self._provenance = new_session(order.session, now())
        self._provenance |= {"machine": dict(order.machine), "load_average_before": load_average()}
        self._warm = False
        self._beside, self._spent = Beside(), Spent()
        self._stored: list[dict[str, Any]] = []  # events of results that are being written
        self._outside = _Outside({}, {})  # of this task
        self._recorder: CallRecorder | None = None
        self._counter: PipelineCounter | None = None

    def work(self) -> str:
        """All tasks; returns the last event. A system that can't be built fails them all, visibly.

        Raises StoreError where results can't be stored.
        """
        try:
            adapter = self._load()
        except BaseException as error:  # noqa: BLE001  whatever an adapter raises must become a visible failure
            said = self._one_line(error)
            self._provenance |= {"error": said, "detail": trace(error)}
            for task in self._order.tasks:
                folder = RunFolder(task.folder)
                with self._held(folder, task):
                    folder.ensure_run(task.run)
                    self._store_session(folder, ended=True)
            self._tell(event="unloadable", error=said)
            return "finished"
        self._tell(event="loaded")
        going = all(self._do_task(adapter, task) for task in self._order.tasks)
        self._settle()
        return "finished" if going else "restart"

    def _do_task(self, adapter: Adapter, task: Task) -> bool:
        """The recordings of one dataset. False where this process can do no more."""
        folder = RunFolder(task.folder)
        self._outside = _Outside({}, {})
        held = contextlib.ExitStack()
        held.enter_context(self._held(folder, task))
        complexity = asdict(self._complexity) if self._complexity else None
        self._beside.do(folder.write_run, {**task.run, "complexity": complexity})
        self._beside.do(self._store_session, folder)
        going = all(self._do(adapter, task, folder, recording) for recording in task.recordings)
        # The folder is let go once all is written, and before we wait for the next one, if we have to.
        self._beside.do(self._end_task, folder, held, self._spent.parts(), self._outside)
        return going

    def _end_task(
        self,
        folder: RunFolder,
        held: contextlib.ExitStack,
        parts: Mapping[str, Seconds],
        outside: _Outside,
    ) -> None:
        with held:
            total = self._spent.total()
            spent = {"total": total, **parts} if total is not None else None
            self._store_session(folder, ended=True, spent=spent, outside=outside)

    def _do(self, adapter: Adapter, task: Task, folder: RunFolder, recording: Recording) -> bool:
        """One recording, if it is still missing. False where this process can do no more."""
        names = {"dataset": task.dataset, "recording": recording.id}
        if not task.again and folder.is_done(recording):
            self._tell(event="kept", **names)
            return True
        self._spent.start()
        self._tell(event="start", **names)
        try:
            audio, described = self._read(recording)
            self._tell(event="call", **names)
            if self._warm_up(adapter, audio):
                self._randomness.restore()
                self._tell(event="call", **names)
            call = self._call(adapter, audio)
        except BaseException as error:  # noqa: BLE001  one failing recording leaves the rest
            self._settle()  # where it is that which failed, it fails again, and that ends all
            said = self._one_line(error)
            folder.write_failure(recording.id, said, trace(error), self._order.session)
            self._spent.stop()
            self._tell(event="failed", error=said, **names)
            return _device_lives(self._order.device)
        self._beside.do(self._store, folder, call, described)
        self._stored.append({"event": "done", "wall": call.timing.wall, **names})
        return True

    def _read(self, recording: Recording) -> tuple[Audio, dict[str, Any] | None]:
        """The audio, and which it is. Once it is read, nothing runs beside any more. Raises AudioError, and OSError."""
        self._beside.do(self._randomness.restore)  # reading draws no random numbers
        if not self._needs_audio:
            self._settle()
            return Audio(recording, np.zeros((1, 0), dtype=np.float32)), None
        before = _size_and_time(recording)
        self._beside.start()
        digest = self._beside.ask(describe_audio, recording)
        with self._spent.on("reading"):
            audio = decode(recording)
        self._settle()
        described = digest.result()
        digested = (described["bytes"], described["mtime_ns"]) if described is not None else None
        if digested is None or not before == digested == _size_and_time(recording):
            raise AudioError(f"{recording.path}: changed while it was read; run again when nobody writes it")
        return audio, described

    def _store(self, folder: RunFolder, call: _Call, described: Mapping[str, Any] | None) -> None:
        """Count and write a result."""
        macs = self._macs(call)
        folder.write_result(
            call.recording_id,
            call.turns,
            call.timing if self._timed else None,
            self._order.session,
            audio=described,
            timing_problem=call.problem if self._timed else None,
            macs=macs.by_stage if macs else None,
            macs_problem=macs.problem if macs else None,
        )
        self._spent.stop()

    def _settle(self) -> None:
        """Wait until what is to be stored is on disk, and tell of results that are. Raises StoreError."""
        self._beside.settle()
        while self._stored:
            self._tell(**self._stored.pop(0))

    def _load(self) -> Adapter:
        order = self._order
        loaded = load_adapter(order)
        adapter: Adapter = loaded.adapter
        self._randomness = Randomness()
        self._provenance |= {
            "import": loaded.importing,
            "load": loaded.building,
            "software": software(list(order.distributions)),
            "settings": settings(),
        }
        self._needs_audio = bool(getattr(adapter, "needs_audio", True))
        self._timed = bool(getattr(adapter, "timed", True))
        self._size(adapter)
        return adapter

    def _size(self, adapter: Adapter) -> None:
        """Count the system's networks. One that can't be counted still runs: the session says why it isn't."""
        order = self._order
        modules = adapter.modules() if hasattr(adapter, "modules") else None
        weight_bytes = sum(size_of(path) for path in order.weights.values()) if order.weights else None
        networks = None
        try:
            networks = build_networks(type(adapter), order.options)
            self._complexity = count_system(modules, networks, weight_bytes)
        except AdapterError as error:
            networks = None
            self._provenance["count_problem"] = one_line(error)
            self._complexity = count_system(modules, None, weight_bytes)
        if modules:
            self._recorder, self._counter = CallRecorder(modules), PipelineCounter(modules, networks)
            self._counter.learn([one.duration for task in order.tasks for one in task.recordings])

    def _macs(self, call: _Call) -> PipelineMacs | None:
        """What the networks did in the call that counted."""
        if call.calls is None or self._counter is None:
            return None
        return self._counter.count(call.calls, call.timing.wall)

    def _watched(self) -> contextlib.AbstractContextManager[Calls | None]:
        return self._recorder.recording() if self._recorder is not None else contextlib.nullcontext()

    def _warm_up(self, adapter: Adapter, audio: Audio) -> bool:
        """One call on a few seconds, so that lazy set-up is not booked to the first recording. False: not needed."""
        if self._warm or not (self._timed and self._needs_audio):
            return False
        self._warm = True
        cut = audio.samples[:, : int(_WARM_UP * audio.sample_rate)].copy()
        cut.flags.writeable = False
        duration = cut.shape[-1] / audio.sample_rate
        set_threads(self._order.threads)
        # The call that counts will fail alike and be recorded.
        with self._spent.on("warm_up"), contextlib.suppress(BaseException), self._watched():
            all_of(adapter.diarize(Audio(replace(audio.recording, duration=duration), cut)))
        return True

    def _call(self, adapter: Adapter, audio: Audio) -> _Call:
        """The call that counts: the clock holds `diarize` and nothing else."""
        device, threads = self._order.device, self._order.threads
        set_threads(threads)
        wait_for_gpu(device)
        seen, busy = look(self._order.mark), cpu_time()
        with self._watched() as calls, measured_stages(device) as stages, self._spent.on("diarize"):
            before = time.perf_counter()
            output = all_of(adapter.diarize(audio))
            wait_for_gpu(device)
            wall = time.perf_counter() - before
        used = cpu_time() - busy
        problem = None
        if not seen.alone or look(self._order.mark) != seen:
            problem = COMPANY
        elif device == "cpu" and used > _CPU_EXCESS * threads * wall + _CPU_SLACK:
            problem = f"it used {used / wall:.1f} CPU cores, not the {threads} that it was given (--threads)"
        timing = Timing(wall, audio.recording.duration, dict(stages.seconds))
        turns = Turns.from_output(output)
        self._look_at_ends(turns, audio.recording)
        return _Call(audio.recording.id, turns, timing, problem, calls)

    def _look_at_ends(self, turns: Turns, recording: Recording) -> None:
        """Note turns that begin before the recording, where they are cut off when stored, or end after it. Raises
        AdapterError where they can't be seconds."""
        start, end = (float(turns.starts[0]), float(turns.ends.max())) if len(turns) else (0.0, 0.0)
        length = recording.duration
        if end > _NO_SECONDS * length and end - length > _LONGEST_WINDOW:
            raise AdapterError(f"turns end at {end:g} s, the recording at {length:g} s; are these milliseconds?")
        if end - length > _OVERHANG:
            self._outside.ends[recording.id] = round(end, 3)
        if round(start, 3) < 0:  # what rounds to 0.000 is 0: windows may leave a hair below it
            self._outside.starts[recording.id] = round(start, 3)

    @contextlib.contextmanager
    def _held(self, folder: RunFolder, task: Task) -> Iterator[None]:
        since: list[float] = []

        def wait() -> None:
            self._settle()
            self._tell(event="waiting", dataset=task.dataset)
            since.append(time.perf_counter())

        with folder.locked(wait):
            self._spent.add("waiting", time.perf_counter() - since[0] if since else 0.0)
            self._tell(event="holding", dataset=task.dataset)
            yield

    def _store_session(
        self,
        folder: RunFolder,
        *,
        ended: bool = False,
        spent: Mapping[str, Seconds] | None = None,
        outside: _Outside | None = None,
    ) -> None:
        end: dict[str, Any] = {}
        if ended:
            load, memory = load_average(), peak_memory()
            end = {"ended": now(), "load_average_after": load, "peak_memory_bytes": memory, "spent": spent}
            end |= {"turns_start": outside.starts} if outside and outside.starts else {}
            end |= {"turns_end": outside.ends} if outside and outside.ends else {}
        folder.write_session(self._provenance | end)

    def _one_line(self, error: BaseException) -> str:
        return one_line(error, source_of(self._order.adapter_file, self._order.adapter_module))

    def _tell(self, **event: Any) -> None:
        tell(self._events, **event)


def _device_lives(device: str) -> bool:
    """Whether the GPU still answers: after some errors it fails every later call of the same process."""
    torch = sys.modules.get("torch")
    if device != "cuda" or torch is None:
        return True
    try:
        torch.cuda.empty_cache()
        torch.zeros(1, device="cuda")
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def _size_and_time(recording: Recording) -> tuple[int, int] | None:
    if recording.path is None or not recording.path.is_file():
        return None
    status = recording.path.stat()
    return status.st_size, status.st_mtime_ns


if __name__ == "__main__":
    sys.exit(main())
