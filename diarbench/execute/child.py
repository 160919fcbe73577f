"""What every process that runs an adapter does: it talks to its parent, ends with it, and puts errors in one line."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from diarbench.errors import DiarbenchError
from diarbench.files import without_home
from diarbench.types import Turns

# What Python prints above the stack of a process that dies, or is asked where it is.
DYING, STACK = "Fatal Python error: ", "(most recent call first):"

_LONGEST_LINE = 500  # characters of what went wrong; the place is added, and the whole stands in the traceback

_started_in: Path | None = None  # of a process that runs an adapter, which may go elsewhere


def begin() -> tuple[bytes, TextIO]:
    """The order on standard input, and where events go: the original standard output.

    From here on what an adapter prints goes to standard error, it and the programs that it starts read nothing, and
    this process ends with its parent. Dying in C code, or asked with SIGUSR1, it prints where it is. The order is empty
    where the parent ended before it had given one.
    """
    global _started_in
    with contextlib.suppress(OSError):
        _started_in = Path.cwd()
    events = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    parent = os.dup(0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    _show_where()
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


def one_line(error: BaseException, adapter: Path | None = None) -> str:
    """What went wrong, fit to be shown: one line of printable characters without private paths.

    With the file of an adapter, it ends with the innermost place in that file's folder, where there is one: of
    `KeyError: 'x'` in systems/bad/a.py, `KeyError: 'x' (systems/bad/a.py, line 2)`.
    """
    try:
        text = " ".join(str(error).split()) or "no message"
    except Exception:  # noqa: BLE001  an adapter's exception may fail to print itself
        text = "a message that can't be printed"
    name = "" if isinstance(error, DiarbenchError) else f"{type(error).__name__}: "
    said = "".join(letter if letter.isprintable() else "?" for letter in shortened(f"{name}{text}"))
    if len(said) > _LONGEST_LINE:
        said = said[: _LONGEST_LINE - 1] + "…"
    return said + (_place(error, adapter) if adapter is not None else "")


def trace(error: BaseException) -> str:
    """The traceback, fit to be stored."""
    text = shortened("".join(traceback.format_exception(error)))[-5000:]
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def shortened(text: str) -> str:
    """The text with paths below the working folder as they would be typed there, and without private ones."""
    folder = _working_folder()
    if folder is not None:
        # Only where a path begins: /data/a/x does not lie in /a.
        text = re.sub(rf"(?<![\w./~$-]){re.escape(str(folder))}/", "", text)
    return without_home(text)


def place_printed(text: str, adapter: Path) -> str:
    """The innermost place in an adapter's folder of the stack that a process printed last, as in `one_line`."""
    _, mark, stack = text.rpartition(STACK)
    for found in re.finditer(r'File "(.+)", line (\d+) in ', stack) if mark else ():
        path = Path(found[1])
        if adapter.parent in path.parents and "site-packages" not in path.parts:
            return f" ({_as_typed(path)}, line {found[2]})"
    return ""


def _working_folder() -> Path | None:
    """The folder that the command was started in; None where relative paths could name a person's home folder."""
    try:
        folder = _started_in or Path.cwd()
        home = Path.home().resolve()
    except (OSError, RuntimeError):  # it was removed meanwhile; a user without a home folder
        return None
    return None if folder in home.parents else folder


def _place(error: BaseException, adapter: Path) -> str:
    """Where an error was raised in an adapter's folder; nothing for errors that say what is to be mended."""
    if isinstance(error, DiarbenchError | SyntaxError):  # the latter names its file and line itself
        return ""
    # Our own modules lie beside the worker, through which every error comes.
    ours = Path(__file__).parents[1] in adapter.parents
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if path == adapter or (not ours and adapter.parent in path.parents and "site-packages" not in path.parts):
            found = f" ({_as_typed(path)}, line {line})"
    return "".join(letter if letter.isprintable() else "?" for letter in found)


def _as_typed(path: Path) -> str:
    """A file of an adapter: below the working folder, or else below the folder that its cards' folder lies in."""
    folder = _working_folder()
    if folder is not None and folder in path.parents:
        return path.relative_to(folder).as_posix()
    parts = path.parts
    start = max((place for place, part in enumerate(parts) if part == "systems"), default=len(parts) - 2)
    return "/".join(parts[max(start, 1) :])


def _show_where() -> None:
    """Print the stack where the interpreter can't raise any more, or when the parent asks."""
    errors = os.dup(2)  # an adapter may close its own
    faulthandler.enable(errors, all_threads=False)
    if hasattr(faulthandler, "register"):  # not on Windows
        faulthandler.register(signal.SIGUSR1, errors, all_threads=False)


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
