"""Small gated WavLMs and masks for tests."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "nn"))

from small_networks import noise, shaken, small

from diarbench.compress.gates import PerGate
from diarbench.nn.structures import Convolution, Structure
from diarbench.nn.wavlm import WavLM

__all__ = ["close", "noise", "numel", "random_masks", "shaken", "small", "tiny", "wavlm"]


def tiny(kind: str, *, layers: int = 3) -> Structure:
    """As `small`, with groups of different sizes, so that none is taken for another."""
    structure = small(kind, layers=layers)
    channels = (7, 6, 5, 9, 4, 8, 6)
    return replace(
        structure,
        convolutions=tuple(
            Convolution(count, kernel, stride)
            for count, (_, kernel, stride) in zip(channels, structure.convolutions, strict=True)
        ),
        feed_forward=(11, 13, 10, 12)[:layers],
    )


def wavlm(structure: Structure, seed: int = 0) -> WavLM:
    """With weights of which none is special."""
    torch.manual_seed(seed)
    network = shaken(WavLM(structure), seed)
    assert isinstance(network, WavLM)
    return network


def random_masks(structure: Structure, seed: int, *, soft: bool = True, channels: bool = True) -> PerGate:
    """Masks of which about half are 0; whole groups among them, but each convolution keeps something.

    Soft ones are between 0.2 and 1 where they are not 0; without `channels`, those are all 1.
    """
    generator = torch.Generator().manual_seed(seed)

    def mask(ones: Tensor, kept: float = 0.6) -> Tensor:
        values = 0.2 + 0.8 * torch.rand(ones.shape, generator=generator) if soft else ones
        nothing = torch.rand((), generator=generator) < 0.2
        return values * (torch.rand(ones.shape, generator=generator) < kept) * (~nothing)

    ones = PerGate.ones(structure)
    masks = ones.map(mask)
    convolutions = []
    for one, group in zip(ones.convolutions, masks.convolutions, strict=True):
        group[int(torch.randint(len(group), (), generator=generator))] = 0.5 if soft else 1.0
        convolutions.append(group if channels else one)
    return replace(masks, convolutions=tuple(convolutions))


def numel(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def close(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-5) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)
