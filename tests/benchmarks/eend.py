"""Diarize made-up speech once, by diarbench or by pyannote.audio's own pipeline, with the same random networks.

    python tests/benchmarks/eend.py ours --minutes 60 --hop 1

Prints one line of JSON: seconds by the clock and of processor time, real-time factor, memory before and at most
meanwhile, speakers, and a digest of the RTTM, so that two processes can be compared. PyanNet and ResNet34 in the shapes
of pyannote/speaker-diarization-3.1 and community-1: windows of 10 s, batches of 32 in pyannote.audio.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import hashlib
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "pipelines"))  # random_networks.py


def resident(name: str) -> int:
    """Memory of this process (bytes): "VmRSS" now, "VmHWM" at most since `forget_peak` (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def forget_peak() -> None:
    """Give back what was freed, and begin a new peak."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=["ours", "pyannote"])
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--hop", type=float, default=1.0, help="seconds")
    parser.add_argument("--small", action="store_true", help="networks of few weights: what is left is the pipeline")
    parser.add_argument("--recipe", default="pyannote-community-1")
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    import torch
    from random_networks import RATE, pyannet, pyannote_pipeline, random_plda, resnet, small_segmentation, voices

    from diarbench.pipelines.eend_recipes import find_recipe
    from diarbench.pipelines.eend_vc import EendVc
    from diarbench.rttm import format_rttm
    from diarbench.types import Turns

    recipe = find_recipe(options.recipe)
    minute = voices(60.0)
    samples = np.resize(minute, round(60 * options.minutes * RATE))
    segmentation = small_segmentation(window=10.0) if options.small else pyannet(minute)
    embedding = resnet(minute, small=options.small)
    with tempfile.TemporaryDirectory() as folder:
        plda = random_plda(Path(folder))
        if options.side == "ours":
            ours = EendVc(segmentation, embedding, recipe, plda=plda, hop=options.hop)
        else:
            stock = pyannote_pipeline(segmentation, embedding, recipe, plda, hop_share=options.hop / 10.0)
    forget_peak()
    before, start, busy = resident("VmRSS"), time.perf_counter(), time.process_time()
    if options.side == "ours":
        turns = ours.diarize(samples, RATE)
    else:
        output = stock({"waveform": torch.from_numpy(samples)[None], "sample_rate": RATE, "uri": "recording"})
        turns = Turns.from_annotation(output.speaker_diarization)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    print(
        json.dumps(
            {
                "side": options.side,
                "minutes": options.minutes,
                "hop": options.hop,
                "seconds": round(seconds, 3),
                "cpu_seconds": round(busy, 3),
                "rtf": round(seconds / (60 * options.minutes), 4),
                "bytes_before": before,
                "peak_bytes": resident("VmHWM"),
                "speakers": len(turns.labels),
                "turns": len(turns),
                "rttm": hashlib.sha256(format_rttm("recording", turns).encode()).hexdigest(),
            }
        )
    )


if __name__ == "__main__":
    main()
