"""What the clock holds, which timings count, and what is recorded of the process that took them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_lab import RATE, Lab

from diarbench.execute import execute
from diarbench.leaderboard import Place
from diarbench.measure import beside
from diarbench.plan import plan


def timing(lab: Lab, system: str, recording: str = "a") -> dict[str, Any]:
    result = lab.folder(system).result(recording)
    assert result is not None
    return result


SLEEPING = """
import time
from diarbench.measure import stage

time.sleep(0.3)

class Lazy:
    def __init__(self, rows):
        self.rows = rows
    def __iter__(self):
        time.sleep(0.1)
        return iter(self.rows)

class System:
    first = True

    def __init__(self):
        time.sleep(0.4)

    def diarize(self, audio):
        if self.first:
            self.first = False
            with stage("warming up"):
                time.sleep(0.5)
        return getattr(self, audio.recording.id)([(0.0, 0.1, "A")])

    def plain(self, rows):
        time.sleep(0.1)
        return rows

    def generator(self, rows):
        for row in rows:
            time.sleep(0.1)
            yield row

    def lazy(self, rows):
        return Lazy(rows)

    def stages(self, rows):
        with stage("outer"):
            time.sleep(0.02)
            with stage("inner"):
                time.sleep(0.06)
            time.sleep(0.02)
        with stage("inner"):
            pass
        return rows
"""

SLOW_DECODING = """
import sys, time
if "diarbench.execute.worker" in sys.orig_argv:
    import soundfile
    def slow(function):
        def instead(*arguments, **named):
            time.sleep(0.3)
            return function(*arguments, **named)
        return instead
    soundfile.SoundFile.read = slow(soundfile.SoundFile.read)
"""


def test_the_clock_holds_the_call_and_nothing_else(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(SLOW_DECODING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    ways = ("plain", "generator", "lazy", "stages")
    assert lab.run(lab.system("sleeping", SLEEPING), lab.dataset(ids=ways)).failures == ()
    for how in ways:
        found = timing(lab, "sleeping", how)["timing"]
        assert 0.1 <= found["wall"] < 0.28, how  # neither decoding nor the warm-up is in it
        assert found["audio"] == 0.2
        assert (found["stages"] == {}) == (how != "stages")
    (session,) = lab.folder("sleeping").sessions
    assert session["import"] >= 0.3
    assert session["load"] >= 0.4
    stages = found["stages"]
    assert set(stages) == {"outer", "inner"}
    assert 0.04 <= stages["outer"] <= found["wall"] - 0.06
    assert stages["inner"] >= 0.06
    assert sum(stages.values()) <= found["wall"]


SLOW_WRITING = """
import os, sys, time
if "diarbench.execute.worker" in sys.orig_argv:
    sync = os.fsync
    def slow(handle):
        time.sleep(0.05)
        return sync(handle)
    os.fsync = slow
