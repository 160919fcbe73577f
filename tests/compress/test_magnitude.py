"""Magnitude pruning against the paper's table, and against networks whose smallest units do nothing."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from small_gates import noise, numel, shaken

from diarbench.compress.magnitude import Schedule, prune_ge2e, prune_hidden, prune_linear
from diarbench.errors import InputError
from diarbench.nn.ge2e import Ge2eEncoder, remove_units, to_int8
from diarbench.nn.pyannet import PyanNet, PyanNetShape

SMALL = PyanNetShape(lstm=(12, 8), linear=(9, 10))
# Nominal sparsity, width, and millions of parameters with fewer hidden units and with fewer linear channels; table 1 of
# the paper prints two digits of these.
TABLE = [
    (0.2, 104, 1.0086, 1.4613),
    (0.4, 84, 0.6918, 1.4523),
    (0.6, 67, 0.4729, 1.4452),
    (0.8, 53, 0.3273, 1.4398),
]
PAPER = [(1.01, 1.46), (0.69, 1.45), (0.47, 1.45), (0.33, 1.44)]


def small(seed: int = 0) -> PyanNet:
    torch.manual_seed(seed)
    network = shaken(PyanNet(SMALL), seed)
    assert isinstance(network, PyanNet)
    return network


def by_formula(hidden: int, linear: int) -> int:
    lstm = sum(8 * hidden * (inputs + hidden + 2) for inputs in (60, *[2 * hidden] * 3))
    return 42_602 + lstm + (2 * hidden + 1) * linear + (linear + 1) * linear + (linear + 1) * 7


def test_the_papers_nine_rows() -> None:
    torch.manual_seed(0)
    network = PyanNet()
    assert numel(network) == by_formula(128, 128) == 1_473_265
    for (sparsity, width, *millions), printed in zip(TABLE, PAPER, strict=True):
        hidden = prune_hidden(network, Schedule(sparsity))
        linear = prune_linear(network, Schedule(sparsity))
        assert hidden.network.shape == replace(network.shape, lstm=(width,) * 4)
        assert linear.network.shape == replace(network.shape, linear=(width,) * 2)
        assert numel(hidden.network) == by_formula(width, 128)
        assert numel(linear.network) == by_formula(128, width)
        assert hidden.widths[-1] == (width,) * 4
        assert linear.widths[-1] == (width,) * 2
        assert len(hidden.widths) == 5
        assert hidden.achieved == linear.achieved == pytest.approx(1 - width / 128)
        found = [numel(each.network) / 1e6 for each in (hidden, linear)]
        assert [round(each, 4) for each in found] == millions
        assert tuple(round(each, 2) for each in found) == printed


def test_the_schedule() -> None:
    assert Schedule(0.8).widths(128) == (128, 102, 82, 66, 53)
    assert Schedule(0.8, rounds=1).widths(128) == (128, 26)
    assert Schedule(0.0).widths(7) == (7,) * 5
    assert Schedule(0.99, rounds=1).widths(1) == (1, 1)
    assert Schedule(0.5, of_original=True).widths(256) == (256, 224, 192, 160, 128)
    for wrong in ({"sparsity": 1.0}, {"sparsity": -0.1}, {"sparsity": 0.5, "rounds": 0}):
        with pytest.raises(InputError, match="magnitude pruning removes from 0 to below 1 of the units in 1 round"):
            Schedule(**wrong)


@given(st.integers(1, 500), st.floats(0, 0.99), st.integers(1, 10), st.booleans())
def test_schedules_fall_and_leave_something(width: int, sparsity: float, rounds: int, of_original: bool) -> None:
    widths = Schedule(sparsity, rounds, of_original=of_original).widths(width)
    assert len(widths) == rounds + 1
    assert list(widths) == sorted(widths, reverse=True)
    assert widths[-1] >= 1
    if of_original:
        assert widths[-1] == max(1, round(width * (1 - sparsity)))


@torch.no_grad()
def idle_units(network: PyanNet) -> list[list[int]]:
    """Make a third of each layer's hidden units do nothing, in both directions; which ones."""
    idle = [[1, 4, 7, 10], [0, 5]]
    for index, (layer, units) in enumerate(zip(network.lstm.layers, idle, strict=True)):
        size = layer.hidden_size
        for name, weight in layer.named_parameters():
            for gate in range(4):
                weight[[gate * size + unit for unit in units]] = 0
            if "weight_hh" in name:
                weight[:, units] = 0
        both = [*units, *(size + unit for unit in units)]
        readers = (
            [network.linear.layers[0].weight]
            if index
            else [network.lstm.layers[1].weight_ih_l0, network.lstm.layers[1].weight_ih_l0_reverse]
        )
        for reader in readers:
            reader[:, both] = 0
    return idle


