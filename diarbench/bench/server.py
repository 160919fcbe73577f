"""A process that holds one system and times it on request: `python -m diarbench.bench.server FD`.

Standard input brings one order, as for a worker, and its end means that the parent is gone. Requests come as JSON lines
on the open file FD; each is answered by one event, `done` with what was asked for or `failed` with the reason, so that
the parent decides who works when. Between requests it only waits.

    load       build the system; or, without weights, its encoder alone
    hear       decode recordings and keep them
    pipeline   `diarize` all of them, so many calls
    has_encoder  whether there is an encoder to be timed by itself
    encode     the encoder alone on a batch of windows, so many calls
    largest    the largest batch of windows that the device takes
    counts     what the system's networks are, and what one pass over the recordings multiplies
    memory     `diarize` the recordings repeated to so many minutes, watching memory
    stream     feed them chunk by chunk, timing each
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TextIO

import numpy as np

from diarbench.audio import decode
from diarbench.bench.counting import count_all
from diarbench.bench.encoder import Encoder, NoEncoderError, give_back_memory
from diarbench.bench.streaming import stream_through
from diarbench.errors import AdapterError, InputError
from diarbench.execute.child import all_of, begin, one_line, tell, trace, wait_for_gpu
from diarbench.execute.loading import Randomness, import_adapter, load_adapter, set_threads, source_of
from diarbench.execute.messages import Order, recording_from_json
from diarbench.measure.energy import Meter
from diarbench.measure.machine import settings, software
from diarbench.measure.memory import forget_peak, peak_cuda, peak_resident, resident
from diarbench.measure.stages import measured_stages
from diarbench.types import Audio, Seconds, Turns


def main() -> int:
    """Read the order, then answer requests until there are no more."""
    line, events = begin()
    if not line:
        return 4
    server = Server(Order.from_json(json.loads(line)))
    number = int(sys.argv[1])
    os.set_inheritable(number, False)  # programs that an adapter starts have no business with it
    with os.fdopen(number, "r", encoding="utf-8") as requests:
        for request in requests:
            server.answer(json.loads(request), events)
    return 0


class Server:
    """One system and the audio that it is timed on."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._adapter: Any = None
        self._class: type | None = None
        self._audio: list[Audio] = []
        self._encoder: Encoder | None = None

    def answer(self, request: Mapping[str, Any], events: TextIO) -> None:
        """Do what is asked for and say what came out."""
        try:
            found = {"event": "done", **getattr(self, f"_{request['do']}")(**request.get("with", {}))}
        except BaseException as error:  # noqa: BLE001  whatever an adapter raises must become a visible failure
            source = source_of(self._order.adapter_file, self._order.adapter_module)
            found = {"event": "failed", "error": one_line(error, source), "detail": trace(error)}
        tell(events, **found)
        if found["event"] == "failed":
            give_back_memory(self._order.device)

    def _load(self, *, weights: bool) -> dict[str, Any]:
        times: dict[str, Seconds | None] = {"import": None, "load": None}
        if weights:
            loaded = load_adapter(self._order)
            if not getattr(loaded.adapter, "timed", True):
                why = "stored outputs, or simulated arithmetic"
                raise AdapterError(f"its adapter says `timed = False` ({why}): nothing to measure")
            self._adapter, self._class = loaded.adapter, type(loaded.adapter)
            self._randomness = Randomness()
            times = {"import": loaded.importing, "load": loaded.building}
        else:
            before = time.perf_counter()
            self._class = import_adapter(self._order)
            times["import"] = time.perf_counter() - before
            set_threads(self._order.threads)
        return {
            **times,
            "resident": resident(),
            "cuda": peak_cuda(),
            "software": software(list(self._order.distributions)),
            "settings": settings(),
            "streams": callable(getattr(self._adapter, "open", None)),
            "meter": Meter(self._order.device).source,
        }

    def _hear(self, *, recordings: list[dict[str, Any]]) -> dict[str, Any]:
        self._audio = [decode(recording_from_json(recording)) for recording in recordings]
        return {"seconds": sum(audio.duration for audio in self._audio)}

    def _pipeline(self, *, calls: int) -> dict[str, Any]:
        """Wall time of each call over all recordings, the stages' time and the energy of all calls together."""
        walls: list[Seconds] = []
        stages: dict[str, Seconds] = {}
        turns = 0
        meter = Meter(self._order.device)
        energy = meter.read()
        for _ in range(calls):
            wall = 0.0
            for audio in self._audio:
                took, marks, output = self._diarize(audio)
                wall += took
                turns += len(output)
                for name, seconds in marks.items():
                    stages[name] = stages.get(name, 0.0) + seconds
            walls.append(wall)
        return {"walls": walls, "stages": stages, "joules": meter.since(energy), "turns": turns}

    def _diarize(self, audio: Audio) -> tuple[Seconds, dict[str, Seconds], Turns]:
        """One call as `diarbench run` times it."""
        device = self._order.device
        self._randomness.restore()
        set_threads(self._order.threads)
        wait_for_gpu(device)
        with measured_stages(device) as stages:
            before = time.perf_counter()
            output = all_of(self._adapter.diarize(audio))
            wait_for_gpu(device)
            wall = time.perf_counter() - before
        return wall, dict(stages.seconds), Turns.from_output(output)

    def _the_encoder(self) -> Encoder:
        if self._encoder is None:
            if self._class is None:
                raise InputError("the system is not loaded")
            self._encoder = Encoder.of(self._class, self._adapter, self._order.options, self._order.device)
        return self._encoder

    def _has_encoder(self) -> dict[str, Any]:
        """Whether there is one to be timed by itself, and if not, why. What else is wrong shows when it is timed."""
        try:
            self._the_encoder()
        except NoEncoderError as error:
            return {"lacks": one_line(error)}
        except Exception:  # noqa: BLE001  told with its reason by the request that follows
            return {"lacks": None}
        return {"lacks": None}

    def _encode(self, *, batch: int, window: Seconds, calls: int) -> dict[str, Any]:
        set_threads(self._order.threads)
        return {"walls": self._the_encoder().time(batch, window, calls)}

    def _largest(self, *, window: Seconds, most: int) -> dict[str, Any]:
        """The largest batch, a power of two, that the device takes."""
        return {"batch": self._the_encoder().largest_batch(window, most)}

    def _counts(self) -> dict[str, Any]:
        """Sizes, and what one pass over the recordings multiplies."""
        if self._class is None:
            raise InputError("the system is not loaded")
        return count_all(self._class, self._adapter, self._order, self._audio, self._diarize)

    def _memory(self, *, minutes: float) -> dict[str, Any]:
        """Memory while the recordings, repeated to that length, are diarized."""
        loaded = resident()
        audio = tiled(self._audio, minutes)
        self._audio = []
        held, exact = resident(), forget_peak()
        wall, _, _ = self._diarize(audio)
        peak = peak_resident()
        return {
            "loaded": loaded,
            "minutes": minutes,
            "wall": wall,
            "resident": peak,
            "working": max(0, peak - held) if peak is not None and exact else None,
            "signal": audio.samples.nbytes,
            "cuda": peak_cuda(),
        }

    def _stream(self) -> dict[str, Any]:
        """Wall time of each chunk."""
        set_threads(self._order.threads)
        return stream_through(self._adapter, self._audio, self._order.device)


def tiled(parts: list[Audio], minutes: float) -> Audio:
    """One recording of that length: the recordings' mean channels one after the other, again and again.

    Raises InputError where there is no audio to repeat.
    """
    if not parts or not any(part.samples.shape[-1] for part in parts):
        raise InputError("there is no audio to make longer recordings of; name a dataset that has some")
    rate = parts[0].sample_rate
    if any(part.sample_rate != rate for part in parts):
        raise AdapterError("recordings of different sample rates can't be joined; name one dataset")
    samples = np.empty((1, round(minutes * 60 * rate)), dtype=np.float32)
    signal = np.concatenate([part.mono() for part in parts])
    for first in range(0, samples.shape[1], len(signal)):
        length = min(len(signal), samples.shape[1] - first)
        samples[0, first : first + length] = signal[:length]
    samples.flags.writeable = False
    recording = replace(parts[0].recording, id="repeated", duration=samples.shape[1] / rate)
    return Audio(recording, samples)


if __name__ == "__main__":
    sys.exit(main())