"""


def test_nothing_is_written_beside_the_clock(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Results are written while the next recording is read: before its call they are there, whole."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(SLOW_WRITING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    code = """
        from pathlib import Path
        class System:
            before = None
            def __init__(self, *, runs):
                self.runs = Path(runs)
            def diarize(self, audio):
                there = {path.name for path in self.runs.rglob("recordings/*")}
                assert not list(self.runs.rglob("*/.writing-*"))
                if self.before not in (None, audio.recording.id):  # the first comes twice: it warms up
                    assert there >= {self.before + ".json", self.before + ".rttm"}, there
                self.before = audio.recording.id
                return [(0.0, 0.1, "A")]
    """
    datasets = [lab.dataset(), lab.dataset("other", ids=("d", "e"))]
    outcome = lab.run(lab.system("looking", code, runs=str(lab.runs)), datasets)
    assert (outcome.done, outcome.failures) == (5, ())


def test_where_the_time_goes(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(SLOW_DECODING + SLOW_WRITING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    code = """
        import time
        class System:
            first = True
            def diarize(self, audio):
                time.sleep(0.25 if self.first else 0.1)
                self.first = False
                if audio.recording.id == "b":
                    raise ValueError("not this one")
                return []
    """
    datasets = [lab.dataset(), lab.dataset("other", ids=("d", "e"))]
    assert lab.run(lab.system("slow", code), datasets).done == 4
    first, last = (run.sessions[0]["spent"] for run in sorted(lab.folders("slow"), key=lambda run: run.run["dataset"]))
    assert set(first) == set(last) == {"total", "diarize", "reading", "warm_up", "waiting"}
    assert first["total"] < last["total"]
    assert 0.5 <= last["diarize"] < 1.0
    assert 1.5 <= last["reading"] < 2.0
    assert 0.25 <= last["warm_up"] < 0.5
    assert last["waiting"] == 0.0
    # The last result is written beside nothing, in three syncs; a failure alone, in two.
    assert 0.25 <= last["total"] - last["diarize"] - last["reading"] - last["warm_up"] < 0.8
    assert lab.run(lab.system("slow", code), datasets).kept == 4


def test_the_warm_up_is_short_and_cannot_be_told_from_a_recording(lab: Lab):
    code = """
        calls = []
        class System:
            def diarize(self, audio):
                calls.append((audio.duration, audio.recording.duration, audio.samples.shape[1] / audio.sample_rate))
                assert not audio.samples.flags.writeable
                return [(0.0, duration, f"call{i}") for i, call in enumerate(calls) for duration in call]
    """
    dataset = lab.dataset(ids=("a", "b"), seconds=7.0)
    assert lab.run(lab.system("counting", code), dataset).failures == ()
    turns = list(lab.folder("counting").hypothesis("b"))
    assert [(turn.end, turn.speaker) for turn in turns] == [(5.0, "call0")] * 3 + [(7.0, "call1")] * 3 + [
        (7.0, "call2")
    ] * 3


def test_a_timing_beside_another_run_is_no_speed(lab: Lab):
    dataset = lab.dataset()
    system = lab.system("plain")
    with beside.marked():
        lab.run(system, dataset)
    result = timing(lab, "plain")
    assert result["timing"]["wall"] > 0
    assert result["timing_counts"] is False
    assert result["timing_problem"] == "another diarbench ran on this machine"
    entry = lab.entry("plain")
    assert entry.speeds == {}
    assert entry.problems == (), "the system did nothing wrong"
    assert entry.timings_left_out == (
        "no speed for CPU, 1 thread on box: 3 of 3 timings don't count (mine: another diarbench ran on this machine); "
        "--again makes them anew",
    )
    assert lab.board().places == ()
    lab.run(system, dataset, again=True)
    entry = lab.entry("plain")
    assert entry.timings_left_out == ()
    speed = entry.speeds[Place("box", "cpu", 1)]
    assert speed.audio == pytest.approx(0.6)
    assert speed.wall == pytest.approx(sum(timing(lab, "plain", name)["timing"]["wall"] for name in "abc"))


def test_a_run_that_begins_and_ends_within_a_call_is_noticed(lab: Lab):
    """The first run was alone before, and is alone after."""
    code = """
        from diarbench.measure import beside
        class System:
            def diarize(self, audio):
                if audio.recording.id == "b":
                    with beside.marked():
                        pass
                return []
    """
    lab.run(lab.system("visited", code), lab.dataset())
    assert [timing(lab, "visited", name)["timing_counts"] for name in "abc"] == [True, False, True]
    assert lab.entry("visited").speeds == {}


def test_marks_of_the_dead_do_not_count(lab: Lab):
    with beside.marked() as mark:
        assert mark is not None
        assert beside.look(mark).alone
        born = psutil.Process().create_time()
        dead = {f"{os.getpid()}_{born - 100}_x", f"{2**22 + 1}_{born}_x", "nonsense", "1_2", "_-_"}
        for name in dead:
            (mark.parent / name).touch()
        assert beside.look(mark).alone
        with beside.marked() as other:  # and tidies up
            assert other is not None
            assert {path.name for path in mark.parent.iterdir()} == {mark.name, other.name}
            assert not beside.look(mark).alone
        mark.unlink()
        assert not beside.look(mark).alone  # somebody emptied the temporary folder: nothing is known
    assert not beside.look(None).alone


def test_without_a_place_for_marks_no_timing_counts(lab: Lab, tmp_path: Path):
    (tmp_path / "temporary" / "diarbench-running").write_text("a file")
    lab.run(lab.system("plain"), lab.dataset(ids=("a",)))
    assert timing(lab, "plain")["timing_counts"] is False


def test_more_cores_than_threads_is_no_speed(lab: Lab):
    """Played: the adapter turns the clock of its CPU time on."""
    code = """
        import time
        clock, extra = time.process_time, 0.0
        time.process_time = lambda: clock() + extra
        class System:
            def diarize(self, audio):
                global extra
                time.sleep(0.1)
                extra += {"a": 0.1, "b": 0.15, "c": 0.4}[audio.recording.id]
                return []
    """
    system, dataset = lab.system("greedy", code), lab.dataset()
    lab.run(system, dataset)
    assert [timing(lab, "greedy", name)["timing_counts"] for name in "abc"] == [True, True, False]
    problem = timing(lab, "greedy", "c")["timing_problem"]
    assert problem.startswith("it used ")
    assert problem.endswith("CPU cores, not the 1 that it was given (--threads)")
    assert lab.entry("greedy").speeds == {}
    assert lab.entry("greedy").timings_left_out == (
        f"no speed for CPU, 1 thread on box: 1 of 3 timings don't count (mine: {problem})",
    )
    lab.run(system, dataset, threads=4)
    assert set(lab.entry("greedy").speeds) == {Place("box", "cpu", 4)}


def test_systems_that_are_not_timed_or_need_no_audio(lab: Lab):
    code = """
        class System:
            timed = False
            needs_audio = {needs}
            def diarize(self, audio):
                return [(0.0, 0.1 + audio.samples.shape[1] / 8000, "A")]
    """
    dataset = lab.dataset()
    systems = [lab.system("deaf", code.format(needs=False)), lab.system("hearing", code.format(needs=True))]
    assert lab.run(systems, dataset).failures == ()
    for name, audio, end in (("deaf", False, b" 0.100 "), ("hearing", True, b" 0.300 ")):
        result = timing(lab, name)
        assert (result["timing"], result["timing_counts"], result["timing_problem"]) == (None, False, None)
        assert bool(result["audio"]) == audio
        assert end in lab.folder(name).rttm_path("a").read_bytes()
        assert lab.entry(name).speeds == {}
        assert lab.entry(name).problems == ()
    # What was made without the audio does not depend on it.
    path = dataset.recordings[0].recording.path
    assert path is not None
    path.write_bytes(path.read_bytes()[:-2] + b"\1\1")
    assert lab.run(systems, dataset).done == 1
    assert lab.run(systems, dataset).kept == 6


def test_audio_that_changes_while_it_is_read(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(
        SLOW_DECODING.replace("time.sleep(0.3)", "__import__('os').utime(arguments[0].name, (1, 1))")
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    outcome = lab.run(lab.system("plain"), lab.dataset(ids=("a",)))
    assert outcome.failures[0].endswith("a.wav: changed while it was read; run again when nobody writes it")


def test_memory_is_the_worker_s_own(lab: Lab):
    """Not that of the process that started it, from which Linux hands down the peak."""
    big = bytearray(400_000_000)
    big[::4096] = b"\1" * len(big[::4096])
    lab.run(lab.system("plain"), lab.dataset(ids=("a",)))
    peak = lab.folder("plain").sessions[0]["peak_memory_bytes"]
    assert len(big) > peak > 10_000_000
    taking = """
        class System:
            def diarize(self, audio):
                taken = bytearray(100_000_000)
                taken[::4096] = b"1" * len(taken[::4096])
                return []
    """
    lab.run(lab.system("taking", taking), lab.dataset(ids=("a",)))
    assert lab.folder("taking").sessions[0]["peak_memory_bytes"] > peak + 80_000_000


def test_torch_keeps_the_threads_that_were_asked_for(lab: Lab):
    pytest.importorskip("torch", reason="torch is not installed")
    code = """
        import torch
        class System:
            def __init__(self):
                torch.set_num_threads(7)
                self.layer = torch.nn.Linear(3, 2)
                self.layer.weight.data[0, 0] = 0.0
            def modules(self):
                return {"layer": self.layer, "again": self.layer}
            def diarize(self, audio):
                number = torch.rand(1).item()
                return [(0.0, torch.get_num_threads(), "threads"), (0.0, 0.1 + number, "random")]
    """
    dataset = lab.dataset(ids=("a", "b"))
    lab.run(lab.system("torch", code), dataset, threads=2, limit=1)
    lab.run(lab.system("torch", code), dataset, threads=2)
    run = lab.folder("torch")
    for name in ("a", "b"):
        turns = {turn.speaker: turn.end for turn in run.hypothesis(name)}
        assert turns["threads"] == 2.0
    # Each call begins with the same random numbers, in every process.
    assert run.result("a")["session"] != run.result("b")["session"]
    ends = [{turn.speaker: turn.end for turn in run.hypothesis(name)}["random"] for name in ("a", "b")]
    assert ends[0] == ends[1]
    for session in run.sessions:
        assert session["settings"]["torch"]["threads"] == 2
        assert session["settings"]["environment"]["OMP_NUM_THREADS"] == "2"
    complexity = lab.entry("torch").complexity
    assert complexity is not None
    assert (complexity.parameters, complexity.nonzero_parameters) == (8, 7)
    assert complexity.parameters_by_stage == {"layer": 8, "again": 0}


FAKE_TORCH = """
import sys
from types import ModuleType, SimpleNamespace

