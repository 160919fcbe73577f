"""A process that runs one system: loads it, feeds it decoded audio, times the call, stores each result at once.

Started by the parent as `python -m diarbench.execute.worker`. Standard input brings one order, and its end means
that the parent is gone. Events go to the original standard output; what an adapter prints goes to standard error.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from diarbench.audio import decode
from diarbench.errors import AdapterError, DiarbenchError, StoreError
from diarbench.execute.messages import Order, Task
from diarbench.files import without_home
from diarbench.measure.counts import count_modules
from diarbench.measure.machine import load_average, settings, software
from diarbench.measure.stages import measured_stages
from diarbench.plan import distribution_names
from diarbench.store import RunFolder
from diarbench.types import Audio, Complexity, Recording, Timing, Turns

# Long enough for a network to see speech-like input once; short enough not to matter.
_WARM_UP = 5.0  # s of audio


class _Adapter(Protocol):
    def diarize(self, audio: Audio) -> object: ...


def main() -> int:
    """Read an order, do it, report each step."""
    events = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    order = Order.from_json(json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        Worker(order, events).work()
    except StoreError as error:
        _tell(events, event="fatal", error=str(error))
        return 3
    return 0


class Worker:
    """One system, built once, and the recordings it has to do."""

    def __init__(self, order: Order, events: TextIO) -> None:
        self._order, self._events = order, events
        self._session = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}"
        self._provenance: dict[str, Any] = {
            "session": self._session,
            "started": _now(),
            "ended": None,
            "quiet": order.quiet,
            "load_average_before": load_average(),
        }

    def work(self) -> None:
        """All tasks. A system that can't be built fails them all, visibly. Raises StoreError where the disk does."""
        try:
            adapter = self._load()
        except Exception as error:  # noqa: BLE001  whatever an adapter raises must become a visible failure
            self._provenance |= {"error": _one_line(error), "detail": _trace(error), "ended": _now()}
            for task in self._order.tasks:
                folder = RunFolder(task.folder)
                with folder.locked():
                    folder.ensure_run(task.run)
                    folder.write_session(self._session, self._provenance)
            self._tell(event="unloadable", error=_one_line(error))
            return
        self._tell(event="loaded", seconds=self._provenance["load"])
        warm = False
        for task in self._order.tasks:
            folder = RunFolder(task.folder)
            with folder.locked():
                folder.write_run({**task.run, "complexity": _plain(self._complexity)})
                folder.write_session(self._session, self._provenance)
                for recording in task.recordings:
                    if not task.again and folder.is_done(recording):
                        self._tell(event="kept", dataset=task.dataset, recording=recording.id)
                        continue
                    self._tell(event="start", dataset=task.dataset, recording=recording.id)
                    if not warm:
                        self._warm_up(adapter, recording)
                        warm = True
                    self._one(adapter, task, folder, recording)
                self._provenance |= {
                    "ended": _now(),
                    "load_average_after": load_average(),
                    "peak_memory_bytes": _peak(),
                }
                folder.write_session(self._session, self._provenance)

    def _load(self) -> _Adapter:
        order = self._order
        before = time.perf_counter()
        adapter_class = _import_adapter(order)
        imported = time.perf_counter()
        _set_threads(order.threads)
        adapter = build(adapter_class, order)
        self._provenance["import"] = imported - before
        self._provenance["load"] = time.perf_counter() - imported
        self._provenance["software"] = software(distribution_names(order.requires))
        self._provenance["settings"] = settings()
        self._needs_audio = bool(getattr(adapter, "needs_audio", True))
        self._timed = bool(getattr(adapter, "timed", True))
        modules = adapter.modules() if hasattr(adapter, "modules") else None
        weight_bytes = sum(_size(path) for path in order.weights.values()) if order.weights else None
        self._complexity = count_modules(modules, weight_bytes)
        return adapter  # type: ignore[no-any-return]

    def _warm_up(self, adapter: _Adapter, recording: Recording) -> None:
        """One call on a few seconds, so that lazy set-up is not booked to the first recording."""
        if not (self._timed and self._needs_audio):
            return
        try:
            audio = decode(recording)
            cut = audio.samples[:, : int(_WARM_UP * recording.sample_rate)].copy()
            list(_rows(adapter.diarize(Audio(recording, cut))))
        except Exception:  # noqa: BLE001, S110  the call that counts will fail alike and be recorded
            pass

    def _one(self, adapter: _Adapter, task: Task, folder: RunFolder, recording: Recording) -> None:
        try:
            audio = self._audio(recording)
            _set_threads(self._order.threads)
            turns, timing = self._timed_call(adapter, audio)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  one failing recording leaves the rest
            folder.write_failure(recording.id, _one_line(error), _trace(error), self._session)
            self._tell(event="failed", dataset=task.dataset, recording=recording.id, error=_one_line(error))
            return
        counted = timing if self._timed else None
        folder.write_result(
            recording, turns, counted, self._session, {"timing_counts": self._timed and self._order.quiet}
        )
        self._tell(event="done", dataset=task.dataset, recording=recording.id, wall=timing.wall)

    def _audio(self, recording: Recording) -> Audio:
        if self._needs_audio:
            return decode(recording)
        return Audio(recording, np.zeros((1, 0), dtype=np.float32))

    def _timed_call(self, adapter: _Adapter, audio: Audio) -> tuple[Turns, Timing]:
        with measured_stages() as stages:
            before = time.perf_counter()
            output = adapter.diarize(audio)
            if isinstance(output, Iterator):
                output = list(output)  # a generator does its work while it is read: inside the clock
            _wait_for_gpu(self._order.device)
            wall = time.perf_counter() - before
        return Turns.from_output(output), Timing(wall, audio.recording.duration, dict(stages.seconds))

    def _tell(self, **event: Any) -> None:
        _tell(self._events, **event)


