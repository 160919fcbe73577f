"""Runs that are killed at any moment, and several at once: nothing is lost, done twice, or left behind."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from small_lab import PLAIN, Lab

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked to be killed")


class Child:
    """A call in a process of its own: a child of this one, with everything imported already."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.setpgid(0, 0)
                # Shells start what runs in the background with this signal ignored, and children inherit that.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                call()
                code = 0
            finally:
                os._exit(code)
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(self.pid, self.pid)

    def workers(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.pid).children()
        return []

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def kill(process: psutil.Process | int) -> None:
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        process.kill() if isinstance(process, psutil.Process) else os.kill(process, signal.SIGKILL)


def wait_until(true: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(("again", "kills"), [(False, 20), (True, 5)])
def test_twenty_kills(lab: Lab, tmp_path: Path, again: bool, kills: int):
    """Of the parent, of the worker, of both, of the parent's group; then the same bytes as of an undisturbed run."""
    dataset = lab.dataset(ids=[f"r{i:03d}" for i in range(100)], seconds=0.05)
    system = lab.system("plain", seconds=0.005)
    undisturbed = Lab(tmp_path / "undisturbed")
    begun = time.monotonic()
    assert undisturbed.run(system, dataset).done == 100
    span = max(0.6, 0.7 * (time.monotonic() - begun))  # on a busy machine, processes take longer to begin
    if again:
        lab.run(system, dataset)
    chance = random.Random(20)
    done: dict[str, str] = {}
    for number in range(kills):
        child = Child(lambda: lab.run(system, dataset, again=again))
        time.sleep(chance.uniform(0.0, span))
        workers = child.workers()
        whom = number % 4
        if whom != 1:
            kill(child.pid)
        if whom in (1, 2):
            for worker in workers:
                kill(worker)
        if whom == 3:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        if whom == 1:
            time.sleep(0.3)  # the parent goes on with another worker
            workers += child.workers()
            kill(child.pid)
        child.wait()
        assert wait_until(lambda workers=workers: all(map(is_gone, workers)), 5.0)
        if lab.folders("plain") and not again:
            now = lab.sessions_of_results("plain")
            good = {n: s for n, s in now.items() if lab.folder("plain").result(n)["status"] == "done"}
            assert {name: good.get(name) for name in done} == done  # nothing lost, nothing done twice
            done = good
    outcome = lab.run(system, dataset)
    assert outcome.failures == ()
    assert outcome.kept == (100 if again else len(done))
    assert outcome.done + outcome.kept == 100
    assert {name: lab.sessions_of_results("plain")[name] for name in done} == done
    assert lab.rttms() == undisturbed.rttms()
    assert lab.leftovers() == []
    assert lab.entry("plain").scores == undisturbed.entry("plain").scores
    assert again or len(done) > 20  # else nothing was tested


def test_the_parent_killed_at_each_of_its_writes(lab: Lab, tmp_path: Path):
    dataset = lab.dataset(ids=("a",))
    system = lab.system("plain")

    def die_at(point: int) -> None:
        """Run, and die before the call of that number that touches the disk."""
        calls = itertools.count()

        def dying(function):
            def instead(*arguments, **named):
                if next(calls) == point:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **named)

            return instead

        for name in ("replace", "fsync", "unlink", "open"):
            setattr(os, name, dying(getattr(os, name)))
        lab.run(system, dataset)

    for point in itertools.count():
        child = Child(lambda point=point: die_at(point))
        if child.wait() == 0:
            break
    assert point > 12
    assert lab.run(system, dataset).failures == ()
    assert lab.leftovers() == []
    undisturbed = Lab(tmp_path / "undisturbed")
    undisturbed.run(system, dataset)
    assert lab.rttms() == undisturbed.rttms()
    stored = [path for path in undisturbed.runs.rglob("*") if "_datasets" in path.parts and path.is_file()]
    assert len(stored) == 3
    for path in stored:
        assert path.read_bytes() == (lab.runs / path.relative_to(undisturbed.runs)).read_bytes()


# In a worker, it kills at one of the calls that touch the disk; only once.
DYING_WORKER = """
import os, signal, sys
if "diarbench.execute.worker" in sys.orig_argv and os.path.exists(os.environ["DIE_ONCE"]):
    left = int(os.environ["DIE_AT"])
    def dying(function):
        def instead(*arguments, **named):
            global left
            if left == 0:
                os.rename(os.environ["DIE_ONCE"], os.environ["DIE_ONCE"] + ".done")
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*arguments, **named)
        return instead
    for name in ("replace", "fsync"):
        setattr(os, name, dying(getattr(os, name)))
"""


