"""`diarbench measure` as a user meets it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from diarbench.cli.measure import _progress
from diarbench.cli.measuretables import print_session

QUICK = ("--repeats", 5, "--turn", 0.05, "--memory", "0", "--dataset", "mine")


@pytest.fixture
def sleepers(here):
    """Two systems that sleep: "slow" for 40 ms, "quick" for 10 ms; the second names the first as its baseline."""
    folder = Path("systems/sleepers")
    folder.mkdir()
    (folder / "adapter.py").write_text(
        "import time\n\nclass System:\n    def __init__(self, *, seconds):\n        self.seconds = seconds\n\n"
        "    def diarize(self, audio):\n        time.sleep(self.seconds)\n        return []\n"
    )
    for name, seconds, more in (("slow", 0.04, ""), ("quick", 0.01, 'baseline = "slow"\n')):
        (folder / f"{name}.toml").write_text(
            f'title = "{name}"\nadapter = "./adapter.py:System"\n{more}[options]\nseconds = {seconds}\n'
        )


def test_json_has_the_documented_keys(diarbench, sleepers):
    answer = diarbench("measure", "-s", "quick", "-s", "slow", *QUICK, "--format", "json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert {"noise", "systems", "baseline", "device", "threads", "audio", "machine"} <= set(found)
    assert found["baseline"] == "slow"  # the one that cards name, not the first
    quick = found["systems"]["quick"]
    assert {"parameters", "bytes", "macs", "parts", "speed", "stages", "memory", "energy", "latency"} <= set(quick)
    assert set(quick["macs"]) == {"encoder_1s", "window_per_s", "window", "pipeline_per_s"}
    assert quick["speed"]["cpu"]["speedup"]["median"] == pytest.approx(4.0, rel=0.3)
    assert found["scaling"] is None
    stored = list(Path("runs").rglob("_measures/*.json"))
    assert len(stored) == 1
    assert json.loads(stored[0].read_text())["systems"] == found["systems"]


def test_the_table_says_what_was_found_and_how_far_it_can_be_trusted(diarbench, sleepers):
    answer = diarbench("measure", "-s", "quick", "-s", "slow", *QUICK)
    assert answer.code == 0, answer.err
    assert "baseline" in answer.out
    assert "a second copy of slow came out at" in answer.out
    assert "1 recording of mine" in answer.out


class Terminal(io.StringIO):
    """A terminal in place of standard error, and the text that was written to it."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@pytest.fixture
def on_a_terminal(monkeypatch):
    """Put a terminal in place of standard error; in the test itself, since pytest puts its own there before."""
    for name, value in (("TERM", "xterm"), ("COLUMNS", "100")):
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)

    def put():
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return put


def test_a_terminal_shows_what_is_at_work(diarbench, sleepers, on_a_terminal):
    terminal = on_a_terminal()
    answer = diarbench("measure", "-s", "quick", "-s", "slow", *QUICK, "--format", "json")
    assert answer.code == 0
    shown = terminal.text()
    for what in ("loading: slow (control)", "first calls: quick", "whole systems: quick", "counting: slow"):
        assert what in shown
    assert re.search("whole systems: .* 14/15 ", shown)
    assert set(json.loads(answer.out)["systems"]) == {"quick", "slow"}


def test_the_bar_is_drawn_where_a_part_begins_and_at_no_other_time(on_a_terminal):
    """By no thread: it would run beside what is timed."""
    terminal = on_a_terminal()
    threads = threading.active_count()
    with _progress() as shown:
        assert threading.active_count() == threads
        shown.step("whole systems", 2)
        shown.part("quick")
        drawn = terminal.getvalue()
        time.sleep(0.3)
        shown.advance()
        assert terminal.getvalue() == drawn
        shown.part("slow")
        assert "whole systems: slow" in terminal.text()
        assert "1/2" in terminal.text()
    assert threading.active_count() == threads


def test_a_log_has_a_line_per_step(diarbench, sleepers):
    answer = diarbench("measure", "-s", "quick", *QUICK)
    assert answer.err == "loading (2)\nfirst calls (2)\nwhole systems (10)\ncounting (2)\n"


def test_several_thread_counts_show_how_systems_scale(diarbench, sleepers):
    answer = diarbench("measure", "-s", "quick", *QUICK, "--threads", "1,2", "--format", "json")
    scaling = json.loads(answer.out)["scaling"]
    assert set(scaling["quick"]) == {"1", "2"}
    assert scaling["quick"]["1"] == pytest.approx(scaling["quick"]["2"], rel=0.5)  # sleeping doesn't scale
    assert len(list(Path("runs").rglob("_measures/*.json"))) == 2


def test_a_measured_speed_is_on_the_next_page(diarbench, sleepers):
    diarbench("run", "-s", "quick", "-s", "slow", "-d", "mine")
    diarbench("measure", "-s", "quick", "-s", "slow", *QUICK)
    board = json.loads(diarbench("report", "--format", "json").out)
    lines = {line["system"]: line for line in board["systems"]}
    (measured,) = lines["quick"]["measured"]
    assert measured["baseline"] == "slow"
    assert measured["speedup"]["median"] == pytest.approx(4.0, rel=0.3)


def test_a_system_that_fails_is_shown_and_leaves_the_rest(diarbench, sleepers):
    Path("systems/sleepers/bad.toml").write_text(
        'title = "Bad"\nadapter = "./adapter.py:System"\n[options]\nseconds = "long"\n'
    )
    answer = diarbench("measure", "-s", "quick", "-s", "bad", *QUICK)
    assert answer.code == 1
    assert "failed: bad: TypeError" in answer.err
    assert "quick" in answer.out
    assert "Not measured, bad: TypeError" in answer.out
    assert "Not measured, quick" not in answer.out


def test_no_figure_is_cut_on_a_narrow_terminal(diarbench, sleepers):
    answer = diarbench("measure", "-s", "quick", "-s", "slow", *QUICK, "--format", "json")
    session = json.loads(answer.out)
    quick = session["systems"].pop("quick")
    quick["energy"] = {"joules_per_hour": 12345.0, "source": "rapl"}
    quick["speed"]["cpu"]["speedup"] = {"median": 1.94, "low": 1.83, "high": 2.13, "verdict": "within noise"}
    session["systems"]["a-name-of-a-system-that-is-long-as-they-are"] = quick
    for columns in (80, 120, 200):
        console = Console(width=columns, file=io.StringIO(), highlight=False)
        print_session(session, console)
        shown = console.file.getvalue()
        assert "1.94× [1.83, 2.13]  within noise" in shown
        assert "12.3" in shown
        assert "…" not in shown
        assert max(map(len, shown.splitlines())) <= columns


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs signals")
def test_ctrl_c_ends_all_processes_and_keeps_nothing(sleepers):
    code = (
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from diarbench.cli import main\nsys.argv = ['diarbench', *sys.argv[1:]]\nmain()"
    )
    words = ["measure", "-s", "slow", *map(str, QUICK), "--repeats", "10000"]
    running = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True)
    for line in running.stderr:
        if line.startswith("whole systems"):
            break
    children = psutil.Process(running.pid).children(recursive=True)
    assert len(children) == 2  # the system and the control
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=20)
    assert running.returncode == 130
    assert said == "\nstopped; of a session that is not complete nothing is kept\n"
    assert psutil.wait_procs(children, timeout=5)[1] == []
    assert not list(Path("runs").rglob("_measures"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--baseline", "quikc"], "--baseline quikc is none of the systems named with -s; did you mean quick"),
        (["--threads", "0"], "--threads 0: numbers from 1 on"),
        (["--threads", "two"], "--threads two: whole numbers with commas between them"),
        (["--batch", "max", "--device", "cpu"], "--batch max is for a GPU"),
        (["--batch", "1;8"], "--batch 1;8: whole numbers"),
        (["--batch", "²"], "--batch ²: whole numbers"),
        (["--no-weights", "--batch", "00"], "leaves nothing to time"),
        (["--memory", "1,ten"], "--memory 1,ten: whole numbers"),
        (["--no-weights", "--batch", "0"], "leaves nothing to time"),
        (["--device", "cuda"], "runs on cpu only"),
        (["--dataset", "nowhere"], "no dataset"),
        (["--machine", "../box"], "--machine"),
        (["--weights", "nowhere"], "nowhere"),
    ],
)
def test_wrong_requests_are_one_line_and_change_nothing(diarbench, sleepers, words, said):
    answer = diarbench("measure", "-s", "quick", *QUICK, *words)
    assert answer.code == 2
    assert said in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert not Path("runs").exists()
