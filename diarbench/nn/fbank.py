"""Logarithmic mel energies in place of WavLM: the first row of the pruning paper's table of front ends."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diarbench.errors import AudioError
from diarbench.nn.conformer import Head, HeadShape

SAMPLE_RATE = 16000  # Hz
PARTS = {"Fbank": ("fbank",), "head": ("head",)}  # paths of submodules
ENCODER = "fbank"  # it has no weights
_WINDOW = 400  # samples: 25 ms, as long as the Fourier transform
_STEP = 160  # samples: 10 ms
_MELS = 80


class Fbank(nn.Module):
    """Log mel energies of 80 bands from 0 to 8 kHz, 25 ms at a time, each 10 ms; less each band's mean.

    Window, step and bands are those of DiariZen's model of that name. Periodic Hann window, squared magnitudes,
    triangles on the mel scale of O'Shaughnessy (HTK's), natural logarithm of the energy plus 1e-6. Frames lie wholly
    inside the window of audio.
    """

    taper: Tensor
    bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Never on `meta`: they are no weights, so nothing would bring them back from there.
        with torch.device("cpu"):
            self.register_buffer("taper", torch.hann_window(_WINDOW), persistent=False)
            self.register_buffer("bands", _mel_bands(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Energies (windows, frames, 80) of samples (windows, samples). Raises AudioError where no frame fits."""
        if samples.ndim != 2 or samples.shape[1] < _WINDOW:
            raise AudioError(f"Fbank takes (windows, at least {_WINDOW} samples), not shape {tuple(samples.shape)}")
        wave = samples.float()  # Fourier transforms know no half precision
        frames = wave.unfold(1, _WINDOW, _STEP) * self.taper.to(wave)
        energies = torch.fft.rfft(frames).abs().square() @ self.bands.to(wave)
        logarithms = torch.log(energies + 1e-6)
        return (logarithms - logarithms.mean(dim=1, keepdim=True)).to(samples.dtype)


class FbankEend(nn.Module):
    """Log mel energies, then the same head as `Eend`: 6,115,851 weights.

    DiariZen has a model of this kind with the same head, but no weights of it were published, and nothing here reads
    its files: its frames are centred (1 + samples // 160 of them), and its energies are SpeechBrain's decibels.
    """

    def __init__(self, shape: HeadShape | None = None, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.fbank = Fbank()
        self.head = Head(_MELS, shape or HeadShape(), dropout=dropout)

    receptive_field, step = _WINDOW, _STEP  # samples that a frame sees, and to the next frame

    def frames(self, samples: int) -> int:
        """Frames of a window of so many samples: 798 for 8 s."""
        return max((samples - _WINDOW) // _STEP + 1, 0)

    def forward(self, samples: Tensor) -> Tensor:
        """Log-probabilities (windows, frames, classes) of samples (windows, samples) at 16 kHz."""
        scores: Tensor = self.head(self.fbank(samples))
        return scores


def _mel_bands() -> Tensor:
    """Triangular weights (201 frequencies, 80 bands), each of height 1, equally wide on the mel scale."""
    top = 2595 * torch.log10(torch.tensor(1 + SAMPLE_RATE / 2 / 700, dtype=torch.float64))
    edges = 700 * (10 ** (torch.linspace(0, float(top), _MELS + 2, dtype=torch.float64) / 2595) - 1)
    frequencies = torch.linspace(0, SAMPLE_RATE / 2, _WINDOW // 2 + 1, dtype=torch.float64)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()
