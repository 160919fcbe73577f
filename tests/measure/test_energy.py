"""Energy counters: RAPL in made-up files, NVML with a made-up library; nothing where there is none."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from diarbench.measure import energy
from diarbench.measure.energy import Meter


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    """Two packages with a counter each, and a part of one, which is in its package's already."""
    monkeypatch.setattr(energy, "_POWERCAP", tmp_path)

    def write(*microjoules: int) -> None:
        for package, value in enumerate(microjoules):
            folder = tmp_path / f"intel-rapl:{package}"
            folder.mkdir(exist_ok=True)
            (folder / "energy_uj").write_text(f"{value}\n")
        part = tmp_path / "intel-rapl:0:0"
        part.mkdir(exist_ok=True)
        (part / "energy_uj").write_text("999999999\n")

    return write


def test_without_a_counter_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_POWERCAP", tmp_path)
    meter = Meter("cpu")
    assert (meter.source, meter.read(), meter.since(None)) == (None, None, None)


def test_packages_add_up_and_their_parts_do_not(powercap):
    powercap(1_000_000, 2_500_000)
    meter = Meter("cpu")
    before = meter.read()
    assert (meter.source, before) == ("rapl", 3.5)
    powercap(1_500_000, 4_000_000)
    assert meter.since(before) == pytest.approx(2.0)


def test_a_counter_that_began_anew_says_nothing(powercap):
    powercap(3_000_000)
    meter = Meter("cpu")
    before = meter.read()
    powercap(1_000_000)
    assert meter.since(before) is None


def test_the_gpus_counter_is_in_millijoules_and_of_the_visible_gpu(monkeypatch):
    asked = []

    class NVMLError(Exception):
        pass

    nvml = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: asked.append(index),
        nvmlDeviceGetHandleByUUID=lambda uuid: asked.append(uuid),
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 12_500,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    meter = Meter("cuda")
    assert (meter.source, meter.read()) == ("nvml", 12.5)
    assert set(asked) == {3}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-abc")
    meter.read()
    assert asked[-1] == "GPU-abc"
    monkeypatch.setattr(nvml, "nvmlDeviceGetTotalEnergyConsumption", _unsupported(NVMLError))
    assert Meter("cuda").source is None


def _unsupported(error):
    def raise_it(handle):
        raise error

    return raise_it
