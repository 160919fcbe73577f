"""Adapters that misbehave in every way we could think of: one clear failure, and the rest goes on."""

from __future__ import annotations

import json
import os
import py_compile
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from small_lab import PLAIN, Lab

from diarbench.cards import SystemSpec
from diarbench.execute import overhangs, parent, process
from diarbench.execute.child import shortened
from diarbench.loaders import Dataset

HEAD = """
import contextlib, ctypes, os, signal, subprocess, sys, threading, time, warnings
import numpy as np

class System:
    def diarize(self, audio):
        return getattr(self, audio.recording.id, self.well)(audio)

    def well(self, audio):
        return [(0.0, 0.1, "A")]
"""


def odd_system(lab: Lab, odds: Sequence[str]) -> tuple[SystemSpec, Dataset]:
    """A system that does something odd on the recordings odd00, odd01, ...; with a good one before and after each."""
    methods = "".join(f"\n    def odd{i:02d}(self, audio):\n        {odd}\n" for i, odd in enumerate(odds))
    names = [name for i in range(len(odds)) for name in (f"odd{i:02d}", f"odd{i:02d}well")]
    return lab.system("odd", HEAD + methods), lab.dataset(ids=["a", *names])


# What the adapter does, and how the failure begins.
RAISING = {
    "raise ValueError('out of\\n  ideas')": "ValueError: out of ideas",
    "raise RuntimeError": "RuntimeError: no message",
    "raise MemoryError('no room')": "MemoryError: no room",
    "sys.exit(3)": "SystemExit: 3",
    "sys.exit(0)": "SystemExit: 0",
    "raise KeyboardInterrupt": "KeyboardInterrupt: no message",
    "raise BaseException('base')": "BaseException: base",
    "return 1 / 0": "ZeroDivisionError: division by zero",
    "return (row for row in [(0, 0.1, 'A'), 1 / 0])": "ZeroDivisionError",
    "return audio.samples.__setitem__(0, 1.0)": "ValueError: assignment destination is read-only",
    "input()": "EOFError",
    "raise type('Sour', (Exception,), {'__str__': lambda self: 1 / 0})()": "Sour: a message that can't be printed",
    "raise ValueError('\\x1b[31mred\\udc80\\x00')": "ValueError: ?[31mred??",
    "self.diarize(audio)": "RecursionError",
    "raise ValueError('x' * 487 + 'y')": f"ValueError: {'x' * 487}y (",
    "raise ValueError('x' * 487 + 'yz')": f"ValueError: {'x' * 487}… (",
}
RUBBISH = {
    "return None": "mine, odd00: diarize() returned None; it must return",
    "return 3": "diarize() returned int: ",
    "return 'A'": "diarize() returned str: ",
    "return {'A': (0, 1)}": "diarize() returned dict: ",
    "return [(0.0, 0.1)]": "diarize() returned list: ",
    "return [(0.0, 0.1, 'A', 1)]": "diarize() returned list: ",
    "return [('a', 'b', 'A')]": "diarize() returned list: ",
    "return [(0.1, 0.0, 'A')]": "ends before it starts",
    "return [(0.0, float('nan'), 'A')]": "not finite",
    "return [(0.0, float('inf'), 'A')]": "not finite",
    "return [(-10.2, 0.1, 'A')]": "a turn starts at -10.2 s, long before the recording; it must",
    "return [(0.0, 0.1, 'A B')]": "white space",
    "return [(0.0, 0.1, '')]": "empty",
    "return [(0.0, 0.1, '\\udc80')]": "surrogates not allowed",
    "return np.zeros((3, 2))": "diarize() returned ndarray: ",
    "return object()": "diarize() returned object: ",
}
DYING = {
    "os._exit(0)": "the process ended with exit code 0",
    "os._exit(7)": "the process ended with exit code 7",
    "os.fork() and os._exit(7); time.sleep(1000)": "the process ended with exit code 7: no message",
    "ctypes.string_at(0)": "the process died of signal 11 (SIGSEGV): no message (systems/odd/adapter.py, line ",
    "print('last', flush=True); ctypes.string_at(0)": "the process died of signal 11 (SIGSEGV): last (systems/odd/adap",
    "os.fork() or ctypes.string_at(0); os.wait(); print('end', flush=True); os._exit(7)": "with exit code 7: end",
    "threading.Thread(target=ctypes.string_at, args=(0,)).start(); time.sleep(9)": "signal 11 (SIGSEGV): no message",
    "os.close(2); os.abort()": "(SIGABRT): no message (systems/odd/adapter.py, line ",
    "os.kill(os.getpid(), signal.SIGTERM)": "the process died of signal 15 (SIGTERM): no message",
    "os.kill(os.getpid(), signal.SIGKILL)": "the process was killed (signal 9; out of memory?)",
    "os.abort()": "the process died of signal 6 (SIGABRT): no message (systems/odd/adapter.py, line ",
    "print('last words', flush=True); os._exit(7)": "the process ended with exit code 7: last words",
    "os.write(2, bytes(range(256)) + b'\\xff\\xfe'); os._exit(7)": "the process ended with exit code 7",
}


