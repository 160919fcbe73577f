"""Benchmarks run on request (`make bench`); at the end, their ratios in one table."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # made_up.py

MEDIANS = pytest.StashKey[dict[str, float]]()

# What is held against what, and how much it may be.
RATIOS = [
    ("diarbench, three rules", "spyder.DER, one rule", 0.5),
    ("diarbench, three rules", "spyder, C++ alone, one rule", None),
    ("diarbench, one rule", "spyder.DER, one rule", None),
    ("diarbench, three rules", "pyannote.metrics, one rule", 0.01),
    ("diarbench, one rule", "pyannote.metrics, one rule", 0.01),
]
SECONDS = {
    "10 hours, 20,000 turns, 20 speakers": 0.2,
    "RTTM folders to table": 1.0,
    "10,000 resamples, 1,000 recordings, 30 systems": 2.0,
}


@pytest.fixture(autouse=True)
def _only_on_request(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("benchmark_only"):
        pytest.skip("speed is measured by `make bench`")


@pytest.fixture
def timed(benchmark: Any, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a function some rounds, after one to warm up; keeps the median under a name, gives the last result."""

    def call(name: str, function: Callable[[], Any], *, rounds: int = 15, group: str = "", warm: int = 1) -> Any:
        benchmark.name, benchmark.group = name, group or None
        result = benchmark.pedantic(function, rounds=rounds, warmup_rounds=warm, iterations=1)
        medians = request.config.stash.setdefault(MEDIANS, {})
        medians[name] = benchmark.stats.stats.median
        return result

    return call


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    medians = config.stash.get(MEDIANS, {})
    if not medians:
        return
    write = terminalreporter.write_line
    terminalreporter.section("speed, medians of this run")
    for name, seconds in medians.items():
        target = f"   target: {SECONDS[name]:g} s" if name in SECONDS else ""
        write(f"{name:<50} {1000 * seconds:10.2f} ms{target}")
    for ours, theirs, most in RATIOS:
        if ours in medians and theirs in medians:
            target = f"   target: {most:g}" if most is not None else ""
            write(f"{ours} / {theirs} = {medians[ours] / medians[theirs]:.4f}{target}")
