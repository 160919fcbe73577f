"""GE2E speaker embeddings: mel power, three LSTM layers, and the variants that cost less."""

from __future__ import annotations

import contextlib
import copy
import math
import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from diarbench.errors import MissingRequirementError
from diarbench.measure import Network
from diarbench.nn.lstm_units import heaviest, input_weights, keep_units, lstm_layers, unit_weights
from diarbench.nn.weights import load_exactly
from diarbench.types import Seconds

SAMPLE_RATE = 16000  # Hz
FRAME = 160  # samples from one mel frame to the next: 10 ms
MELS = 40
WINDOW: Seconds = 1.6  # what the network was trained on
_FFT = 400  # samples: 25 ms
_BLOCK = 6000  # mel frames computed together: a minute, so that memory stays bounded for any length
_UNITS = 256


class Ge2eEncoder(nn.Module):
    """One embedding per window: three LSTM layers of 256 units, then linear, ReLU and unit length; 1,423,616 weights.

    The network of Wan et al., "Generalized end-to-end loss for speaker verification" (ICASSP 2018), as trained by
    Resemblyzer (resemble-ai, Apache-2.0) on windows of 1.6 s. The layers are LSTMs of their own, not one LSTM of
    three layers, so that each can have its own precision and its own number of units.
    """

    def __init__(
        self, units: Sequence[int] = (_UNITS, _UNITS, _UNITS), kept: Sequence[Sequence[int]] | None = None
    ) -> None:
        super().__init__()
        self.units = tuple(units)
        # Which units of the full network's these are, layer by layer, so that states can be compared with its states.
        self.kept = tuple(tuple(layer) for layer in kept or map(range, units))
        self.layers = nn.ModuleList(
            nn.LSTM(inputs, outputs) for inputs, outputs in zip((MELS, *units[:-1]), units, strict=True)
        )
        self.linear = nn.Linear(units[-1], _UNITS)
        self.dtype = torch.float32  # of the mel power that the first layer is given

    @classmethod
    def load(cls, path: Path) -> Ge2eEncoder:
        """The network with the weights of Resemblyzer's `pretrained.pt`, or of a file of `save_ge2e`, for inference.

        Raises MissingRequirementError where the file is no such file. Nothing in it is executed.
        """
        if path.suffix == ".safetensors":
            from diarbench.nn.ge2e_file import load_ge2e  # which needs this class

            return load_ge2e(path).encoder
        try:
            published = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise MissingRequirementError(f"{path}: can't be read as the weights of Resemblyzer") from error
        return load_exactly(cls(), {_our_name(n): t for n, t in published.items() if "similarity" not in n}, path)

    @torch.inference_mode()
    def forward(self, mels: Tensor, lengths: Tensor) -> Tensor:
        """Embeddings of unit length, float32 (windows, 256).

        `mels` is mel power (frames, windows, 40); `lengths` (windows,) says how many of its frames belong to each
        window. The LSTMs only look back, so what comes after a window's own frames changes nothing.
        """
        last = self.states(mels)[-1][lengths - 1, torch.arange(len(lengths), device=lengths.device)]
        return self.embeddings(last)

    def states(self, mels: Tensor) -> list[Tensor]:
        """What each LSTM layer says of mel power (frames, windows, 40): (frames, windows, units) each."""
        first, *others = self.layers
        # Where training is in bfloat16, not here: the gradients of what reads mel power would be noise.
        exact = torch.autocast(mels.device.type, enabled=False) if not mels.is_meta else contextlib.nullcontext()
        with exact:
            states = [first(mels.to(self.dtype))[0]]
        for layer in others:
            states.append(layer(states[-1])[0])
        return states

    def embeddings(self, states: Tensor) -> Tensor:
        """Embeddings of unit length, float32 (..., 256), after each frame of the last layer's states (..., units)."""
        return functional.normalize(functional.relu(self.linear(states)).float(), dim=-1)


def network(
    *, window: Seconds = WINDOW, keep_units: float = 1.0, units: Sequence[int] = (_UNITS, _UNITS, _UNITS)
) -> Network:
    """The network without trained weights, for counting and timing; `keep_units` as in `remove_units`."""

    def inputs(batch: int, seconds: Seconds) -> tuple[Tensor, Tensor]:
        frames = round(seconds * SAMPLE_RATE / FRAME)
        return torch.rand(frames, batch, MELS), torch.full((batch,), frames)

    encoder = Ge2eEncoder([_units_to_keep(width, keep_units) for width in units])
    return Network(encoder, inputs, window, {"LSTM": ["layers"], "linear": ["linear"]}, encoder="")


