"""Expected parameters and multiply-accumulates (MACs) of a gated WavLM, in closed form, and what can be reached.

They are those of the smaller model that `surgery` makes: its parameters by numel, its MACs as
`torch.utils.flop_counter` counts them (tests hold them against both). With independent gates the expectations are
exact, since each convolution's size is a product of two groups' counts and all else is a sum.

Where the formulas of the pruning paper's reference implementation differ:
- They leave out the relative-position tables and their gates' weights (0.01 % of Base+) and count these in the whole.
- They count an attention and a feed-forward down to an output bias that surgery there throws away; here it stays.
- Their MACs leave out the map that gates relative positions (0.05 % of Base+).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from diarbench.compress.gates import GATED, PerGate
from diarbench.errors import InputError, did_you_mean
from diarbench.nn.structures import Structure
from diarbench.nn.wavlm import GATE_UNITS

MEASURES = ("parameters", "macs")
SECOND = 16000  # samples: MACs are counted on one second, the pruning paper's convention
Number = TypeVar("Number", int, Tensor)


@dataclass(frozen=True, slots=True)
class Size(Generic[Number]):
    """Parameters or MACs of a WavLM: its convolutions, and all that follows them (projection included)."""

    cnn: Number
    transformer: Number

    @property
    def total(self) -> Number:
        """Both."""
        return self.cnn + self.transformer

    def part(self, name: str) -> Number:
        """One of "all", "CNN", "Transformer"."""
        return {"all": self.total, "CNN": self.cnn, "Transformer": self.transformer}[name]


@dataclass(frozen=True, slots=True)
class Counts:
    """How much of each group there is: whole numbers of one model, or tensors of what is expected."""

    channels: Sequence[Any]
    heads: Sequence[Any]
    attention_left: Sequence[Any]  # per layer, 1 where any head is left, or how probable that is
    units: Sequence[Any]
    attention_layers: Sequence[Any]  # per layer, 1, or 0 where the whole module went, with its output bias
    feed_forward_layers: Sequence[Any]

    @classmethod
    def of(cls, structure: Structure) -> Counts:
        """All that the structure has."""
        return cls(
            [convolution.channels for convolution in structure.convolutions],
            [len(heads) for heads in structure.heads],
            [min(len(heads), 1) for heads in structure.heads],
            structure.feed_forward,
            [1] * structure.layers,
            [1] * structure.layers,
        )


def expected_size(
    structure: Structure, kept: PerGate, measure: str = "parameters", *, samples: int = SECOND
) -> Size[Tensor]:
    """What is expected of the smaller model, as float64 scalars through which gradients flow.

    `kept` holds the probabilities that the gates of a WavLM of this structure are not 0; with zeros and ones it
    is the size of one model. `samples` (at 16 kHz) matter to MACs alone. The smaller model's fixed factors per channel,
    into which the last convolution's masks go, count as parameters. Raises InputError for an unknown measure.
    """
    kept.check(structure)
    values = kept.map(lambda tensor: tensor.double())
    counts = Counts(
        [group.sum() for group in values.convolutions],
        [group.sum() for group in values.heads],
        [1 - (1 - group).prod() for group in values.heads],
        [group.sum() for group in values.feed_forward],
        values.attention_layers.unbind(),
        values.feed_forward_layers.unbind(),
    )
    return size_by_counts(structure, counts, measure, samples=samples, scaled=True)


def exact_size(structure: Structure, measure: str = "parameters", *, samples: int = SECOND) -> Size[int]:
    """Parameters or MACs of `WavLM(structure)`.

    >>> from diarbench.nn.structures import named_structure
    >>> exact_size(named_structure("wavlm-base-plus")).total
    94381168
    >>> exact_size(named_structure("wavlm_base_s80_md"), "macs").total
    1134905615
    """
    return size_by_counts(structure, Counts.of(structure), measure, samples=samples, scaled=structure.output_scale)


def smallest_size(
    structure: Structure, measure: str = "parameters", *, samples: int = SECOND, gated: Sequence[str] = GATED
) -> Size[int]:
    """What is left of a WavLM of this structure when all that has gates is gone, but one channel per convolution.

    `gated` names the kinds of gates, as `WavLMGates` does.
    """
    full = Counts.of(structure)
    none, ones = [0] * structure.layers, [1] * structure.layers
    heads = "heads" in gated
    counts = Counts(
        [1] * len(full.channels) if "convolutions" in gated else full.channels,
        none if heads else full.heads,
        none if heads else full.attention_left,
        none if "feed_forward" in gated else full.units,
        none if "attention_layers" in gated else ones,
        none if "feed_forward_layers" in gated else ones,
    )
    return size_by_counts(structure, counts, measure, samples=samples, scaled=True)


def size_by_counts(structure: Structure, counts: Counts, measure: str, *, samples: int, scaled: bool) -> Size[Any]:
    """The formulas themselves; `scaled` says whether a factor per channel follows the last convolution."""
    if measure not in MEASURES:
        raise InputError(f"{measure} is no measure of a size{did_you_mean(measure, MEASURES)}")
    if measure == "macs":
        return _macs(structure, counts, samples)
    return _parameters(structure, counts, scaled=scaled)


def _parameters(structure: Structure, counts: Counts, *, scaled: bool) -> Size[Any]:
    channels, width, head = counts.channels, structure.width, structure.head_size
    cnn: Any = channels[-1] if scaled else 0
    for index, (inputs, outputs) in enumerate(itertools.pairwise([1, *channels])):
        normed = structure.extractor_norm == "layer_norm" or index == 0
        cnn = cnn + inputs * outputs * structure.convolutions[index].kernel + (2 * outputs if normed else 0)
    kernel, groups = structure.position_kernel, structure.position_groups
    fixed = kernel + width * (width // groups) * kernel + width  # positional convolution: gain, direction, bias
    fixed += 2 * width + structure.buckets * structure.total_heads + structure.layers * 4 * width  # norms and table
    transformer = fixed + 2 * channels[-1] + (channels[-1] + 1) * width
    gate = GATE_UNITS * (head + 1) + structure.total_heads
    for layer in range(structure.layers):
        if structure.heads[layer]:
            attention = counts.heads[layer] * head * (4 * width + 3) + counts.attention_left[layer] * gate + width
            transformer = transformer + counts.attention_layers[layer] * attention
        if structure.feed_forward[layer]:
            units = counts.units[layer] * (2 * width + 1) + width
            transformer = transformer + counts.feed_forward_layers[layer] * units
    biases = len(structure.attention_biases) + len(structure.feed_forward_biases)
    return Size(cnn, transformer + biases * width)


def _macs(structure: Structure, counts: Counts, samples: int) -> Size[Any]:
    if not (frames := structure.frames(samples)):
        raise InputError(f"{samples} samples are less than the {structure.receptive_field} that a frame needs")
    channels, width, head = counts.channels, structure.width, structure.head_size
    cnn: Any = 0
    for inputs, outputs, convolution in zip([1, *channels[:-1]], channels, structure.convolutions, strict=True):
        samples = (samples - convolution.kernel) // convolution.stride + 1
        cnn = cnn + samples * convolution.kernel * inputs * outputs
    kernel, groups = structure.position_kernel, structure.position_groups
    positions = frames + 2 * (kernel // 2) - kernel + 1  # one more where the kernel is even
    transformer = frames * channels[-1] * width + positions * kernel * width * (width // groups)
    for layer in range(structure.layers):
        # Query, key, value and output; products of all frames with all, twice; the gate of relative positions.
        per_head = head * (4 * frames * width + 2 * frames**2 + frames * GATE_UNITS)
        transformer = transformer + counts.attention_layers[layer] * counts.heads[layer] * per_head
        transformer = transformer + counts.feed_forward_layers[layer] * counts.units[layer] * 2 * frames * width
    return Size(cnn, transformer)


def as_probabilities(masks: PerGate) -> PerGate:
    """1 for each mask that is not 0: `expected_size` of it is the size of the model that surgery makes with them."""
    return masks.map(lambda mask: (mask != 0).to(torch.float64))
