"""What the harness spends on each recording outside of `diarize`: its parts, timed one after the other.

python tests/benchmarks/harness_cost.py silero-ge2e ami-excerpts-train ami-excerpts-development ami-excerpts-test
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from diarbench.audio import decode
from diarbench.execute.loading import load_adapter
from diarbench.execute.messages import Order
from diarbench.loaders import load_dataset
from diarbench.measure.calls import CallRecorder, PipelineCounter
from diarbench.measure.counts import build_networks
from diarbench.plan import prepare
from diarbench.registry import Registry
from diarbench.store import RunFolder, describe_audio
from diarbench.types import Timing, Turns


def main(system: str, *datasets: str) -> None:
    """Print mean, median and most of each part (ms)."""
    registry = Registry.standard([])
    (spec,) = registry.choose_systems([system])
    order = Order.of(prepare(spec), (), device="cpu", threads=1, session="cost", machine={}, mark=None)
    adapter = load_adapter(order).adapter
    cards = registry.choose_datasets(list(datasets)).items()
    recordings = [one.recording for name, (path, card) in cards for one in load_dataset(name, path, card).recordings]
    times: dict[str, list[float]] = defaultdict(list)

    def timed(part, call):
        before = time.perf_counter()
        found = call()
        times[part].append(1000 * (time.perf_counter() - before))
        return found

    modules = adapter.modules()
    recorder = CallRecorder(modules)
    counter = timed("networks, once", lambda: PipelineCounter(modules, build_networks(type(adapter), spec.options)))
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        (folder.path / "recordings").mkdir()
        adapter.diarize(decode(recordings[0]))
        for recording in recordings:
            described = timed("digest", lambda one=recording: describe_audio(one))
            audio = timed("decoding", lambda one=recording: decode(one))
            with recorder.recording() as calls:
                output = timed("diarize", lambda one=audio: adapter.diarize(one))
            macs = timed("counting", lambda calls=calls: counter.count(calls))
            timing = Timing(times["diarize"][-1] / 1000, audio.duration)
            how = {"audio": described, "timing_problem": None, "macs": macs.by_stage, "macs_problem": macs.problem}
            turns = Turns.from_output(output)
            timed("writing", lambda one=recording, t=turns, w=timing, h=how: folder.write_result(one.id, t, w, "", **h))
    print(f"{system}, {len(recordings)} recordings; ms: mean, median, most")
    for part, values in times.items():
        print(f"  {part:<16} {statistics.mean(values):8.2f} {statistics.median(values):8.2f} {max(values):8.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
