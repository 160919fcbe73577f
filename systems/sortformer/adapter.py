"""NVIDIA's Sortformer models through NeMo, which is imported only when a system is built."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from diarbench.errors import AdapterError, MissingRequirementError
from diarbench.measure import stage
from diarbench.types import Audio, Recording, Samples, Seconds, Turn, Turns

RATE = 16000  # Hz, of all published models
FRAME: Seconds = 0.08  # of one decision; all lengths of a latency are in these
THRESHOLD = 0.5  # on the probabilities of a stream, as NeMo's for whole recordings without post-processing


class Latency(NamedTuple):
    """What one step of a streaming model is given, in frames of 80 ms, by NeMo's names."""

    chunk_len: int  # that it decides on
    chunk_right_context: int  # that it hears beyond these
    fifo_len: int  # latest ones before the chunk
    spkcache_update_period: int  # that move from there to the speakers' cache at a time
    spkcache_len: int  # of the speakers' cache


# The recommended settings on the card of nvidia/diar_streaming_sortformer_4spk-v2.
LATENCIES = {
    "30.4s": Latency(340, 40, 40, 300, 188),
    "10.0s": Latency(124, 1, 124, 124, 188),
    "1.04s": Latency(6, 7, 188, 144, 188),
    "0.32s": Latency(3, 1, 188, 144, 188),
}


class PostProcessing(NamedTuple):
    """How probabilities become turns, by NeMo's names: thresholds, and seconds."""

    onset: float
    offset: float
    pad_onset: Seconds
    pad_offset: Seconds
    min_duration_on: Seconds
    min_duration_off: Seconds


# NVIDIA's, tuned by NVIDIA on the data in their names: NeMo, examples/speaker_tasks/diarization/conf/post_processing.
POST_PROCESSING = {
    "v1-dihard3-dev": PostProcessing(0.64, 0.74, 0.06, 0.0, 0.1, 0.15),
    "v1-callhome-part1": PostProcessing(0.53, 0.49, 0.23, 0.01, 0.42, 0.34),
    "v2-dihard3-dev": PostProcessing(0.56, 1.0, 0.063, 0.002, 0.007, 0.151),
    "v2-callhome-part1": PostProcessing(0.641, 0.561, 0.229, 0.079, 0.511, 0.296),
}


class Sortformer:
    """Whole recordings by NeMo's `diarize`; a streaming model goes through them in the steps of its latency.

    Up to 4 speakers, overlapped speech included. `weights["model"]` is a .nemo file. `latency` is one of LATENCIES, and
    None for the model that hears all of a recording at once; `postprocessing` is one of POST_PROCESSING, or "none".
    Raises MissingRequirementError without NeMo, AdapterError where NeMo knows other settings than these.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, Path],
        device: str = "cpu",
        latency: str | None = None,
        postprocessing: str = "none",
    ) -> None:
        if latency is not None:
            _check_choice("latency", latency, LATENCIES)
        _check_choice("postprocessing", postprocessing, {"none": None, **POST_PROCESSING})
        self._device = torch.device(device)
        # As on the models' cards: NeMo's newer versions know buffers that older checkpoints have not.
        self._model = _sortformer_class().restore_from(
            restore_path=str(weights["model"]), map_location=self._device, strict=False
        )
        self._model.eval()
        self._latency = None if latency is None else LATENCIES[latency]
        if self._latency is not None:
            _set_latency(self._model.sortformer_modules, self._latency)
        self._folder = tempfile.TemporaryDirectory(prefix="diarbench-sortformer-")
        self._settings = self._written(POST_PROCESSING.get(postprocessing))

    def diarize(self, audio: Audio) -> Turns:
        """Who spoke when. Raises AdapterError for another sample rate than 16 kHz, and for an answer it can't read."""
        _check_rate(audio.recording)
        samples = audio.mono()
        if len(samples) == 0:
            return Turns.of([])
        with stage("diarization"):
            found = self._model.diarize(
                audio=np.array(samples),  # NeMo makes a tensor of it, for which it has to be writable
                sample_rate=RATE,
                batch_size=1,
                num_workers=0,
                postprocessing_yaml=self._settings,
                verbose=False,
            )
        if len(found) != 1:
            raise AdapterError(f"NeMo's diarize() gave {len(found)} lists of turns for one recording")
        # Padding may reach beyond either end.
        return Turns.of(map(_turn, found[0])).crop(0.0, audio.duration)

    def modules(self) -> Mapping[str, nn.Module]:
        """All of the network. NeMo calls its parts by themselves, so that no multiplications are counted."""
        return {"diarization": self._model}

    def _written(self, settings: PostProcessing | None) -> str | None:
        """The path of a file that NeMo can read settings from; JSON is YAML too. None for NeMo's defaults."""
        if settings is None:
            return None
        path = Path(self._folder.name) / "postprocessing.yaml"
        path.write_text(json.dumps({"parameters": settings._asdict()}), encoding="utf-8")
        return str(path)


