"""Whether other diarbench runs share this machine: each leaves a mark in the temporary folder while it lasts.

Timings that were taken beside another run don't count. Runs of other users are seen too, where they share a
temporary folder; other programs are not.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Why a timing doesn't count that was taken beside another run: what is stored with it.
COMPANY = "another diarbench ran on this machine"

# Two looks at one process may disagree by so much when the system's clock is set meanwhile.
_CLOCK_TOLERANCE = 5.0  # s


class Look(NamedTuple):
    """What a run sees of the others at one moment."""

    alone: bool
    changed: int  # when a run last began or ended (ns): equal in two looks if none did in between


@contextlib.contextmanager
def marked() -> Iterator[Path | None]:
    """Leave a mark of this process while the block lasts; None where the temporary folder can't be written."""
    folder = Path(tempfile.gettempdir()) / "diarbench-running"
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(0o1777)  # for all users, as the temporary folder itself
        for mark in folder.iterdir():
            if not _lives(mark.name):  # of a run that was killed
                with contextlib.suppress(OSError):
                    mark.unlink()
        own = folder / f"{os.getpid()}_{_born(os.getpid())}_{uuid.uuid4().hex[:8]}"
        own.touch(exist_ok=False)
    except OSError:
        yield None
        return
    try:
        yield own
    finally:
        with contextlib.suppress(OSError):
            own.unlink()


def look(mark: Path | None) -> Look:
    """Whether the run of this mark is alone now. Where nothing can be known, it isn't."""
    if mark is None:
        return Look(False, 0)
    try:
        folder = os.path.dirname(mark)
        changed = os.stat(folder).st_mtime_ns
        names = os.listdir(folder)
    except OSError:
        return Look(False, 0)
    return Look(mark.name in names and not any(_lives(name) for name in names if name != mark.name), changed)


def _lives(name: str) -> bool:
    """Whether the process of a mark still runs; its number alone may long be another's."""
    try:
        process, born, _ = name.split("_")
        now = _born(int(process))
        return now is not None and abs(now - float(born)) <= _CLOCK_TOLERANCE
    except ValueError:
        return False


def _born(process: int) -> float | None:
    """When a running process was started (s since 1970)."""
    import psutil

    try:
        found = psutil.Process(process)
        return None if found.status() == psutil.STATUS_ZOMBIE else float(found.create_time())
    except psutil.Error:
        return None
