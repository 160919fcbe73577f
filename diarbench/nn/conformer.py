"""Conformer blocks, as the EEND systems put them on top of WavLM, and the classifier that ends them.

Shape letters: B windows, T frames, U units.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from diarbench.errors import InputError
from diarbench.nn.powerset import powerset


@dataclass(frozen=True, slots=True)
class HeadShape:
    """The size of what lies between frames and classes; the defaults are DiariZen's, and so the pruning paper's.

    Raises InputError where the numbers don't fit each other.
    """

    units: int = 256
    feed_forward: int = 1024
    heads: int = 4
    blocks: int = 4
    kernel: int = 31  # frames that the depthwise convolution sees; odd, so that it is centred
    speakers: int = 4  # at most in one window
    overlap: int = 2  # of them at most at once

    def __post_init__(self) -> None:
        if min(self.units, self.feed_forward, self.heads, self.blocks) < 1 or self.units % self.heads:
            raise InputError(f"{self.units} units can't be shared by {self.heads} heads, or a size is not positive")
        if self.kernel % 2 == 0 or self.kernel < 1:
            raise InputError(f"a kernel of {self.kernel} frames has no middle: use an odd number")
        powerset(self.speakers, self.overlap)

    @property
    def classes(self) -> int:
        """Sets of speakers that are told apart.

        >>> HeadShape().classes, HeadShape(overlap=4).classes
        (11, 16)
        """
        return len(powerset(self.speakers, self.overlap))


class Head(nn.Module):
    """Projection, layer norm, Conformer blocks, classifier: 6,115,851 weights on 80 features in DiariZen's shape."""

    def __init__(self, inputs: int, shape: HeadShape, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.projection = nn.Linear(inputs, shape.units)
        self.norm = nn.LayerNorm(shape.units)
        self.conformer = Conformer(shape, dropout=dropout)
        self.classifier = nn.Linear(shape.units, shape.classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Log-probabilities (B, T, classes), in the order of `powerset`, of frames (B, T, inputs)."""
        units = self.conformer(self.norm(self.projection(frames)))
        return functional.log_softmax(self.classifier(units), dim=2)


class Conformer(nn.Module):
    """Conformer blocks (Gulati et al., 2020, https://arxiv.org/abs/2005.08100) without position encoding or masks.

    Four of 256 units, 1,024 between the linear maps, 4 heads and kernels of 31 frames have 6,091,776 weights.
    """

    def __init__(self, shape: HeadShape, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConformerBlock(shape, dropout=dropout) for _ in range(shape.blocks))

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, U) to (B, T, U); every frame sees every other."""
        for block in self.blocks:
            frames = block(frames)
        return frames


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, layer norm; each adds to what comes in."""

    def __init__(self, shape: HeadShape, *, dropout: float) -> None:
        super().__init__()
        self.first = ConformerFeedForward(shape, dropout=dropout)
        self.attention = ConformerAttention(shape, dropout=dropout)
        self.convolution = ConformerConvolution(shape, dropout=dropout)
        self.second = ConformerFeedForward(shape, dropout=dropout)
        self.norm = nn.LayerNorm(shape.units)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, U) to (B, T, U)."""
        frames = frames + 0.5 * self.first(frames)
        frames = frames + self.attention(frames)
        frames = frames + self.convolution(frames)
        frames = frames + 0.5 * self.second(frames)
        normed: Tensor = self.norm(frames)
        return normed


class ConformerFeedForward(nn.Module):
    """Layer norm and two linear maps with SiLU between."""

    def __init__(self, shape: HeadShape, *, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.units)
        self.inner = nn.Linear(shape.units, shape.feed_forward)
        self.outer = nn.Linear(shape.feed_forward, shape.units)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, U) to what is added to it."""
        added: Tensor = self.dropout(self.outer(self.dropout(functional.silu(self.inner(self.norm(frames))))))
        return added


class ConformerAttention(nn.Module):
    """Layer norm and self-attention of all frames."""

    def __init__(self, shape: HeadShape, *, dropout: float) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm = nn.LayerNorm(shape.units)
        self.query = nn.Linear(shape.units, shape.units)
        self.key = nn.Linear(shape.units, shape.units)
        self.value = nn.Linear(shape.units, shape.units)
        self.output = nn.Linear(shape.units, shape.units)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, U) to what is added to it."""
        frames = self.norm(frames)
        split = (*frames.shape[:2], self.heads, -1)
        query, key, value = (
            linear(frames).reshape(split).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        dropout = self.dropout.p if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        added: Tensor = self.dropout(self.output(mixed.transpose(1, 2).flatten(2)))
        return added


class ConformerConvolution(nn.Module):
    """Layer norm, gated linear unit, depthwise convolution over time, batch norm, SiLU, linear."""

    def __init__(self, shape: HeadShape, *, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.units)
        self.inner = nn.Conv1d(shape.units, 2 * shape.units, 1)
        self.depthwise = nn.Conv1d(
            shape.units, shape.units, shape.kernel, padding=shape.kernel // 2, groups=shape.units
        )
        self.batch_norm = nn.BatchNorm1d(shape.units)
        self.outer = nn.Conv1d(shape.units, shape.units, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, U) to what is added to it."""
        channels = functional.glu(self.inner(self.norm(frames).transpose(1, 2)), dim=1)
        channels = functional.silu(self.batch_norm(self.depthwise(channels)))
        added: Tensor = self.dropout(self.outer(channels).transpose(1, 2))
        return added
