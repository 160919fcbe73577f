"""Marks inside adapters that say where the time goes; they cost nothing while nobody measures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
        self.seconds: dict[str, Seconds] = {}

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
        self._book()
        self._open.pop()

    def _book(self) -> None:
        now = self._clock()
        if self._open:
            self.seconds[self._open[-1]] = self.seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now


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
def measured_stages() -> Iterator[StageClock]:
    """Collect the marks that run inside; one at a time per process."""
    global _active
    before, _active = _active, StageClock()
    try:
        yield _active
    finally:
        _active = before
