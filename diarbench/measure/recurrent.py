"""Recurrent layers that are counted fast: the same multiplications as one matrix product per layer and direction.

On the meta device torch runs an LSTM step by step, in Python: five minutes of speech take ten seconds to count.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


@contextlib.contextmanager
def recurrence_as_products(network: nn.Module) -> Iterator[None]:
    """While the block lasts, the LSTM, GRU and RNN layers of a network on the meta device don't go step by step.

    Their outputs have the right shapes, and hold nothing, as everything on that device. Subclasses that compute in
    their own way are left alone.
    """
    from torch import nn

    usual = {nn.LSTM: nn.LSTM.forward, nn.GRU: nn.GRU.forward, nn.RNN: nn.RNN.forward}
    layers = [
        module
        for module in network.modules()
        if any(isinstance(module, kind) and type(module).forward is forward for kind, forward in usual.items())
        and "forward" not in vars(module)
    ]
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: Any, input: Any, hx: Any = None) -> tuple[Any, Any]:
    """In place of `forward`: input (steps, batch, features), batch first, without batch, or packed."""
    from torch.nn.utils.rnn import PackedSequence

    if isinstance(input, PackedSequence):
        batch = int(input.batch_sizes[0])
        rows = _multiply(layer, input.data)
        return PackedSequence(rows, *input[1:]), _states(layer, rows, (batch,))
    if input.ndim == 2:
        rows = _multiply(layer, input)
        return rows, _states(layer, rows, ())
    rows = _multiply(layer, input.reshape(-1, input.shape[2]))
    batch = input.shape[0 if layer.batch_first else 1]
    return rows.view(*input.shape[:2], rows.shape[1]), _states(layer, rows, (batch,))


def _multiply(layer: Any, rows: Tensor) -> Tensor:
    """(steps × batch, features) through all layers: input weights, recurrent weights, projection."""
    import torch

    directions = 2 if layer.bidirectional else 1
    width = layer.proj_size or layer.hidden_size  # of what a step hands to the next
    for depth in range(layer.num_layers):
        for suffix in ("", "_reverse")[:directions]:
            place = f"l{depth}{suffix}"
            rows.mm(getattr(layer, f"weight_ih_{place}").t())
            rows.new_empty(len(rows), width).mm(getattr(layer, f"weight_hh_{place}").t())
            if layer.proj_size:
                rows.new_empty(len(rows), layer.hidden_size).mm(getattr(layer, f"weight_hr_{place}").t())
        rows = torch.empty(len(rows), directions * width, dtype=rows.dtype, device=rows.device)
    return rows


def _states(layer: Any, rows: Tensor, batch: tuple[int, ...]) -> Any:
    """The last states, (layers × directions, batch, width); of an LSTM with the cells'."""
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    hidden = rows.new_empty(count, *batch, layer.proj_size or layer.hidden_size)
    return (hidden, rows.new_empty(count, *batch, layer.hidden_size)) if layer.mode == "LSTM" else hidden
