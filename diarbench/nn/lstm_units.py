"""Hidden units of an LSTM layer: how much they weigh, and the layer without some of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diarbench.errors import InputError

_GATES = 4


def lstm_layers(modules: nn.ModuleList) -> list[nn.LSTM]:
    """These modules, each an LSTM of one layer. Raises InputError where one is not, as when it was quantized."""
    layers = [module for module in modules if isinstance(module, nn.LSTM)]
    if len(layers) != len(modules):
        kinds = ", ".join(sorted({type(module).__name__ for module in modules if not isinstance(module, nn.LSTM)}))
        raise InputError(f"units can be removed from LSTM layers, not from {kinds}: quantize after pruning")
    return layers


def unit_weights(layer: nn.LSTM, reader: Tensor) -> Tensor:
    """The sum of squared weights of all that belongs to each unit (units,).

    That is its rows in the four gates (input and recurrent weights, biases), its columns in the recurrent weights, and
    its columns in `reader` (outputs, units × directions), the matrices of whatever reads the layer, one below the
    other. A layer that looks both ways has one unit of either direction under each number; both count.
    """
    size, parts = layer.hidden_size, layer.state_dict()
    rows = sum(tensor.reshape(_GATES, size, -1).square().sum(dim=(0, 2)) for tensor in parts.values())
    columns = sum(tensor.square().sum(dim=0) for name, tensor in parts.items() if "weight_hh" in name)
    total: Tensor = rows + columns + reader.detach().square().sum(dim=0).reshape(-1, size).sum(dim=0)
    return total


def heaviest(weights: Tensor, count: int) -> Tensor:
    """The places of the `count` largest, in order; of equals the first."""
    return weights.argsort(descending=True, stable=True)[:count].sort().values


def keep_units(layer: nn.LSTM, units: Tensor, inputs: Tensor) -> nn.LSTM:
    """The layer with these units alone, in both directions, reading these places of its former input."""
    smaller = nn.LSTM(
        len(inputs), len(units), batch_first=layer.batch_first, bidirectional=layer.bidirectional, device="meta"
    )
    rows = torch.cat([units + gate * layer.hidden_size for gate in range(_GATES)])
    parts = {name: tensor[rows] for name, tensor in layer.state_dict().items()}
    for name, columns in (("weight_ih", inputs), ("weight_hh", units)):
        parts |= {part: tensor[:, columns] for part, tensor in parts.items() if name in part}
    smaller.load_state_dict(parts, assign=True)
    smaller.flatten_parameters()
    return smaller.train(layer.training)


def input_weights(layer: nn.LSTM) -> Tensor:
    """What reads the layer below: the input weights of the gates of both directions (rows, inputs)."""
    return torch.cat([tensor for name, tensor in layer.state_dict().items() if "weight_ih" in name])


def outputs_of(layer: nn.LSTM, units: Tensor) -> Tensor:
    """Where these units lie in what the layer hands on: the backward direction's behind the forward one's."""
    directions = 2 if layer.bidirectional else 1
    return torch.cat([units + direction * layer.hidden_size for direction in range(directions)])
