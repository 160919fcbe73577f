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
from torch import nn

from diarbench.errors import InputError
from diarbench.nn.ge2e import Ge2eEncoder, keep_widths
from diarbench.nn.lstm_units import heaviest, input_weights, keep_units, lstm_layers, outputs_of, unit_weights
from diarbench.nn.pyannet import PyanNet

ROUNDS = 4  # the only number (of 1 to 40) that gives all sizes of the paper's table 1
Network = TypeVar("Network", bound=nn.Module)
Recover = Callable[[Network, int], None]  # trains what it is given, in place; the second argument counts rounds from 1


@dataclass(frozen=True, slots=True)
class Schedule:
    """How much goes, and in how many rounds. Raises InputError where the numbers are none for that.

    The paper's rule is h -= round(h ρ / K), halves to even: the fraction is of what is left, so that ρ = 0.8 in 4
    rounds keeps 41 %. Its text leaves that open; its table does not. With `of_original` the fraction is of the width
    before any round, and the nominal sparsity is the achieved one.
    """

    sparsity: float  # nominal, ρ
    rounds: int = ROUNDS  # K
    of_original: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1 or self.rounds < 1:
            what = f"{self.sparsity} in {self.rounds}"
            raise InputError(f"magnitude pruning removes from 0 to below 1 of the units in 1 round or more, not {what}")

    def widths(self, width: int) -> tuple[int, ...]:
        """The width of a layer before and after each round; at least 1 is left.

        >>> [Schedule(sparsity).widths(128)[-1] for sparsity in (0.2, 0.4, 0.6, 0.8)]
        [104, 84, 67, 53]
        >>> Schedule(0.8, of_original=True).widths(128)
        (128, 102, 77, 51, 26)
        """
        widths = [width]
        for number in range(1, self.rounds + 1):
            if self.of_original:
                left = round(width * (1 - self.sparsity * number / self.rounds))
            else:
                left = widths[-1] - round(widths[-1] * self.sparsity / self.rounds)
            widths.append(max(1, left))
        return tuple(widths)


@dataclass(frozen=True, slots=True)
class Pruned(Generic[Network]):
    """A network that lost units, and how: nominal and achieved may be far apart, so both are told."""

    network: Network
    units: str  # what went: "hidden" units of the LSTM layers, or "linear" channels
    schedule: Schedule
    widths: tuple[tuple[int, ...], ...]  # of each layer: before, and after each round

    @property
    def achieved(self) -> float:
        """The fraction of units that really went: 0.586 where the paper's rule is asked for 0.8."""
        return 1 - sum(self.widths[-1]) / sum(self.widths[0])


def prune_hidden(network: PyanNet, schedule: Schedule, *, recover: Recover[PyanNet] | None = None) -> Pruned[PyanNet]:
    """A PyanNet with fewer hidden units in its LSTM layers (the paper's "Hidden"), which stays as it is.

    A unit goes in both directions and with all that belongs to it: its rows in the four gates, its columns in the
    recurrent weights, and its columns in the layer above. All of these count for its norm (the paper names rows and
    biases alone). Units are compared within their layer. `recover` is called after each round with the network so far,
    and the number of the round; without it nothing is trained. All parameters of what is returned learn. Raises
    InputError where the network is quantized already.
    """
    widths = network.shape.lstm
    return _gradually(network, "hidden", widths, _keep_hidden, schedule, recover)


def prune_linear(network: PyanNet, schedule: Schedule, *, recover: Recover[PyanNet] | None = None) -> Pruned[PyanNet]:
    """A PyanNet with fewer channels in its linear layers (the paper's "Linear"), which stays as it is.

    A channel goes with its row, its bias, and its column in the layer above. All else is as in `prune_hidden`.
    """
    widths = network.shape.linear
    return _gradually(network, "linear", widths, _keep_linear, schedule, recover)


def prune_ge2e(
    encoder: Ge2eEncoder, schedule: Schedule, *, recover: Recover[Ge2eEncoder] | None = None
) -> Pruned[Ge2eEncoder]:
    """A GE2E encoder with fewer hidden units in its LSTM layers; all as in `prune_hidden`."""
    widths = [layer.hidden_size for layer in lstm_layers(encoder.layers)]
    return _gradually(encoder, "hidden", widths, keep_widths, schedule, recover)


def _gradually(
    network: Network,
    units: str,
    before: Sequence[int],
    keep: Callable[[Network, Sequence[int]], Network],
    schedule: Schedule,
    recover: Recover[Network] | None,
) -> Pruned[Network]:
    if not before:
        raise InputError(f"this network has no {units} layers that could be pruned")
    by_round = tuple(zip(*map(schedule.widths, before), strict=True))
    for number, widths in enumerate(by_round[1:], start=1):
        network = keep(network, widths)
        if recover is not None:
            recover(network, number)
    return Pruned(network, units, schedule, by_round)


def _keep_hidden(network: PyanNet, widths: Sequence[int]) -> PyanNet:
    """A copy with the heaviest units of each LSTM layer."""
    first, *others = _linear_maps(network)
    layers = lstm_layers(network.lstm.layers)
    readers = [*map(input_weights, layers[1:]), first.weight]
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
