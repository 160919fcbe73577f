"""What a worker does beside the reading of the next recording, and where its time goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from diarbench.types import Seconds

Answer = TypeVar("Answer")


class Beside:
    """One thread that does what it is given in that order, from `start` to `settle`; else nothing runs beside us.

    It begins with the reading, most of which needs no interpreter; before, each of the two would hold the other up.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._given: list[Callable[[], object]] = []
        self._pending: list[Future[Any]] = []

    def do(self, job: Callable[..., object], *arguments: Any) -> None:
        """Something that must succeed, after `start`: `settle` raises what it raises."""
        self._given.append(partial(job, *arguments))

    def start(self) -> None:
        """Begin with what was given."""
        self._pending += map(self._thread.submit, self._given)
        self._given.clear()

    def ask(self, job: Callable[..., Answer], *arguments: Any) -> Future[Answer]:
        """Something whose answer, or error, is for who asks; it begins at once, after what was started."""
        return self._thread.submit(job, *arguments)

    def settle(self) -> None:
        """Wait until all that must succeed is done. Raises what any of it raised, and again at each later call."""
        self.start()
        for future in self._pending:
            future.result()
        self._pending.clear()


class Spent:
    """Where the wall time of a process goes, from its first recording on."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._until = 0.0
        self._parts: dict[str, Seconds] = dict.fromkeys(("diarize", "reading", "warm_up", "waiting"), 0.0)

    def start(self) -> None:
        """A recording begins."""
        self._began = time.perf_counter() if self._began is None else self._began

    def stop(self) -> None:
        """A recording is done, or has failed, and that is stored."""
        self._until = time.perf_counter()

    @contextlib.contextmanager
    def on(self, part: str) -> Iterator[None]:
        """The block is of this part."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self.add(part, time.perf_counter() - before)

    def add(self, part: str, seconds: Seconds) -> None:
        """So much was of this part."""
        self._parts[part] += seconds

    def parts(self) -> dict[str, Seconds]:
        """As they are now."""
        return dict(self._parts)

    def total(self) -> Seconds | None:
        """From the first `start` to the last `stop`; None before."""
        return None if self._began is None or not self._until else self._until - self._began
