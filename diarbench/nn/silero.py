"""Silero VAD at 16 kHz: how likely speech is in each 32 ms of a recording, computed for all chunks at once."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from diarbench.errors import MissingRequirementError
from diarbench.measure import Network
from diarbench.nn.weights import load_exactly
from diarbench.types import Seconds

SAMPLE_RATE = 16000  # Hz
CHUNK = 512  # samples per probability: 32 ms
HOP = CHUNK / SAMPLE_RATE  # s
CONTEXT = 64  # samples before a chunk that its spectrum also sees
_BLOCK = 1024  # chunks evaluated together, 33 s, so that memory stays bounded for any length

# The published model's names (its 16 kHz half) and ours. `silero_vad_16k.safetensors`, which lies in the same wheel,
# holds an older network of the same shape: its probabilities differ by up to 0.2.
_NAMES = {
    "_model.stft.forward_basis_buffer": "basis.weight",
    **{
        f"_model.encoder.{layer}.reparam_conv.{kind}": f"convolutions.{layer}.{kind}"
        for layer in range(4)
        for kind in ("weight", "bias")
    },
    **{f"_model.decoder.rnn.{kind}": f"lstm.{kind}_l0" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
    **{f"_model.decoder.decoder.2.{kind}": f"output.{kind}" for kind in ("weight", "bias")},
}


class SileroVad(nn.Module):
    """The network of Silero VAD v6 (snakers4/silero-vad, MIT) for 16 kHz, 309,633 weights.

    Each chunk of 512 samples, with the 64 before it, passes a short-time Fourier basis and four convolutions on its
    own; only one LSTM cell runs from chunk to chunk. So the convolutions take many chunks as one batch, and the LSTM
    the sequence of their results, where the published model is called chunk by chunk. The probabilities are the same
    (to 1e-5; a test compares them with the published model).
    """

    def __init__(self) -> None:
        super().__init__()
        self.basis = nn.Conv1d(1, 258, 256, stride=128, bias=False)  # 129 real parts, then 129 imaginary
        self.convolutions = nn.ModuleList(
            nn.Conv1d(inputs, outputs, 3, stride=stride, padding=1)
            for inputs, outputs, stride in ((129, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1))
        )
        self.lstm = nn.LSTM(128, 128)
        self.output = nn.Linear(128, 1)

    @classmethod
    def load(cls, path: Path) -> SileroVad:
        """The network with the weights of the `silero_vad.jit` in the silero-vad wheel, ready for inference.

        Raises MissingRequirementError where the file is no such file.
        """
        try:
            with warnings.catch_warnings():
                # Deprecated in torch 2.11 in favour of torch.export, which can't read the files there are.
                warnings.simplefilter("ignore", DeprecationWarning)
                model = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            raise MissingRequirementError(f"{path}: can't be read as a TorchScript model") from error
        published = model.state_dict()
        state = {ours: published[name] for name, ours in _NAMES.items() if name in published}
        if "output.weight" in state:
            state["output.weight"] = state["output.weight"].reshape(1, -1)  # a convolution of width 1 there
        return load_exactly(cls(), state, path)

    def probabilities(self, samples: NDArray[np.float32], *, level: float = -23.0) -> NDArray[np.float32]:
        """Speech probabilities (chunks,), one per 32 ms, of a 16 kHz recording (samples,), wherever the network lies.

        The recording is first brought to `level` (dBFS, the mean square of all of it), so that how loud it was
        recorded does not matter; digital silence stays silent.
        """
        signal = torch.tensor(samples, device=self.output.weight.device)
        power = float(signal.square().mean()) if len(signal) else 0.0
        signal *= math.sqrt(10.0 ** (level / 10.0) / power) if power > 0.0 else 0.0
        return np.asarray(self(signal).cpu().numpy())

    @torch.inference_mode()
    def forward(self, samples: Tensor) -> Tensor:
        """Speech probabilities, shape (chunks,), of a 16 kHz signal in [-1, 1] of shape (samples,).

        The last chunk is filled up with zeros, as the published package does.
        """
        chunks = -(-len(samples) // CHUNK)
        if chunks == 0:
            return samples.new_empty(0)
        # Views of 576 samples that step by 512: the context, then the chunk.
        padded = functional.pad(samples, (CONTEXT, chunks * CHUNK - len(samples)))
        state: tuple[Tensor, Tensor] | None = None
        probabilities = []
        for block in torch.split(padded.unfold(0, CONTEXT + CHUNK, CHUNK), _BLOCK):
            outputs, state = self.lstm(self._features(block), state)
            probabilities.append(torch.sigmoid(self.output(functional.relu(outputs))[:, 0]))
        return torch.cat(probabilities)

    def _features(self, inputs: Tensor) -> Tensor:
        """(chunks, 576) samples to (chunks, 128) inputs of the LSTM."""
        spectrum = self.basis(functional.pad(inputs[:, None, :], (0, CONTEXT), mode="reflect"))
        real, imaginary = spectrum.chunk(2, dim=1)
        features = torch.sqrt(real.square() + imaginary.square())
        for convolution in self.convolutions:
            features = functional.relu(convolution(features))
        return features[:, :, 0]  # of four frames, the strides of two convolutions leave one


def network() -> Network:
    """The network without trained weights, for counting. It takes one recording at a time: a batch is refused."""

    def inputs(batch: int, seconds: Seconds) -> tuple[Tensor]:
        if batch != 1:
            raise ValueError(f"SileroVad takes one signal at a time, not {batch}")
        return (torch.rand(round(seconds * SAMPLE_RATE)) * 2 - 1,)

    parts = {"STFT": ["basis"], "CNN": ["convolutions"], "LSTM": ["lstm"], "output": ["output"]}
    return Network(SileroVad(), inputs, None, parts)
