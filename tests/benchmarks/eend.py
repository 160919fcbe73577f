"""Diarize speech once, by diarbench or by pyannote.audio's own pipeline, with the same random networks.

    python tests/benchmarks/eend.py networks FOLDER [--audio SPEECH]
    python tests/benchmarks/eend.py ours FOLDER [--audio SPEECH] --minutes 60 --hop 5
    python tests/benchmarks/eend.py file FOLDER [--audio SPEECH] --minutes 60 --hop 5
    python tests/benchmarks/eend.py pyannote FOLDER [--audio SPEECH] --minutes 60 --hop 5

The first makes PyanNet and ResNet34 in the shapes of pyannote/speaker-diarization-3.1 and community-1 (windows of 10 s,
batches of 32 in pyannote.audio) that tell voices of the speech apart. The others print one line of JSON: seconds by the
clock and of processor time, real-time factor, memory, speakers, and a digest of the RTTM, so that two processes can be
compared. All begin with the same file; `file` reads it window by window (`EendVc.diarize_file`), the other two as a
whole, which is what pyannote.audio does with a file. SPEECH is a folder of FLAC files of one channel and 16 kHz, put
together and repeated; without it, made-up voices.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import hashlib
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "pipelines"))  # random_networks.py

RATE = 16000


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


def speech(folder: Path | None) -> np.ndarray:
    """Some of it, (samples,) float32."""
    if folder is None:
        from random_networks import voices

        return voices(60.0)
    return np.concatenate([soundfile.read(file, dtype="float32")[0] for file in sorted(folder.glob("*.flac"))])


def write_speech(path: Path, some: np.ndarray, minutes: float) -> None:
    """So many minutes of it, repeated; nothing of that length is held."""
    missing = round(60 * minutes * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        while missing > 0:
            file.write(some[:missing])
            missing -= len(some)


def make_networks(folder: Path, audio: Path | None, *, small: bool) -> None:
    """Write both networks and a PLDA model."""
    import torch
    from random_networks import pyannet, random_plda, resnet, small_segmentation

    minute = np.resize(speech(audio), 60 * RATE)
    random_plda(folder / "plda")
    segmentation = small_segmentation(window=10.0) if small else pyannet(minute)
    torch.save((segmentation, resnet(minute, small=small)), folder / "networks.pt")


def ours(folder: Path, recipe: str, hop: float) -> Any:
    """The pipeline."""
    import torch

    from diarbench.pipelines.eend_vc import EendVc

    segmentation, embedding = torch.load(folder / "networks.pt", weights_only=False)
    return EendVc(segmentation, embedding, recipe, plda=folder / "plda", hop=hop)


def whole(pipeline: Any) -> Any:
    """(path) to turns, the signal read before."""
    return lambda path: pipeline.diarize(soundfile.read(path, dtype="float32")[0], RATE)


def pyannotes(folder: Path, recipe: str, hop: float) -> Any:
    """(path) to turns."""
    import torch
    from random_networks import pyannote_pipeline

    from diarbench.pipelines.eend_recipes import find_recipe
    from diarbench.types import Turns

    segmentation, embedding = torch.load(folder / "networks.pt", weights_only=False)
    pipeline = pyannote_pipeline(segmentation, embedding, find_recipe(recipe), folder / "plda", hop_share=hop / 10.0)

    def diarize(path: Path) -> Turns:
        samples = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        output = pipeline({"waveform": samples[None], "sample_rate": RATE, "uri": "recording"})
        return Turns.from_annotation(output.speaker_diarization)

    return diarize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["networks", "ours", "file", "pyannote"])
    parser.add_argument("folder", type=Path, help="of the networks")
    parser.add_argument("--audio", type=Path, help="folder of FLAC files")
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--hop", type=float, default=1.0, help="seconds")
    parser.add_argument("--small", action="store_true", help="networks of few weights: what is left is the pipeline")
    parser.add_argument("--recipe", default="pyannote-community-1")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.what == "networks":
        make_networks(options.folder, options.audio, small=options.small)
        return
    recording = options.folder / f"{options.what}.wav"
    write_speech(recording, speech(options.audio), options.minutes)
    if options.what == "pyannote":
        diarize = pyannotes(options.folder, options.recipe, options.hop)
    else:
        pipeline = ours(options.folder, options.recipe, options.hop)
        diarize = pipeline.diarize_file if options.what == "file" else whole(pipeline)
    from diarbench.rttm import format_rttm

    forget_peak()
    loaded = resident("VmRSS")
    start, busy = time.perf_counter(), time.process_time()
    turns = diarize(recording)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    print(
        json.dumps(
            {
                "side": options.what,
                "minutes": options.minutes,
                "hop": options.hop,
                "seconds": round(seconds, 3),
                "cpu_seconds": round(busy, 3),
                "rtf": round(seconds / (60 * options.minutes), 4),
                "loaded_bytes": loaded,  # before there is a signal
                "peak_bytes": resident("VmHWM"),
                "speakers": len(turns.labels),
                "turns": len(turns),
                "rttm": hashlib.sha256(format_rttm("recording", turns).encode()).hexdigest(),
            }
        )
    )


if __name__ == "__main__":
    main()