def test_the_worker_killed_at_each_of_its_writes(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It costs the recording that it was at, or nothing where that was stored already."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(DYING_WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    once = tmp_path / "once"
    monkeypatch.setenv("DIE_ONCE", str(once))
    failed = 0
    # Three calls store a file: first run.json and the session; then two files for each recording, with one sync of the
    # folder; then the session.
    for point in (6, 7, 8, 9, 10, 11, 14, 16, 19):
        monkeypatch.setenv("DIE_AT", str(point))
        once.touch()
        here = Lab(tmp_path / f"lab{point}")
        dataset, system = here.dataset(ids=("a", "b")), here.system("plain")
        outcome = here.run(system, dataset)
        died = not once.exists()
        assert died == (point < 19)
        assert outcome.done + len(outcome.failures) == 2
        assert all("killed (signal 9" in failure for failure in outcome.failures)
        stored = here.sessions_of_results("plain")
        assert set(stored) == {"a", "b"}
        failed += len(outcome.failures)
        again = here.run(system, dataset)
        assert (again.done, again.kept, again.failures) == (len(outcome.failures), outcome.done, ())
        assert here.leftovers() == []
        assert [turns.count(b"\n") for turns in here.rttms().values()] == [2, 2]
    assert 1 <= failed <= 7


# In a worker, reading b kills it: once a is stored, or while the writing of a hangs.
DYING_READER = """
import os, sys, time
if "diarbench.execute.worker" in sys.orig_argv:
    import soundfile
    read, replace = soundfile.SoundFile.read, os.replace
    def dying(file, *how, **more):
        if file.name.endswith("b.wav"):
            until = time.monotonic() + 10
            while not os.path.exists(os.environ["SEEN"]) and time.monotonic() < until:
                time.sleep(0.01)
            os._exit(7)
        return read(file, *how, **more)
    def seen(source, target):
        if os.environ["WHEN"] == "stored":
            replace(source, target)
        if os.path.basename(target) == "a.json" and not os.path.exists(os.environ["SEEN"]):
            open(os.environ["SEEN"], "w").close()
            time.sleep(0.3 if os.environ["WHEN"] == "stored" else 1000)
        if os.environ["WHEN"] != "stored":
            replace(source, target)
    soundfile.SoundFile.read, os.replace = dying, seen
"""


@pytest.mark.parametrize("when", ["stored", "being written"])
def test_a_death_while_the_next_is_read(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str):
    """It costs what was being read, and never the result before it, which is done, or made again at once."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(DYING_READER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.setenv("WHEN", when)
    outcome = lab.run(lab.system("plain"), lab.dataset())
    assert (tmp_path / "seen").exists()
    assert (outcome.done, outcome.kept) == (2, 0)
    assert outcome.failures == ("plain on mine, b: the process ended with exit code 7: no message",)
    assert sorted(status for _, _, status in lab.shown.recordings) == ["done", "done", "failed"]
    sessions = lab.sessions_of_results("plain")
    assert (sessions["a"] == sessions["b"]) == (when == "stored")
    assert sessions["c"] != sessions["b"]
    assert lab.leftovers() == []


BUSY = """
import re, subprocess, time
class System:
    def diarize(self, audio):
        subprocess.Popen(["sleep", "1001"])
        {busy}
"""

# In a worker, it hides that the kernel could help.
NO_KERNEL = """
import fcntl, sys
if "diarbench.execute.worker" in sys.orig_argv:
    fcntl.F_SETOWN = fcntl.F_GETFD
"""


@pytest.mark.parametrize("help_of", ["the kernel", "a thread"])
def test_nobody_outlives_the_parent(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, help_of: str):
    """Neither the worker nor what it started; on Linux not even while no Python code can run in it."""
    busy = "time.sleep(1000)"
    if help_of == "the kernel":
        if sys.platform != "linux":
            pytest.skip("only Linux can end a process that is in C code")
        busy = 're.match("(a+)+$", "a" * 60 + "b")  # takes years'
    else:
        (tmp_path / "hook").mkdir()
        (tmp_path / "hook" / "sitecustomize.py").write_text(NO_KERNEL)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    system, dataset = lab.system("stuck", BUSY.format(busy=busy)), lab.dataset(ids=("a",))
    child = Child(lambda: lab.run(system, dataset))
    family: list[psutil.Process] = []

    def has_begun() -> bool:
        family[:] = psutil.Process(child.pid).children(recursive=True)
        return len(family) > 1

    assert wait_until(has_begun, 20.0)
    time.sleep(0.1)
    kill(child.pid)
    child.wait()
    assert wait_until(lambda: all(map(is_gone, family)), 5.0)


def test_stopped_from_the_keyboard(lab: Lab):
    """Ctrl-C ends the worker with the parent, and is no failure of the recording."""
    dataset = lab.dataset(ids=("a", "b"))
    system = lab.system("plain", seconds=0.0)
    lab.run(system, dataset, limit=1)
    slow = lab.system("slow", PLAIN, seconds=100.0)
    child = Child(lambda: lab.run([system, slow], dataset))
    assert wait_until(lambda: len(lab.folders("slow")) == 1, 20.0)
    workers = child.workers()
    assert len(workers) == 1
    os.killpg(child.pid, signal.SIGINT)
    assert child.wait() != 0
    assert all(map(is_gone, workers))
    assert lab.folder("slow").all_stored() == {}
    assert set(lab.folder("plain").all_stored()) == {"a", "b"}


STUCK_AT_B = """
import subprocess, time
class System:
    def diarize(self, audio):
        if audio.recording.id == "b":
            subprocess.Popen(["sleep", "1002"])
            time.sleep(1000)
        return [(0.0, 0.1, "A")]
"""


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_ended_by_a_signal(lab: Lab, end: signal.Signals):
    """As by `kill`, or by a terminal that is closed: all processes end, and what is done is kept."""
    system, dataset = lab.system("stuck", STUCK_AT_B), lab.dataset()

    def run() -> None:
        signal.signal(end, signal.SIG_DFL)  # under nohup, it is ignored
        lab.run(system, dataset)

    child = Child(run)
    family: list[psutil.Process] = []

    def is_at_b() -> bool:
        family[:] = psutil.Process(child.pid).children(recursive=True)
        return len(family) > 1

    assert wait_until(is_at_b, 20.0)
    os.kill(child.pid, end)
    assert child.wait() == -end
    assert wait_until(lambda: all(map(is_gone, family)), 5.0)
    assert list(lab.folder("stuck").all_stored()) == ["a"]


@pytest.mark.parametrize("again", [False, True])
def test_two_at_once(lab: Lab, tmp_path: Path, again: bool):
    """On one folder: both end well, and the results are whole."""
    dataset = lab.dataset(ids=[f"r{i}" for i in range(5)], seconds=0.05)
    systems = [lab.system("one", seconds=0.02), lab.system("two", seconds=0.02)]
    single = Lab(tmp_path / "single")
    single.run(systems, dataset)
    for _ in range(2):
        children = [Child(lambda: lab.run(systems, dataset, again=again)) for _ in range(2)]
        assert [child.wait() for child in children] == [0, 0]
        assert lab.rttms() == single.rttms()
        assert lab.leftovers() == []
        for name in ("one", "two"):
            assert len(lab.folder(name).sessions) in (1, 2, 4)
            assert all(stored.intact for stored in lab.folder(name).all_stored().values())
    if not again:
        assert all(len(set(lab.sessions_of_results(name).values())) == 1 for name in ("one", "two"))
    assert lab.run(systems, dataset).kept == 10


def test_two_at_once_from_both_ends(lab: Lab):
    """Neither holds one folder while it waits for the other."""
    datasets = [lab.dataset("one", seconds=0.05), lab.dataset("two", seconds=0.05)]
    system = lab.system("plain", seconds=0.02)
    lab.run(system, datasets)
    children = [Child(lambda order=order: lab.run(system, order, again=True)) for order in (datasets, datasets[::-1])]
    processes = [psutil.Process(child.pid) for child in children]
    wait_until(lambda: all(map(is_gone, processes)), 60.0)
    for process in processes:
        kill(process)
    assert [child.wait() for child in children] == [0, 0]
    spent = [session["spent"] for run in lab.folders("plain") for session in run.sessions]
    assert len(spent) == 6
    assert all(0.0 <= one["waiting"] < one["total"] for one in spent)


def test_waiting_for_another_has_no_time_limit_and_counts_as_kept(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    dataset = lab.dataset()
    system = lab.system("plain", seconds=0.3)
    first = Child(lambda: lab.run(system, dataset))
    assert wait_until(lambda: len(lab.folders("plain")) == 1, 20.0)
    monkeypatch.setattr("diarbench.execute.parent._PATIENCE", 0.7)
    outcome = lab.run(system, dataset, time_limit=0.7)
    assert outcome.failures == ()
    assert outcome.kept == 3
    assert first.wait() == 0
    assert len(set(lab.sessions_of_results("plain").values())) == 1


def test_the_command_line_killed_and_started_again(lab: Lab, tmp_path: Path):
    dataset = lab.dataset(ids=[f"r{i:02d}" for i in range(40)], seconds=0.05)
    system = lab.system("plain", seconds=0.01)
    command = [sys.executable, "-m", "diarbench", "run", "-s", str(system.folder / "plain.toml")]
    command += ["-d", str(lab.path / "datasets" / "mine.toml"), "--runs", str(lab.runs), "--machine", "box"]
    chance = random.Random(3)
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.5, 2.0))
        process.kill()
        process.wait()
    # A page that was half written when it was killed, some time ago.
    leftover = lab.runs / ".writing-page"
    leftover.touch()
    os.utime(leftover, (1, 1))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (lab.runs / "leaderboard.html").read_text().startswith("<!")
    assert lab.leftovers() == []
    undisturbed = Lab(tmp_path / "undisturbed")
    undisturbed.run(system, dataset)
    assert lab.rttms() == undisturbed.rttms()