@pytest.mark.parametrize("odds", [RAISING, RUBBISH, DYING], ids=["raising", "rubbish", "dying"])
def test_one_clear_failure_and_the_rest_goes_on(lab: Lab, odds: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parent, "_DEATHS", 100)
    system, dataset = odd_system(lab, list(odds))
    outcome = lab.run(system, dataset)
    assert outcome.done == len(odds) + 1
    assert len(outcome.failures) == len(odds)
    run, scored = lab.folder("odd"), lab.entry("odd").scores["mine"]
    for position, (odd, error) in enumerate(odds.items()):
        name, failure = f"odd{position:02d}", outcome.failures[position]
        assert failure.startswith(f"odd on mine, {name}: "), odd
        assert error in failure, odd
        assert failure.isprintable(), odd
        assert str(Path.home()) not in failure, odd
        stored = run.result(name)
        assert stored is not None, odd
        assert f"odd on mine, {name}: {stored['error']}" == failure, odd
        assert scored.failures[name] == stored["error"], odd
        assert not run.rttm_path(name).exists(), odd
        assert run.rttm_path(f"{name}well").exists(), odd
    assert tuple(lab.shown.failures) == outcome.failures, "told as it happens"
    statuses = [status for _, _, status in lab.shown.recordings]
    assert statuses == ["done"] + ["failed", "done"] * len(odds)
    processes = list(dict.fromkeys(run.result(recording)["session"] for _, recording, _ in lab.shown.recordings))
    assert len(processes) == (len(odds) + 1 if odds is DYING else 1)


HELPED = """
from helper import look_up

class System:
    def diarize(self, audio):
        if audio.recording.id == "a":
            return look_up({})
        if audio.recording.id == "b":
            __import__("os").chdir("/")
            return dict(json_is="nothing").fromkeys(1)
        import json
        return json.loads("{")
"""


def test_a_failure_names_its_place_in_the_adapter(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    lab.path.mkdir(parents=True)
    monkeypatch.chdir(lab.path)
    system = lab.system("bad", HELPED)
    (lab.path / "systems" / "bad" / "helper.py").write_text("def look_up(table):\n    return table['x']\n")
    outcome = lab.run(system, lab.dataset())
    assert outcome.failures == (
        "bad on mine, a: KeyError: 'x' (systems/bad/helper.py, line 2)",
        "bad on mine, b: TypeError: 'int' object is not iterable (systems/bad/adapter.py, line 10)",
        "bad on mine, c: JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1) "
        "(systems/bad/adapter.py, line 12)",
    )
    stored = [lab.folder("bad").result(name) for name in "abc"]
    assert [f"bad on mine, {one['recording']}: {one['error']}" for one in stored if one] == list(outcome.failures)
    assert all('File "systems/bad/adapter.py", line ' in one["detail"] for one in stored if one)
    assert [json.loads(path.read_text()) for path in outcome.details] == stored


def test_a_place_elsewhere_is_told_without_the_way_there(lab: Lab):
    failed = lab.run(lab.system("bad", "1 / 0\n"), lab.dataset())
    assert failed.failures == ("bad: ZeroDivisionError: division by zero (systems/bad/adapter.py, line 1)",)
    (detail,) = failed.details
    assert "ZeroDivisionError" in json.loads(detail.read_text())["detail"]
    broken = lab.run(lab.system("broken", "def f(:\n"), lab.dataset())
    assert broken.failures[0].count("line 1") == 1, "Python says it itself"


@pytest.mark.parametrize(
    ("folder", "text", "told"),
    [
        ("box", "no {0}/box/a.wav", "no a.wav"),
        ("box", "'{0}/box/a.wav', in {0}/box/b/c", "'a.wav', in b/c"),
        ("box", "/data{0}/box/a.wav", "/data{0}/box/a.wav"),
        ("box", "{0}/boxes/a.wav", "{0}/boxes/a.wav"),
        (".", "{0}/home/me/secret", "~/secret"),
    ],
)
def test_paths_are_as_they_would_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder, text, told):
    (tmp_path / "box").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "me"))
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/tmp")
    monkeypatch.chdir(tmp_path / folder)
    assert shortened(text.format(tmp_path)) == told.format(tmp_path)


