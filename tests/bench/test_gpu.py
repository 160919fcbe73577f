"""Measuring on a GPU; skipped, with the reason, where there is none."""

from __future__ import annotations

import json
import math

import pytest

from diarbench.bench import Wanted, measure
from diarbench.plan import prepare

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

SYSTEM = """
import torch
from torch import nn
from diarbench.measure import Network, stage

class System:
    def __init__(self, *, device, width=64):
        self.device = device
        self.model = self.build(width).to(device)

    @staticmethod
    def build(width):
        return nn.Sequential(nn.Linear(1000, width), nn.ReLU(), nn.Linear(width, 1000))

    @classmethod
    def networks(cls, *, width=64):
        def inputs(batch, seconds):
            return (torch.randn(batch, round(100 * seconds), 1000),)
        return {"segmentation": Network(cls.build(width), inputs, window=8.0, encoder="")}

    def modules(self):
        return {"segmentation": self.model}

    def diarize(self, audio):
        frames = torch.zeros(1, round(100 * audio.duration) * 10, 1000, device=self.device)
        with torch.inference_mode(), stage("segmentation"):
            for _ in range(20):
                frames = self.model(frames)
        return [(0.0, 0.1, "A")] if frames.sum().item() == 0 else []
"""


class Silent:
    """Shows nothing."""

    def step(self, what, total):
        pass

    def part(self, what):
        pass

    def advance(self):
        pass


@pytest.fixture
def session(lab):
    def run(*systems, **how):
        dataset = lab.dataset()
        wanted = Wanted(
            systems=[prepare(spec) for spec in systems],
            baseline=systems[0].name,
            device="cuda",
            threads=1,
            dataset=dataset.name,
            digest=dataset.digest,
            recordings=[labelled.recording for labelled in dataset.recordings],
            rounds=5,
            turn=0.05,
            **how,
        )
        return json.loads(json.dumps(measure(wanted, machine="box", facts={}, progress=Silent()), allow_nan=False))

    return run


def system(lab, name, **options):
    return lab.system(name, SYSTEM, card='devices = ["cpu", "cuda"]', **options)


def test_stages_are_the_gpus_own_time(lab, session):
    found = session(system(lab, "wide", width=4096), system(lab, "narrow", width=64), batches=())
    stages = found["systems"]["wide"]["stages"]["segmentation"]
    assert 0.3 < stages["share"] <= 1.0
    assert found["systems"]["narrow"]["speed"]["cuda"]["speedup"]["median"] > 1.0


def test_max_is_a_batch_that_every_system_takes(lab, session):
    found = session(system(lab, "wide", width=4096), system(lab, "narrow", width=64), batches=(1, "max"))
    rows = [one["speed"]["cuda"]["encoder"] for one in found["systems"].values()]
    assert rows[0][0]["batch"] == 1
    assert rows[0][1]["batch"] == rows[1][1]["batch"] > 1
    assert math.log2(rows[0][1]["batch"]).is_integer()
    assert all(row["error"] is None for pair in rows for row in pair)


def test_memory_on_the_gpu_grows_with_the_recording(lab, session):
    rows = session(system(lab, "one"), batches=(), minutes=(0.5, 1.0))["systems"]["one"]["memory"]["lengths"]
    assert rows[1]["cuda"] > rows[0]["cuda"] > 0


def test_energy_comes_from_nvml(lab, session):
    energy = session(system(lab, "one"), batches=())["systems"]["one"]["energy"]
    assert energy is None or (energy["source"] == "nvml" and energy["joules_per_hour"] >= 0)
