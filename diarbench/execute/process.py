"""A worker process as its parent sees it: its events, the end of what it printed, and its own end."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import IO, Any, Self

from diarbench.execute.child import DYING, STACK, place_printed, shortened
from diarbench.execute.messages import Order
from diarbench.fetch import offline
from diarbench.types import Seconds

_TAIL = 20_000  # bytes of what it printed last that are kept
_LOOK = 0.25  # s between looks whether it still lives
_PATIENCE = 10.0  # s that it has for tidying up, once all is done
_DRAIN = 1.0  # s to read what it had written when it ended

# What libraries read to choose their number of threads.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip


class WorkerProcess:
    """A worker at work. Neither it nor a process that its adapter started outlives the `with` block.

    `module` is what it runs; files in `pass_fds` stay open in it, and their numbers are its arguments.
    """

    def __init__(self, order: Order, module: str = "diarbench.execute.worker", pass_fds: tuple[int, ...] = ()) -> None:
        environment = dict(os.environ) | dict.fromkeys(_THREAD_VARIABLES, str(order.threads))
        # Sets of texts come in the same order in every process, so that a system that walks through one repeats itself.
        environment.setdefault("PYTHONHASHSEED", "0")
        if offline():
            environment["HF_HUB_OFFLINE"] = "1"  # for what an adapter's libraries would fetch by themselves
        # -P: files in the working folder don't shadow modules. A session of its own: one signal ends all it started,
        # and Ctrl-C reaches the parent alone.
        self._process = subprocess.Popen(  # noqa: S603  a module of our own
            [sys.executable, "-P", "-m", module, *map(str, pass_fds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
            start_new_session=True, pass_fds=pass_fds,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._adapter = order.adapter_file
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._tail = b""
        self._reader = _start(self._read_events, self._process.stdout)
        self._listener = _start(self._keep_tail, self._process.stderr)
        # Not from here: a worker that hangs before it reads would hold us up.
        self._writer = _start(self._send, self._process.stdin, json.dumps(order.to_json()).encode() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        until = time.monotonic() + _DRAIN
        for thread, stream in (
            (self._writer, self._process.stdin),
            (self._reader, self._process.stdout),
            (self._listener, self._process.stderr),
        ):
            thread.join(timeout=max(0.0, until - time.monotonic()))
            # A daemon that an adapter left behind may hold the other end; then the thread ends with us.
            if stream is not None and not thread.is_alive():
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def next(self, limit: Seconds | None) -> dict[str, Any] | None:
        """The next event, or None once the process has ended. Raises TimeoutError where neither comes in time (s)."""
        until = None if limit is None else time.monotonic() + limit
        while True:
            left = _LOOK if until is None else min(_LOOK, max(0.0, until - time.monotonic()))
            try:
                return self._events.get(timeout=left)
            except queue.Empty:
                pass
            if self._process.poll() is not None:
                # Not by the pipe alone: a child that was forked off may hold it open.
                self.kill()
                self._reader.join(timeout=_DRAIN)
                self._events.put(None)
            elif until is not None and time.monotonic() >= until:
                raise TimeoutError

    def wait(self) -> None:
        """Let the process end by itself, for some seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_PATIENCE)

    def kill(self) -> None:
        """End the process and all that it started."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def ask_where(self) -> None:
        """Have it print its stack, before it is killed."""
        if not hasattr(signal, "SIGUSR1"):
            return
        printed, until = self._tail.count(STACK.encode()), time.monotonic() + _DRAIN
        self._process.send_signal(signal.SIGUSR1)
        while self._tail.count(STACK.encode()) == printed and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.05)  # for the lines of the stack

    def place(self) -> str:
        """Where in the adapter's folder it was when it printed its stack, with a space before it; else nothing."""
        self._listener.join(timeout=_DRAIN)
        return place_printed(self._tail.decode(errors="replace"), self._adapter) if self._adapter is not None else ""

    def reason(self) -> str:
        """Why it ended, in one line, with the last line that its adapter printed, and where it was if it said so."""
        code = self._process.wait()
        said = self.said()
        if code < 0 and DYING in said:
            said = said[: said.rindex(DYING)]
        lines = [line for line in said.splitlines() if line.strip()]
        last = lines[-1].strip()[:300] if lines else "no message"
        if code == -signal.SIGKILL:
            return f"the process was killed (signal 9; out of memory?): {last}"
        if code < 0:
            return f"the process died of signal {-code} ({_signal_name(-code)}): {last}{self.place()}"
        return f"the process ended with exit code {code}: {last}"

    def said(self) -> str:
        """The end of what it printed, fit to be stored and shown."""
        self._listener.join(timeout=_DRAIN)
        text = shortened(self._tail.decode(errors="replace"))
        return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)

    def _send(self, stream: IO[bytes], order: bytes) -> None:
        with contextlib.suppress(OSError):
            stream.write(order)
            stream.flush()  # and stays open: its end would tell the worker that we are gone

    def _read_events(self, stream: IO[bytes]) -> None:
        for line in stream:
            with contextlib.suppress(ValueError):  # half a line, of a process that was killed while writing it
                self._events.put(json.loads(line))
        self._events.put(None)

    def _keep_tail(self, stream: IO[bytes]) -> None:
        while chunk := os.read(stream.fileno(), 65536):
            self._tail = (self._tail + chunk)[-_TAIL:]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one without a name, such as those of threads
        return "unknown"


def _start(target: Any, *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread
