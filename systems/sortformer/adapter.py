"""NVIDIA's Sortformer models through NeMo, which is imported only when a system is built."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
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
    Raises MissingRequirementError without NeMo, AdapterError where the model is of the other kind.
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
        if self._model.streaming_mode != (latency is not None):
            kind, do = (
                ("streaming model", "give it a") if latency is None else ("model of whole recordings", "take out its")
            )
            raise AdapterError(f"{weights['model']} is a {kind}: {do} latency in the card's [options]")
        if latency is not None:
            _set_latency(self._model.sortformer_modules, LATENCIES[latency])
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
    """As Sortformer without post-processing, which would have to wait for what follows; and online."""

    def __init__(self, *, weights: Mapping[str, Path], latency: str, device: str = "cpu") -> None:
        super().__init__(weights=weights, device=device, latency=latency)
        settings = LATENCIES[latency]
        self.chunk: Seconds = settings.chunk_len * FRAME
        self.look_ahead: Seconds = settings.chunk_right_context * FRAME

    def open(self, recording: Recording) -> SortformerStream:
        """A stream of one recording. Raises AdapterError for another sample rate, and for a model whose features are
        normalised over a whole recording."""
        _check_rate(recording)
        return SortformerStream(self._model)


class SortformerStream:
    """One recording in pieces of any size, in the steps in which NeMo's `diarize` goes through a whole one.

    Turns come as far as they are decided: what goes on continues as another. A step decides on a chunk of feature
    frames (10 ms), beside which it is given a few before and after; a feature frame needs samples on both sides:

        |.before.|======chunk======|.after.|
               samples ...................... as far as these are heard
    """

    def __init__(self, model: Any) -> None:
        modules, featurizer = model.sortformer_modules, model.preprocessor.featurizer
        if featurizer.normalize not in (None, False, "", "NA"):
            raise AdapterError(
                f"this model normalises its features over the whole recording ({featurizer.normalize}), "
                "which no stream has: it can't be run online"
            )
        self._model, self._modules = model, modules
        self._state = modules.init_streaming_state(
            batch_size=1, async_streaming=model.async_streaming, device=model.device
        )
        self._hop, self._reach = int(featurizer.hop_length), int(featurizer.win_length) // 2  # samples
        self._margin = 1 + -(
            -self._reach // self._hop
        )  # feature frames; the first sample of a piece is filtered otherwise
        self._samples = np.zeros(0, dtype=np.float32)
        self._first = 0  # feature frame with which they begin
        self._next = 0  # feature frame with which the next chunk begins
        self._frame = 0  # decisions so far

    def push(self, samples: Samples) -> list[Turn]:
        """Take the next samples, (channels, samples); what is decided by now."""
        return self._turns(samples.mean(axis=0, dtype=np.float32), last=False)

    def finish(self) -> list[Turn]:
        """The rest, of which every frame is decided."""
        return self._turns(np.zeros(0, dtype=np.float32), last=True)

    def _turns(self, samples: NDArray[np.float32], *, last: bool) -> list[Turn]:
        self._samples = np.concatenate([self._samples, samples])
        with stage("diarization"), torch.inference_mode():
            active = [(step > THRESHOLD).cpu().numpy() for step in self._steps(last)]  # (frames, speakers) each
        border = np.zeros((1, self._modules.n_spk), dtype=np.int8)
        changes = np.diff(np.concatenate([border, *active, border]).astype(np.int8), axis=0)
        turns = []
        for speaker, column in enumerate(changes.T):
            starts, ends = np.flatnonzero(column == 1) + self._frame, np.flatnonzero(column == -1) + self._frame
            turns += [
                Turn(start * FRAME, end * FRAME, f"speaker_{speaker}")
                for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
            ]
        self._frame += len(changes) - 1
        return turns

    def _steps(self, last: bool) -> Iterator[torch.Tensor]:
        """Probabilities (frames, speakers) of each chunk for which enough was heard."""
        chunk, before, after = (
            getattr(self._modules, name) * self._modules.subsampling_factor
            for name in ("chunk_len", "chunk_left_context", "chunk_right_context")
        )
        heard = self._first * self._hop + len(self._samples)
        known = heard // self._hop if last else 1 + (heard - self._reach) // self._hop
        while self._next + chunk + after <= known or (last and self._next < known):
            end = min(self._next + chunk, known)
            left, right = min(before, self._next), min(after, known - end)
            features = self._features(self._next - left, end + right)
            self._state, decided = self._model.forward_streaming_step(
                processed_signal=features,
                processed_signal_length=torch.tensor([features.shape[1]], device=features.device),
                streaming_state=self._state,
                total_preds=features.new_zeros((1, 0, self._modules.n_spk)),
                left_offset=left,
                right_offset=right,
            )
            yield decided[0]
            self._next = end
        unneeded = max(0, self._next - before - self._margin) - self._first
        if unneeded > 0:
            self._samples = self._samples[unneeded * self._hop :]
            self._first += unneeded

    def _features(self, start: int, end: int) -> torch.Tensor:
        """Feature frames from `start` to `end`, (1, frames, features), as a whole recording would have them there."""
        first = max(0, start - self._margin)
        piece = self._samples[(first - self._first) * self._hop : (end + self._margin - self._first) * self._hop]
        signal = torch.from_numpy(piece)[None].to(self._model.device)
        length = torch.tensor([len(piece)], device=signal.device)
        features, _ = self._model.preprocessor(input_signal=signal, length=length)
        return features[:, :, start - first : end - first].transpose(1, 2)


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
    for name, value in latency._asdict().items():
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
