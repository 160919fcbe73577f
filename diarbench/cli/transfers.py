"""Progress of counting recordings and of fetching files: bars on a terminal, little elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from diarbench.cli.progress import bars

if TYPE_CHECKING:
    from rich.progress import Progress

    from diarbench.corpora.getting import Watcher


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar over recordings on standard error; None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import Progress

    with bars(*Progress.get_default_columns()) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def transfers() -> Iterator[Watcher]:
    """A bar over bytes, with speed and time left, on standard error; a line per file where that is no terminal."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with bars(*columns) as progress:
        yield _Bars(progress)


class _Bars:
    """A bar for the file at hand."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def file(self, name: str, position: int, count: int) -> Callable[[int, int | None], None]:
        for task in self._progress.task_ids:
            self._progress.remove_task(task)
        task = self._progress.add_task(f"{name} ({position}/{count})", total=None)
        return lambda done, total: self._progress.update(task, completed=done, total=total)


class _Lines:
    """A line for each file that really begins."""

    def file(self, name: str, position: int, count: int) -> Callable[[int, int | None], None]:
        told = False

        def on_bytes(done: int, total: int | None) -> None:
            nonlocal told
            if not told:
                told = True
                size = f", {total:,} bytes" if total is not None else ""
                goes_on = f", going on after {done:,}" if done else ""
                sys.stderr.write(f"[{position}/{count}] {name}{size}{goes_on}\n")

        return on_bytes
