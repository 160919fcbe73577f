"""Expected sizes against the counters of real models, and against Monte Carlo."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from small_gates import numel, random_masks, tiny

from diarbench.compress.gates import PerGate
from diarbench.compress.sizes import Size, as_probabilities, exact_size, expected_size, smallest_size
from diarbench.compress.surgery import smaller_structure
from diarbench.errors import InputError
from diarbench.measure.counts import count_macs
from diarbench.nn.structures import Structure, named_structure, structure_names
from diarbench.nn.wavlm import PARTS, WavLM


def counted(structure: Structure, measure: str, samples: int = 16000) -> Size[int]:
    """What the counters find, without weights."""
    with torch.device("meta"):
        network = WavLM(structure)
    if measure == "parameters":
        sizes = [sum(numel(network.get_submodule(path)) for path in paths) for paths in PARTS.values()]
        assert sum(sizes) == numel(network)
    else:
        total, *sizes = count_macs(network, [torch.empty(1, samples)], watched=list(PARTS.values()))
        assert sum(sizes) == total
    return Size(*sizes)


@pytest.mark.parametrize("name", structure_names())
def test_the_published_structures(name: str) -> None:
    structure = named_structure(name)
    assert exact_size(structure) == counted(structure, "parameters")
    for samples in (16000, 52345):
        assert exact_size(structure, "macs", samples=samples) == counted(structure, "macs", samples)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["base", "large"]), st.integers(0, 10_000), st.sampled_from(["parameters", "macs"]))
def test_sizes_of_masked_models_are_those_of_the_smaller_ones(kind: str, seed: int, measure: str) -> None:
    structure = tiny(kind)
    for step in range(2):  # a second time, from what was pruned once
        masks = random_masks(structure, seed + step)
        smaller = smaller_structure(structure, masks)
        found = counted(smaller, measure, 17000)
        expected = expected_size(structure, as_probabilities(masks), measure, samples=17000)
        assert (expected.cnn.item(), expected.transformer.item()) == (found.cnn, found.transformer)
        assert exact_size(smaller, measure, samples=17000) == found
        structure = smaller


@pytest.mark.parametrize("measure", ["parameters", "macs"])
@pytest.mark.parametrize("kind", ["base", "large"])
def test_expectations_against_monte_carlo(kind: str, measure: str) -> None:
    structure = tiny(kind)
    generator = torch.Generator().manual_seed(0)
    kept = PerGate.ones(structure).map(lambda ones: torch.rand(ones.shape, generator=generator))
    # A convolution without channels is no model, but has a size by formula: the mean is over all of them.
    totals = [
        expected_size(structure, kept.map(lambda p: torch.bernoulli(p, generator=generator)), measure).total.item()
        for _ in range(1000)
    ]
    found = torch.tensor(totals)
    error = found.std().item() / len(totals) ** 0.5
    assert found.mean().item() == pytest.approx(expected_size(structure, kept, measure).total.item(), abs=4 * error)
    assert error < 0.02 * found.mean().item()


@pytest.mark.parametrize("measure", ["parameters", "macs"])
def test_gradients(measure: str) -> None:
    structure = tiny("base", layers=2)
    ones = PerGate.ones(structure).map(lambda group: group.double() * 0.3)
    groups = [*ones.convolutions, *ones.heads, *ones.feed_forward, ones.attention_layers, ones.feed_forward_layers]

    def share(*groups: torch.Tensor) -> torch.Tensor:
        kept = PerGate(tuple(groups[:7]), tuple(groups[7:9]), tuple(groups[9:11]), groups[11], groups[12])
        return expected_size(structure, kept, measure).total / exact_size(structure, measure).total

    assert torch.autograd.gradcheck(share, [group.requires_grad_() for group in groups])


@pytest.mark.parametrize("measure", ["parameters", "macs"])
@pytest.mark.parametrize("kind", ["base", "large"])
def test_the_smallest_is_a_real_model(kind: str, measure: str) -> None:
    structure = tiny(kind)
    ones = PerGate.ones(structure)
    one_each = tuple(torch.eye(len(group))[0] for group in ones.convolutions)
    none = ones.map(torch.zeros_like)
    masks = replace(ones, convolutions=one_each, heads=none.heads, feed_forward=none.feed_forward)
    smaller = smaller_structure(structure, masks)
    assert smaller.attention_biases == smaller.feed_forward_biases == (0, 1, 2)
    assert smallest_size(structure, measure) == counted(smaller, measure)


@pytest.mark.parametrize("gated", [("heads",), ("feed_forward",), ("convolutions",), ("attention_layers", "heads")])
def test_the_smallest_with_gates_on_some_kinds_is_a_real_model(gated: tuple[str, ...]) -> None:
    structure = tiny("base")
    ones = PerGate.ones(structure)
    closed = {}
    for kind in gated:
        group = getattr(ones, kind)
        nothing = tuple(map(torch.zeros_like, group)) if isinstance(group, tuple) else torch.zeros_like(group)
        closed[kind] = tuple(torch.eye(len(one))[0] for one in group) if kind == "convolutions" else nothing
    assert smallest_size(structure, gated=gated) == counted(
        smaller_structure(structure, replace(ones, **closed)), "parameters"
    )


def test_ceilings_and_what_the_reference_leaves_out() -> None:
    """The reference's formulas give 94.9 and 97.3 % too; its other differences are as the module says."""
    for name, most in (("wavlm-base-plus", 94.9), ("wavlm-large", 97.3)):
        structure = named_structure(name)
        assert round(100 - 100 * smallest_size(structure).total / exact_size(structure).total, 1) == most
    base = named_structure("wavlm-base-plus")
    relative = 320 * 12 + 12 * (8 * 65 + 12)
    assert relative == 10_224
    assert round(100 * relative / exact_size(base).total, 2) == 0.01
    assert exact_size(base, "macs").total - 12 * 12 * 49 * 64 * 8 == 6_911_374_336
    assert round(100 * 12 * 12 * 49 * 64 * 8 / 6_911_374_336, 2) == 0.05


def test_refusals() -> None:
    structure = tiny("base")
    with pytest.raises(InputError, match="mac is no measure of a size; did you mean macs"):
        exact_size(structure, "mac")
    with pytest.raises(InputError, match="399 samples are less than the 400"):
        exact_size(structure, "macs", samples=399)
    with pytest.raises(InputError, match="don't fit"):
        expected_size(structure, PerGate.ones(tiny("base", layers=2)))
