"""Marks inside adapters that say where the time goes; they cost nothing while nobody measures."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diarbench.types import Seconds


class StageClock:
    """Exclusive time per stage: what a nested stage takes is not counted in the one around it.

    It listens to the thread that made it. What others do at the same time is part of the stage that waits for them.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._thread = threading.get_ident()
        self._open: list[str] = []
        self._since = 0.0
        self._seconds: dict[str, Seconds] = {}

    @property
    def seconds(self) -> dict[str, Seconds]:
        """Exclusive time per stage so far."""
        return self._seconds

    @property
    def listens(self) -> bool:
        """Whether marks of the calling thread count."""
        return threading.get_ident() == self._thread

    def enter(self, name: str) -> None:
        """Begin `name`; the stage around it stops counting."""
        self._book()
        self._open.append(name)

    def leave(self) -> None:
        """End the innermost stage; the one around it counts on."""
        if self._open:  # not so when it was left after the clock had stopped
            self._book()
            self._open.pop()

    def stop(self) -> None:
        """Book what is still open: nothing counts from here on."""
        if self._open:
            self._book()
        self._open = []

    def _book(self) -> None:
        now = self._clock()
        if self._open:
            self._seconds[self._open[-1]] = self._seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now


class GpuStageClock(StageClock):
    """Exclusive time per stage on the GPU's own clock, by CUDA events.

    The host runs ahead of the GPU, so its clock would book the time of one stage to whatever waits for it later. An
    event is recorded in the current stream at each mark; nothing is waited for until `seconds` is asked.
    """

    def __init__(self) -> None:
        super().__init__()
        self._spans: list[tuple[str, Any, Any]] = []
        self._event: Any = None

    @property
    def seconds(self) -> dict[str, Seconds]:
        """Exclusive time per stage; waits until the GPU has passed the last mark."""
        found: dict[str, Seconds] = {}
        if self._event is not None:
            self._event.synchronize()
        for name, start, end in self._spans:
            found[name] = found.get(name, 0.0) + start.elapsed_time(end) / 1000.0  # CUDA counts milliseconds
        return found

    def _book(self) -> None:
        now = sys.modules["torch"].cuda.Event(enable_timing=True)
        now.record()
        if self._open:
            self._spans.append((self._open[-1], self._event, now))
        self._event = now


_active: StageClock | None = None


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Mark what runs inside as one stage of the system, for example "segmentation" or "embedding".

    >>> with stage("clustering"):
    ...     labels = [0, 1]
    """
    clock = _active
    if clock is None or not clock.listens:
        yield
        return
    clock.enter(name)
    try:
        yield
    finally:
        clock.leave()


@contextmanager
def measured_stages(device: str = "cpu") -> Iterator[StageClock]:
    """Collect the marks that run inside; one at a time per process. On "cuda", by the GPU's clock.

    A stage that is still open when the block ends lasted until then.
    """
    global _active
    on_gpu = device == "cuda" and "torch" in sys.modules
    clock = GpuStageClock() if on_gpu else StageClock()
    before, _active = _active, clock
    try:
        yield clock
        clock.stop()
    finally:
        _active = before
