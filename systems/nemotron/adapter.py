"""NVIDIA's Nemotron 3 Diarization through transformers' own class: whole recordings, and chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import (
    Nemotron3DiarizationConfig,
    Nemotron3DiarizationForAudioFrameClassification,
    Nemotron3DiarizationProcessor,
)
from transformers.utils import logging as transformers_logging

from diarbench.errors import AdapterError
from diarbench.measure import Network, stage
from diarbench.types import Audio, Recording, Samples, Seconds, Turn, Turns

THRESHOLD = 0.5  # on probabilities: the default of transformers' extract_speaker_dict
MODE = "low_latency"  # the default of transformers' processor: 0.72 s of chunk and 0.32 s of look-ahead


class Nemotron:
    """A whole recording in one call, cut by the model itself into chunks of 27.2 s that see 3.2 s of what follows.

    Up to 8 speakers, overlapped speech included; one decision each 10 ms. `weights["model"]` is a folder with
    config.json, processor_config.json and model.safetensors, as on the hub.
    """

    def __init__(self, *, weights: Mapping[str, Path], device: str = "cpu", threshold: float = THRESHOLD) -> None:
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, a probability; got {threshold}")
        self.threshold = threshold
        self._processor = Nemotron3DiarizationProcessor.from_pretrained(weights["model"], local_files_only=True)
        self._model = _load(weights["model"]).to(torch.device(device))

    def diarize(self, audio: Audio) -> Turns:
        """Who spoke when. Raises AdapterError where the sample rate is not the model's (16 kHz)."""
        self._check_rate(audio.recording)
        samples = audio.mono()
        if len(samples) < self._hop:
            return Turns.of([])
        with stage("features"):
            inputs = self._processor(samples, sampling_rate=self._rate)
        # The last frame reaches beyond the recording. transformers would mask it; NeMo, which the model comes from,
        # leaves it out, and so do streams. Either way it has no part in what is decided, but for the last 80 ms.
        features = inputs["input_features"][:, : len(samples) // self._hop]
        with stage("network"), torch.inference_mode():
            output = self._model(input_features=features.to(self._model.device))
            active = self._decide(output.logits)
        return Turns.of(self._pieces(active, first=0))

    def modules(self) -> Mapping[str, nn.Module]:
        """What runs, by the calls that transformers' class makes; see `networks`."""
        return _parts_of(self._model)

    @classmethod
    def networks(cls, **_options: object) -> Mapping[str, Network]:
        """The published sizes, which are the defaults of transformers' config; no option changes them.

        A stage for each call inside the model's forward: its speaker cache is no tensor, so that one call of the whole
        could not be repeated. The learned silence embedding, as many numbers as the encoder is wide, is in none.
        """
        config = Nemotron3DiarizationConfig()
        modules = _parts_of(Nemotron3DiarizationForAudioFrameClassification(config))
        audio, head = config.audio_config, config.head_config

        def frames(seconds: Seconds) -> int:  # of 80 ms, the last one filled up
            return max(1, math.ceil(round(seconds * 100) / audio.subsampling_factor))

        def embeddings(batch: int, seconds: Seconds) -> tuple[Any, ...]:
            return None, None, torch.randn(batch, frames(seconds), audio.hidden_size)

        def mel(batch: int, seconds: Seconds) -> tuple[Any, ...]:
            return (torch.randn(batch, frames(seconds) * audio.subsampling_factor, audio.num_mel_bins),)

        def upsampled(batch: int, seconds: Seconds) -> tuple[Any, ...]:
            return (torch.randn(batch, frames(seconds) * audio.subsampling_factor, head.hidden_size),)

        # No window is named: beside a chunk, the network is given as many frames as cache and queue happen to hold.
        parts = {"Transformer": ["audio_tower.layers"], "upsampling": ["proj", "upsampler"]}
        return {
            "network": Network(modules["network"], embeddings, parts=parts, encoder="audio_tower"),
            "stacking": Network(modules["stacking"], mel),
            "classifier": Network(modules["classifier"], upsampled),
        }

    @property
    def _rate(self) -> int:
        return int(self._processor.feature_extractor.sampling_rate)

    @property
    def _hop(self) -> int:
        """Samples between two decisions."""
        return int(self._processor.feature_extractor.hop_length)

    def _check_rate(self, recording: Recording) -> None:
        if recording.sample_rate != self._rate:
            raise AdapterError(
                f"this model takes {self._rate} Hz, and the dataset card of {recording.id!r} asks for "
                f"{recording.sample_rate} Hz; take sample_rate out of that card, or set it to {self._rate}"
            )

    def _decide(self, logits: torch.Tensor) -> NDArray[np.bool_]:
        """Logits (1, frames, speakers) above the threshold, (frames, speakers)."""
        return np.asarray((logits[0].sigmoid() > self.threshold).cpu().numpy())

    def _pieces(self, active: NDArray[np.bool_], first: int) -> list[Turn]:
        """Turns in frames (frames, speakers), of which the first is the recording's frame `first`."""
        border = np.zeros((1, active.shape[1]), dtype=np.int8)
        changes = np.diff(np.concatenate([border, active.astype(np.int8), border]), axis=0)
        turns = []
        for speaker, column in enumerate(changes.T):
            starts, ends = np.flatnonzero(column == 1), np.flatnonzero(column == -1)
            turns += [
                Turn((first + start) * self._hop / self._rate, (first + end) * self._hop / self._rate, f"spk{speaker}")
                for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
            ]
        return turns


class NemotronStreaming(Nemotron):
    """Chunk by chunk, with the look-ahead of one of the published latencies; `diarize` hears no more than a stream.

    `mode` is one of the checkpoint's own: "low_latency" (1.04 s), "very_low_latency" (0.64 s) and "ultra_low_latency"
    (0.32 s), C + R each. The analysis windows reach 9 ms further, which the published figures leave out.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, Path],
        device: str = "cpu",
        threshold: float = THRESHOLD,
        mode: str = MODE,
    ) -> None:
        super().__init__(weights=weights, device=device, threshold=threshold)
        if mode not in self._processor.streaming_modes:
            known = ", ".join(self._processor.streaming_modes)
            raise ValueError(f"mode must be one of {known}, those of this checkpoint; got {mode!r}")
        self._processor.set_streaming_mode(mode)

    @property
    def chunk(self) -> Seconds:
        """What one step decides on (s)."""
        return int(self._processor.num_mel_frames_per_step) * self._hop / self._rate

    @property
    def look_ahead(self) -> Seconds:
        """What a step hears beyond that (s)."""
        heard = int(self._processor.num_mel_frames_per_audio_chunk)
        return heard * self._hop / self._rate - self.chunk

    def open(self, recording: Recording) -> NemotronStream:
        """A stream of one recording. Raises AdapterError where the sample rate is not the model's."""
        self._check_rate(recording)
        return NemotronStream(self)

    def diarize(self, audio: Audio) -> Turns:
        """What a stream of this recording tells, with turns joined that only a border of chunks had cut."""
        stream = self.open(audio.recording)
        return Turns.of(_joined([*stream.push(audio.samples), *stream.finish()]))


class NemotronStream:
    """One recording in pieces of any size. Turns come as far as they are decided: what goes on continues as another."""

    def __init__(self, system: NemotronStreaming) -> None:
        self._system = system
        self._processor = system._processor
        self._samples = np.zeros(0, dtype=np.float32)  # what later steps need
        self._before = 0  # samples of the recording that came before those
        self._frame = 0  # frames that are decided
        self._cache: Any = None  # of the model: who was heard so far
        self._finished = False

    def push(self, samples: Samples) -> list[Turn]:
        """Take the next samples, (channels, samples); what is decided by now."""
        if self._finished:
            raise AdapterError("this stream is finished; open another one")
        self._samples = np.concatenate([self._samples, samples.mean(axis=0, dtype=np.float32)])
        turns: list[Turn] = []
        while len(self._samples) >= self._start + self._size:
            turns += self._step(self._samples[self._start : self._start + self._size], last=False)
            done = self._start
            self._samples, self._before = self._samples[done:], self._before + done
        self._samples = self._samples.copy()  # of what was pushed, no more is kept than is needed
        return turns

    def finish(self) -> list[Turn]:
        """The rest, of which every frame is decided."""
        self._finished = True
        left = (self._before + len(self._samples)) // self._system._hop - self._frame
        return self._step(self._samples[self._start :], last=True) if left > 0 else []

    @property
    def _start(self) -> int:
        """Where in `_samples` the next chunk begins."""
        return int(self._processor.audio_chunk_start(self._frame)) - self._before if self._frame else 0

    @property
    def _size(self) -> int:
        """Samples of the next chunk, look-ahead included."""
        processor = self._processor
        return int(processor.num_samples_per_audio_chunk if self._frame else processor.num_samples_first_audio_chunk)

    def _step(self, samples: NDArray[np.float32], *, last: bool) -> list[Turn]:
        system, model = self._system, self._system._model
        with stage("features"):
            inputs = self._processor(
                samples,
                sampling_rate=system._rate,
                is_streaming=True,
                is_first_audio_chunk=self._frame == 0,
                is_last_audio_chunk=last,
            )
        with stage("network"), torch.inference_mode():
            output = model(
                input_features=inputs["input_features"].to(model.device),
                speaker_cache=self._cache,
                num_lookahead_frames=inputs.get("num_lookahead_frames"),  # none in the last chunk
            )
            active = system._decide(output.logits)
        self._cache = output.speaker_cache
        turns = system._pieces(active, self._frame)
        self._frame += len(active)
        return turns


def _load(folder: Path) -> Nemotron3DiarizationForAudioFrameClassification:
    """The model in fp32, from safetensors, with every weight in its place. Raises AdapterError where some are not."""
    transformers_logging.disable_progress_bar()
    model, found = Nemotron3DiarizationForAudioFrameClassification.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, found[kind])):
            raise AdapterError(
                f"{folder.name}: the weights don't fit the model that config.json describes: {len(names)} "
                f"{kind.replace('_', ' ')}, the first is {names[0]}; fetch the repository's files anew"
            )
    return model.eval()


def _parts_of(model: Nemotron3DiarizationForAudioFrameClassification) -> dict[str, nn.Module]:
    """What the forward of the model calls by itself, once per chunk (and "stacking" once per call)."""
    return {"network": model.model, "stacking": model.model.audio_tower.embedder, "classifier": model.classifier}


def _joined(turns: Iterable[Turn]) -> list[Turn]:
    """The same speech with turns of a speaker that touch made one."""
    joined: dict[str, list[Turn]] = {}
    for turn in sorted(turns):
        row = joined.setdefault(turn.speaker, [])
        if row and row[-1].end == turn.start:
            row[-1] = row[-1]._replace(end=turn.end)
        else:
            row.append(turn)
    return [turn for row in joined.values() for turn in row]