class Cuda(SimpleNamespace):
    broken = False
    def synchronize(self):
        if self.broken:
            raise RuntimeError("CUDA error: device-side assert triggered")
    def is_initialized(self):
        return False
    def empty_cache(self):
        self.synchronize()

torch = ModuleType("torch")
torch.cuda, torch.zeros = Cuda(), lambda *a, **b: None
torch.get_num_threads, torch.initial_seed, torch.manual_seed = lambda: 1, lambda: 0, lambda seed: None
torch.get_num_interop_threads = torch.are_deterministic_algorithms_enabled = lambda: 1
torch.get_rng_state, torch.set_rng_state = lambda: None, lambda state: None
torch.version = SimpleNamespace(cuda="0")
torch.backends = SimpleNamespace(
    cuda=SimpleNamespace(matmul=SimpleNamespace(allow_tf32=False)), mkldnn=SimpleNamespace(is_available=lambda: True),
    cudnn=SimpleNamespace(allow_tf32=False, benchmark=False, deterministic=True),
)
sys.modules["torch"] = torch

class System:
    def __init__(self, *, device):
        assert device == "cuda"
    def diarize(self, audio):
        torch.cuda.broken = torch.cuda.broken or audio.recording.id == "b"
        if audio.recording.id == "c":
            raise ValueError("an ordinary failure")
        return [(0.0, 0.1, "A")]
