"""A WavLM with gates on its channels, heads and feed-forward units, in the place of a plain one while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diarbench.compress.gates import GATED, RULES, KeepAtStart, PerGate, WavLMGates
from diarbench.errors import InputError, did_you_mean
from diarbench.nn.structures import Structure
from diarbench.nn.wavlm import Layer, WavLM


class GatedWavLM(nn.Module):
    """A WavLM and its gates; called as the WavLM is, so that it can stand in an `Eend` as its `wavlm`.

    Masks are applied by hooks where the pruning paper has its gates: to a convolution's output after norm and GELU, to
    what each head hands to the attention's output map, to feed-forward units after GELU; the optional gates of whole
    modules, to what these add to the frames. Each call draws new masks in training (with `generator`, or torch's own
    noise), the same for the whole batch; in inference they follow `rule`, one of `gates.RULES`. `fixed` masks, where
    set, are used in both.

    The WavLM is taken over, not copied. Raises InputError for unknown rules and kinds of gates.
    """

    def __init__(
        self,
        wavlm: WavLM,
        *,
        gated: Sequence[str] = GATED,
        start: KeepAtStart | None = None,
        rule: str = "reference",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if rule not in RULES:
            raise InputError(f"{rule} is no rule for masks{did_you_mean(rule, RULES)}")
        self.wavlm = wavlm
        generator = torch.Generator().manual_seed(seed)
        self.gates = WavLMGates(wavlm.structure, gated=gated, start=start, generator=generator)
        self.gates.to(next(wavlm.parameters()).device)
        self.rule = rule
        self.generator: torch.Generator | None = None
        self.fixed: PerGate | None = None
        self._places = _Places(wavlm)

    @property
    def structure(self) -> Structure:
        """Of the WavLM before anything is removed."""
        return self.wavlm.structure

    def forward(self, samples: Tensor, weights: Tensor | None = None) -> Tensor:
        """As `WavLM.forward`, with masks."""
        self._places.set(self.masks())
        try:
            frames: Tensor = self.wavlm(samples, weights)
        finally:
            self._places.set(None)
        return frames

    def states(self, samples: Tensor) -> list[Tensor]:
        """The first layer's input, then each layer's output: layers + 1 times (B, T, D), all with the same masks."""
        self._places.set(self.masks())
        try:
            return list(self.wavlm.states(samples))
        finally:
            self._places.set(None)

    def masks(self) -> PerGate:
        """The masks that a call now would use."""
        if self.fixed is not None:
            return self.fixed
        if self.training:
            return self.gates.sample(generator=self.generator)
        return self.gates.deterministic(self.rule)

    def fold(self) -> GatedWavLM:
        """As `WavLM.fold`."""
        self.wavlm.fold()
        return self


class _Places:
    """All places of a WavLM where a mask is applied; only while one is set does anything happen there."""

    def __init__(self, wavlm: WavLM) -> None:
        self.convolutions = [_Place() for _ in wavlm.extractor.layers]
        layers = wavlm.encoder.layers
        self.heads, self.attention = [_Place(wavlm.structure.head_size) for _ in layers], [_Place() for _ in layers]
        self.units, self.feed_forward = [_Place() for _ in layers], [_Place() for _ in layers]
        for convolution, place in zip(wavlm.extractor.layers, self.convolutions, strict=True):
            convolution.register_forward_hook(place.channels)
        for index, layer in enumerate(layers):
            assert isinstance(layer, Layer)
            if layer.attention is not None:
                layer.attention.output.register_forward_pre_hook(self.heads[index].inputs)
                layer.attention.register_forward_hook(self.attention[index].outputs)
            if layer.feed_forward is not None:
                layer.feed_forward.outer.register_forward_pre_hook(self.units[index].inputs)
                layer.feed_forward.register_forward_hook(self.feed_forward[index].outputs)

    def set(self, masks: PerGate | None) -> None:
        """Let these masks act, or none. (None may stay behind: tensors with a history can't be copied.)"""
        for places, values in (
            (self.convolutions, masks.convolutions if masks else None),
            (self.heads, masks.heads if masks else None),
            (self.units, masks.feed_forward if masks else None),
            (self.attention, masks.attention_layers.unbind() if masks else None),
            (self.feed_forward, masks.feed_forward_layers.unbind() if masks else None),
        ):
            for place, value in zip(places, values or [None] * len(places), strict=True):
                place.mask = value


class _Place:
    """One place: hooks that multiply by its mask, if there is one."""

    def __init__(self, repeat: int = 1) -> None:
        self.mask: Tensor | None = None
        self.repeat = repeat  # values that one number of the mask is for

    def channels(self, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        """Output (B, C, T) by a mask (C,)."""
        return output if self.mask is None else output * self.mask[:, None].to(output)

    def inputs(self, _: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        """The input (B, T, units) by a mask (units / repeat,)."""
        if self.mask is None:
            return inputs
        return (inputs[0] * self.mask.repeat_interleave(self.repeat).to(inputs[0]),)

    def outputs(self, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        """The output by a mask of one number."""
        return output if self.mask is None else output * self.mask.to(output)