class StreamingSortformer(Sortformer):
    """As Sortformer without post-processing, which would have to wait for what follows; and online.

    Streams need NeMo's `create_streaming_session`, which is newer than NeMo 3.0; `diarize` does not.
    """

    def __init__(self, *, weights: Mapping[str, Path], latency: str, device: str = "cpu") -> None:
        super().__init__(weights=weights, device=device, latency=latency)
        settings = LATENCIES[latency]
        self.chunk: Seconds = settings.chunk_len * FRAME
        self.look_ahead: Seconds = settings.chunk_right_context * FRAME

    def open(self, recording: Recording) -> SortformerStream:
        """A stream of one recording. Raises AdapterError for another sample rate, MissingRequirementError for a NeMo
        without streams."""
        _check_rate(recording)
        if not hasattr(self._model, "create_streaming_session"):
            raise MissingRequirementError(
                "this NeMo can't take a recording piece by piece (its models have no create_streaming_session): "
                "pip install 'nemo-toolkit[asr]>3.0'"
            )
        return SortformerStream(self._model.create_streaming_session(batch_size=1), self._device)


class SortformerStream:
    """One recording in pieces of any size. Turns come as far as they are decided: what goes on continues as another."""

    def __init__(self, session: Any, device: torch.device) -> None:
        self._session, self._device = session, device
        self._frame = 0  # frames that are decided

    def push(self, samples: Samples) -> list[Turn]:
        """Take the next samples, (channels, samples); what is decided by now."""
        return self._step(samples.mean(axis=0, dtype=np.float32), last=False)

    def finish(self) -> list[Turn]:
        """The rest, of which every frame is decided."""
        return self._step(np.zeros(0, dtype=np.float32), last=True)

    def _step(self, samples: np.ndarray[Any, np.dtype[np.float32]], *, last: bool) -> list[Turn]:
        with stage("diarization"):
            probabilities, lengths = self._session.diarize_step(
                torch.from_numpy(samples)[None].to(self._device), is_final=last
            )
            active = (probabilities[0, : int(lengths[0])] > THRESHOLD).cpu().numpy()  # (frames, speakers)
        border = np.zeros((1, active.shape[1]), dtype=np.int8)
        changes = np.diff(np.concatenate([border, active.astype(np.int8), border]), axis=0)
        turns = []
        for speaker, column in enumerate(changes.T):
            starts, ends = np.flatnonzero(column == 1) + self._frame, np.flatnonzero(column == -1) + self._frame
            turns += [
                Turn(start * FRAME, end * FRAME, f"speaker_{speaker}")
                for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
            ]
        self._frame += len(active)
        return turns


def _sortformer_class() -> Any:
    try:
        return importlib.import_module("nemo.collections.asr.models").SortformerEncLabelModel
    except (ImportError, AttributeError) as error:
        raise MissingRequirementError(
            f"Sortformer needs NVIDIA NeMo with its SortformerEncLabelModel ({error}): "
            "pip install 'nemo-toolkit[asr]>=3.0' (Python 3.12 or newer)"
        ) from error


def _set_latency(modules: Any, latency: Latency) -> None:
    """The streaming settings of a model, checked by NeMo."""
    settings = latency._asdict()
    if unknown := [name for name in settings if not hasattr(modules, name)]:
        raise AdapterError(f"this model has no {unknown[0]}: it is no streaming Sortformer, take `latency` out")
    for name, value in settings.items():
        setattr(modules, name, value)
    modules._check_streaming_parameters()


def _check_rate(recording: Recording) -> None:
    if recording.sample_rate != RATE:
        raise AdapterError(
            f"this model takes {RATE} Hz, and the dataset card of {recording.id!r} asks for {recording.sample_rate} "
            f"Hz; take sample_rate out of that card, or set it to {RATE}"
        )


def _check_choice(name: str, value: str, choices: Mapping[str, object]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def _turn(line: str) -> Turn:
    """A turn as NeMo writes it: start (s), end (s), speaker."""
    try:
        start, end, speaker = line.replace(",", " ").split()
        return Turn(float(start), float(end), speaker)
    except ValueError as error:
        raise AdapterError(f"NeMo's diarize() gave {line!r}, which is not 'start end speaker' in seconds") from error
