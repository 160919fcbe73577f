"""Measuring sessions with systems whose times are known."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from small_lab import PLAIN

from diarbench.bench import Wanted, measure
from diarbench.bench.client import Client
from diarbench.cli.measuretables import trust
from diarbench.measure.ratios import Ratio, verdict
from diarbench.plan import prepare

STAGED = """
import time
from diarbench.measure import stage

class System:
    def __init__(self, *, seconds=0.0):
        self.seconds = seconds

    def diarize(self, audio):
        with stage("embedding"):
            time.sleep(0.75 * self.seconds)
        with stage("clustering"):
            time.sleep(0.25 * self.seconds)
        return [(0.0, 0.1, "A")]
"""


class Silent:
    """What shows nothing, and remembers what it was told."""

    def __init__(self):
        self.told = []

    def step(self, what, total):
        self.told.append(("step", what, total))

    def part(self, what):
        self.told.append(("part", what))

    def advance(self):
        self.told.append(("advance",))


@pytest.fixture
def session(lab):
    """Measure systems on three recordings of 0.2 s."""

    def run(*systems, progress=None, **how):
        dataset = lab.dataset()
        recordings = [labelled.recording for labelled in dataset.recordings]
        how = {"rounds": 5, "turn": 0.05, "batches": (), "recordings": recordings, "baseline": systems[0].name, **how}
        wanted = Wanted(
            systems=[prepare(spec) for spec in systems],
            device="cpu",
            threads=1,
            dataset=dataset.name,
            digest=dataset.digest,
            **how,
        )
        found = measure(wanted, machine="box", facts={}, progress=progress or Silent())
        return json.loads(json.dumps(found, allow_nan=False))

    return run


def test_a_system_that_sleeps_half_as_long_is_twice_as_fast(lab, session):
    found = session(lab.system("slow", seconds=0.04), lab.system("quick", seconds=0.02))
    speed = found["systems"]["quick"]["speed"]["cpu"]
    assert speed["speedup"]["median"] == pytest.approx(2.0, rel=0.15)
    ratio = Ratio(*(speed["speedup"][key] for key in ("median", "low", "high")))
    assert speed["speedup"]["verdict"] == verdict(ratio, found["noise"]["floor"])
    assert found["systems"]["slow"]["speed"]["cpu"]["speedup"] is None  # the baseline
    assert speed["rtf"] == pytest.approx(0.02 / 0.2, rel=0.3)
    assert speed["inverse"] == pytest.approx(1 / speed["rtf"])
    assert len(speed["warm"]) == 5
    assert speed["first"] >= 0.06
    assert found["audio"] == {
        "dataset": "mine",
        "digest": found["audio"]["digest"],
        "recordings": ["a", "b", "c"],
        "seconds": pytest.approx(0.6),
    }


def test_a_copy_of_the_baseline_is_within_noise(lab, session):
    found = session(lab.system("one", seconds=0.02), lab.system("copy", seconds=0.02))
    assert found["noise"]["ratio"]["median"] == pytest.approx(1.0, rel=0.1)
    assert found["noise"]["floor"] >= 0.0
    assert found["systems"]["copy"]["speed"]["cpu"]["speedup"]["median"] == pytest.approx(1.0, rel=0.1)


def test_stages_have_shares_and_bounds(lab, session):
    stages = session(lab.system("staged", STAGED, seconds=0.04))["systems"]["staged"]["stages"]
    assert stages["embedding"]["share"] == pytest.approx(0.75, abs=0.05)
    assert stages["embedding"]["bound"] == pytest.approx(4.0, rel=0.2)
    assert stages["clustering"]["seconds"] == pytest.approx(3 * 0.01, rel=0.3)


def test_a_system_that_fails_leaves_the_others(lab, session):
    code = "class System:\n    def diarize(self, audio):\n        raise RuntimeError('out of ideas')\n"
    found = session(lab.system("good", seconds=0.01), lab.system("bad", code))
    assert found["systems"]["bad"]["error"] == "RuntimeError: out of ideas (systems/bad/adapter.py, line 3)"
    assert found["systems"]["bad"]["speed"]["cpu"]["rtf"] is None
    assert found["systems"]["good"]["error"] is None
    assert found["noise"]["ratio"] is not None


def test_a_system_that_dies_in_the_middle_leaves_the_others(lab, session):
    code = """
        import os

        class System:
            calls = 0

            def diarize(self, audio):
                self.calls += 1
                if self.calls > 400:
                    os._exit(7)
                return []
        """
    found = session(lab.system("good", seconds=0.01), lab.system("mortal", code))
    assert "exit code 7" in found["systems"]["mortal"]["error"]
    assert found["systems"]["mortal"]["speed"]["cpu"]["speedup"] is None
    assert found["systems"]["good"]["speed"]["cpu"]["rtf"] is not None


def test_what_is_at_work_is_told_between_calls_and_never_during_one(lab, session, monkeypatch):
    """Each part is named before its first call and counted after its last; nothing is told while a call runs."""
    shown = Silent()
    asked = Client.ask

    def ask(client, do, limit, **arguments):
        shown.told.append(("ask", client.name, do))
        before = len(shown.told)
        found = asked(client, do, limit, **arguments)
        assert len(shown.told) == before
        return found

    monkeypatch.setattr(Client, "ask", ask)
    session(lab.system("one", seconds=0.01), lab.system("two", seconds=0.01), progress=shown, minutes=(0.1, 0.2))
    steps, open_part, asks = {}, None, 0
    for kind, *rest in shown.told:
        if kind == "step":
            step, total = rest
            steps[step] = [total, 0]
        elif kind == "part":
            assert open_part is None
            (open_part,), asks = rest, 0
        elif kind == "ask":
            assert open_part is not None
            assert open_part.startswith(rest[0])  # "one (control)" is a process of "one"
            asks += 1
        else:
            assert open_part is not None
            assert asks or "(control)" in open_part  # what the control would tell again is not asked
            open_part = None
            steps[step][1] += 1
    assert steps.pop("streaming") == [0, 0]
    assert steps == {
        "loading": [3, 3], "first calls": [3, 3], "whole systems": [15, 15], "counting": [3, 3], "memory": [4, 4],
    }  # fmt: skip
    assert [told[1] for told in shown.told if told[0] == "part"][-4:] == [
        f"{name}, {length} min" for name in ("one", "two") for length in ("0.1", "0.2")
    ]


def test_stored_outputs_can_not_be_measured(lab, session):
    found = session(lab.system("good", seconds=0.01), lab.system("stored", PLAIN + "\n    timed = False\n"))
    assert "nothing to measure" in found["systems"]["stored"]["error"]
    assert found["systems"]["stored"]["speed"]["cpu"]["rtf"] is None


def test_a_control_that_fails_is_said(lab, session):
    code = """
        from pathlib import Path

        class System:
            def __init__(self, *, seen):
                path = Path(seen)
                if path.exists():
                    raise RuntimeError("there can be only one")
                path.touch()

            def diarize(self, audio):
                return []
        """
    found = session(lab.system("only", code, seen=str(lab.path / "seen")))
    assert found["noise"]["error"] == "RuntimeError: there can be only one (systems/only/adapter.py, line 8)"
    assert any("a second copy of only failed: RuntimeError" in line for line in trust(found))
    assert found["noise"]["floor"] is None
    assert found["systems"]["only"]["error"] is None


def test_a_stage_that_is_never_left_lasts_to_the_end_of_the_call(lab, session):
    left = '        self.mark = stage("clustering")\n        self.mark.__enter__()\n'
    code = STAGED.replace('        with stage("clustering"):\n    ', left)
    stages = session(lab.system("open", code, seconds=0.04))["systems"]["open"]["stages"]
    assert stages["embedding"]["share"] == pytest.approx(0.75, abs=0.05)
    assert stages["clustering"]["share"] == pytest.approx(0.25, abs=0.05)


def test_energy_leaves_out_turns_in_which_the_counter_began_anew(lab, session, monkeypatch):
    asked = Client.ask

    def answer(client, do, limit, **arguments):
        found = asked(client, do, limit, **arguments)
        if do == "load":
            found["meter"] = "rapl"
        if do == "pipeline":
            turns.append(do)
            found["joules"] = 2.0 * arguments["calls"] if len(turns) % 2 else None
        return found

    turns = []
    monkeypatch.setattr(Client, "ask", answer)
    energy = session(lab.system("one", seconds=0.01))["systems"]["one"]["energy"]
    assert energy["source"] == "rapl"
    assert energy["joules_per_hour"] == pytest.approx(2.0 / 0.6 * 3600)


def test_a_client_is_closed_once(lab):
    # Later, the numbers of its pipe and its process may be others'.
    spec = prepare(lab.system("one"))
    client = Client(spec, device="cpu", threads=1, machine={}, mark=None)
    number = client._requests
    client.close()
    other = os.open(os.devnull, os.O_RDONLY)
    try:
        if other != number:
            os.dup2(other, number)
        client.close()
        os.fstat(number)
    finally:
        for one in {other, number}:
            os.close(one)


def test_without_a_baseline_that_runs_there_are_no_ratios(lab, session):
    found = session(lab.system("broken", "class System:\n    pass\n"), lab.system("fine", seconds=0.01))
    assert "no class 'System' with a method diarize" in found["systems"]["broken"]["error"]
    assert found["systems"]["fine"]["speed"]["cpu"]["rtf"] is not None
    assert found["systems"]["fine"]["speed"]["cpu"]["speedup"] is None
    assert found["noise"]["floor"] is None


GROWING = """
import numpy as np

