"""From a gated WavLM to a smaller plain one, and the record of what was kept.

Masks go into the weights that come next: of heads into the output map, of units into the second map, of channels into
the next convolution, of the last channels into fixed factors. Removing heads and units is exact: the smaller model
computes what the gated one does with the same masks. Removing channels is not, wherever a layer norm sees
fewer of them (before the projection in Base and Large, and after each convolution in Large); training on repairs that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diarbench.compress.gated import GatedWavLM
from diarbench.compress.gates import PerGate
from diarbench.errors import InputError
from diarbench.nn.structures import Structure
from diarbench.nn.wavlm import Attention, ExtractorLayer, FeedForward, Layer, WavLM

FORMAT = 1  # of the JSON files, written as their key "format"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of a WavLM, by its place in the one that was pruned first: channels, heads, feed-forward units."""

    convolutions: tuple[tuple[int, ...], ...]  # per convolution
    heads: tuple[tuple[int, ...], ...]  # per layer; as in `Structure`
    feed_forward: tuple[tuple[int, ...], ...]  # per layer

    @classmethod
    def all_of(cls, structure: Structure) -> Kept:
        """Everything that this structure has; its channels and units count from 0."""
        return cls(
            tuple(tuple(range(convolution.channels)) for convolution in structure.convolutions),
            structure.heads,
            tuple(tuple(range(units)) for units in structure.feed_forward),
        )

    def to_json(self) -> str:
        """A JSON object: "format", and the fields, one line for each convolution or layer."""
        lines = [f'  "format": {FORMAT}']
        for field in fields(self):
            rows = ",\n    ".join(json.dumps(row) for row in getattr(self, field.name))
            lines.append(f'  "{field.name}": [\n    {rows}\n  ]')
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str, path: Path | str = "kept") -> Kept:
        """What `to_json` wrote; `path` is named in errors (InputError)."""
        names = [field.name for field in fields(cls)]
        try:
            values = json.loads(text)
            if values.pop("format") != FORMAT or sorted(values) != sorted(names):
                raise ValueError(f"its keys are format (which is {FORMAT}), {', '.join(names)}")
            kept = cls(*(tuple(tuple(map(_index, row)) for row in values[name]) for name in names))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: no record of what was kept of a WavLM: {error!r}") from error
        return kept

    def check(self, structure: Structure) -> None:
        """Raises InputError unless it can be what is left in a WavLM of this structure."""
        counts = tuple(map(len, self.convolutions)), self.heads, tuple(map(len, self.feed_forward))
        channels = tuple(convolution.channels for convolution in structure.convolutions)
        if counts != (channels, structure.heads, structure.feed_forward):
            raise InputError("the record of what was kept before is not that of this WavLM: its counts are others")


@dataclass(frozen=True, slots=True)
class Materialised:
    """A smaller WavLM, whose `structure` says its sizes, and what it kept."""

    wavlm: WavLM
    kept: Kept


def materialise(gated: GatedWavLM, masks: PerGate | None = None, *, earlier: Kept | None = None) -> Materialised:
    """A WavLM without whatever these masks set to 0 (by default, those of the gated one in inference).

    It has the gated one's device, precision, dropout and mode; the gated one stays as it is. Head indices are the
    original ones, however often the model was pruned before; channels and units are too if `earlier` says what
    earlier pruning kept. An attention or feed-forward that loses all heads or units leaves its output bias behind; one
    whose own gate is 0 leaves nothing.

    Raises InputError where a convolution would lose all its channels, or masks or `earlier` don't fit.
    """
    structure, wavlm = gated.structure, gated.wavlm
    if masks is None:
        masks = gated.fixed or gated.gates.deterministic(gated.rule)
    earlier = earlier or Kept.all_of(structure)
    earlier.check(structure)
    weight = next(wavlm.parameters())
    masks = masks.map(lambda mask: mask.detach().to(weight))
    smaller = smaller_structure(structure, masks)
    with torch.device("meta"):
        new = WavLM(smaller, dropout=wavlm.encoder.dropout.p)
    state = {name: tensor for name, tensor in wavlm.state_dict().items() if not name.startswith(_CUT)}
    state |= _extractor(wavlm, masks)
    for index, layer in enumerate(wavlm.encoder.layers):
        assert isinstance(layer, Layer)
        state |= _layer(f"encoder.layers.{index}.", layer, smaller, masks, index)
    new.load_state_dict({name: tensor.detach().clone() for name, tensor in state.items()}, strict=True, assign=True)
    return Materialised(new.to(weight.device).train(wavlm.training), _record(earlier, smaller, masks))


_CUT = ("extractor.", "encoder.projection", "encoder.layers.")


