"""Hard-concrete gates against closed forms, against numerical integrals, and against Monte Carlo."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from small_gates import tiny

from diarbench.compress.gates import (
    OPEN,
    KeepAtStart,
    PerGate,
    WavLMGates,
    deterministic,
    probability,
    sample,
    survivors,
)
from diarbench.compress.sizes import exact_size, expected_size
from diarbench.errors import InputError
from diarbench.nn.structures import named_structure

DRAWS = 200_000
LOG_ALPHAS = (-4.0, -1.5986, 0.0, 1.0, 4.595)
numbers = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12)


def by_hand(noise: Tensor, log_alpha: Tensor) -> Tensor:
    """z as the definition says, in float64."""
    soft = 1 / (1 + torch.exp(-(torch.log(noise / (1 - noise)) + log_alpha) / (2 / 3)))
    return torch.clamp(soft * 1.2 - 0.1, 0, 1)


def mean(log_alpha: float) -> float:
    """E[z] as an integral over the noise."""
    middles = (torch.arange(1_000_000, dtype=torch.float64) + 0.5) / 1_000_000
    return by_hand(middles, torch.tensor(log_alpha, dtype=torch.float64)).mean().item()


@pytest.mark.parametrize("log_alpha", LOG_ALPHAS)
def test_probability_and_mean_against_monte_carlo(log_alpha: float) -> None:
    drawn = sample(torch.full((DRAWS,), log_alpha), generator=torch.Generator().manual_seed(0))
    assert 0 <= drawn.min() <= drawn.max() <= 1
    kept = probability(torch.tensor(log_alpha, dtype=torch.float64)).item()
    assert kept == pytest.approx(1 / (1 + math.exp(-(log_alpha + 1.5986))), abs=1e-5)
    error = math.sqrt(kept * (1 - kept) / DRAWS)
    assert (drawn != 0).double().mean().item() == pytest.approx(kept, abs=5 * error + 1e-5)
    # A gate is 1 as often as one of the opposite log α is 0.
    ones = 1 / (1 + math.exp(-(log_alpha - 1.5986)))
    assert (drawn == 1).double().mean().item() == pytest.approx(ones, abs=5 * math.sqrt(0.25 / DRAWS))
    assert drawn.double().mean().item() == pytest.approx(mean(log_alpha), abs=5 * 0.5 / math.sqrt(DRAWS))


@pytest.mark.parametrize("log_alpha", LOG_ALPHAS)
def test_gradients_against_closed_form_and_monte_carlo(log_alpha: float) -> None:
    one = torch.tensor(log_alpha, dtype=torch.float64, requires_grad=True)
    [gradient] = torch.autograd.grad(probability(one), one)
    kept = probability(one).item()
    assert gradient.item() == pytest.approx(kept * (1 - kept))
    many = torch.full((DRAWS,), log_alpha, requires_grad=True)
    [gradient] = torch.autograd.grad(sample(many, generator=torch.Generator().manual_seed(1)).sum(), many)
    slope = (mean(log_alpha + 1e-3) - mean(log_alpha - 1e-3)) / 2e-3
    spread = gradient.std().item() / math.sqrt(DRAWS)
    assert gradient.mean().item() == pytest.approx(slope, abs=5 * spread + 1e-5)


def test_samples_are_the_definition_and_go_by_the_seed() -> None:
    log_alpha = torch.linspace(-4, 4, 50, dtype=torch.float64, requires_grad=True)
    noise = torch.empty(50, dtype=torch.float64).uniform_(1e-6, 1 - 1e-6, generator=torch.Generator().manual_seed(3))
    found = sample(log_alpha, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(found, by_hand(noise, log_alpha))
    assert torch.autograd.gradcheck(lambda x: sample(x, generator=torch.Generator().manual_seed(3)), [log_alpha])
    torch.manual_seed(5)
    first = sample(log_alpha)
    torch.manual_seed(5)
    assert torch.equal(first, sample(log_alpha))
    assert not torch.equal(first, sample(log_alpha))


@given(numbers, st.integers(0, 2))
def test_the_references_masks(values: list[float], least: int) -> None:
    log_alpha = torch.tensor(values, requires_grad=True)
    masks = deterministic(log_alpha, "reference", least=least)
    expected = sum(1 / (1 + math.exp(-(value - 2 / 3 * math.log(0.1 / 1.1)))) for value in values)
    zeros = min(round(len(values) - expected), max(len(values) - least, 0))
    assert int((masks == 0).sum()) == zeros
    gone, left = log_alpha[masks == 0], log_alpha[masks != 0]
    assert not len(gone) or not len(left) or gone.max() <= left.min()
    torch.testing.assert_close(masks[masks != 0], torch.sigmoid(0.8 * left / (2 / 3)))
    assert masks.requires_grad


@given(numbers, st.integers(0, 2))
def test_clamped_masks(values: list[float], least: int) -> None:
    masks = deterministic(torch.tensor(values), "clamp", least=least)
    plain = [min(1, max(0, 1.2 / (1 + math.exp(-value)) - 0.1)) for value in values]
    for found, wanted in zip(masks.tolist(), plain, strict=True):
        assert found == pytest.approx(wanted, abs=1e-6) or (wanted == 0 and found > 0)
    assert int((masks > 0).sum()) == max(sum(value > 0 for value in plain), min(least, len(values)))


@given(numbers, st.integers(0, 12), st.sampled_from(["clamp", "reference"]))
def test_survivors_are_those_of_the_largest(values: list[float], count: int, rule: str) -> None:
    log_alpha = torch.tensor(values)
    masks = survivors(log_alpha, count, rule)
    assert int((masks > 0).sum()) == min(count, len(values))
    if 0 < count < len(values):
        assert log_alpha[masks > 0].min() >= log_alpha[masks == 0].max()


def test_how_gates_start() -> None:
    structure = named_structure("wavlm-base-plus")
    gates = WavLMGates(structure, generator=torch.Generator().manual_seed(0))
    logits = gates.logits()
    for group, middle in ((logits.convolutions, 4.5951), (logits.heads, 4.5951), (logits.feed_forward, 0.0)):
        values = torch.cat(group)
        assert values.mean().item() == pytest.approx(middle, abs=5 * 0.01 / math.sqrt(len(values)))
        assert values.std().item() == pytest.approx(0.01, rel=0.2)
    assert torch.isinf(logits.attention_layers).all()
    assert torch.equal(gates.probabilities().attention_layers, torch.ones(12))
    again = WavLMGates(structure, generator=torch.Generator().manual_seed(0))
    other = WavLMGates(structure, generator=torch.Generator().manual_seed(1))
    weights = list(map(torch.cat, (list(each.parameters()) for each in (gates, again, other))))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("name", "sparsity"), [("wavlm-base-plus", 0.102), ("wavlm-large", 0.108)])
def test_what_is_expected_to_be_gone_before_training(name: str, sparsity: float) -> None:
    """The reference starts with a tenth gone; the open start with nothing."""
    structure = named_structure(name)
    for start, expected in ((None, sparsity), (OPEN, 0.0)):
        kept = WavLMGates(structure, start=start).probabilities()
        gone = 1 - expected_size(structure, kept).total.item() / exact_size(structure).total
        assert round(gone, 3) == expected


def test_kinds_of_gates() -> None:
    structure = tiny("base")
    gates = WavLMGates(structure, gated=["heads", "attention_layers"])
    assert sum(parameter.numel() for parameter in gates.parameters()) == 3 * 4 + 3
    masks = gates.sample()
    assert all((group == 1).all() for group in (*masks.convolutions, *masks.feed_forward, masks.feed_forward_layers))
    assert all(group.requires_grad for group in (*masks.heads, masks.attention_layers))
    masks.check(structure)
    with pytest.raises(InputError, match=r"gates for .* don't fit a WavLM that has"):
        PerGate.ones(tiny("base", layers=2)).check(structure)


@settings(max_examples=5)
@given(st.sampled_from(["reference", "clamp"]))
def test_each_convolution_keeps_a_channel(rule: str) -> None:
    gates = WavLMGates(tiny("base"))
    with torch.no_grad():
        for parameter in gates.parameters():
            parameter -= 20
    masks = gates.deterministic(rule)
    assert [int((group > 0).sum()) for group in masks.convolutions] == [1] * 7
    assert not any((group > 0).any() for group in (*masks.heads, *masks.feed_forward))


def test_refusals() -> None:
    structure = tiny("base")
    with pytest.raises(InputError, match="clip is no rule for masks; did you mean clamp"):
        deterministic(torch.zeros(3), "clip")
    with pytest.raises(InputError, match="head is nothing that can be gated; did you mean heads"):
        WavLMGates(structure, gated=["head"])
    with pytest.raises(InputError, match="no gates: name at least one of convolutions"):
        WavLMGates(structure, gated=[])
    for wrong in (0.0, 1.0):
        with pytest.raises(InputError, match="keep probability of heads is above 0 and below 1"):
            KeepAtStart(heads=wrong)
