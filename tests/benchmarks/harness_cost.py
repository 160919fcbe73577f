"""What the harness spends beside `diarize` and reading, in real runs: by the sessions that the runs store.

python tests/benchmarks/harness_cost.py silero-ge2e ami-excerpts
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diarbench.audio import decode
from diarbench.execute import Failure, execute
from diarbench.loaders import Dataset, load_dataset
from diarbench.measure.pressure import between, look
from diarbench.plan import plan
from diarbench.registry import Registry
from diarbench.store import find_runs

_RUNS = 5


class _Silent:
    """Shows nothing."""

    def begin(self, recordings: int, audio: float) -> None: ...

    def system(self, name: str, position: int, count: int) -> None: ...

    def failed(self, failure: Failure) -> None: ...

    def recording(self, system: str, recording: str, audio: float, status: str) -> None: ...


def main(system: str, *names: str) -> None:
    """Print wall times of some runs (ms per recording), and the harness's share of that of `diarize`."""
    registry = Registry.standard([])
    (spec,) = registry.choose_systems([system])
    cards = registry.choose_datasets(list(names)).items()
    datasets = [load_dataset(name, path, card) for name, (path, card) in cards]
    recordings = sum(len(dataset.recordings) for dataset in datasets)
    print(f"{system}, {recordings} recordings, ms per recording; in brackets % of diarize")
    print("  diarize  reading  harness           reading alone  strictly            the machine")
    found = []
    for _ in range(_RUNS):
        before = look()
        spent, alone = _spent(spec, datasets), _decoding(datasets)
        reasons = between(before, look()).reasons
        own = spent["total"] - sum(seconds for part, seconds in spent.items() if part != "total")
        strictly = own + max(0.0, spent["reading"] - alone)
        shares = [100 * own / spent["diarize"], 100 * strictly / spent["diarize"]]
        found.append(shares)
        ms = [1000 * t / recordings for t in (spent["diarize"], spent["reading"], own, alone, strictly)]
        print(
            f"  {ms[0]:7.2f}  {ms[1]:7.2f}  {ms[2]:7.2f} ({shares[0]:5.2f} %)  {ms[3]:13.2f}  "
            f"{ms[4]:7.2f} ({shares[1]:5.2f} %)  {'; '.join(reasons) or 'quiet'}"
        )
    medians = [statistics.median(column) for column in zip(*found, strict=True)]
    print(
        f"median: {medians[0]:.2f} %; strictly, with what reading takes longer for being disturbed: {medians[1]:.2f} %"
    )


def _spent(spec: Any, datasets: Sequence[Dataset]) -> dict[str, float]:
    """Where the worker's time went in one run."""
    with tempfile.TemporaryDirectory() as place:
        jobs = plan([spec], datasets, device="cpu", threads=1, limit=None)
        outcome = execute(jobs, root=Path(place), machine="cost", machine_facts={}, progress=_Silent())
        assert not outcome.failures, outcome.failures
        spents = [session["spent"] for run in find_runs([Path(place)]) for session in run.sessions]
        return max(spents, key=lambda spent: spent["total"])  # one process: the last of its tasks has all


def _decoding(datasets: Sequence[Dataset]) -> float:
    """Seconds to read all recordings with nothing beside it."""
    began = time.perf_counter()
    for dataset in datasets:
        for one in dataset.recordings:
            decode(one.recording)
    return time.perf_counter() - began


if __name__ == "__main__":
    main(*sys.argv[1:])