class System:
    def diarize(self, audio):
        held = np.ones(round(audio.duration * 100_000))  # 0.8 MB per second
        return [(0.0, audio.duration, "A")] if held.sum() else []
"""


def test_memory_grows_as_the_system_does(lab, session):
    found = session(lab.system("growing", GROWING), minutes=(0.5, 2.0))["systems"]["growing"]["memory"]
    short, long = found["lengths"]
    assert (short["minutes"], long["minutes"]) == (0.5, 2.0)
    assert short["error"] is None
    assert short["signal"] == 30 * 8000 * 4
    assert long["resident"] > found["loaded"]
    if short["working"] is None:
        pytest.skip("this kernel doesn't let the peak begin anew")
    assert found["growth_per_hour"]["resident"] == pytest.approx(3600 * 0.8e6, rel=0.1)


def test_lengths_that_would_take_hours_are_left_out_and_say_so(lab, session):
    rows = session(lab.system("slow", seconds=0.2), minutes=(40.0,))["systems"]["slow"]["memory"]["lengths"]
    assert rows[0]["resident"] is None
    assert re.match("left out: one call would take about 4[0-9] minutes", rows[0]["error"])  # 40 on a calm machine


STREAMING = """
import time

class Stream:
    def __init__(self):
        self.chunks = 0

    def push(self, samples):
        self.chunks += 1
        time.sleep(0.03 if self.chunks == 4 else 0.002)
        return [(0.02 * (self.chunks - 1), 0.02 * self.chunks, "A")]

    def finish(self):
        return []