def test_turns_after_the_recording_are_noted_or_fail(lab: Lab):
    code = """
        class System:
            def diarize(self, audio):
                end = {"a": 0.71, "b": 0.65, "c": 10.1, "d": 10.3, "e": 250.0}[audio.recording.id]
                return [(0.1, end, "A")]
    """
    dataset = lab.dataset(ids="abcde")
    outcome = lab.run(lab.system("late", code), dataset)
    assert outcome.failures == (
        "late on mine, d: turns end at 10.3 s, the recording at 0.2 s; are these milliseconds?",
        "late on mine, e: turns end at 250 s, the recording at 0.2 s; are these milliseconds?",
    )
    assert lab.folder("late").sessions[-1]["turns_end"] == {"a": 0.71, "c": 10.1}
    (note,) = overhangs(outcome.folders)
    assert note.startswith(
        "late: turns end after the recording, by more than 0.5 s, in 2 recordings, such as mine, a (at 0.71 s)"
    )
    again = lab.run(lab.system("late", code.replace("0.71", "0.2")), dataset, limit=2)
    assert overhangs(again.folders) == []


def test_what_starts_before_the_recording_is_cut_off_and_noted(lab: Lab):
    """Streaming systems pad their first window; RTTM has no time before 0 s."""
    code = """
        class System:
            def diarize(self, audio):
                start = {"a": -0.04, "b": -0.0004, "c": -9.5, "d": -10.5}[audio.recording.id]
                return [(start, 0.1, "A"), (start, start / 2, "B"), (0.1, 0.15, "C")]
    """
    dataset = lab.dataset(ids="abcd")
    outcome = lab.run(lab.system("early", code), dataset)
    assert len(outcome.failures) == 1
    assert outcome.failures[0].startswith(
        "early on mine, d: diarize() returned list: a turn starts at -10.5 s, long before the recording; it must "
    )
    folder = lab.folder("early")
    assert folder.sessions[-1]["turns_start"] == {"a": -0.04, "c": -9.5}
    for name in "abc":
        assert [tuple(turn) for turn in folder.hypothesis(name)] == [(0.0, 0.1, "A"), (0.1, 0.15, "C")]
    assert lab.entry("early").scores["mine"].recordings["a"] == lab.entry("early").scores["mine"].recordings["b"]
    assert overhangs(outcome.folders) == [
        "early: turns start before the recording, in 2 recordings, such as mine, a (at -0.04 s); "
        "they were cut off at 0 s"
    ]
    again = lab.run(lab.system("early", code.replace("-0.04", "0.0")), dataset, limit=2)
    assert overhangs(again.folders) == []
    assert "turns_start" not in lab.folders("early")[-1].sessions[-1]