def mel_power(samples: Tensor) -> Tensor:
    """Mel power, shape (frames, 40), of a 16 kHz signal of shape (samples,): the input of the GE2E network.

    Frame i is centred on sample 160·i; the signal is zero outside. Periodic Hann window of 25 ms, squared
    magnitudes, 40 mel bands from 0 to 8 kHz (Slaney's scale, each band of unit area), no logarithm: what
    `librosa.feature.melspectrogram` computes, with which the network was trained.
    """
    window = torch.hann_window(_FFT, device=samples.device)
    filters = torch.from_numpy(mel_filters()).to(samples.device)
    frames = 1 + len(samples) // FRAME
    padded = functional.pad(samples, (_FFT // 2, _FFT // 2))
    blocks = []
    for first in range(0, frames, _BLOCK):
        last = min(first + _BLOCK, frames) - 1
        part = padded[first * FRAME : last * FRAME + _FFT]
        spectrum = torch.stft(part, _FFT, FRAME, window=window, center=False, return_complex=True)
        blocks.append(spectrum.real.square().add_(spectrum.imag.square()).T @ filters)
    return torch.cat(blocks)


def mel_filters(bins: int = _FFT // 2 + 1, bands: int = MELS, sample_rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """Triangular mel filters, shape (bins, bands), from 0 Hz to half the sample rate, each of unit area.

    The scale is Slaney's (Auditory Toolbox, 1998): linear to 1 kHz (a mel is 66.7 Hz), logarithmic above (27 mels
    for a factor of 6.4).
    """
    linear, knee, step = 200.0 / 3.0, 1000.0, math.log(6.4) / 27.0
    top_mel = knee / linear + math.log(sample_rate / 2 / knee) / step
    mels = np.linspace(0.0, top_mel, bands + 2)
    edges = np.where(mels < knee / linear, mels * linear, knee * np.exp(step * (mels - knee / linear)))  # Hz
    frequencies = np.linspace(0.0, sample_rate / 2, bins)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((frequencies - low) / (centre - low), (high - frequencies) / (high - centre))
    return np.asarray(np.maximum(triangles, 0.0) * 2.0 / (high - low), dtype=np.float32)


def prune_rows(encoder: Ge2eEncoder, sparsity: float, scales: Mapping[str, Tensor] | None = None) -> Ge2eEncoder:
    """A copy in which the smallest weights of each row of each matrix are zero: that fraction of them.

    `scales` are what the columns of each matrix, by name, count for (columns,): all alike where nothing is said.

    Per row, not per matrix, because the rows of the first layer differ a hundredfold in scale (mel power is not
    logarithmic). Biases stay. Nothing is fine-tuned.
    """
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(f"sparsity is the fraction of weights to zero, from 0 to below 1; got {sparsity}")
    pruned = copy.deepcopy(encoder)
    for name, parameter in pruned.named_parameters():
        if parameter.ndim == 2:
            zeros = round(sparsity * parameter.shape[1])
            sizes = parameter.detach().abs() * (1 if scales is None else scales[name])
            smallest = sizes.argsort(dim=1, stable=True)[:, :zeros]
            parameter.data.scatter_(1, smallest, 0.0)
    return pruned


def remove_units(encoder: Ge2eEncoder, keep: float) -> Ge2eEncoder:
    """A smaller network with that fraction of each layer's hidden units; nothing is fine-tuned.

    A unit goes with all that belongs to it: its rows in the four gates (input and recurrent weights, biases), its
    columns in the recurrent weights, and its columns in the layer above. The units with the smallest sum of squared
    weights over all of these go. Those are compared within a layer only.
    """
    widths = [_units_to_keep(layer.hidden_size, keep) for layer in lstm_layers(encoder.layers)]
    return keep_widths(encoder, widths).eval().requires_grad_(False)


def keep_widths(encoder: Ge2eEncoder, widths: Sequence[int]) -> Ge2eEncoder:
    """A smaller network with so many hidden units in each layer, chosen as `remove_units` does, to be trained on."""
    layers = lstm_layers(encoder.layers)
    readers = [*map(input_weights, layers[1:]), encoder.linear.weight]
    chosen = [
        heaviest(unit_weights(layer, reader), width)
        for layer, reader, width in zip(layers, readers, widths, strict=True)
    ]
    kept = [[before[unit] for unit in units] for before, units in zip(encoder.kept, chosen, strict=True)]
    smaller = Ge2eEncoder(widths, kept)
    inputs = torch.arange(MELS)
    for index, (layer, units) in enumerate(zip(layers, chosen, strict=True)):
        smaller.layers[index] = keep_units(layer, units, inputs)
        inputs = units
    linear = encoder.linear.state_dict()
    smaller.linear.load_state_dict({"weight": linear["weight"][:, inputs], "bias": linear["bias"]})
    return smaller.train(encoder.training)


def to_bfloat16(encoder: Ge2eEncoder) -> Ge2eEncoder:
    """A copy that holds its weights, and computes, in bfloat16."""
    half = copy.deepcopy(encoder).to(torch.bfloat16)
    half.dtype = torch.bfloat16
    return half


def to_int8(encoder: Ge2eEncoder, layers: Sequence[int] = (0, 1, 2)) -> Ge2eEncoder:
    """A copy whose linear layer and named LSTM layers (counted from 0) are quantized dynamically, for the CPU only.

    INT8 weights, one scale per matrix; activations are quantized at run time, one scale per call and matrix. This is
    PyTorch's `quantize_dynamic`, which PyTorch 2.11 still has and calls deprecated in favour of torchao, which does
    not quantize LSTMs.

    Raises MissingRequirementError where this PyTorch has no kernels for it.
    """
    if not set(layers) <= set(range(len(encoder.layers))):
        raise ValueError(f"the LSTM layers are 0 to {len(encoder.layers) - 1}; got {sorted(layers)}")
    if torch.backends.quantized.engine == "none":
        raise MissingRequirementError("this build of PyTorch has no INT8 kernels (torch.backends.quantized.engine)")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deprecated", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        names = ["linear", *(f"layers.{layer}" for layer in layers)]
        chosen = dict.fromkeys(names, torch.ao.quantization.default_dynamic_qconfig)
        quantized: Ge2eEncoder = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            copy.deepcopy(encoder), chosen
        )
    return quantized


def _units_to_keep(size: int, keep: float) -> int:
    if not 0.0 < keep <= 1.0:
        raise ValueError(f"keep is the fraction of hidden units to keep, above 0 and up to 1; got {keep}")
    return max(1, round(keep * size))


def _our_name(name: str) -> str:
    # "lstm.weight_ih_l2" there is "layers.2.weight_ih_l0" here.
    module, _, weight = name.partition(".")
    return f"layers.{weight[-1]}.{weight[:-1]}0" if module == "lstm" else name
