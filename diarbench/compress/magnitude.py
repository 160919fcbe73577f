"""Magnitude pruning of PyanNet and of the GE2E encoder: units of small weights go, a few at a time.

The second seed's method ("efficiency trade-offs", section 4.3): K rounds, in each of which a fraction ρ / K of the
units that are left goes, those with the smallest Frobenius norm of all their weights; then training may recover.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from diarbench.errors import InputError
from diarbench.nn.ge2e import Ge2eEncoder, keep_widths
from diarbench.nn.lstm_units import heaviest, keep_units, lstm_layers, outputs_of, unit_weights
from diarbench.nn.pyannet import PyanNet

ROUNDS = 4  # the only number (of 1 to 40) that gives all sizes of the paper's table 1
Network = TypeVar("Network", bound=nn.Module)
Recover = Callable[[Network, int], None]  # trains what it is given, in place; the second argument counts rounds from 1


@dataclass(frozen=True, slots=True)
class Pruned(Generic[Network]):
    """A network that lost units, and how: nominal and achieved are far apart, so both are told."""

    network: Network
    units: str  # what went: "hidden" units of the LSTM layers, or "linear" channels
    sparsity: float  # nominal, ρ
    widths: tuple[tuple[int, ...], ...]  # of each layer: before, and after each round

    @property
    def achieved(self) -> float:
        """The fraction of units that really went: 0.586 where 0.8 was asked for."""
        return 1 - sum(self.widths[-1]) / sum(self.widths[0])


def widths_by_round(width: int, sparsity: float, *, rounds: int = ROUNDS) -> tuple[int, ...]:
    """Widths before and after each round of h -= round(h ρ / K), rounding halves to even; at least 1 is left.

    Removing a fraction of what is left ends above (1 - ρ) of the width: with K = 4, ρ = 0.8 keeps 41 %. The paper's
    text leaves open what the fraction is of; its table does not.

    >>> [widths_by_round(128, sparsity)[-1] for sparsity in (0.2, 0.4, 0.6, 0.8)]
    [104, 84, 67, 53]

    Raises InputError where `sparsity` is not from 0 to below 1, or a number is below 1.
    """
    if not 0 <= sparsity < 1 or rounds < 1 or width < 1:
        what = f"{sparsity} of {width} in {rounds} rounds"
        raise InputError(f"magnitude pruning removes from 0 to below 1 of the units in at least one round, not {what}")
    widths = [width]
    for _ in range(rounds):
        widths.append(max(1, widths[-1] - round(widths[-1] * sparsity / rounds)))
    return tuple(widths)


def prune_hidden(
    network: PyanNet, sparsity: float, *, rounds: int = ROUNDS, recover: Recover[PyanNet] | None = None
) -> Pruned[PyanNet]:
    """A PyanNet with fewer hidden units in its LSTM layers (the paper's "Hidden"), which stays as it is.

    A unit goes in both directions and with all that belongs to it: its rows in the four gates, its columns in the
    recurrent weights, and its columns in the layer above. Units are compared within their layer. `recover` is called
    after each round with the network so far; without it nothing is trained. Raises InputError as `widths_by_round`.
    """
    widths = network.shape.lstm
    return _gradually(network, "hidden", widths, _keep_hidden, sparsity, rounds, recover)


def prune_linear(
    network: PyanNet, sparsity: float, *, rounds: int = ROUNDS, recover: Recover[PyanNet] | None = None
) -> Pruned[PyanNet]:
    """A PyanNet with fewer channels in its linear layers (the paper's "Linear"), which stays as it is.

    A channel goes with its row, its bias, and its column in the layer above. All else is as in `prune_hidden`.
    """
    widths = network.shape.linear
    return _gradually(network, "linear", widths, _keep_linear, sparsity, rounds, recover)


def prune_ge2e(
    encoder: Ge2eEncoder, sparsity: float, *, rounds: int = ROUNDS, recover: Recover[Ge2eEncoder] | None = None
) -> Pruned[Ge2eEncoder]:
    """A GE2E encoder with fewer hidden units in its LSTM layers; all as in `prune_hidden`."""
    widths = [layer.hidden_size for layer in lstm_layers(encoder.layers)]
    return _gradually(encoder, "hidden", widths, keep_widths, sparsity, rounds, recover)


def _gradually(
    network: Network,
    units: str,
    before: Sequence[int],
    keep: Callable[[Network, Sequence[int]], Network],
    sparsity: float,
    rounds: int,
    recover: Recover[Network] | None,
) -> Pruned[Network]:
    if not before:
        raise InputError(f"this network has no {units} layers that could be pruned")
    schedule = list(zip(*(widths_by_round(width, sparsity, rounds=rounds) for width in before), strict=True))
    for number, widths in enumerate(schedule[1:], start=1):
        network = keep(network, widths)
        if recover is not None:
            recover(network, number)
    return Pruned(network, units, sparsity, tuple(schedule))


def _keep_hidden(network: PyanNet, widths: Sequence[int]) -> PyanNet:
    """A copy with the heaviest units of each LSTM layer."""
    first, *others = _linear_maps(network)
    layers = lstm_layers(network.lstm.layers)
    readers: list[Tensor] = [
        *(torch.cat([upper.weight_ih_l0, upper.weight_ih_l0_reverse]) for upper in layers[1:]),
        first.weight,
    ]
    inputs = torch.arange(layers[0].input_size)
    smaller = _copy(network, lstm=tuple(widths))
    for index, (layer, reader, width) in enumerate(zip(layers, readers, widths, strict=True)):
        units = heaviest(unit_weights(layer, reader), width)
        smaller.lstm.layers[index] = keep_units(layer, units, inputs)
        inputs = outputs_of(layer, units)
    reading, *rest = _linear_maps(smaller)
    reading.load_state_dict({"weight": first.weight[:, inputs], "bias": first.bias})
    for new, old in zip(rest, others, strict=True):
        new.load_state_dict(old.state_dict())
    return smaller


def _keep_linear(network: PyanNet, widths: Sequence[int]) -> PyanNet:
    """A copy with the heaviest channels of each linear layer."""
    layers = _linear_maps(network)
    smaller = _copy(network, linear=tuple(widths))
    smaller.lstm.load_state_dict(network.lstm.state_dict())
    inputs = torch.arange(layers[0].in_features)
    for index, (layer, reader, width) in enumerate(zip(layers[:-1], layers[1:], widths, strict=True)):
        weights = layer.weight.square().sum(1) + layer.bias.square() + reader.weight.square().sum(0)
        units = heaviest(weights.detach(), width)
        parts = {"weight": layer.weight[units][:, inputs], "bias": layer.bias[units]}
        smaller.linear.layers[index].load_state_dict(parts)
        inputs = units
    last = layers[-1]
    smaller.linear.classifier.load_state_dict({"weight": last.weight[:, inputs], "bias": last.bias})
    return smaller


def _linear_maps(network: PyanNet) -> list[nn.Linear]:
    """The linear layers and the classifier. Raises InputError where one was quantized."""
    modules = [*network.linear.layers, network.linear.classifier]
    if other := [type(module).__name__ for module in modules if type(module) is not nn.Linear]:
        raise InputError(f"channels can be removed from linear layers, not from {other[0]}: quantize after pruning")
    return [module for module in modules if isinstance(module, nn.Linear)]


def _copy(network: PyanNet, *, lstm: tuple[int, ...] | None = None, linear: tuple[int, ...] | None = None) -> PyanNet:
    """A new network with other widths, with the weights of the filters and convolutions alone."""
    shape = dataclasses.replace(network.shape, lstm=lstm or network.shape.lstm, linear=linear or network.shape.linear)
    smaller = PyanNet(shape, dropout=network.lstm.dropout.p)
    smaller.sincnet.load_state_dict(network.sincnet.state_dict())
    return smaller.to(network.linear.classifier.weight).train(network.training)
