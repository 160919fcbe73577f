"""Pruning a GE2E encoder by what it hears, with no gradients and no labels: seconds of work.

A gate of the full network adds up w·u, u being what its layer reads: the layer below, its own last state, and 1 for the
bias. With G = Σ u uᵀ over some speech,

    which weights go    those with the smallest |w| √G_ii, what they contribute: Sun et al., "A simple and effective
                        pruning approach for large language models" (ICLR 2024)
    what is left        gives the sums nearest to the full row's: where the entries S of a row stay and R go,
                        w'_S = w_S + (G_SS + damping)⁻¹ G_SR w_R, on inputs scaled to unit power: the update of Hassibi
                        and Stork, "Second order derivatives for network pruning" (NIPS 1992), for many weights at once;
                        for units that go, the reconstruction of He et al., "Channel pruning" (ICCV 2017)

States are the full network's throughout, so that no layer waits for another.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from diarbench.errors import InputError
from diarbench.nn.ge2e import MELS, Ge2eEncoder, prune_rows
from diarbench.nn.lstm_units import lstm_layers

DAMPING = 1e-2  # of inputs of unit power; a hundredth of that does alike
_ROWS = 64  # solved together, so that memory stays bounded


class Heard:
    """What the layers of a full encoder read while it hears some speech: Σ u uᵀ of each, and of the linear layer."""

    @torch.no_grad()
    def __init__(self, full: Ge2eEncoder, speech: Iterable[Tensor]) -> None:
        """`speech` is mel power, (frames, windows, 40) each. Raises InputError where there is none."""
        self.full = full
        self.powers: list[Tensor] = []
        for mels in speech:
            states = full.states(mels)
            read = []
            for below, own in zip([mels, *states[:-1]], states, strict=True):
                before = torch.cat([torch.zeros_like(own[:1]), own[:-1]])
                read.append(_with_one(below, before))
            read.append(_with_one(states[-1]))
            found = [(inputs.T @ inputs).double() for inputs in read]
            self.powers = [old + new for old, new in zip(self.powers, found, strict=True)] if self.powers else found
        if not self.powers:
            raise InputError("there is no speech to prune by")

    def prune(self, encoder: Ge2eEncoder, sparsity: float) -> Ge2eEncoder:
        """As `diarbench.nn.ge2e.prune_rows`, but by what weights contribute; units may be missing."""
        scales = {}
        below = torch.arange(MELS)
        for index, (power, units) in enumerate(zip(self.powers, places_in(self.full, encoder), strict=False)):
            root, width = power.diagonal().sqrt().float(), self.full.units[index]
            scales[f"layers.{index}.weight_ih_l0"] = root[below]
            scales[f"layers.{index}.weight_hh_l0"] = root[len(root) - 1 - width + units]
            below = units
        scales["linear.weight"] = self.powers[-1].diagonal().sqrt().float()[below]
        return prune_rows(encoder, sparsity, scales)

    @torch.no_grad()
    def fit(self, pruned: Ge2eEncoder) -> Ge2eEncoder:
        """A copy of a pruned encoder whose weights give the full one's sums; zeros and missing units stay so.

        Raises InputError where it is quantized.
        """
        fitted = copy.deepcopy(pruned)
        below = torch.arange(MELS)
        places = places_in(self.full, fitted)
        layers = zip(lstm_layers(fitted.layers), lstm_layers(self.full.layers), places, self.powers, strict=False)
        for layer, whole, units, power in layers:
            rows = torch.cat([units + gate * whole.hidden_size for gate in range(4)])
            columns = torch.cat([below, whole.input_size + units, torch.tensor([len(power) - 1])])
            found = _fitted(_matrix(layer), _matrix(whole)[rows], columns, power)
            inputs, recurrent, bias = found[:, : len(below)], found[:, len(below) : -1], found[:, -1]
            state = {"weight_ih_l0": inputs, "weight_hh_l0": recurrent, "bias_ih_l0": bias}
            layer.load_state_dict(state | {"bias_hh_l0": torch.zeros_like(bias)})
            below = units
        columns = torch.cat([below, torch.tensor([len(self.powers[-1]) - 1])])
        found = _fitted(_linear(fitted.linear), _linear(self.full.linear), columns, self.powers[-1])
        fitted.linear.load_state_dict({"weight": found[:, :-1], "bias": found[:, -1]})
        return fitted


def places_in(whole: Ge2eEncoder, part: Ge2eEncoder) -> list[Tensor]:
    """Which of a network's units are left in one that was made from it, layer by layer, by their place in it.

    Both may have lost units of the full network before. Raises InputError where the one was not made from the other.
    """
    places = []
    for had, kept in zip(whole.kept, part.kept, strict=True):
        if not set(kept) <= set(had):
            raise InputError("a GE2E encoder can't be compared with one that lacks some of its units")
        place = {unit: index for index, unit in enumerate(had)}
        places.append(torch.tensor([place[unit] for unit in kept]))
    return places


def _with_one(*inputs: Tensor) -> Tensor:
    """All that a layer reads, as rows (frames × windows, inputs)."""
    return torch.cat([*inputs, torch.ones_like(inputs[0][..., :1])], dim=-1).flatten(0, 1)


def _fitted(left: Tensor, wanted: Tensor, columns: Tensor, power: Tensor) -> Tensor:
    """The rows `left` (R, columns), fitted to the sums of `wanted` (R, K); zeros and their places stay, biases not."""
    present = left != 0
    present[:, -1] = True
    scale = power.diagonal().clamp(min=torch.finfo(torch.float32).tiny).sqrt()
    unit = power / scale[:, None] / scale[None, :]
    target = wanted.double() * scale
    result = torch.zeros(left.shape, dtype=torch.float64, device=left.device)
    for first in range(0, len(left), _ROWS):
        rows = slice(first, first + _ROWS)
        here = present[rows]
        # Rows have as many places as the fullest; the others' are filled up with equations that say 0 = 0.
        places = here.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, : int(here.sum(dim=1).max())]
        real = here.gather(1, places)
        chosen = columns[places]
        kept = target[rows].gather(1, chosen) * real
        gone = target[rows].scatter(1, torch.where(real, chosen, chosen[:, :1]), 0.0)
        system = unit[chosen[:, :, None], chosen[:, None, :]] * (real[:, :, None] & real[:, None, :])
        system.diagonal(dim1=1, dim2=2).add_(torch.where(real, DAMPING, 1.0))
        missing = (gone @ unit).gather(1, chosen) * real
        solved = kept + torch.linalg.solve(system, missing[..., None])[..., 0]
        result[rows] = result[rows].scatter(1, places, solved / scale[chosen] * real)
    return result.to(left.dtype)


def _matrix(layer: nn.LSTM) -> Tensor:
    """All that a layer's gates add up with: input and recurrent weights, and both biases in one column."""
    parts = layer.state_dict()
    bias = (parts["bias_ih_l0"] + parts["bias_hh_l0"])[:, None]
    return torch.cat([parts["weight_ih_l0"], parts["weight_hh_l0"], bias], dim=1)


def _linear(layer: nn.Linear) -> Tensor:
    return torch.cat([layer.weight, layer.bias[:, None]], dim=1)
