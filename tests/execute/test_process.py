"""The parent's side of a worker process, against programs that are no worker at all."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from diarbench.execute.messages import Order
from diarbench.execute.process import WorkerProcess

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the programs are shell scripts")


def order(options: dict[str, object] | None = None) -> Order:
    return Order(
        system="s", adapter_file=None, adapter_module="m", attribute="A", options=options or {}, weights={}, files={},
        distributions=(), device="cpu", threads=3, session="0", machine={}, mark=None, tasks=(),
    )  # fmt: skip


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Have a shell script started in the worker's place."""

    def write(text: str) -> None:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return write


def test_events_and_half_a_line(program):
    program("""echo '{"event": "loaded"}'; echo junk; echo '{"event": "start"}'; printf '{"event": "do'; exit 3""")
    with WorkerProcess(order()) as worker:
        assert worker.next(10) == {"event": "loaded"}
        assert worker.next(10) == {"event": "start"}
        assert worker.next(10) is None
        assert worker.reason() == "the process ended with exit code 3: no message"


def test_events_of_a_process_that_left_its_pipe_to_a_daemon(program):
    program("""echo '{"event": "loaded"}'; setsid sleep 5 & sleep 0.2; kill -9 $$""")
    before = time.monotonic()
    with WorkerProcess(order()) as worker:
        assert worker.next(10) == {"event": "loaded"}
        assert worker.next(10) is None
        assert worker.reason() == "the process was killed (signal 9; out of memory?): no message"
    assert time.monotonic() - before < 10
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] == ["sleep", "5"]:
            process.kill()


def test_one_that_hangs_before_it_reads(program):
    """The order is larger than a pipe, and still nothing waits for ever."""
    program("sleep 1002")
    before = time.monotonic()
    with WorkerProcess(order({"much": "x" * 1_000_000})) as worker, pytest.raises(TimeoutError):
        worker.next(0.3)
    assert time.monotonic() - before < 5
    assert not any(p.info["cmdline"] == ["sleep", "1002"] for p in psutil.process_iter(["cmdline"]))


def test_one_that_says_much_before_it_ends(program):
    program("head -c 3000000 /dev/zero | tr '\\0' 'x' >&2; printf '\\nthe \\033[1mlast\\377 word\\n\\n' >&2; exit 1")
    with WorkerProcess(order()) as worker:
        assert worker.next(30) is None
        assert worker.reason().startswith("the process ended with exit code 1: the  [1mlast")
        assert worker.reason().isprintable()
        assert len(worker.said()) <= 20_000


def test_one_that_takes_its_time_to_tidy_up(program, tmp_path: Path):
    tidied = tmp_path / "tidied"
    program(f"""echo '{{"event": "finished"}}'; sleep 0.3; touch {tidied}""")
    with WorkerProcess(order()) as worker:
        assert worker.next(10) == {"event": "finished"}
        worker.wait()
    assert tidied.exists()


def test_what_it_is_given(program, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    program("""read line; printf '{"threads": "%s", "seed": "%s", "order": %s}\\n' """
            """$OMP_NUM_THREADS $PYTHONHASHSEED "$line" """)  # fmt: skip
    with WorkerProcess(order()) as worker:
        event = worker.next(10)
    assert event is not None
    assert (event["threads"], event["seed"]) == ("3", "0")
    assert Order.from_json(event["order"]) == order()
