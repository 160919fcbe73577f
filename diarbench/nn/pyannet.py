"""PyanNet: learned band-pass filters, convolutions, LSTMs both ways and linear maps, of any widths.

Shape letters: B windows, T frames, C channels.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from diarbench.errors import AudioError, InputError
from diarbench.nn.powerset import powerset
from diarbench.nn.weights import load_exactly

SAMPLE_RATE = 16000  # Hz
PARTS = {"SincNet": ("sincnet",), "LSTM": ("lstm",), "linear": ("linear",)}  # paths of submodules
_KERNEL = 251  # samples of a band-pass filter
_BANDS = 40  # each of them as a cosine and as a sine
_CHANNELS = (2 * _BANDS, 60, 60)
_CONV, _POOL = 5, 3  # frames that a convolution sees, and that a maximum is taken over
_LEAST = 50.0  # Hz: the lowest edge of a band, and the narrowest band


@dataclass(frozen=True, slots=True)
class PyanNetShape:
    """The sizes of a PyanNet; the defaults are those of pyannote/segmentation-3.0, 1,473,265 weights.

    Raises InputError where a width is not positive.
    """

    lstm: Sequence[int] = (128, 128, 128, 128)  # units of each layer, per direction
    linear: Sequence[int] = (128, 128)
    stride: int = 10  # samples from one band-pass output to the next
    speakers: int = 3  # at most in one window
    overlap: int = 2  # of them at most at once

    def __post_init__(self) -> None:
        if not self.lstm or min(*self.lstm, *self.linear, self.stride) < 1:
            raise InputError(f"PyanNet needs an LSTM, and widths and stride of at least 1, not {self}")
        powerset(self.speakers, self.overlap)

    @property
    def classes(self) -> int:
        """Sets of speakers that are told apart.

        >>> PyanNetShape().classes
        7
        """
        return len(powerset(self.speakers, self.overlap))

    @property
    def step(self) -> int:
        """Samples from one frame to the next.

        >>> PyanNetShape().step
        270
        """
        return self.stride * _POOL**3

    @property
    def receptive_field(self) -> int:
        """Samples that a frame of the convolutions sees.

        >>> PyanNetShape().receptive_field
        991
        """
        seen, step = _KERNEL, self.stride
        for _ in range(2):
            seen, step = seen + (_POOL - 1) * step, step * _POOL
            seen += (_CONV - 1) * step
        return seen + (_POOL - 1) * step

    def frames(self, samples: int) -> int:
        """Frames of a window of so many samples; 0 where none fits.

        >>> PyanNetShape().frames(10 * 16000)
        589
        """
        frames = ((samples - _KERNEL) // self.stride + 1) // _POOL
        for _ in range(2):
            frames = (frames - _CONV + 1) // _POOL
        return max(frames, 0)


class PyanNet(nn.Module):
    """The segmentation network of pyannote.audio (Bredin and Laurent, 2021, https://arxiv.org/abs/2104.04045).

    The same arithmetic as pyannote.audio 4's class (a test compares them). Each LSTM layer is one of its own, so that
    each can have its own width. `dropout` acts between LSTM layers, in training alone.
    """

    def __init__(self, shape: PyanNetShape | None = None, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape or PyanNetShape()
        self.sincnet = SincNet(self.shape.stride)
        self.lstm = LstmStack(_CHANNELS[-1], self.shape.lstm, dropout=dropout)
        self.linear = LinearStack(2 * self.shape.lstm[-1], self.shape.linear, self.shape.classes)

    def forward(self, samples: Tensor) -> Tensor:
        """Log-probabilities (B, T, classes) of samples (B, samples) at 16 kHz; classes in the order of `powerset`.

        Raises AudioError where no frame fits.
        """
        if samples.ndim != 2 or not self.shape.frames(samples.shape[1]):
            least, found = self.shape.receptive_field, tuple(samples.shape)
            raise AudioError(f"PyanNet takes (windows, at least {least} samples), not shape {found}")
        frames = self.sincnet(samples.unsqueeze(1)).transpose(1, 2)
        return functional.log_softmax(self.linear(self.lstm(frames)), dim=2)


class SincNet(nn.Module):
    """Band-pass filters and two convolutions, each followed by a maximum over three frames, norm and leaky ReLU.

    (Ravanelli and Bengio, "Speaker recognition from raw waveform with SincNet", 2018, with pyannote's sizes.)
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.wave_norm = nn.InstanceNorm1d(1, affine=True)
        self.filters = BandPass(stride)
        self.convolutions = nn.ModuleList(nn.Conv1d(*sizes, _CONV) for sizes in itertools.pairwise(_CHANNELS))
        self.norms = nn.ModuleList(nn.InstanceNorm1d(channels, affine=True) for channels in _CHANNELS)

    def forward(self, wave: Tensor) -> Tensor:
        """(B, 1, samples) to (B, 60, T)."""
        channels = self.filters(self.wave_norm(wave)).abs()
        channels = self._finish(channels, 0)
        for index, convolution in enumerate(self.convolutions, start=1):
            channels = self._finish(convolution(channels), index)
        return channels

    def _finish(self, channels: Tensor, index: int) -> Tensor:
        return functional.leaky_relu(self.norms[index](functional.max_pool1d(channels, _POOL)))


class BandPass(nn.Module):
    """Forty band-pass filters whose edges are learned, each as an even and an odd impulse response.

    A band from f to g Hz has, at t seconds from its middle, the response (sin 2πgt − sin 2πft) / πt, or with cosines,
    under a Hamming window and divided by twice the band's width.
    """

    window: Tensor
    times: Tensor

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        edges = torch.linspace(_mel(30), _mel(SAMPLE_RATE / 2 - 2 * _LEAST), _BANDS + 1, dtype=torch.float64)
        hertz = 700 * (10 ** (edges / 2595) - 1)
        self.low = nn.Parameter(hertz[:-1, None].float())
        self.band = nn.Parameter(hertz.diff()[:, None].float())
        half = _KERNEL // 2  # the second half mirrors the first
        steps = torch.arange(-half, 0, dtype=torch.float64)
        hamming = 0.54 + 0.46 * torch.cos(math.pi * steps / half)
        self.register_buffer("window", hamming.float())
        self.register_buffer("times", (2 * math.pi * steps / SAMPLE_RATE).float()[None])  # 2πt

    def forward(self, wave: Tensor) -> Tensor:
        """(B, 1, samples) to (B, 80, frames)."""
        return functional.conv1d(wave, self.kernels(), stride=self.stride)

    def kernels(self) -> Tensor:
        """The impulse responses (80, 1, 251): first the even ones."""
        low = _LEAST + self.low.abs()
        high = (low + _LEAST + self.band.abs()).clamp(_LEAST, SAMPLE_RATE / 2)
        width = high - low
        even = (torch.sin(high * self.times) - torch.sin(low * self.times)) / (self.times / 2) * self.window
        odd = (torch.cos(low * self.times) - torch.cos(high * self.times)) / (self.times / 2) * self.window
        evens = torch.cat([even, 2 * width, even.flip(1)], dim=1)
        odds = torch.cat([odd, torch.zeros_like(width), -odd.flip(1)], dim=1)
        return (torch.cat([evens, odds]) / (2 * torch.cat([width, width]))).unsqueeze(1)


class LstmStack(nn.Module):
    """LSTM layers that look both ways, each with a width of its own."""

    def __init__(self, inputs: int, widths: Sequence[int], *, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for width in widths:
            self.layers.append(nn.LSTM(inputs, width, batch_first=True, bidirectional=True))
            inputs = 2 * width
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, C) to (B, T, twice the last width)."""
        for index, layer in enumerate(self.layers):
            frames, _ = layer(self.dropout(frames) if index else frames)
        return frames


class LinearStack(nn.Module):
    """Linear maps with leaky ReLU after each, and the classifier."""

    def __init__(self, inputs: int, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*sizes) for sizes in itertools.pairwise((inputs, *widths)))
        self.classifier = nn.Linear((inputs, *widths)[-1], classes)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, C) to (B, T, classes)."""
        for layer in self.layers:
            frames = functional.leaky_relu(layer(frames))
        scores: Tensor = self.classifier(frames)
        return scores


def load_pyannet(shape: PyanNetShape, state: Mapping[str, Tensor], path: Path | str) -> PyanNet:
    """A PyanNet with a state dict of pyannote.audio's class, which came from `path`, ready for inference.

    The tensors are taken over, not copied, where they are float32 already. Raises MissingRequirementError, in one
    line, where names or shapes are not exactly those of `shape`.
    """
    with torch.device("meta"):
        network = PyanNet(shape)
    return load_exactly(network, state, path, {name: _pyannote_name(name) for name in network.state_dict()})


def in_pyannote(network: PyanNet) -> dict[str, Tensor]:
    """The weights as pyannote.audio's class names them."""
    return {_pyannote_name(name): tensor for name, tensor in network.state_dict().items()}


# Our names (regular expressions) and pyannote's, which counts the filters as the first convolution.
_RULES = (
    (r"^sincnet\.wave_norm\.", "sincnet.wav_norm1d."),
    (r"^sincnet\.filters\.(low|band)$", r"sincnet.conv1d.0.filterbank.\1_hz_"),
    (r"^sincnet\.filters\.window$", "sincnet.conv1d.0.filterbank.window_"),
    (r"^sincnet\.filters\.times$", "sincnet.conv1d.0.filterbank.n_"),
    (r"^sincnet\.convolutions\.0\.", "sincnet.conv1d.1."),
    (r"^sincnet\.convolutions\.1\.", "sincnet.conv1d.2."),
    (r"^sincnet\.norms\.", "sincnet.norm1d."),
    (r"^lstm\.layers\.(\d+)\.(\w+)_l0", r"lstm.\2_l\1"),
    (r"^linear\.layers\.", "linear."),
    (r"^linear\.classifier\.", "classifier."),
)


def _pyannote_name(name: str) -> str:
    for pattern, theirs in _RULES:
        name, found = re.subn(pattern, theirs, name)
        if found:
            return name
    raise InputError(f"{name} is no weight of a PyanNet")


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)
