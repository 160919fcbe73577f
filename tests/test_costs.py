"""Cost figures as they are stored and read back: measuring sessions on disk, sizes of older runs, what is refused."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from diarbench import store
from diarbench.costs import EncoderSpeed, Energy, Latency, MemoryAt, SpeedUp, StageCost, read_complexity, read_measured
from diarbench.errors import StoreError
from diarbench.types import HeldWeights, PartSize, StageSize

RATIO = {"median": 1.2, "low": 1.1, "high": 1.3, "verdict": "faster"}
SESSION: dict[str, Any] = {
    "format": 1, "session": "0001", "started": "2026-01-01T00:00:00", "ended": "2026-01-01T00:10:00",
    "machine": "box", "device": "cpu", "threads": 1, "order": "interleaved", "rounds": 15, "baseline": "base",
    "audio": {"dataset": "d", "digest": "0", "recordings": ["a"], "seconds": 30.0},
    "noise": {"control": "base", "ratio": {"median": 1.0, "low": 0.99, "high": 1.01}, "floor": 0.02, "busy": True,
              "reasons": ["another process used the CPU"]},
    "systems": {
        "base": {"identity": {"code": "1"}, "error": None, "speed": {"cpu": {"rtf": 0.01, "speedup": None}}},
        "small": {
            "identity": {"code": "2"}, "error": None,
            "speed": {"cpu": {
                "rtf": 0.008, "inverse": 125.0, "import": 1.0, "load": 2.0, "first": 0.5, "warm": [0.24, 0.25],
                "speedup": RATIO,
                "encoder": [
                    {"batch": 8, "window": 8.0, "wall": 0.5, "rtf": 0.0078, "speedup": RATIO, "error": None},
                    {"batch": 32, "window": 8.0, "wall": None, "rtf": None, "speedup": None, "error": "out of memory"},
                ],
            }},
            "stages": {"embedding": {"seconds": 0.168, "share": 0.7, "bound": 3.33}},
            "memory": {"loaded": 100, "lengths": [{"minutes": 10, "resident": 300, "cuda": None},
                                                  {"minutes": 1, "resident": 200, "cuda": 50}],
                       "growth_per_hour": {"resident": 600, "cuda": None}},
            "energy": {"joules_per_hour": 1234.5, "source": "rapl"},
            "latency": {"algorithmic": 5.0, "p50": 0.1, "p90": 0.2, "p99": None},
        },
    },
}  # fmt: skip


def test_a_session_comes_back_from_the_disk(tmp_path: Path):
    later = {**SESSION, "started": "2026-02-01"}
    path = store.store_measure(tmp_path, "box", "0002", later)
    store.store_measure(tmp_path, "other", "0001", SESSION)
    assert path == tmp_path / "box" / "_measures" / "0002.json"
    assert store.find_measures([tmp_path]) == [{**SESSION, "machine": "other"}, {**later, "session": "0002"}]
    assert store.find_measures([tmp_path / "nothing"]) == []
    # It is no run, no dataset and no machine.
    assert store.find_runs([tmp_path]) == []
    assert store.find_datasets([tmp_path]) == {}
    assert store.find_machines([tmp_path]) == {}


def test_a_session_names_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/someone"))
    broken = {**SESSION, "systems": {"s": {"error": "no file /home/someone/x"}}}
    assert "someone" not in store.store_measure(tmp_path, "box", "0001", broken).read_text()


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "x" * 300])
def test_names_that_are_no_file_names(tmp_path: Path, name: str):
    for machine, session in ((name, "1"), ("box", name)):
        with pytest.raises(StoreError, match="can't be a folder's or file's name"):
            store.store_measure(tmp_path, machine, session, SESSION)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "can't be read"),
        ("[]", "written by another version"),
        (json.dumps({**SESSION, "format": 2}), "written by another version"),
        (json.dumps({key: value for key, value in SESSION.items() if key != "baseline"}), "lacks the key 'baseline'"),
        (json.dumps({**SESSION, "threads": "1"}), "not what `diarbench measure` writes"),
        (json.dumps({**SESSION, "systems": ["s"]}), "not what `diarbench measure` writes"),
        (json.dumps({**SESSION, "systems": {"s": None}}), "not what `diarbench measure` writes"),
    ],
)
def test_files_that_are_no_sessions(tmp_path: Path, content: str, problem: str):
    path = store.store_measure(tmp_path, "box", "0001", SESSION)
    path.write_text(content)
    with pytest.raises(StoreError, match=problem) as raised:
        store.find_measures([tmp_path])
    assert str(path) in str(raised.value)


def test_all_of_a_system_is_read():
    measured = read_measured(SESSION, "small")
    ratio = SpeedUp(1.2, 1.1, 1.3, "faster")
    assert (measured.session, measured.baseline, measured.rounds) == ("0001", "base", 15)
    assert (measured.audio, measured.audio_seconds) == ("d", 30.0)
    assert (measured.floor, measured.busy, measured.reasons) == (0.02, True, ("another process used the CPU",))
    assert measured.noise == SESSION["noise"]
    assert (measured.rtf, measured.imported, measured.load, measured.first) == (0.008, 1.0, 2.0, 0.5)
    assert (measured.warm, measured.speedup) == ((0.24, 0.25), ratio)
    assert measured.encoder == (
        EncoderSpeed(8, 8.0, 0.5, 0.0078, ratio, None),
        EncoderSpeed(32, 8.0, None, None, None, "out of memory"),
    )
    assert measured.stages == {"embedding": StageCost(0.168, 0.7, 3.33)}
    assert measured.memory is not None
    assert measured.memory.lengths == (MemoryAt(1.0, 200, 50, None), MemoryAt(10.0, 300, None, None))
    assert (measured.memory.loaded, measured.memory.growth_per_hour) == (100, {"resident": 600.0, "cuda": None})
    assert measured.energy == Energy(1234.5, "rapl")
    assert measured.latency == Latency(5.0, 0.1, 0.2, None)


def test_what_was_not_measured_is_nothing():
    base = read_measured(SESSION, "base")
    assert (base.rtf, base.speedup, base.memory, base.energy, base.latency) == (0.01, None, None, None, None)
    assert (base.warm, base.encoder, base.stages) == ((), (), {})


def test_speeds_of_another_device_are_not_taken():
    assert read_measured({**SESSION, "device": "cuda"}, "small").speedup is None


@pytest.mark.parametrize(
    ("path", "junk"),
    [
        (("speed",), [1]),
        (("speed", "cpu", "rtf"), "0.008"),
        (("speed", "cpu", "rtf"), True),
        (("speed", "cpu", "rtf"), math.nan),
        (("speed", "cpu", "warm"), [None]),
        (("speed", "cpu", "speedup"), {"median": 1.0}),
        (("speed", "cpu", "speedup", "verdict"), "much faster"),
        (("speed", "cpu", "speedup", "low"), 0.0),
        (("speed", "cpu", "encoder"), [{"batch": "many"}]),
        (("stages", "embedding", "share"), None),
        (("memory", "lengths"), [{"resident": 1}]),
        (("memory", "lengths"), 5),
        (("energy",), {"source": "guess"}),
        (("latency",), [1]),
    ],
)
def test_what_is_not_as_documented_is_named(path: tuple[str, ...], junk: object):
    session = copy.deepcopy(SESSION)
    inside = session["systems"]["small"]
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = junk
    with pytest.raises(
        StoreError, match=r"^box/_measures/0001\.json, small: not what diarbench writes .*measure again"
    ):
        read_measured(session, "small")


def test_sizes_of_older_and_of_newer_runs():
    old = {"parameters": 3, "nonzero_parameters": 2, "parameters_by_stage": {"x": 3}, "weight_bytes": 12}
    read = read_complexity(old, "run.json")
    assert (read.parameters, read.stages, read.held, read.encoder_parameters) == (3, {}, {}, None)
    part = {"parameters": 2, "macs_1s": 20}
    stage = {"parameters": 3, "macs_1s": 30, "window": 8.0, "macs_window": 250, "parts": {"cnn": part}}
    held = {"int8": {"weights": 3, "bytes": 4}}
    read = read_complexity({**old, "stages": {"x": stage}, "held": held, "encoder_macs_1s": 20}, "run.json")
    assert read.stages == {"x": StageSize(3, 30, 8.0, 250, {"cnn": PartSize(2, 20)})}
    assert read.held == {"int8": HeldWeights(3, 4)}
    assert read.encoder_macs_1s == 20
    with pytest.raises(StoreError, match=r"^run\.json: not what diarbench writes \(TypeError: .*unheard"):
        read_complexity({**old, "unheard": 1}, "run.json")
