"""Networks of any origin as pyannote.audio models, which is what its pipeline takes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyannote.audio.core.inference import Inference
from pyannote.audio.core.model import Model
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.core import SlidingWindow, SlidingWindowFeature
from torch import Tensor, nn
from torch.nn import functional

from diarbench.errors import AdapterError
from diarbench.nn.ge2e import SAMPLE_RATE, Ge2eEncoder, mel_power
from diarbench.pipelines.signals import Signal, batches, window_starts
from diarbench.types import Seconds


class SegmentationModel(Model):  # type: ignore[misc]
    """A network of (batch, 1, samples) to (batch, frames, classes), as a pyannote.audio segmentation model.

    With `overlap`, its classes are the sets of at most so many of `speakers` speakers, smallest first, and its output
    their log-probabilities; without, they are the speakers, and its output probabilities. A frame sees `field` samples
    and lies `step` samples after the one before; nothing is padded, as in WavLM (25 ms and 20 ms).
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        window: Seconds,
        speakers: int = 4,
        overlap: int | None = 2,
        field: int = 400,
        step: int = 320,
        sample_rate: int = SAMPLE_RATE,
    ) -> None:
        super().__init__(sample_rate=sample_rate, num_channels=1)
        self.network = network
        self._field, self._step = field, step
        self.specifications = Specifications(
            problem=Problem.MULTI_LABEL_CLASSIFICATION if overlap is None else Problem.MONO_LABEL_CLASSIFICATION,
            resolution=Resolution.FRAME,
            duration=window,
            classes=[f"speaker{number + 1}" for number in range(speakers)],
            powerset_max_classes=overlap,
            permutation_invariant=True,
        )
        self.eval()

    @property
    def dimension(self) -> int:
        """Classes of the output."""
        chosen = self.specifications
        return int(chosen.num_powerset_classes) if chosen.powerset else len(chosen.classes)

    def num_frames(self, num_samples: int) -> int:
        """Frames that the network gives for so many samples."""
        return 1 + (num_samples - self._field) // self._step

    def receptive_field_size(self, num_frames: int = 1) -> int:
        """Samples that so many frames see."""
        return self._field + (num_frames - 1) * self._step

    def receptive_field_center(self, frame: int = 0) -> int:
        """The sample in the middle of what a frame sees."""
        return frame * self._step + (self._field - 1) // 2

    def forward(self, waveforms: Tensor) -> Tensor:
        """(batch, frames, classes) for waveforms (batch, 1, samples); AdapterError where that is not what comes."""
        scores: Tensor = self.network(waveforms)
        expected = (len(waveforms), self.num_frames(waveforms.shape[-1]), self.dimension)
        if tuple(scores.shape) != expected:
            raise AdapterError(
                f"{type(self.network).__name__} gave an output of shape {tuple(scores.shape)} for a window of "
                f"{waveforms.shape[-1]} samples; {expected} (batch, frames, classes) was expected"
            )
        return scores


