"""EEND-VC against pyannote.audio's own pipeline, with the same weights, in turn, each run in a process of its own.

Ratios are printed, not asserted: machines are noisy. That both say the same is asserted.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("eend.py")


def run(side: str, *words: str) -> dict[str, Any]:
    """One run, with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), side, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def compare(benchmark, capsys, words: tuple[str, ...], rounds: int) -> None:
    def in_turn() -> list[tuple[dict[str, Any], dict[str, Any]]]:
        return [(run("ours", *words), run("pyannote", *words)) for _ in range(rounds)]

    pairs = benchmark.pedantic(in_turn, rounds=1, iterations=1)
    assert len({side["rttm"] for pair in pairs for side in pair}) == 1
    assert pairs[0][0]["turns"] > 20

    def ratios(value) -> str:
        found = [value(theirs) / value(ours) for ours, theirs in pairs]
        return f"{statistics.median(found):6.2f}   ({', '.join(f'{ratio:.2f}' for ratio in found)})"

    with capsys.disabled():
        print(f"\npyannote.audio / diarbench, {' '.join(words)}: {pairs[0][0]['speakers']} speakers, same RTTM")
        print("  time                ", ratios(lambda side: side["seconds"]))
        print("  processor time      ", ratios(lambda side: side["cpu_seconds"]))
        print("  peak memory         ", ratios(lambda side: side["peak_bytes"]))
        print("  memory above loading", ratios(lambda side: side["peak_bytes"] - side["bytes_before"]))
        for name, side in zip(("diarbench", "pyannote.audio"), pairs[-1], strict=True):
            print(f"  {name:<14}", {key: side[key] for key in ("seconds", "rtf", "bytes_before", "peak_bytes")})


@pytest.mark.parametrize("recipe", ["pyannote-3.1", "pyannote-community-1"])
def test_speed(benchmark, capsys, recipe):
    """PyanNet and ResNet34 as published, half a minute, a window each second."""
    compare(benchmark, capsys, ("--minutes", "0.5", "--hop", "1", "--recipe", recipe), rounds=2)


@pytest.mark.slow
def test_an_hour(benchmark, capsys):
    """Memory over an hour; windows that don't overlap, or pyannote.audio would take hours on one core."""
    compare(benchmark, capsys, ("--minutes", "60", "--hop", "10"), rounds=1)


@pytest.mark.slow
def test_an_hour_of_small_networks(benchmark, capsys):
    """What the pipeline itself costs: a window each second, networks that cost little."""
    compare(benchmark, capsys, ("--minutes", "60", "--hop", "1", "--small"), rounds=1)
