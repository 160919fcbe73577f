"""WavLM whose convolutions, heads and feed-forward units can be structurally removed, layer by layer.

Shape letters: B windows, T frames, C channels, D the width of the Transformer, H all heads before pruning,
h the heads that a layer kept, d a head's size (D / H).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from diarbench.errors import AudioError
from diarbench.nn.structures import Structure

SAMPLE_RATE = 16000  # Hz
PARTS = {"CNN": ("extractor",), "Transformer": ("encoder",)}  # paths of submodules, as the pruning paper splits them
ENCODER = ""  # the whole of it is what the pruning papers count
GATE_UNITS = 8  # outputs of the linear map that gates the position bias: four to sum for either of two gates


class WavLM(nn.Module):
    """WavLM (Chen et al., 2022, https://arxiv.org/abs/2110.13900) of any structure, with random weights.

    The arithmetic is that of transformers' WavLMModel and of torchaudio's (tests compare them). Differences are only
    in how it is computed: the position bias once for the heads that some layer kept, attention by
    `scaled_dot_product_attention`, a weighted sum of layers that needs no stack of them. Removing heads or
    feed-forward units equals setting their output to zero. Removing channels of the extractor does not: the layer
    norms that follow see fewer channels.

    `dropout` (after attention, feed-forward, the projection and the positional convolution, and in attention's
    weights) acts in training alone; DiariZen trains with 0.1.
    """

    def __init__(self, structure: Structure, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.structure = structure
        self.extractor = Extractor(structure)
        self.encoder = Encoder(structure, dropout=dropout)

    def forward(self, samples: Tensor, weights: Tensor | None = None) -> Tensor:
        """Frames (B, T, D) of windows (B, samples) at 16 kHz; T is `structure.frames(samples)`.

        With `weights` (layers + 1,), the sum of the input of the first layer and of each layer's output by these
        weights; without, the last layer's output. Raises AudioError where no frame fits.
        """
        frames: Tensor = self.encoder(self.extractor(samples), weights)
        return frames

    def states(self, samples: Tensor) -> Iterator[Tensor]:
        """The input of the first layer, then each layer's output as it leaves the layer: layers + 1 times (B, T, D)."""
        return self.encoder.states(self.extractor(samples))

    def fold(self) -> WavLM:
        """This network, made ready for inference: the positional convolution's weight is no longer computed each time.

        Parameters keep their number, names and meaning. Training or loading weights undoes it.
        """
        self.encoder.position.fold()
        return self


class Extractor(nn.Module):
    """From samples (B, samples) to frames (B, T, C): convolutions, each with GELU, some with a norm."""

    scale: Tensor | None

    def __init__(self, structure: Structure) -> None:
        super().__init__()
        self.normalize = structure.normalize_waveform
        self.receptive_field = structure.receptive_field
        self.layers = nn.ModuleList()
        inputs, norm = 1, structure.extractor_norm
        for convolution in structure.convolutions:
            self.layers.append(ExtractorLayer(inputs, *convolution, norm=norm))
            inputs, norm = convolution.channels, "none" if norm == "group_norm" else norm
        self.register_parameter("scale", None)
        if structure.output_scale:
            self.scale = nn.Parameter(torch.ones(structure.features), requires_grad=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Frames (B, T, C). Raises AudioError where no frame fits."""
        if samples.ndim != 2 or samples.shape[1] < self.receptive_field:
            shape = tuple(samples.shape)
            raise AudioError(f"WavLM takes (windows, at least {self.receptive_field} samples), not shape {shape}")
        if self.normalize:
            samples = functional.layer_norm(samples, samples.shape[1:])
        channels = samples.unsqueeze(1)
        for layer in self.layers:
            channels = layer(channels)
        frames = channels.transpose(1, 2)
        return frames if self.scale is None else frames * self.scale


class ExtractorLayer(nn.Module):
    """One convolution without bias, its norm if any, and GELU."""

    norm: nn.Module | None

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int, *, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, channels, kernel, stride=stride, bias=False)
        self.over_channels = norm == "layer_norm"  # for each frame; group_norm: for each channel over all frames
        self.register_module("norm", None)
        if norm != "none":
            self.norm = nn.LayerNorm(channels) if self.over_channels else nn.GroupNorm(channels, channels)

    def forward(self, channels: Tensor) -> Tensor:
        """Channels (B, C, T) to (B, channels, fewer frames)."""
        channels = self.conv(channels)
        if self.norm is not None:
            channels = (
                self.norm(channels.transpose(1, 2)).transpose(1, 2) if self.over_channels else self.norm(channels)
            )
        return functional.gelu(channels)


class Encoder(nn.Module):
    """The Transformer with what leads into it: projection, positional convolution, table of relative positions."""

    def __init__(self, structure: Structure, *, dropout: float = 0.0) -> None:
        super().__init__()
        width = structure.width
        self.pre_norm = structure.pre_norm
        self.projection_norm = nn.LayerNorm(structure.features)
        self.projection = nn.Linear(structure.features, width)
        self.position = PositionalConvolution(width, structure.position_kernel, structure.position_groups)
        # Where norms come first it goes unused, as what is handed on is each layer's own output; published weights
        # have it all the same.
        self.norm = nn.LayerNorm(width)
        self.relative = RelativePositions(structure)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(structure, layer, dropout=dropout) for layer in range(structure.layers))

    def forward(self, features: Tensor, weights: Tensor | None = None) -> Tensor:
        """Frames (B, T, D) of extracted features (B, T, C): the layers summed by `weights`, or the last one."""
        states = self.states(features)
        total = next(states)
        if weights is None:
            for total in states:  # noqa: B007 - the last one is wanted
                pass
            return total
        first, *others = weights.unbind()
        total = total * first
        for state, weight in zip(states, others, strict=True):
            total.addcmul_(state, weight)
        return total

    def states(self, features: Tensor) -> Iterator[Tensor]:
        """The input of the first layer, then each layer's output: layers + 1 times (B, T, D)."""
        frames = self.dropout(self.projection(self.projection_norm(features)))
        frames = frames + self.position(frames)
        frames = self.dropout(frames if self.pre_norm else self.norm(frames))
        yield frames
        relative = self.relative(frames.shape[1])
        for layer in self.layers:
            frames = layer(frames, relative)
            yield frames


class PositionalConvolution(nn.Module):
    """A grouped convolution over time, then GELU; its weight is a gain times a direction.

    The weight norm (Salimans and Kingma, 2016) is over all but the kernel's positions, one gain for each.
    """

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.folded = False
        self.gain = nn.Parameter(torch.empty(1, 1, kernel))
        self.direction = nn.Parameter(torch.empty(width, width // groups, kernel))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.direction, std=math.sqrt(4 / (kernel * width)))
        with torch.no_grad():
            self.gain.copy_(self._norm())
        self.register_load_state_dict_pre_hook(_unfold)  # type: ignore[no-untyped-call]

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (B, T, D) to what is added to them, (B, T, D)."""
        weight = self.direction if self.folded else self.direction * (self.gain / self._norm())
        kernel = weight.shape[2]
        channels = functional.conv1d(frames.transpose(1, 2), weight, self.bias, padding=kernel // 2, groups=self.groups)
        return functional.gelu(channels[..., : frames.shape[1]]).transpose(1, 2)

    @torch.no_grad()
    def fold(self) -> None:
        """Let the direction be the weight itself, which a gain of its own length leaves as it is."""
        if not self.folded:
            # New tensors: those that were loaded may still be someone else's.
            self.direction.data = self.direction * (self.gain / self._norm())
            self.gain.data = self._norm()
            self.folded = True

    def train(self, mode: bool = True) -> PositionalConvolution:
        """Set training (which undoes folding) or inference."""
        self.folded = self.folded and not mode
        return super().train(mode)

    def _norm(self) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(self.direction, dim=(0, 1), keepdim=True)
        return norm


def _unfold(position: nn.Module, *_: Any) -> None:
    """Weights that are about to be loaded are gain and direction again."""
    position.folded = False  # type: ignore[assignment]


class RelativePositions(nn.Module):
    """What attention adds for how far the other frame is away, for each head that some layer kept.

    Distances share buckets as in T5 (Raffel et al., 2020): half of the buckets for either side, in each half the
    first half exact, the others growing logarithmically up to `max_distance`.
    """

    used: Tensor

    def __init__(self, structure: Structure) -> None:
        super().__init__()
        self.buckets, self.max_distance = structure.buckets, structure.max_distance
        self.weight = nn.Parameter(torch.randn(structure.buckets, structure.total_heads))
        self.register_buffer("used", _index(used_heads(structure)), persistent=False)

    def forward(self, frames: int) -> Tensor:
        """The bias (used heads, T, T), [:, i, j] for frame i looking at frame j."""
        distances = torch.arange(1 - frames, frames, device=self.weight.device)
        line = self.weight[self._bucket(distances)][:, self.used].T  # (used heads, 2T - 1)
        return line.unfold(1, frames, 1).flip(1)  # row i is the line from distance -i on

    def _bucket(self, distances: Tensor) -> Tensor:
        side = self.buckets // 2
        exact = side // 2
        away = distances.abs()
        growth = torch.log(away.clamp(min=1) / exact) / math.log(self.max_distance / exact)
        far = (exact + growth * (side - exact)).long().clamp(max=side - 1)
        return side * (distances > 0) + torch.where(away < exact, away, far)


class Layer(nn.Module):
    """One layer of the Transformer; without attention or feed-forward its norms stay, where norms come after.

    The output bias of what was removed has no other exact place: before it, it would change the state that the layer
    is given and that others read; behind it, a norm or the next map is in the way.
    """

    attention: Attention | None
    attention_bias: Tensor | None
    feed_forward: FeedForward | None
    feed_forward_bias: Tensor | None

    def __init__(self, structure: Structure, layer: int, *, dropout: float) -> None:
        super().__init__()
        self.pre_norm = structure.pre_norm
        self.register_module("attention", None)
        self.register_module("feed_forward", None)
        self.register_parameter("attention_bias", None)
        self.register_parameter("feed_forward_bias", None)
        if layer in structure.attention_biases:
            self.attention_bias = nn.Parameter(torch.zeros(structure.width))
        if layer in structure.feed_forward_biases:
            self.feed_forward_bias = nn.Parameter(torch.zeros(structure.width))
        if structure.heads[layer]:
            self.attention = Attention(structure, layer, dropout=dropout)
        if units := structure.feed_forward[layer]:
            self.feed_forward = FeedForward(structure.width, units)
        self.attention_norm = nn.LayerNorm(structure.width)
        self.feed_forward_norm = nn.LayerNorm(structure.width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, relative: Tensor) -> Tensor:
        """Frames (B, T, D) to (B, T, D); `relative` is what RelativePositions gave."""
        if self.attention is not None:
            inputs = self.attention_norm(frames) if self.pre_norm else frames
            frames = frames + self.dropout(self.attention(inputs, relative))
        elif self.attention_bias is not None:
            frames = frames + self.attention_bias
        if not self.pre_norm:
            frames = self.attention_norm(frames)
        if self.feed_forward is not None:
            inputs = self.feed_forward_norm(frames) if self.pre_norm else frames
            frames = frames + self.dropout(self.feed_forward(inputs))
        elif self.feed_forward_bias is not None:
            frames = frames + self.feed_forward_bias
        return frames if self.pre_norm else self.feed_forward_norm(frames)


class Attention(nn.Module):
    """Self-attention of the kept heads, with a position bias that each frame and head gates.

    The gate of a head looks at that head's share of the layer's input, the D units cut into the H original heads.
    """

    heads: Tensor
    places: Tensor

    def __init__(self, structure: Structure, layer: int, *, dropout: float) -> None:
        super().__init__()
        heads = structure.heads[layer]
        width, inner = structure.width, len(heads) * structure.head_size
        self.total_heads, self.head_size, self.dropout = structure.total_heads, structure.head_size, dropout
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(width, inner)
        self.value = nn.Linear(width, inner)
        self.output = nn.Linear(inner, width)
        self.gate = nn.Linear(structure.head_size, GATE_UNITS)
        self.gate_scale = nn.Parameter(torch.ones(1, structure.total_heads, 1, 1))  # of all heads, as published
        used = used_heads(structure)
        self.all_heads, self.all_places = heads == tuple(range(structure.total_heads)), heads == used
        self.register_buffer("heads", _index(heads), persistent=False)
        self.register_buffer("places", _index(used.index(head) for head in heads), persistent=False)

    def forward(self, frames: Tensor, relative: Tensor) -> Tensor:
        """Frames (B, T, D) to (B, T, D); `relative` is what RelativePositions gave."""
        bias = self._gates(frames) * (relative if self.all_places else relative[self.places])  # (B, h, T, T)
        query, key, value = (self._by_head(linear(frames)) for linear in (self.query, self.key, self.value))
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), dropout_p=dropout)
        joined: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return joined

    def _gates(self, frames: Tensor) -> Tensor:
        """How much of the position bias each frame takes, between 1 and about 3: (B, h, T, 1)."""
        shares = frames.reshape(*frames.shape[:2], self.total_heads, self.head_size).transpose(1, 2)
        scale: Tensor = self.gate_scale
        if not self.all_heads:
            shares, scale = shares[:, self.heads], scale[:, self.heads]
        sums: Tensor = self.gate(shares).reshape(*shares.shape[:3], 2, GATE_UNITS // 2).sum(4)
        update, reset = sums.sigmoid().chunk(2, dim=3)
        return update * (reset * scale - 1) + 2

    def _by_head(self, units: Tensor) -> Tensor:
        return units.reshape(*units.shape[:2], -1, self.head_size).transpose(1, 2)  # (B, h, T, d)


class FeedForward(nn.Module):
    """Two linear maps with GELU between."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, units)
        self.outer = nn.Linear(units, width)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (B, T, D) to (B, T, D)."""
        outputs: Tensor = self.outer(functional.gelu(self.inner(frames)))
        return outputs


def used_heads(structure: Structure) -> tuple[int, ...]:
    """The heads that at least one layer kept, in order."""
    return tuple(sorted(set().union(*structure.heads)))


def _index(values: Any) -> Tensor:
    """Positions to select by. Never on `meta`: they are no weights, so nothing would bring them back from there."""
    return torch.tensor(tuple(values), dtype=torch.long, device="cpu")
