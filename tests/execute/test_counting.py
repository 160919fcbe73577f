"""What a run stores of the networks: sizes once, multiply-accumulates with each recording; it disturbs nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_lab import Lab

pytest.importorskip("torch", reason="torch is not installed")

# A network that is called once for each 0.1 s, and a turn that ends where a random number says.
SYSTEM = """
import torch
from diarbench.measure import Network

class System:
    def __init__(self, *, width=3):
        self.net = torch.nn.Linear(4, width)

    def modules(self):
        return {"net": self.net}

    @classmethod
    def networks(cls, *, width=3):
        inputs = lambda batch, seconds: (torch.zeros(batch, round(10 * seconds), 4),)
        torch.manual_seed(77)
        return {"net": Network(torch.nn.Linear(4, width), inputs, None, encoder="")}

    def diarize(self, audio):
        for _ in range(round(audio.duration * 10)):
            self.net(torch.rand(1, 4))
        return [(0.0, 0.1 + 0.1 * float(torch.rand(1)), "A")]
"""
ALONE = SYSTEM.replace("def modules", "def others").replace("def networks", "def none")
HIDDEN = SYSTEM.replace('{"net": self.net}', '{"net": torch.nn.ModuleList([self.net])}')
ODD = SYSTEM.replace("round(10 * seconds), 4)", "round(10 * seconds), 9)")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """All systems have run: each process takes seconds to import torch."""
    with pytest.MonkeyPatch.context() as patch:
        lab = Lab.alone(tmp_path_factory.mktemp("counting"), patch)
        codes = {"counted": SYSTEM, "alone": ALONE, "hidden": HIDDEN, "odd": ODD}
        systems = [lab.system(name, code, width=5) for name, code in codes.items()]
        outcome = lab.run(systems, lab.dataset(seconds=0.3))
        assert (outcome.done, outcome.failures) == (12, ())
        yield lab


def test_a_run_stores_sizes_and_multiply_accumulates(lab: Lab):
    folder = lab.folder("counted")
    complexity = folder.run["complexity"]
    assert complexity["parameters"] == 25
    assert complexity["encoder_macs_1s"] == 200
    assert complexity["stages"]["net"]["macs_1s"] == 200
    assert complexity["held"] == {"float32": {"weights": 25, "bytes": 100}}
    for name in ("a", "b", "c"):
        result = folder.result(name)
        assert result is not None
        assert (result["macs"], result["macs_problem"]) == ({"net": 3 * 20}, None)
    assert folder.sessions[0]["count_problem"] is None
    assert lab.entry("counted").pipeline_macs == pytest.approx(200)


def test_counting_changes_no_result(lab: Lab):
    counted, alone = lab.folder("counted"), lab.folder("alone")
    assert alone.run["complexity"] is None
    for name in ("a", "b", "c"):
        result = alone.result(name)
        assert result is not None
        assert result["macs"] is None
        assert counted.rttm_path(name).read_bytes() == alone.rttm_path(name).read_bytes()


def test_a_system_that_can_not_be_counted_runs_all_the_same(lab: Lab):
    folder = lab.folder("odd")
    assert "networks()['net'] can't be counted on 1 s of audio" in folder.sessions[0]["count_problem"]
    # What runs is not quantized, so it is counted by itself.
    assert folder.run["complexity"]["parameters"] == 25
    assert folder.run["complexity"]["stages"] == {}
    result = folder.result("a")
    assert result is not None
    assert result["macs"] == {"net": 3 * 20}


def test_calls_that_can_not_be_seen_are_said(lab: Lab):
    for name in ("a", "b", "c"):
        result = lab.folder("hidden").result(name)
        assert result is not None
        assert result["macs"] == {"net": None}
        assert "a Linear inside it was called by itself" in result["macs_problem"]
    assert lab.entry("hidden").pipeline_macs is None
