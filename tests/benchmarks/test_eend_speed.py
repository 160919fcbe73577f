"""EEND-VC against pyannote.audio's own pipeline, with the same weights, in turn, each run in a process of its own.

Ratios are printed, not asserted: machines are noisy. That both say the same is asserted.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("eend.py")
PARTS = Path(__file__).with_name("eend_parts.py")
SIDES = ("ours", "file", "pyannote")  # of `eend.py`
Networks = Callable[..., Path]


def script(*words: str, of: Path = SCRIPT) -> str:
    """What it prints, with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(of), *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """The folder of random networks, in their published sizes or small."""
    folders: dict[tuple[str, ...], Path] = {}

    def make(*options: str) -> Path:
        if options not in folders:
            folders[options] = tmp_path_factory.mktemp("networks")
            script("networks", str(folders[options]), *options)
        return folders[options]

    return make


def compare(benchmark, capsys, folder: Path, words: tuple[str, ...], rounds: int) -> None:
    def run(side: str) -> dict[str, Any]:
        return json.loads(script(side, str(folder), *words).splitlines()[-1])

    def in_turn() -> list[tuple[dict[str, Any], ...]]:
        return [tuple(run(side) for side in SIDES) for _ in range(rounds)]

    rounds_of_sides = benchmark.pedantic(in_turn, rounds=1, iterations=1)
    assert len({side["rttm"] for each in rounds_of_sides for side in each}) == 1
    assert rounds_of_sides[0][0]["turns"] > 20

    def ratios(value) -> str:
        columns = []
        for place in (0, 1):
            found = [value(each[-1]) / value(each[place]) for each in rounds_of_sides]
            columns.append(f"{statistics.median(found):6.2f} ({', '.join(f'{ratio:.2f}' for ratio in found)})")
        return "   ".join(columns)

    with capsys.disabled():
        print(f"\npyannote.audio / diarbench: the signal in memory, then in its file; {' '.join(words)}, same RTTM")
        print("  time                            ", ratios(lambda side: side["seconds"]))
        print("  processor time                  ", ratios(lambda side: side["cpu_seconds"]))
        print("  peak memory, all                ", ratios(lambda side: side["peak_bytes"]))
        print("  above loading                   ", ratios(lambda side: side["peak_bytes"] - side["loaded_bytes"]))
        for side in rounds_of_sides[-1]:
            print("  ", side)


@pytest.mark.parametrize("recipe", ["pyannote-3.1", "pyannote-community-1"])
def test_speed(benchmark, capsys, networks, recipe):
    """PyanNet and ResNet34 as published, half a minute, a window each second."""
    compare(benchmark, capsys, networks(), ("--minutes", "0.5", "--hop", "1", "--recipe", recipe), rounds=2)


@pytest.mark.slow
def test_an_hour(benchmark, capsys, networks):
    """Memory over an hour; windows that overlap by half, or pyannote.audio would take hours on one core."""
    words = ("--minutes", "60", "--hop", "5", "--recipe", "pyannote-3.1")
    compare(benchmark, capsys, networks(), words, rounds=1)


@pytest.mark.slow
def test_an_hour_of_small_networks(benchmark, capsys, networks):
    """What the pipeline itself costs: a window each second, networks that cost little."""
    compare(benchmark, capsys, networks("--small"), ("--minutes", "60", "--hop", "1"), rounds=1)


@pytest.mark.parametrize(
    ("part", "theirs", "ours", "count"),
    [
        ("linkage", "scipy", "fastcluster", 5000),
        pytest.param("linkage", "scipy", "fastcluster", 15_000, marks=pytest.mark.slow),
        ("frames", "class", "ours", 10),
    ],
)
def test_parts(benchmark, capsys, part, theirs, ours, count):
    """The dendrogram of so many embeddings, and ResNet34 on so many windows of 10 s."""

    def in_turn() -> list[tuple[dict[str, Any], ...]]:
        sides = (theirs, ours)
        return [tuple(json.loads(script(part, side, str(count), of=PARTS)) for side in sides) for _ in range(3)]

    rounds = benchmark.pedantic(in_turn, rounds=1, iterations=1)
    assert len({side["found"] for each in rounds for side in each}) == 1
    with capsys.disabled():
        print(f"\n{part} of {count}: {ours} / {theirs}, median of three; the same found")
        for key in ("cpu_seconds", "added_bytes"):
            medians = [statistics.median(each[place][key] for each in rounds) for place in (0, 1)]
            print(f"  {key:<12} {medians[1] / medians[0]:6.3f}   ({medians[1]:g} / {medians[0]:g})")
