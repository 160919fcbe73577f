"""Broken RTTM, UEM, list, SegLST and STM files: a one-line error, or turns whose scores are sound. Nothing else."""

from __future__ import annotations

import math
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from diarbench.errors import DiarbenchError, RttmError
from diarbench.rttm import read_list, read_rttm, read_uem
from diarbench.scoring import RULES, ErrorTimes, Pair, score_recordings
from diarbench.turnfiles import read_paths, read_seglst, read_stm
from diarbench.types import Turns

sys.path.insert(0, str(Path(__file__).parent))
import mutate

FORMATS: dict[str, tuple[Callable[[Random], str], Callable[[Path], Any]]] = {
    "rttm": (mutate.rttm, read_rttm),
    "uem": (mutate.uem, read_uem),
    "list": (mutate.ids, read_list),
    "paths": (mutate.ids, read_paths),
    "seglst": (mutate.seglst, lambda path: read_seglst(path).turns),
    "stm": (mutate.stm, lambda path: read_stm(path).turns),
}
REFERENCE = Turns.of([(0, 4, "A"), (3, 9, "B"), (9, 12, "A")])
LIMIT = 5.0  # s: no file here is longer than some kilobytes


@contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def sound(times: ErrorTimes, speech: float) -> bool:
    parts = (times.scored, times.missed, times.false_alarm, times.confusion)
    slack = 1e-6 * (1 + speech)
    return (
        all(math.isfinite(part) and part >= -slack for part in parts)
        and times.missed + times.confusion <= times.scored + slack
        and (times.der is None or math.isfinite(times.der))
    )


def check(kind: str, found: Any) -> None:
    """What was read can be scored, on either side."""
    if kind == "list":
        assert len(set(found)) == len(found)
        return
    if kind == "paths":
        assert all(str(path).isprintable() for path in found)
        return
    pairs = []
    for value in found.values():
        if kind == "uem":
            pairs.append(Pair(REFERENCE, Turns.of([(1, 10, "x")]), value))
        else:
            pairs += [Pair(REFERENCE, value, None), Pair(value, REFERENCE, ((0.0, 10.0),)), Pair(value, value, None)]
    for pair, scores in zip(pairs, score_recordings(pairs, list(RULES.values())), strict=True):
        speech = sum(float((turns.ends - turns.starts).sum()) for turns in (pair.reference, pair.hypothesis))
        assert all(sound(times, speech) for times in scores.values())
        if pair.reference is pair.hypothesis:
            assert scores["full"].errors <= 1e-6 * (1 + speech)


def check_refusal(error: DiarbenchError, path: Path) -> None:
    """One line that names the file and can be printed."""
    assert isinstance(error, RttmError)
    assert str(error).startswith(str(path))
    assert len(str(error).splitlines()) == 1
    assert str(error).encode()


def fuzz(path: Path, inputs: int, seed: int) -> Counter[tuple[str, str]]:
    """How many inputs of each format were read, and how many refused."""
    random = Random(seed)
    outcomes: Counter[tuple[str, str]] = Counter()
    for number in range(inputs):
        kind = list(FORMATS)[number % len(FORMATS)]
        make, read = FORMATS[kind]
        data = mutate.mutated(make, random)
        path.write_bytes(data)
        try:
            with no_longer_than(LIMIT):
                try:
                    check(kind, read(path))
                    outcomes[kind, "read"] += 1
                except DiarbenchError as error:
                    check_refusal(error, path)
                    outcomes[kind, "refused"] += 1
        except Exception as error:
            error.add_note(f"input {number} of seed {seed}, as {kind}: {data!r}")
            raise
    return outcomes


def every_format_both_ways(outcomes: Counter[tuple[str, str]], inputs: int) -> bool:
    """A fuzzer whose inputs are all refused, or all read, tries nothing."""
    return all(outcomes[kind, way] > inputs / 100 for kind in FORMATS for way in ("read", "refused"))


def test_two_thousand_broken_files(tmp_path):
    outcomes = fuzz(tmp_path / "file", 2_000, seed=1)
    assert outcomes.total() == 2_000
    assert every_format_both_ways(outcomes, 2_000)


@pytest.mark.slow
def test_a_hundred_thousand_broken_files(tmp_path):
    outcomes = fuzz(tmp_path / "file", 100_000, seed=2)
    assert outcomes.total() == 100_000
    assert every_format_both_ways(outcomes, 100_000), outcomes
