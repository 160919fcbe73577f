from __future__ import annotations

import pytest

from diarbench.measure.counts import count_modules
from diarbench.types import Complexity


def test_nothing_to_count():
    assert count_modules(None, None) is None
    assert count_modules(None, 10) == Complexity(None, None, {}, 10)
    assert count_modules({}, None) == Complexity(0, 0, {}, None)


def test_parameters_by_stage_and_those_that_are_not_zero():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    first, second = torch.nn.Linear(4, 3), torch.nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        first.weight.fill_(1.0)
        first.weight[0] = 0.0
        first.bias.zero_()
        second.weight.fill_(-0.5)
    network = torch.nn.Sequential(first, torch.nn.BatchNorm1d(3))
    found = count_modules({"encoder": network, "head": torch.nn.ModuleList([second, first])}, 100)
    # BatchNorm has a weight (1) and a bias (0) of 3; what two stages share counts once, in the first.
    assert found == Complexity(15 + 6 + 6, 8 + 3 + 6, {"encoder": 21, "head": 6}, 100)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_modules_and_half_precision():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    layer = torch.nn.Linear(2, 2).to(torch.bfloat16)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    assert count_modules({"all": torch.jit.script(layer)}, None) == Complexity(6, 4, {"all": 6}, None)
