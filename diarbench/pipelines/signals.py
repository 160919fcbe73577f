"""Signals that a pipeline reads window by window: held in memory, or left in their file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from diarbench.audio import check_channels, decode_part, read_header
from diarbench.errors import AudioError
from diarbench.types import Recording


class Signal(Protocol):
    """One channel of speech, at the rate that the networks take."""

    length: int  # samples

    def part(self, start: int, stop: int) -> Tensor:
        """Its samples from `start` to before `stop`, float32 (1, stop - start); what lies beyond the end is silence."""


class SignalInMemory:
    """A signal of shape (samples,) or (1, samples), at `rate` Hz where the networks take `wanted` Hz; it is not copied.

    Raises AudioError for another rate, other channels, no samples, or such as are not finite.
    """

    def __init__(self, samples: NDArray[np.float32], rate: int, wanted: int) -> None:
        if rate != wanted:
            raise AudioError(f"the networks take {wanted} Hz and the signal has {rate} Hz; resample it first")
        signal = samples[None] if samples.ndim == 1 else samples
        if signal.ndim != 2 or signal.shape[0] != 1 or signal.shape[1] == 0:
            raise AudioError(
                f"a signal of one channel was expected, (samples,) or (1, samples); got shape {samples.shape}"
            )
        if not np.isfinite([signal.min(), signal.max()]).all():  # a NaN is either
            raise AudioError("the signal has samples that are not finite; decode it again")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)  # nobody writes
            self._samples = torch.from_numpy(np.ascontiguousarray(signal, dtype=np.float32))
        self.length = int(signal.shape[1])

    def part(self, start: int, stop: int) -> Tensor:
        """Samples (1, stop - start), a view where the signal reaches so far."""
        found = self._samples[:, start:stop]
        missing = stop - start - found.shape[1]
        return functional.pad(found, (0, missing)) if missing else found  # padding copies, even by nothing


class SignalInFile:
    """The signal of an audio file, of which only the window at hand is in memory.

    `channel` says which channels make it ("first", "mix", a number; None for a file of one). Where the file has another
    rate than `rate` (Hz), each window is resampled with a margin of its own, which is the whole signal's resampling but
    for rounding. Raises AudioError for a file that is missing, no audio, or of several channels without a rule;
    and from `part` where it can't be decoded, ends early, or holds samples that are not finite.
    """

    def __init__(self, path: Path, rate: int, channel: str | int | None = None) -> None:
        header = read_header(path)
        check_channels(path, header.channels, channel)
        self._recording = Recording(path.stem, path, header.duration, rate, channel)
        self.length = round(header.duration * rate)

    def part(self, start: int, stop: int) -> Tensor:
        """Samples (1, stop - start), read now."""
        held = min(stop, self.length) - start
        found = torch.from_numpy(decode_part(self._recording, start / self._recording.sample_rate, held))
        return functional.pad(found, (0, stop - start - held))[None]


def window_starts(length: int, window: int, hop: int) -> tuple[range, int]:
    """Where windows start that slide over a signal, and how many of them it fills; one more may be padded at the end.

    All in samples. As in pyannote.audio 4.0.7 (`Inference.slide`): a signal shorter than a window has one.
    """
    full = 0 if length < window else 1 + (length - window) // hop
    covered = full > 0 and (length - window) % hop == 0
    return range(0, hop * (full if covered else full + 1), hop), full


def batches(starts: range, full: int, size: int) -> Iterator[range]:
    """The starts of up to `size` windows at a time; one that is padded comes alone, as in pyannote.audio."""
    for first in range(0, full, size):
        yield starts[first : min(first + size, full)]
    if len(starts) > full:
        yield starts[full:]
