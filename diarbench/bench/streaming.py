"""Latency of systems that work online: what they wait for by design, and what each chunk takes to compute."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from diarbench.errors import AdapterError
from diarbench.execute.child import all_of, wait_for_gpu
from diarbench.types import Audio, Seconds, Turns


def stream_through(adapter: Any, recordings: Sequence[Audio], device: str) -> dict[str, Any]:
    """Each recording fed chunk by chunk; wall time of every push (s), and how it compares with `diarize`.

    Raises AdapterError where `chunk` or `look_ahead` make no sense.
    """
    chunk, look_ahead = _seconds(adapter, "chunk"), _seconds(adapter, "look_ahead")
    if chunk <= 0:
        raise AdapterError(f"{type(adapter).__name__}.chunk must be above 0 s; got {chunk:g}")
    walls: list[Seconds] = []
    finishes: list[Seconds] = []
    turns = 0
    for audio in recordings:
        step = max(1, round(chunk * audio.sample_rate))
        stream = adapter.open(audio.recording)
        for first in range(0, audio.samples.shape[-1], step):
            taken, found = _timed(partial(stream.push, audio.samples[:, first : first + step]), device)
            walls.append(taken)
            turns += len(found)
        taken, found = _timed(stream.finish, device)
        finishes.append(taken)
        turns += len(found)
    if not walls:
        raise AdapterError("there is no audio to stream; name a dataset that has some")
    median, slow, slowest = (float(value) for value in np.quantile(walls, (0.5, 0.9, 0.99)))
    return {
        "chunk": chunk,
        "look_ahead": look_ahead,
        "algorithmic": chunk + look_ahead,
        "chunks": len(walls),
        "p50": median,
        "p90": slow,
        "p99": slowest,
        "finish": max(finishes),
        "late": sum(wall > chunk for wall in walls),
        "turns": turns,
    }


def _timed(call: Callable[[], object], device: str) -> tuple[Seconds, Turns]:
    wait_for_gpu(device)
    before = time.perf_counter()
    output = all_of(call())
    wait_for_gpu(device)
    return time.perf_counter() - before, Turns.from_output(output)


def _seconds(adapter: Any, name: str) -> Seconds:
    value = getattr(adapter, name, None)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise AdapterError(f"{type(adapter).__name__}.{name} must be a number of seconds; got {value!r}")
    return float(value)