def test_a_call_that_hangs_is_ended(lab: Lab):
    system, dataset = odd_system(lab, ["time.sleep(1000)"])
    before = time.monotonic()
    outcome = lab.run(system, dataset, time_limit=0.5)
    assert time.monotonic() - before < 10
    assert outcome.failures == (
        "odd on mine, odd00: no answer within 0.5 s, so the process was ended (systems/odd/adapter.py, line 13); "
        "--time-limit gives it more",
    )
    assert outcome.done == 2
    failed = lab.folder("odd").result("odd00")
    assert failed is not None
    assert 'odd/adapter.py", line 13 in odd00\n' in failed["detail"]


SLOW_DECODING = """
import sys, time
if "diarbench.execute.worker" in sys.orig_argv:
    import soundfile
    read = soundfile.SoundFile.read
    def slow(*arguments, **named):
        time.sleep(0.7)
        return read(*arguments, **named)
    soundfile.SoundFile.read = slow
"""


def test_the_time_limit_is_for_the_call_alone(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(SLOW_DECODING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    slow = """
        import time
        time.sleep(0.7)
        class System:
            def __init__(self):
                time.sleep(0.7)
            def diarize(self, audio):
                time.sleep(0.4)  # and as much to warm up
                return []
    """
    outcome = lab.run(lab.system("slow", slow), lab.dataset(ids=("a", "b")), time_limit=0.65)
    assert (outcome.done, outcome.failures) == (2, ())


# What an adapter may do beside its answer; each list in one process.
NOISE = {
    "loud": [
        "print('x' * 5_000_000)",
        "sys.stderr.write('y' * 5_000_000)",
        "os.write(1, os.urandom(3_000_000))",
        "subprocess.run(['sh', '-c', 'head -c 3000000 /dev/zero; echo to stdout; echo to stderr >&2'])",
        "warnings.warn('careful')",
    ],
    "reading": ["sys.stdin.read()", "subprocess.run(['cat'])"],
    "closing": ["os.close(1)", "sys.stdout.close(); sys.stderr.close()", "os.closerange(0, 3)"],
    "leaving": [
        "threading.Thread(target=time.sleep, args=(1000,), daemon=False).start()",
        "subprocess.Popen(['sleep', '1000'])",
        "os.chdir('/')",
        "os.environ.clear()",
        "sys.path.clear(); sys.modules.pop('json', None)",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    ],
    "forking": ["os.fork() or time.sleep(1000)"],
    "hiding": ["subprocess.Popen(['sleep', '1000'], start_new_session=True, close_fds=False)"],
    "dying last": ["__import__('atexit').register(lambda: ctypes.string_at(0))"],
}


@pytest.mark.parametrize("noises", NOISE)
def test_what_it_does_beside_is_its_own_affair(lab: Lab, noises: str, monkeypatch: pytest.MonkeyPatch):
    """It answers well: nothing fails, nothing waits, and the next recording is another matter."""
    monkeypatch.setattr(process, "_PATIENCE", 0.5)
    system, dataset = odd_system(lab, [f"{noise}\n        return [(0.0, 0.15, 'B')]" for noise in NOISE[noises]])
    before = time.monotonic()
    outcome = lab.run(system, dataset)
    assert outcome.failures == ()
    assert outcome.done == 2 * len(NOISE[noises]) + 1
    assert time.monotonic() - before < 20
    assert len(set(lab.sessions_of_results("odd").values())) == 1
    left = [found for found in psutil.process_iter(["cmdline"]) if found.info["cmdline"] == ["sleep", "1000"]]
    for found in left:
        found.kill()
    assert len(left) == (noises == "hiding")  # a daemon that hid on purpose is the one thing that may stay


def test_the_next_run_tries_again(lab: Lab):
    dataset = lab.dataset()
    once = """
        from pathlib import Path
        class System:
            def __init__(self, *, switch):
                self.switch = Path(switch)
            def diarize(self, audio):
                if audio.recording.id == "b" and not self.switch.exists():
                    raise RuntimeError("not yet")
                return [(0.0, 0.1, "A")]
    """
    switch = lab.path / "switch"
    system = lab.system("once", once, switch=str(switch))
    assert len(lab.run(system, dataset).failures) == 1
    before = lab.sessions_of_results("once")
    switch.touch()
    outcome = lab.run(system, dataset)
    assert (outcome.done, outcome.kept, outcome.failures) == (1, 2, ())
    after = lab.sessions_of_results("once")
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]
    assert lab.entry("once").scores["mine"].complete
    # With --again all are made anew, and one that fails now takes the place of its good result.
    switch.unlink()
    outcome = lab.run(system, dataset, again=True)
    assert (outcome.done, outcome.kept, len(outcome.failures)) == (2, 0, 1)
    assert not lab.folder("once").rttm_path("b").exists()
    assert set(lab.entry("once").scores["mine"].failures) == {"b"}


UNLOADABLE = {
    "this is no Python": "SyntaxError: invalid syntax (adapter.py, line 1)",
    "import no_such_module_anywhere": "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
    "System = 3": "has no class 'System' with a method diarize(audio)",
    "class System: pass": "has no class 'System' with a method diarize(audio)",
    "def System(): pass": "has no class 'System' with a method diarize(audio)",
    "import sys; sys.exit('usage')": "SystemExit: usage",
    "raise KeyboardInterrupt": "KeyboardInterrupt: no message",
    "class System:\n def __init__(self): 1 / 0\n def diarize(self, audio): return []": "ZeroDivisionError",
    "class System:\n def __init__(self, *, need): 1\n def diarize(self, audio): return []": "'need'; it takes need",
    "class System:\n modules = 3\n def diarize(self, audio): return []": "TypeError",
    "import os; os._exit(5)": "the process ended with exit code 5: no message",
    "import ctypes; ctypes.string_at(0)": "the process died of signal 11",
}


def test_systems_that_cannot_be_built(lab: Lab):
    dataset = lab.dataset()
    bad = {f"bad{i:02d}": code for i, code in enumerate(UNLOADABLE)}
    systems = [lab.system(name, code) for name, code in bad.items()]
    outcome = lab.run([*systems, lab.system("good")], dataset)
    assert outcome.done == 3
    assert len(outcome.failures) == len(bad)
    lines = {line.entry.system: line for line in lab.board().lines}
    assert lines["good"].rank == 1
    for (name, code), failure in zip(bad.items(), outcome.failures, strict=True):
        assert failure.startswith(f"{name}: "), code
        assert UNLOADABLE[code] in failure, code
        assert [status for system, _, status in lab.shown.recordings if system == name] == ["failed"] * 3
        assert lines[name].entry.problems == (f"mine: {failure.removeprefix(f'{name}: ')}",)
        assert lines[name].rank is None
    assert len(lab.run(systems[0], dataset).failures) == 1  # and is tried again


def test_an_option_that_the_adapter_does_not_take(lab: Lab):
    outcome = lab.run(lab.system("plain", PLAIN, sceonds=1.0), lab.dataset())
    (failure,) = outcome.failures
    assert "unexpected keyword argument 'sceonds'" in failure
    assert "did you mean seconds" in failure


def test_a_system_that_only_dies_is_given_up(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    assert parent._DEATHS == 5
    monkeypatch.setattr(parent, "_DEATHS", 3)
    names = [f"r{i}" for i in range(9)]
    dying = "import os\nclass System:\n def diarize(self, audio): os._exit(1)\n"
    outcome = lab.run(lab.system("dying", dying), lab.dataset(ids=names))
    assert outcome.done == 0
    assert len(outcome.failures) == 4
    assert "3 times in a row, so the rest is not tried" in outcome.failures[-1]
    assert len(lab.shown.recordings) == 9
    assert lab.entry("dying").scores["mine"].missing == tuple(names[3:])
    # Deaths with results between them are single misfortunes.
    system, dataset = odd_system(lab, ["os._exit(1)"] * 4)
    outcome = lab.run(system, dataset)
    assert (outcome.done, len(outcome.failures)) == (5, 4)


def test_missing_audio_is_a_failure_of_its_recording(lab: Lab):
    dataset = lab.dataset()
    path = dataset.recordings[1].recording.path
    assert path is not None
    path.unlink()
    outcome = lab.run(lab.system("plain"), dataset)
    assert outcome.failures[0].startswith("plain on mine, b: ")
    assert outcome.failures[0].endswith("no such audio file")
    path.write_bytes(b"RIFF")
    outcome = lab.run(lab.system("plain"), dataset)
    assert (outcome.done, outcome.kept, len(outcome.failures)) == (0, 2, 1)


def test_code_beside_the_adapter_is_imported_as_it_is_now(lab: Lab):
    """Also when it was changed within a second, to as many bytes: a .pyc would pass for new."""
    dataset = lab.dataset(ids=("a",))
    system = lab.system("helped", "import near\nclass System:\n def diarize(self, audio): return near.turns\n")
    near = system.folder / "near.py"
    ends = []
    for end in ("0.1", "0.2"):
        near.write_text(f"turns = [(0.0, {end}, 'A')]\n")
        os.utime(near, (1, 1))
        if end == "0.1":
            py_compile.compile(str(near))
        lab.run(system, dataset)
        ends.append(sorted(lab.rttms().values()))
    assert len(lab.folders("helped")) == 2
    assert b" 0.000 0.100 " in ends[0][0]
    assert {b" 0.000 0.100 " in rttm for rttm in ends[1]} == {True, False}


def test_an_adapter_may_start_processes_that_know_it(lab: Lab):
    """Spawned children import the adapter's module by its name."""
    code = """
        import multiprocessing

        def double(value):
            return 2 * value

        class System:
            def diarize(self, audio):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    return [(0.0, pool.apply(double, (0.05,)), "A")]
    """
    outcome = lab.run(lab.system("spawning", code), lab.dataset(ids=("a",)))
    assert outcome.failures == ()


def test_an_adapter_in_a_package_and_one_with_an_awkward_file_name(lab: Lab):
    dataset = lab.dataset(ids=("a",))
    system = lab.system("plain")
    for name in ("json.py", "two words.py", "numpy.py"):
        (system.folder / "adapter.py").rename(system.folder / name)
        card = system.card.model_copy(update={"adapter": f"./{name}:System"})
        outcome = lab.run(system.model_copy(update={"card": card}), dataset)
        assert outcome.failures == (), name
        (system.folder / name).rename(system.folder / "adapter.py")


def test_paths_hold_when_an_adapter_changes_the_folder(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    lab.path.mkdir()
    monkeypatch.chdir(lab.path)
    here = Lab(Path())
    code = """
        import os
        class System:
            def __init__(self, *, weights):
                self.weights = weights["net"]
            def diarize(self, audio):
                os.chdir("/")
                return [(0.0, 0.1, self.weights.read_text()), (0.0, 0.1, audio.recording.path.stem)]
    """
    dataset = here.dataset()
    Path("net.bin").write_text("x")
    system = here.system("moving", code, card='[weights.net]\npath = "../../net.bin"')
    outcome = here.run(system, dataset)
    assert (outcome.done, outcome.failures) == (3, ())
    assert here.folder("moving").hypothesis("c").labels == ("c", "x")
    assert here.run(system, dataset).kept == 3


def test_random_numbers_do_not_depend_on_what_ran_before(lab: Lab):
    code = """
        import random
        import numpy as np
        class System:
            def __init__(self, *, seed=None):
                if seed is not None:
                    random.seed(seed)
            def diarize(self, audio):
                return [(0.0, random.uniform(0.1, 1.0), "A"), (0.0, np.random.uniform(0.1, 1.0), "B"),
                        (0.0, 0.1, list({"x", "y", "z"})[0])]
    """
    dataset = lab.dataset()
    system = lab.system("random", code)
    lab.run(system, dataset)
    whole = lab.rttms()
    for path in lab.runs.rglob("recordings/*"):
        path.unlink()
    for limit in (1, 2, 3):
        lab.run(system, dataset, limit=limit)
    assert lab.rttms() == whole
    seeded = lab.system("seeded", code, seed=1)
    lab.run(seeded, dataset)
    seeds = {re.sub(rb" [abc] ", b"", run.rttm_path("a").read_bytes()) for run in lab.folders()}
    assert len(seeds) == 2


def test_the_worker_alone_ends_well_where_nobody_orders(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "diarbench.execute.worker"], stdin=subprocess.DEVNULL, check=False, timeout=60
    )
    assert done.returncode == 4
