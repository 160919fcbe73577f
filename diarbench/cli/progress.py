"""Progress of a run: a bar with the time left on a terminal, a line per system elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from diarbench.types import Seconds

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

    from diarbench.execute import Failure


@contextmanager
def bars(*columns: str | ProgressColumn, by_itself: bool = True) -> Iterator[Progress]:
    """Bars of rich's on standard error, which are gone when all is done.

    They are drawn ten times per second by a thread of their own; not `by_itself`, only where `refresh` is called.
    """
    from rich.console import Console
    from rich.progress import Progress

    with Progress(*columns, console=Console(file=sys.stderr), transient=True, auto_refresh=by_itself) as progress:
        yield progress


class Bar:
    """A bar over seconds of audio."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._count = self._total = 0

    def begin(self, recordings: int, audio: Seconds) -> None:
        """Show an empty bar; none where nothing is to be done."""
        self._total = recordings
        if recordings:
            self._task = self._progress.add_task("starting", total=audio, recordings=f"0/{recordings}")

    def system(self, name: str, position: int, count: int) -> None:
        """Name the system at work."""
        if self._task is not None:
            self._progress.update(self._task, description=f"{name} ({position}/{count})")

    def recording(self, system: str, recording: str, audio: Seconds, status: str) -> None:
        """Move the bar by a recording's length."""
        self._count += 1
        if self._task is not None:
            self._progress.update(self._task, advance=audio, recordings=f"{self._count}/{self._total}")

    def failed(self, failure: Failure) -> None:
        """Say above the bar what failed, and why."""
        self._progress.console.print(f"failed: {failure}", style="red", markup=False, highlight=False)


class Lines:
    """One line per system and failure on standard error: for pipes and logs."""

    def begin(self, recordings: int, audio: Seconds) -> None:
        """Say how much is to be done."""
        if recordings:
            sys.stderr.write(f"{recordings} recordings to do, {audio / 60:.1f} minutes of audio in all\n")

    def system(self, name: str, position: int, count: int) -> None:
        """Say which system starts."""
        sys.stderr.write(f"[{position}/{count}] {name}\n")

    def recording(self, system: str, recording: str, audio: Seconds, status: str) -> None:
        """Silence: what failed has been said."""

    def failed(self, failure: Failure) -> None:
        """Say what failed, and why."""
        sys.stderr.write(f"failed: {failure}\n")


@contextmanager
def progress() -> Iterator[Bar | Lines]:
    """What fits standard error."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    with bars(
        "{task.description}",
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[recordings]}"),
        TimeRemainingColumn(),
        "left",
    ) as shown:
        yield Bar(shown)