def build(adapter_class: type, order: Order) -> Any:
    """The adapter: the card's options as keyword arguments, and what the harness knows where it is asked for.

    Raises AdapterError where the card names an option that the adapter does not take, or lacks one it needs.
    """
    offered: dict[str, Any] = {
        "device": order.device,
        "weights": dict(order.weights),
        "files": dict(order.files),
    }
    signature = inspect.signature(adapter_class)
    taken = {name for name, p in signature.parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD}
    arguments = dict(order.options) | {name: value for name, value in offered.items() if name in taken}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise AdapterError(
            f"{order.attribute} can't be built from the card's [options]: {error}; it takes {', '.join(sorted(taken))}"
        ) from error
    return adapter_class(**arguments)


def _import_adapter(order: Order) -> type:
    if order.adapter_file is not None:
        # The adapter's own folder is importable, as for a script: families may keep helpers beside it.
        sys.path.append(str(order.adapter_file.parent))
        spec = importlib.util.spec_from_file_location("diarbench_adapter", order.adapter_file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["diarbench_adapter"] = module
        spec.loader.exec_module(module)
    else:
        assert order.adapter_module is not None
        module = importlib.import_module(order.adapter_module)
    found = getattr(module, order.attribute, None)
    if not callable(getattr(found, "diarize", None)) or not isinstance(found, type):
        raise AdapterError(f"{module.__file__} has no class {order.attribute!r} with a method diarize(audio)")
    return found


def _set_threads(threads: int) -> None:
    """Some packages set torch's threads when they are imported or built; the run's own number holds."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def _wait_for_gpu(device: str) -> None:
    torch = sys.modules.get("torch")
    if device == "cuda" and torch is not None:
        torch.cuda.synchronize()


def _rows(output: object) -> Iterator[object]:
    yield from Turns.from_output(list(output) if isinstance(output, Iterator) else output)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(4)


def _tell(events: TextIO, **event: Any) -> None:
    events.write(json.dumps(event) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    name = "" if isinstance(error, DiarbenchError) else f"{type(error).__name__}: "
    return without_home(f"{name}{text}")[:500]


def _trace(error: BaseException) -> str:
    return without_home("".join(traceback.format_exception(error)))[-5000:]


def _peak() -> int | None:
    """Largest resident memory of this process so far (bytes)."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _size(path: Path) -> int:
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) if path.is_dir() else path.stat().st_size


def _plain(complexity: Complexity | None) -> Mapping[str, Any] | None:
    if complexity is None:
        return None
    return {
        "parameters": complexity.parameters,
        "nonzero_parameters": complexity.nonzero_parameters,
        "parameters_by_stage": dict(complexity.parameters_by_stage),
        "weight_bytes": complexity.weight_bytes,
    }


if __name__ == "__main__":
    sys.exit(main())