@torch.no_grad()
def test_hidden_units_that_do_nothing_go_first_and_change_nothing() -> None:
    network = small()
    idle_units(network)
    expected = network(noise(2, 16000))
    before = copy.deepcopy(network.state_dict())
    found = prune_hidden(network, Schedule(0.3, rounds=1))
    assert found.widths == ((12, 8), (8, 6))
    torch.testing.assert_close(found.network(noise(2, 16000)), expected, rtol=0, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    further = prune_hidden(network, Schedule(0.6, rounds=1))
    assert (further.network(noise(2, 16000)) - expected).abs().max() > 1e-3


@torch.no_grad()
def test_linear_channels_that_do_nothing_go_first_and_change_nothing() -> None:
    network = small()
    first, second = network.linear.layers
    for idle, layer, reader in (([0, 3, 8], first, second), ([2, 5, 9], second, network.linear.classifier)):
        layer.weight[idle] = 0
        layer.bias[idle] = 0
        reader.weight[:, idle] = 0
    expected = network(noise(2, 16000))
    found = prune_linear(network, Schedule(0.3, rounds=1))
    assert found.widths == ((9, 10), (6, 7))
    torch.testing.assert_close(found.network(noise(2, 16000)), expected, rtol=0, atol=1e-5)
    further = prune_linear(network, Schedule(0.6, rounds=1))
    assert (further.network(noise(2, 16000)) - expected).abs().max() > 1e-3


@torch.no_grad()
def test_a_unit_counts_with_all_that_belongs_to_it() -> None:
    """One unit made heavy in one place alone survives where all but one go."""
    for place in ("weight_ih_l0", "weight_hh_l0_reverse", "bias_hh_l0", "columns", "reader"):
        network = small()
        layer = network.lstm.layers[1]
        if place == "columns":
            layer.weight_hh_l0[:, 3] += 50
        elif place == "reader":
            network.linear.layers[0].weight[:, 8 + 3] += 50  # of the backward direction
        else:
            getattr(layer, place)[2 * 8 + 3] += 50
        kept = prune_hidden(network, Schedule(0.9, rounds=1)).network.lstm.layers[1]
        assert kept.hidden_size == 1
        assert torch.equal(kept.bias_ih_l0, layer.bias_ih_l0[[3, 11, 19, 27]])
    for place in ("weight", "bias", "reader"):
        network = small()
        layer = network.linear.layers[0]
        if place == "reader":
            network.linear.layers[1].weight[:, 6] += 50
        else:
            getattr(layer, place)[6] += 50
        kept = prune_linear(network, Schedule(0.9, rounds=1)).network.linear.layers[0]
        assert torch.equal(kept.bias, layer.bias[[6]])


@pytest.mark.parametrize("prune", [prune_hidden, prune_linear])
def test_recovery_between_rounds(prune: object) -> None:
    seen: list[tuple[int, int]] = []

    def recover(network: PyanNet, number: int) -> None:
        assert all(parameter.requires_grad for parameter in network.parameters())
        seen.append((number, numel(network)))
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
        network(noise(1, 8000)).square().mean().backward()
        optimiser.step()

    torch.manual_seed(0)
    network = PyanNet(SMALL, dropout=0.3).train().requires_grad_(False)
    found = prune(network, Schedule(0.5), recover=recover)  # type: ignore[operator]
    assert [number for number, _ in seen] == [1, 2, 3, 4]
    assert [size for _, size in seen] == sorted([size for _, size in seen], reverse=True)
    assert numel(found.network) == seen[-1][1]
    assert found.network.training
    assert found.network.lstm.dropout.p == 0.3
    assert not torch.equal(found.network.sincnet.convolutions[0].weight, network.sincnet.convolutions[0].weight)
    untrained, again = (prune(network, Schedule(0.5)).network for _ in range(2))  # type: ignore[operator]
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in untrained.state_dict().items())


def test_ge2e_by_the_same_code() -> None:
    torch.manual_seed(0)
    encoder = Ge2eEncoder().eval()
    one = prune_ge2e(encoder, Schedule(0.25, rounds=1))
    expected = remove_units(encoder, 0.75)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(one.network.state_dict()[name], tensor)
    seen: list[int] = []
    gradual = prune_ge2e(encoder, Schedule(0.5), recover=lambda _, number: seen.append(number))
    assert gradual.widths == tuple((width,) * 3 for width in (256, 224, 196, 172, 150))
    assert seen == [1, 2, 3, 4]
    exact = prune_ge2e(encoder, Schedule(0.5, of_original=True))
    assert exact.widths[-1] == (128,) * 3
    assert exact.achieved == 0.5
    mels = torch.rand(20, 2, 40)
    assert exact.network(mels, torch.tensor([20, 11])).shape == (2, 256)


def test_refusals() -> None:
    with pytest.raises(InputError, match="this network has no linear layers that could be pruned"):
        prune_linear(PyanNet(PyanNetShape(lstm=(4,), linear=())), Schedule(0.5))
    if torch.backends.quantized.engine == "none":
        pytest.skip("this build of PyTorch has no INT8 kernels")
    with pytest.raises(InputError, match="not from LSTM: quantize after pruning"):
        prune_ge2e(to_int8(Ge2eEncoder()), Schedule(0.5))
    network = PyanNet(SMALL)
    network.linear.classifier = nn.Sequential(network.linear.classifier)
    for prune in (prune_hidden, prune_linear):
        with pytest.raises(InputError, match="not from Sequential: quantize after pruning"):
            prune(network, Schedule(0.5))