"""


def test_a_gpu_that_is_lost_to_a_process_costs_one_recording(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    """After some errors CUDA fails every later call of the same process: played with a fake of torch."""
    monkeypatch.setattr("diarbench.measure.machine.gpus", lambda: [{"name": "none"}])
    dataset = lab.dataset(ids=tuple("abcd"))
    system = lab.system("gpu", FAKE_TORCH, card='devices = ["cuda"]')
    jobs = plan([system], [dataset], device="cuda", threads=1, limit=None)
    outcome = execute(jobs, root=lab.runs, machine="box", machine_facts={}, progress=lab.shown)
    assert outcome.failures == (
        "gpu on mine, b: RuntimeError: CUDA error: device-side assert triggered (systems/gpu/adapter.py, line 9)",
        "gpu on mine, c: ValueError: an ordinary failure (systems/gpu/adapter.py, line 33)",
    )
    assert outcome.done == 2
    sessions = lab.sessions_of_results("gpu")
    assert sessions["a"] == sessions["b"] != sessions["c"] == sessions["d"]
    assert all(session["ended"] for session in lab.folder("gpu").sessions)


@pytest.mark.gpu
def test_a_real_gpu_that_is_lost(lab: Lab):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    code = """
        import torch
        class System:
            def __init__(self, *, device):
                self.table = torch.arange(10, device=device)
            def diarize(self, audio):
                if audio.recording.id == "b":
                    self.table[torch.tensor([99], device="cuda")] + 1
                    torch.cuda.synchronize()
                noise = torch.rand(1, device="cuda").item()
                return [(0.0, 0.1 + noise, "A"), (0.0, float(self.table.sum()), "B")]
    """
    dataset = lab.dataset(ids=tuple("abcd"))
    system = lab.system("gpu", code, card='devices = ["cuda"]')
    jobs = plan([system], [dataset], device="auto", threads=1, limit=None)
    outcome = execute(jobs, root=lab.runs, machine="box", machine_facts={}, progress=lab.shown)
    assert outcome.done == 3
    assert len(outcome.failures) == 1
    assert "device-side assert" in outcome.failures[0]
    run = lab.folder("gpu")
    assert len({turn.end for name in "acd" for turn in run.hypothesis(name)}) == 2  # the same noise in each call
    assert timing(lab, "gpu")["timing_counts"]


def test_the_clock_is_not_stopped_by_long_audio(lab: Lab):
    """Decoding and reading ten minutes take longer than the call."""
    dataset = lab.dataset(ids=("a",), seconds=600.0)
    before = time.monotonic()
    lab.run(lab.system("plain"), dataset)
    assert timing(lab, "plain")["timing"]["wall"] < 0.5 * (time.monotonic() - before)
    assert timing(lab, "plain")["timing"]["audio"] == 600.0
    assert timing(lab, "plain")["audio"]["bytes"] == RATE * 600 * 2 + 44
