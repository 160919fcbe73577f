"""Windows of recordings with who speaks in each frame: what networks are trained and validated on.

Shape letters: B windows, S samples, T frames, K speakers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diarbench.audio import decode_part
from diarbench.errors import InputError
from diarbench.types import LabelledRecording, Seconds, Turns

if TYPE_CHECKING:
    from diarbench.loaders import Dataset

SAMPLE_RATE = 16000  # Hz
_AHEAD = 3  # batches that are read while the network works


@dataclass(frozen=True, slots=True)
class Grid:
    """Where a network's output frames lie."""

    receptive_field: int  # samples that a frame sees; the frame stands for their middle
    step: int  # samples from one frame to the next
    speakers: int  # at most in one window

    def frames(self, samples: int) -> int:
        """Frames of a window of so many samples."""
        return max((samples - self.receptive_field) // self.step + 1, 0)

    def activity(self, turns: Turns, start: Seconds, samples: int) -> NDArray[np.bool_]:
        """Who speaks in the middle of each frame (T, K) of a window that begins at `start`.

        Speakers are ordered by how many frames are theirs, most first; of more than K, the last ones are left out.
        """
        middles = start + (np.arange(self.frames(samples)) * self.step + self.receptive_field / 2) / SAMPLE_RATE
        near = np.flatnonzero((turns.starts < start + samples / SAMPLE_RATE) & (turns.ends > start))
        columns = np.zeros((len(turns.labels), len(middles)), dtype=bool)
        for turn in near.tolist():
            first, stop = np.searchsorted(middles, (turns.starts[turn], turns.ends[turn]))
            columns[turns.codes[turn], first:stop] = True
        active = np.zeros((len(middles), self.speakers), dtype=bool)
        heard = sorted((column for column in columns if column.any()), key=np.count_nonzero, reverse=True)
        for place, column in enumerate(heard[: self.speakers]):
            active[:, place] = column
        return active


@dataclass(frozen=True, slots=True)
class Batch:
    """Some windows."""

    samples: Tensor  # (B, S) float32, 16 kHz
    activity: Tensor  # (B, T, K) float32: 1 where a speaker speaks

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        return Batch(self.samples.to(device, non_blocking=True), self.activity.to(device, non_blocking=True))


class Windows:
    """All windows of some datasets, read from their files when they are asked for; nothing is held.

    Windows of `window` seconds begin every `shift` seconds inside each scoring region, the last one flush with its
    end; regions shorter than a window give none. (The pruning paper trains on 8 s every 6 s, and validates every 8 s.)
    `fraction` keeps a pseudo-random part of the windows, the same for each run; smaller ones are subsets of larger ones
    (the paper's Table VII); `most` is an upper limit of their number, chosen alike.
    Raises InputError where nothing is left.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        *,
        window: Seconds,
        shift: Seconds,
        fraction: float = 1.0,
        most: int | None = None,
    ) -> None:
        if not 0 < fraction <= 1:
            raise InputError(f"a fraction of the data is above 0 and at most 1, not {fraction:g}")
        if window <= 0 or shift <= 0:
            raise InputError(f"windows of {window:g} s every {shift:g} s can't be: give seconds above 0")
        self.samples = round(window * SAMPLE_RATE)
        self._recordings = [recording for dataset in datasets for recording in dataset.recordings]
        places = [
            (index, start)
            for index, recording in enumerate(self._recordings)
            for start in _starts(recording, window, shift)
        ]
        wanted = min(math.ceil(fraction * len(places)), most or len(places))
        order = np.random.default_rng(0).permutation(len(places))[:wanted]
        self._places = [places[index] for index in sorted(order.tolist())]
        if not self._places:
            names = ", ".join(dataset.name for dataset in datasets)
            raise InputError(f"{names or 'no dataset'}: holds no scoring region of {window:g} s to train on")

    def __len__(self) -> int:
        return len(self._places)

    @property
    def duration(self) -> Seconds:
        """Length of all windows, overlaps counted twice."""
        return len(self) * self.samples / SAMPLE_RATE

    def read(self, indices: Sequence[int], grid: Grid) -> Batch:
        """The windows of these numbers. Raises AudioError where a file can't be decoded."""
        samples = np.empty((len(indices), self.samples), dtype=np.float32)
        activity = np.empty((len(indices), grid.frames(self.samples), grid.speakers), dtype=np.float32)
        for row, index in enumerate(indices):
            place, start = self._places[index]
            labelled = self._recordings[place]
            samples[row] = decode_part(labelled.recording, start, self.samples)
            activity[row] = grid.activity(labelled.reference, start, self.samples)
        return Batch(torch.from_numpy(samples), torch.from_numpy(activity))

    def shuffled(self, *, batch: int, seed: int, grid: Grid, first: int = 0) -> Iterator[Batch]:
        """Batches without end from number `first` on, in an order that the seed alone decides, shuffled every epoch.

        Epochs are laid one after the other, so that all batches have the same size. Windows are read ahead by a thread.
        """

        def numbers(step: int) -> list[int]:
            chosen = []
            for position in range(step * batch, (step + 1) * batch):
                epoch, place = divmod(position, len(self))
                if epoch not in orders:
                    orders.clear()
                    orders.update(
                        {e: np.random.default_rng([seed, e]).permutation(len(self)) for e in (epoch, epoch + 1)}
                    )
                chosen.append(int(orders[epoch][place]))
            return chosen

        orders: dict[int, NDArray[np.int64]] = {}
        step = first
        with ThreadPoolExecutor(1, thread_name_prefix="windows") as reader:
            waiting = [reader.submit(self.read, numbers(step + ahead), grid) for ahead in range(_AHEAD)]
            while True:
                ready = waiting.pop(0)
                waiting.append(reader.submit(self.read, numbers(step + _AHEAD), grid))
                step += 1
                yield ready.result()

    def once(self, *, batch: int, grid: Grid) -> Iterator[Batch]:
        """All windows in their order, each once; the last batch may be smaller."""
        for first, stop in pairwise([*range(0, len(self), batch), len(self)]):
            yield self.read(range(first, stop), grid)


def _starts(labelled: LabelledRecording, window: Seconds, shift: Seconds) -> Iterator[Seconds]:
    """Where the windows of a recording begin (s), on whole samples."""
    for begin, end in labelled.uem:
        end = min(end, labelled.recording.duration)
        count = math.floor((end - begin - window) / shift + 1e-9) + 1
        for number in range(max(count, 0)):
            yield round((begin + number * shift) * SAMPLE_RATE) / SAMPLE_RATE
        last = end - window
        if count > 0 and last > begin + (count - 1) * shift + 1e-6:
            yield math.floor(last * SAMPLE_RATE) / SAMPLE_RATE