class System:
    chunk, look_ahead = 0.02, 0.05

    def diarize(self, audio):
        return []

    def open(self, recording):
        return Stream()
"""


def test_a_streaming_system_shows_its_latency(lab, session):
    found = session(lab.system("online", STREAMING))["systems"]["online"]["latency"]
    assert found["algorithmic"] == pytest.approx(0.07)
    assert found["chunks"] == 30
    assert found["p50"] == pytest.approx(0.0025, abs=0.002)
    assert 0.01 < found["p99"] < 0.1
    assert found["late"] >= 3  # the fourth chunk of each recording takes longer than it lasts
    assert found["turns"] == 30


def test_a_streaming_system_without_a_chunk_says_what_is_wrong(lab, session):
    code = STREAMING.replace("chunk, look_ahead = 0.02, 0.05", "chunk, look_ahead = 0.0, 0.05")
    assert "chunk must be above 0 s" in session(lab.system("odd", code))["systems"]["odd"]["error"]


NETWORK = """
import torch
from torch import nn
from diarbench.measure import Network

class System:
    def __init__(self, *, width=64):
        self.model = self.build(width)

    @staticmethod
    def build(width):
        return nn.Sequential(nn.Linear(100, width), nn.ReLU(), nn.Linear(width, 2))

    @classmethod
    def networks(cls, *, width=64):
        def inputs(batch, seconds):
            return (torch.randn(batch, round(100 * seconds), 100),)
        return {"segmentation": Network(cls.build(width), inputs, window=8.0, parts={"head": ["2"]}, encoder="0")}

    def modules(self):
        return {"segmentation": self.model}

    def diarize(self, audio):
        with torch.inference_mode():
            self.model(torch.zeros(1, 20, 100))
        return []
