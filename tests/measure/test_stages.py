from __future__ import annotations

import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarbench.measure import stage
from diarbench.measure.stages import StageClock, measured_stages


class Ticks:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.recursive(st.integers(0, 9), lambda inside: st.lists(st.tuples(st.sampled_from("abc"), inside), max_size=4)))
def test_stages_are_exclusive_and_add_up(tree):
    """A tree of stages that begin, wait, hold others, and end: no moment counts twice, none inside a stage is lost."""
    ticks = Ticks()
    clock = StageClock(ticks)
    expected: dict[str, float] = {}

    def walk(node: object, inside: str | None) -> None:
        if isinstance(node, int):
            ticks.now += node
            if inside is not None:
                expected[inside] = expected.get(inside, 0.0) + node
            return
        for name, below in node:  # type: ignore[attr-defined]
            clock.enter(name)
            walk(below, name)
            clock.leave()

    walk(tree, None)
    assert {name: seconds for name, seconds in clock.seconds.items() if seconds} == {
        name: seconds for name, seconds in expected.items() if seconds
    }
    assert sum(clock.seconds.values()) == sum(expected.values()) <= ticks.now


def test_marks_do_nothing_while_nobody_measures():
    with stage("alone"), stage("within"):
        pass
    with measured_stages() as clock:
        pass
    with stage("after"):
        pass
    assert clock.seconds == {}


def test_a_mark_ends_when_something_is_raised():
    with measured_stages() as clock:
        with pytest.raises(ValueError, match="no"), stage("raising"):
            raise ValueError("no")
        with stage("next"):
            time.sleep(0.01)
    assert clock.seconds["next"] >= 0.01
    assert clock.seconds["raising"] < clock.seconds["next"]


def test_measuring_ends_when_something_is_raised():
    with pytest.raises(ValueError, match="no"), measured_stages():
        raise ValueError("no")
    with measured_stages() as clock, stage("one"):
        pass
    assert set(clock.seconds) == {"one"}


def test_other_threads_do_not_disturb():
    """Their time is part of whatever the calling thread waits in."""
    with measured_stages() as clock:
        started, go_on = threading.Event(), threading.Event()

        def beside() -> None:
            with stage("beside"):
                started.set()
                go_on.wait(5)

        thread = threading.Thread(target=beside)
        thread.start()
        started.wait(5)
        with stage("calling"):
            time.sleep(0.02)
            go_on.set()
            thread.join()
    assert set(clock.seconds) == {"calling"}
    assert clock.seconds["calling"] >= 0.02


def test_marks_in_a_generator():
    def work():
        with stage("reading"):
            for row in range(3):
                time.sleep(0.005)
                yield row

    with measured_stages() as clock:
        assert list(work()) == [0, 1, 2]
    assert clock.seconds["reading"] >= 0.015


class FakeEvent:
    """A CUDA event on a clock that a test sets; the host is asked for nothing until the end."""

    now = 0.0  # ms
    synchronized = 0

    def __init__(self, *, enable_timing):
        assert enable_timing

    def record(self):
        self.at = FakeEvent.now

    def synchronize(self):
        FakeEvent.synchronized += 1

    def elapsed_time(self, other):
        return other.at - self.at


def test_on_a_gpu_stages_are_between_events_of_its_own_clock(monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(Event=FakeEvent)))
    with measured_stages("cuda") as clock:
        with stage("segmentation"):
            FakeEvent.now += 2000.0
            with stage("embedding"):
                FakeEvent.now += 500.0
            FakeEvent.now += 1000.0
        FakeEvent.now += 4000.0
    assert FakeEvent.synchronized == 0  # nothing waited while the marks were made
    assert clock.seconds == {"segmentation": pytest.approx(3.0), "embedding": pytest.approx(0.5)}
    assert FakeEvent.synchronized == 1
