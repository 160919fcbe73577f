"""How busy the machine is: seen on a process that this test starts, and on made-up kernel files."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from diarbench.measure import pressure
from diarbench.measure.pressure import Between, Look, between, look, worst_of

BURN = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass\n"


def test_what_our_own_processes_do_is_not_others_work():
    burning = subprocess.Popen([sys.executable, "-c", BURN])
    try:
        before = look()
        time.sleep(1.0)
        found = between(before, look())
        own = look().own - before.own
    finally:
        burning.kill()
        burning.wait()
    assert own > 0.5  # it did burn, and was seen as ours
    assert found.others < 0.9 + _elsewhere()


def test_a_process_that_is_not_ours_is_seen():
    # Started by a process that ends: nobody's child any more.
    starter = (
        f"import subprocess, sys\nprint(subprocess.Popen([sys.executable, '-c', {BURN!r}], stdout=-3, stderr=-3).pid)"
    )
    pid = int(subprocess.run([sys.executable, "-c", starter], capture_output=True, check=True, text=True).stdout)
    try:
        before = look()
        time.sleep(1.0)
        found = between(before, look())
    finally:
        subprocess.run(["kill", str(pid)], check=True)
    assert found.others > 0.4
    assert "other programs kept" in found.reasons[0]


def _elsewhere() -> float:
    """What the rest of the machine does now (cores): this test may share it."""
    before = look()
    time.sleep(0.5)
    return between(before, look()).others


def test_reasons_name_what_is_above_its_limit():
    assert Between(1.0, None, 0.0, 0.0).reasons == ()
    assert Between(1.0, 4.9, 0.1, 0.02).reasons == ()
    assert len(Between(1.0, 5.1, 0.11, 0.03).reasons) == 3


def test_differences_are_per_second():
    before = Look(10.0, 0.0, 1.0, 100.0, 1.0, 50.0, None, {})
    after = Look(20.0, 0.0, 2.0, 125.0, 1.0, 60.0, None, {})
    found = between(before, after)
    assert found.others == pytest.approx(1.5)
    assert found.pressure == pytest.approx(10.0)
    assert found.seconds == 10.0


def test_of_several_stretches_the_worst_counts():
    found = worst_of([Between(1.0, None, 0.2, 0.0), Between(2.0, 7.0, 0.1, 0.03), Between(1.0, 3.0, 0.0, 0.0)])
    assert found == Between(4.0, 7.0, 0.2, 0.03)
    assert worst_of([]) is None
    assert worst_of([Between(1.0, None, 0.0, 0.0)]).pressure is None


def test_pressure_is_read_where_the_kernel_tells_it(tmp_path, monkeypatch):
    file = tmp_path / "cpu"
    file.write_text("some avg10=12.50 avg60=1.00 avg300=0.10 total=2500000\nfull avg10=0.00 avg60=0 avg300=0 total=0\n")
    monkeypatch.setattr(pressure, "_PRESSURE", file)
    assert (look().pressure, look().waited) == (12.5, 2.5)
    monkeypatch.setattr(pressure, "_PRESSURE", tmp_path / "none")
    assert (look().pressure, look().waited) == (None, None)


def test_facts_can_be_stored():
    assert set(look().facts()) == {"pressure_avg10", "load_average", "clocks"}