class Ge2eEmbedding(Model):  # type: ignore[misc]
    """GE2E's encoder as a pyannote.audio embedding model: the frames of a mask are put together and embedded.

    Together they are cut into windows of 1.6 s, with which the encoder was trained, half a window apart at most; the
    embedding is the mean of theirs, of unit length. An empty mask gives the embedding of one frame of silence.
    """

    _WINDOW = 160  # mel frames: 1.6 s

    def __init__(self, encoder: Ge2eEncoder) -> None:
        super().__init__(sample_rate=SAMPLE_RATE, num_channels=1)
        self.encoder = encoder
        self.eval()

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return int(self.encoder.linear.out_features)

    def forward_frames(self, waveforms: Tensor) -> Tensor:
        """Mel power (batch, frames, 40), a frame per 10 ms, of waveforms (batch, 1, samples)."""
        if waveforms.shape[-1] < 400:
            raise ValueError("less than one frame of 25 ms")
        with torch.autocast(waveforms.device.type, enabled=False):
            return torch.stack([mel_power(waveform[0]) for waveform in waveforms])

    def forward_embedding(self, frames: Tensor, weights: Tensor | None = None) -> Tensor:
        """Embeddings (batch, dimensions), or (batch, slots, dimensions) for weights (batch, slots, mask's frames)."""
        if weights is None:
            weights = frames.new_ones((len(frames), frames.shape[1]))
        slots = weights if weights.ndim == 3 else weights[:, None]
        chosen = functional.interpolate(slots, size=frames.shape[1], mode="nearest") > 0.5
        pieces: list[Tensor] = []
        owners: list[int] = []
        for row, mask in enumerate(chosen.flatten(0, 1)):
            speech = frames[row // slots.shape[1], mask]
            cut = self._cut(speech if len(speech) else frames.new_zeros((1, frames.shape[2])))
            pieces += cut
            owners += [row] * len(cut)
        lengths = torch.tensor([len(piece) for piece in pieces], device=frames.device)
        embedded = self.encoder(nn.utils.rnn.pad_sequence(pieces), lengths)
        sums = embedded.new_zeros((chosen.shape[0] * chosen.shape[1], embedded.shape[1]))
        sums.index_add_(0, torch.tensor(owners, device=frames.device), embedded)
        return functional.normalize(sums, dim=1).reshape(*weights.shape[:-1], -1)

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """Embeddings of waveforms (batch, 1, samples) under weights (batch, mask's frames) of 0 and 1."""
        return self.forward_embedding(self.forward_frames(waveforms), weights)

    def _cut(self, speech: Tensor) -> list[Tensor]:
        """Windows (up to 160 frames, 40) over speech (frames, 40), evenly from its start to its end."""
        extra = len(speech) - self._WINDOW
        if extra <= 0:
            return [speech]
        firsts = torch.linspace(0, extra, 1 + -(-extra // (self._WINDOW // 2))).round().int().tolist()
        return [speech[first : first + self._WINDOW] for first in firsts]


class SlidingSegmentation(Inference):  # type: ignore[misc]
    """pyannote.audio's sliding inference at any window and hop, in any precision; the windows' outputs side by side."""

    def __init__(
        self, model: Model, *, window: Seconds, hop: Seconds, batch: int, precision: torch.dtype = torch.float32
    ) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Model was trained with", UserWarning)  # another window is meant
            super().__init__(model, duration=window, step=hop, skip_aggregation=True, batch_size=batch)
        self.precision = precision

    def __call__(self, file: Mapping[str, Any], hook: Any = None) -> SlidingWindowFeature:
        """Decisions or scores, float32 (windows, frames, speakers), for the `Signal` under "signal"."""
        signal: Signal = file["signal"]
        rate = self.model.audio.sample_rate
        window, hop = round(self.duration * rate), round(self.step * rate)
        starts, full = window_starts(signal.length, window, hop)
        # One block from the first batch on: small pieces of memory that stay until the last window would keep the large
        # ones between them from being given back (0.2 GB for an hour).
        found: NDArray[np.float32] | None = None
        done = 0
        for chosen in batches(starts, full, self.batch_size):
            scores = self.infer(torch.stack([signal.part(start, start + window) for start in chosen]))
            if found is None:
                found = np.empty((len(starts), *scores.shape[1:]), dtype=np.float32)
            found[done : done + len(scores)] = scores
            done += len(scores)
        return SlidingWindowFeature(found, SlidingWindow(start=0.0, duration=self.duration, step=self.step))

    def infer(self, chunks: Tensor) -> Any:
        """The same for waveforms (windows, 1, samples)."""
        with torch.inference_mode():
            half = self.precision != torch.float32
            with torch.autocast(self.device.type, dtype=self.precision, enabled=half):
                scores = self.model(chunks.to(self.device))
            return self.conversion(scores.float()).cpu().numpy()