def smaller_structure(structure: Structure, masks: PerGate) -> Structure:
    """What these masks leave of a structure. Raises InputError where they don't fit, or leave a convolution nothing."""
    masks.check(structure)
    channels = [len(_left(mask)) for mask in masks.convolutions]
    for index, count in enumerate(channels):
        if not count:
            raise InputError(f"convolution {index} would lose all its channels: a WavLM needs one in each")
    heads, units = [], []
    attention_biases, feed_forward_biases = set(structure.attention_biases), set(structure.feed_forward_biases)
    for layer in range(structure.layers):
        attention, feed_forward = bool(masks.attention_layers[layer]), bool(masks.feed_forward_layers[layer])
        left = [structure.heads[layer][place] for place in _left(masks.heads[layer])] if attention else []
        heads.append(tuple(left))
        units.append(len(_left(masks.feed_forward[layer])) if feed_forward else 0)
        if structure.heads[layer] and attention and not left:
            attention_biases.add(layer)
        if structure.feed_forward[layer] and feed_forward and not units[-1]:
            feed_forward_biases.add(layer)
    kept = zip(structure.convolutions, channels, strict=True)
    return replace(
        structure,
        convolutions=tuple(convolution._replace(channels=count) for convolution, count in kept),
        output_scale=True,
        heads=tuple(heads),
        feed_forward=tuple(units),
        attention_biases=tuple(sorted(attention_biases)),
        feed_forward_biases=tuple(sorted(feed_forward_biases)),
    )


def _extractor(wavlm: WavLM, masks: PerGate) -> dict[str, Tensor]:
    """The weights of the convolutions and of the projection that follows them."""
    state: dict[str, Tensor] = {}
    inputs, before = [0], torch.ones(1).to(masks.attention_layers)
    for index, (layer, mask) in enumerate(zip(wavlm.extractor.layers, masks.convolutions, strict=True)):
        assert isinstance(layer, ExtractorLayer)
        name, outputs = f"extractor.layers.{index}.", _left(mask)
        state[f"{name}conv.weight"] = layer.conv.weight[outputs][:, inputs] * before[inputs][:, None]
        if layer.norm is not None:
            state |= {f"{name}norm.{part}": getattr(layer.norm, part)[outputs] for part in ("weight", "bias")}
        inputs, before = outputs, mask
    scale = wavlm.extractor.scale
    state["extractor.scale"] = before[inputs] if scale is None else before[inputs] * scale[inputs]
    norm, projection = wavlm.encoder.projection_norm, wavlm.encoder.projection
    state |= {f"encoder.projection_norm.{part}": getattr(norm, part)[inputs] for part in ("weight", "bias")}
    return state | {
        "encoder.projection.weight": projection.weight[:, inputs],
        "encoder.projection.bias": projection.bias,
    }


def _layer(name: str, layer: Layer, smaller: Structure, masks: PerGate, index: int) -> dict[str, Tensor]:
    """The weights of one layer of the Transformer."""
    state = {part: tensor for part, tensor in layer.state_dict().items() if "_norm." in part}
    attention_bias, feed_forward_bias = layer.attention_bias, layer.feed_forward_bias
    if layer.attention is not None:
        parts = _attention(layer.attention, masks.heads[index], masks.attention_layers[index])
        attention_bias = parts["output.bias"]
        if smaller.heads[index]:
            state |= {f"attention.{part}": tensor for part, tensor in parts.items()}
    if layer.feed_forward is not None:
        parts = _feed_forward(layer.feed_forward, masks.feed_forward[index], masks.feed_forward_layers[index])
        feed_forward_bias = parts["outer.bias"]
        if smaller.feed_forward[index]:
            state |= {f"feed_forward.{part}": tensor for part, tensor in parts.items()}
    if index in smaller.attention_biases and attention_bias is not None:
        state["attention_bias"] = attention_bias
    if index in smaller.feed_forward_biases and feed_forward_bias is not None:
        state["feed_forward_bias"] = feed_forward_bias
    return {f"{name}{part}": tensor for part, tensor in state.items()}


def _attention(attention: Attention, mask: Tensor, module_mask: Tensor) -> dict[str, Tensor]:
    size = attention.head_size
    rows = [head * size + unit for head in _left(mask) for unit in range(size)]
    state = {part: tensor for part, tensor in attention.state_dict().items() if part.startswith("gate")}
    for part in ("query", "key", "value"):
        linear: nn.Linear = getattr(attention, part)
        state |= {f"{part}.weight": linear.weight[rows], f"{part}.bias": linear.bias[rows]}
    columns = mask.repeat_interleave(size)[rows] * module_mask
    output = attention.output
    return state | {"output.weight": output.weight[:, rows] * columns, "output.bias": output.bias * module_mask}


def _feed_forward(feed_forward: FeedForward, mask: Tensor, module_mask: Tensor) -> dict[str, Tensor]:
    units, inner, outer = _left(mask), feed_forward.inner, feed_forward.outer
    return {
        "inner.weight": inner.weight[units],
        "inner.bias": inner.bias[units],
        "outer.weight": outer.weight[:, units] * (mask[units] * module_mask),
        "outer.bias": outer.bias * module_mask,
    }


def _record(earlier: Kept, smaller: Structure, masks: PerGate) -> Kept:
    """What is left, by its place in the first model."""

    def original(before: Sequence[int], mask: Tensor, count: int) -> tuple[int, ...]:
        return tuple(before[place] for place in _left(mask)) if count else ()

    channels = [convolution.channels for convolution in smaller.convolutions]
    return Kept(
        tuple(map(original, earlier.convolutions, masks.convolutions, channels)),
        smaller.heads,
        tuple(map(original, earlier.feed_forward, masks.feed_forward, smaller.feed_forward)),
    )


def _left(mask: Tensor) -> list[int]:
    """Where a mask is not 0."""
    places: list[int] = mask.nonzero().flatten().tolist()
    return places


def _index(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no index")
    return value