"""


def test_encoders_are_timed_alone_and_networks_are_counted(lab, session):
    systems = lab.system("wide", NETWORK, width=512), lab.system("narrow", NETWORK, width=64)
    found = session(*systems, batches=(1, 4))
    narrow = found["systems"]["narrow"]
    rows = narrow["speed"]["cpu"]["encoder"]
    assert [(row["batch"], row["window"], row["error"]) for row in rows] == [(1, 8.0, None), (4, 8.0, None)]
    assert all(row["speedup"]["median"] > 1.0 for row in rows)
    assert rows[0]["rtf"] == pytest.approx(rows[0]["wall"] / 8.0)
    assert [row["batch"] for row in found["noise"]["encoder"]] == [1, 4]
    assert narrow["parameters"] == 100 * 64 + 64 + 64 * 2 + 2
    assert narrow["macs"]["encoder_1s"] == 100 * 100 * 64
    assert narrow["macs"]["window_per_s"] == 100 * 100 * 64
    assert narrow["macs"]["pipeline_per_s"] == pytest.approx(3 * 20 * (100 * 64 + 64 * 2) / 0.6)
    assert narrow["parts"] == {"head": {"parameters": 64 * 2 + 2, "macs_1s": 100 * 64 * 2}}


def test_an_encoder_that_modules_does_not_name_is_said(lab, session):
    code = NETWORK.replace('return {"segmentation": self.model}', 'return {"other": self.model}')
    row = session(lab.system("odd", code), batches=(1,))["systems"]["odd"]["speed"]["cpu"]["encoder"][0]
    assert (
        row["error"] == "networks() of System has 'segmentation', but modules() doesn't, so its encoder can't be timed"
    )


def test_without_weights_only_encoders_are_timed(lab, session):
    spec = lab.system("wide", NETWORK + "\n    __init__ = None  # can't be built\n", width=32)
    found = session(spec, weights=False, recordings=[], batches=(1,))
    assert found["audio"] is None
    speed = found["systems"]["wide"]["speed"]["cpu"]
    assert speed["rtf"] is None
    assert speed["encoder"][0]["rtf"] > 0
    assert found["systems"]["wide"]["parameters"] == 100 * 32 + 32 + 32 * 2 + 2


def test_a_system_without_networks_has_no_encoder_and_fails_only_where_nothing_else_is_asked_for(lab, session):
    found = session(lab.system("plain"), batches=(1,))["systems"]["plain"]
    assert found["speed"]["cpu"]["encoder"] == []
    assert found["error"] is None
    alone = session(lab.system("plain"), batches=(1,), weights=False, recordings=[])["systems"]["plain"]
    assert "has no class method `networks`" in alone["error"]


def test_a_busy_machine_is_flagged(lab, session):
    # Not a child of ours: another program.
    burn = "import time\nend = time.monotonic() + 120\nwhile time.monotonic() < end: sum(range(1000))"
    starter = (
        f"import subprocess, sys\nprint(subprocess.Popen([sys.executable, '-c', {burn!r}], stdout=-3, stderr=-3).pid)"
    )
    pid = int(subprocess.run([sys.executable, "-c", starter], capture_output=True, check=True, text=True).stdout)
    try:
        noise = session(lab.system("one", seconds=0.02))["noise"]
    finally:
        psutil.Process(pid).kill()
    assert noise["busy"]
    assert any(reason.startswith("other programs kept") for reason in noise["reasons"])
    assert noise["others_cores"] > 0.4


def test_no_process_outlives_the_session(lab, session):
    session(lab.system("one", seconds=0.01))
    time.sleep(0.2)
    left = [child for child in psutil.Process().children(recursive=True) if "diarbench.bench.server" in _words(child)]
    assert left == []


def _words(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_measuring_processes_end_with_a_parent_that_is_killed(lab, tmp_path):
    spec = lab.system("sleepy", seconds=5.0)
    dataset = lab.dataset()
    code = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parents[1])]!r}
from pathlib import Path
from small_lab import Lab
from diarbench.bench import Wanted, measure
from diarbench.plan import prepare
from diarbench.cards import SystemCard, expand, read_card
from diarbench.types import Recording
card = Path({str(lab.path)!r}) / "systems/sleepy/sleepy.toml"
spec = expand("sleepy", card, read_card(card, SystemCard))[0]
audio = Path({str(lab.path)!r}) / "datasets/mine/audio/a.wav"
class Silent:
    def step(self, what, total): print(what, flush=True)
    def part(self, what): pass
    def advance(self): pass
recording = Recording("a", audio, 0.2, 8000)
wanted = Wanted([prepare(spec)], "sleepy", "cpu", 1, "mine", "", [recording], batches=(), turn=0.05)
measure(wanted, machine="box", facts={{}}, progress=Silent())
"""
    del spec, dataset
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    for line in parent.stdout:
        if line.strip() == "first calls":
            break
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) == 2  # the system and the control
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
