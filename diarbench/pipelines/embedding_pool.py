"""Speaker embeddings of windows: each window goes through the network once, all its speakers are pooled from that.

Where one window has four slots, pyannote.audio passes it four times, once per mask, the masks of silent slots too.
The frame-level part of the network does not see the mask, so that once is enough.

On the CPU the embeddings of ResNet34 are then the same to the last bit as those of pyannote.audio's batches of 32.
Convolutions of very few channels round differently for one window than for many, by 1e-6 of the embedding; so do
libraries for GPUs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pyannote.audio.core.model import Model
from pyannote.audio.models.embedding.wespeaker import BaseWeSpeakerResNet
from pyannote.audio.models.embedding.wespeaker.resnet import ResNet
from torch import Tensor

from diarbench.pipelines.resnet import resnet_frames

# Products of matrices with fewer rows are computed another way, and round otherwise, than those with more.
_ROWS = 4


class Window(NamedTuple):
    """One window: its signal and who speaks in it."""

    waveform: Tensor  # (1, samples)
    masks: NDArray[np.float32]  # (slots, frames); a slot that never speaks is all 0


class PooledEmbedder:
    """Embeddings of every slot of every window, `batch` windows at a time.

    `model` is a pyannote.audio embedding model. Where it has `forward_frames` and `forward_embedding`, all masks of a
    window are pooled from one pass, and silent slots get what the network gives for an empty mask. Other models are
    called with one mask at a time, those of silent slots left out: they get the first value of that kind too.

    With `full_batches`, a last batch that is not full is filled up with silence, so that a GPU sees one shape only:
    libraries choose algorithms by shape, and the choice for a new one can take gigabytes.
    """

    def __init__(
        self, model: Model, *, batch: int, precision: torch.dtype = torch.float32, full_batches: bool = False
    ) -> None:
        self.model = model
        self.batch = batch
        self.precision = precision
        self.full_batches = full_batches
        self._shared = hasattr(model, "forward_frames") and hasattr(model, "forward_embedding")

    @torch.inference_mode()
    def __call__(self, windows: Iterable[Window], shape: tuple[int, int]) -> NDArray[np.float32]:
        """Embeddings (windows, slots, dimensions), `shape` being the first two; one batch is in memory at a time."""
        embeddings: NDArray[np.float32] | None = None
        silent = np.ones(shape, dtype=bool)
        for indices, batch in self._batches(windows):
            found = self._embed(batch)
            if embeddings is None:
                embeddings = np.zeros((*shape, found.shape[-1]), dtype=np.float32)
            embeddings[indices] = found
            silent[indices] = [~window.masks.any(axis=1) for window in batch]
            last = batch[-1]
        if embeddings is None:
            return np.zeros((*shape, 0), dtype=np.float32)
        if silent.any():
            embeddings[silent] = self._embed([Window(last.waveform, np.zeros_like(last.masks))])[0, 0]
        return embeddings

    def _batches(self, windows: Iterable[Window]) -> Iterator[tuple[list[int], list[Window]]]:
        """Windows in which anybody speaks, with their numbers."""
        indices: list[int] = []
        batch: list[Window] = []
        for index, window in enumerate(windows):
            if window.masks.any():
                indices.append(index)
                batch.append(window)
            if len(batch) == self.batch:
                yield indices, batch
                indices, batch = [], []
        if batch:
            yield indices, batch

    def _embed(self, batch: list[Window]) -> NDArray[np.float32]:
        """Embeddings (windows, slots, dimensions) of one batch."""
        waveforms = torch.stack([window.waveform for window in batch])
        masks = torch.from_numpy(np.stack([window.masks for window in batch]))
        missing = self.batch - len(batch) if self.full_batches else 0
        if missing > 0:
            waveforms = torch.cat([waveforms, waveforms.new_zeros((missing, *waveforms.shape[1:]))])
            masks = torch.cat([masks, masks.new_zeros((missing, *masks.shape[1:]))])
        device = self.model.device
        embedded = self._forward(waveforms.to(device), masks.to(device))
        return embedded.float().cpu().numpy()[: len(batch)]

    def _forward(self, waveforms: Tensor, masks: Tensor) -> Tensor:
        if self._shared:
            slots = masks.shape[1]
            rows = masks.shape[0] * slots
            if rows < _ROWS:
                masks = torch.cat([masks, masks.new_zeros((masks.shape[0], _ROWS - rows, masks.shape[2]))], dim=1)
            # In single precision: sums over frames lose too much in half, and cost nothing beside the frames.
            pooled: Tensor = self.model.forward_embedding(self._frames(waveforms).float(), weights=masks)
            return pooled[:, :slots]
        window, slot = torch.nonzero(masks.any(dim=2) | ~masks.any(dim=2).any(), as_tuple=True)
        with self._lower_precision():
            found = self.model(waveforms[window], weights=masks[window, slot])
        embeddings: Tensor = found.new_zeros((*masks.shape[:2], found.shape[-1]))
        embeddings[window, slot] = found
        return embeddings

    def _frames(self, waveforms: Tensor) -> Tensor:
        frames: Tensor
        if isinstance(self.model, BaseWeSpeakerResNet):
            features = self.model.compute_fbank(waveforms)  # logarithms of small sums: always in single precision
            with self._lower_precision():
                resnet = self.model.resnet
                own = type(resnet).forward_frames is not ResNet.forward_frames  # one that has its own way
                frames = resnet.forward_frames(features) if own else resnet_frames(resnet, features)
        else:
            with self._lower_precision():
                frames = self.model.forward_frames(waveforms)
        return frames

    def _lower_precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.model.device.type, dtype=self.precision)


def slot_masks(decisions: NDArray[Any], *, exclude_overlap: bool, shortest: int) -> NDArray[np.float32]:
    """Which frames of a window are embedded for each slot, (slots, frames), from its decisions (frames, slots).

    With `exclude_overlap`, a slot's clean frames, in which nobody else speaks, if there are more than `shortest`;
    otherwise all its frames (pyannote.audio 4.0.7, `get_embeddings`).

        slot 1   ====    ======          clean  ====  ======      embedded ====  ======   (all but the overlap)
        slot 2         ====                     (too few)                      ====
    """
    masks = np.nan_to_num(decisions, nan=0.0).astype(np.float32)
    if exclude_overlap:
        clean = masks * (masks.sum(axis=1, keepdims=True) < 2)
        masks = np.where(clean.sum(axis=0) > shortest, clean, masks)
    return np.ascontiguousarray(masks.T)


def shortest_mask(frames: int, samples: int, window: float) -> int:
    """The frames, of `frames` in a window of `window` samples, that hold the network's least input of `samples`."""
    return math.ceil(frames * samples / window)
