"""What every process that runs an adapter does: it talks to its parent, ends with it, and puts errors in one line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import numpy as np

from diarbench.errors import DiarbenchError
from diarbench.files import without_home
from diarbench.types import Turns


def begin() -> tuple[bytes, TextIO]:
    """The order on standard input, and where events go: the original standard output.

    From here on what an adapter prints goes to standard error, it and the programs that it starts read nothing, and
    this process ends with its parent. The order is empty where the parent ended before it had given one.
    """
    events = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    parent = os.dup(0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    with os.fdopen(os.dup(parent), "rb") as orders:
        line = orders.readline()
    if not line.endswith(b"\n"):
        return b"", events
    _end_with_parent(parent)
    return line, events


def tell(events: TextIO, **event: Any) -> None:
    """One event to the parent."""
    events.write(json.dumps(event) + "\n")


def all_of(output: object) -> object:
    """What `diarize` returned, with all the work that it left for later done: a generator works while it is read."""
    if isinstance(output, Turns | list | tuple | np.ndarray) or hasattr(output, "itertracks"):
        return output
    return list(output) if isinstance(output, Iterable) and not isinstance(output, str | bytes | Mapping) else output


def cpu_time() -> float:
    """CPU time of this process, all its threads, and the programs that it started and that have ended (s)."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def wait_for_gpu(device: str) -> None:
    """Until the GPU has done what it was given."""
    torch = sys.modules.get("torch")
    if device == "cuda" and torch is not None:
        torch.cuda.synchronize()


def now() -> str:
    """The time of day, as it is stored."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def one_line(error: BaseException) -> str:
    """What went wrong, fit to be shown: one line of printable characters without private paths."""
    try:
        text = " ".join(str(error).split()) or "no message"
    except Exception:  # noqa: BLE001  an adapter's exception may fail to print itself
        text = "a message that can't be printed"
    name = "" if isinstance(error, DiarbenchError) else f"{type(error).__name__}: "
    return "".join(letter if letter.isprintable() else "?" for letter in without_home(f"{name}{text}"))[:500]


def trace(error: BaseException) -> str:
    """The traceback, fit to be stored."""
    text = without_home("".join(traceback.format_exception(error)))[-5000:]
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def _end_with_parent(parent: int) -> None:
    """End this process, and all that it started, as soon as the parent is gone, however that ended."""
    leads = hasattr(os, "killpg") and os.getpgrp() == os.getpid()  # not so when started by hand from a shell
    if leads and sys.platform == "linux":
        import fcntl

        # The kernel does it at once, even while an adapter's C code holds the interpreter; a sandbox may forbid it.
        with contextlib.suppress(OSError):
            fcntl.fcntl(parent, fcntl.F_SETOWN, -os.getpgrp())
            fcntl.fcntl(parent, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(parent, fcntl.F_SETFL, fcntl.fcntl(parent, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        os.read(parent, 1)  # nothing more is sent: this is its end
        if leads:
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(4)

    threading.Thread(target=watch, daemon=True).start()
