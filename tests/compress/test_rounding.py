"""Models of exactly the size asked for, by each measure, for the whole and for the parts."""

from __future__ import annotations

import itertools
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from small_gates import numel, random_masks, tiny

from diarbench.compress.gated import GatedWavLM
from diarbench.compress.gates import OPEN, KeepAtStart, PerGate, WavLMGates
from diarbench.compress.objective import Target
from diarbench.compress.rounding import check_steps, masks_for
from diarbench.compress.sizes import exact_size, smallest_size
from diarbench.compress.surgery import materialise, smaller_structure
from diarbench.errors import InputError
from diarbench.measure.counts import count_macs
from diarbench.nn.structures import Structure, named_structure
from diarbench.nn.wavlm import PARTS, WavLM

TARGETS = {
    "parameters": Target(0.8),
    "macs": Target(0.8, measure="macs"),
    "separate parameters": Target(cnn=0.8, transformer=0.8),
    "separate macs": Target(cnn=0.7, transformer=0.85, measure="macs"),
    "90 % of parameters": Target(0.9),
    "90 % of MACs": Target(0.9, measure="macs"),
}


def sizes(structure: Structure, measure: str) -> dict[str, int]:
    """By the counters, without weights."""
    with torch.device("meta"):
        network = WavLM(structure)
    if measure == "macs":
        total, *parts = count_macs(network, [torch.empty(1, 16000)], watched=list(PARTS.values()))
    else:
        total, parts = numel(network), [numel(network.extractor), numel(network.encoder)]
    return {"all": total, "CNN": parts[0], "Transformer": parts[1]}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
@pytest.mark.parametrize(
    ("name", "start"), [("wavlm-base-plus", None), ("wavlm-base-plus", OPEN), ("wavlm-large", None)]
)
def test_published_sizes_without_training(name: str, start: KeepAtStart | None, target: Target) -> None:
    structure = named_structure(name)
    gates = WavLMGates(structure, start=start, generator=torch.Generator().manual_seed(0))
    smaller = smaller_structure(structure, masks_for(gates, target))
    found, whole = sizes(smaller, target.measure), sizes(structure, target.measure)
    for part, sparsity in target.sparsities().items():
        wanted = round((1 - sparsity) * whole[part])
        assert 0.999 * wanted < found[part] <= wanted


def test_base_plus_with_random_weights_becomes_a_fifth() -> None:
    torch.manual_seed(0)
    gated = GatedWavLM(WavLM(named_structure("wavlm-base-plus"))).eval()
    found = materialise(gated, masks_for(gated.gates, Target(0.8))).wavlm
    assert numel(found) == pytest.approx(0.2 * 94_381_168, rel=0.001)
    with torch.inference_mode():
        assert torch.isfinite(found(torch.randn(1, 16000))).all()
    found = materialise(gated, masks_for(gated.gates, Target(0.8, measure="macs"))).wavlm
    [macs] = count_macs(found, [torch.empty(1, 16000)])
    assert macs == pytest.approx(0.2 * 6_914_987_008, rel=0.001)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["base", "large"]),
    st.integers(0, 1000),
    st.floats(0.02, 0.9),
    st.sampled_from(["parameters", "macs"]),
    st.sampled_from(["reference", "clamp"]),
)
def test_any_gates_give_the_size(kind: str, seed: int, share: float, measure: str, rule: str) -> None:
    """Whatever was learned: below the target by less than the smallest thing that could be added."""
    structure = tiny(kind)
    gates = learned(structure, seed)
    most = 1 - smallest_size(structure, measure).total / exact_size(structure, measure).total
    sparsity = share * most
    assume(sparsity > 0.01)
    masks = masks_for(gates, Target(sparsity, measure=measure), rule=rule, tolerance=1.0)
    found = exact_size(smaller_structure(structure, masks), measure).total
    wanted = round((1 - sparsity) * exact_size(structure, measure).total)
    unit = 65 if measure == "parameters" else 2 * 49 * 32
    channel = 9 * (3 * 9 + 3 * 9 + 2 + 2 + 33) if measure == "parameters" else 3199 * 10 * 10
    full = all(bool((group > 0).all()) for group in masks.feed_forward)
    assert wanted - (channel if full else unit) < found <= wanted
    logits = gates.logits()
    for kept, values in zip(groups(masks), groups(logits), strict=True):
        if 0 < int((kept > 0).sum()) < len(kept):
            assert values[kept > 0].min() >= values[kept == 0].max()


def groups(values: PerGate) -> list[torch.Tensor]:
    return [*values.convolutions, *values.heads, *values.feed_forward]


def learned(structure: Structure, seed: int, **options: object) -> WavLMGates:
    """Gates of any log α."""
    generator = torch.Generator().manual_seed(seed)
    gates = WavLMGates(structure, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in gates.parameters():
            parameter.normal_(0, 4, generator=generator)
    return gates


def test_a_learned_pattern_stays() -> None:
    """Gates that have decided, at the size that they decided on, survive as they are."""
    structure = tiny("base")
    gates = learned(structure, 3)
    with torch.no_grad():
        for parameter in gates.parameters():
            parameter.copy_(8 * parameter.sign())
    decided = gates.deterministic("reference")
    sparsity = 1 - exact_size(smaller_structure(structure, decided)).total / exact_size(structure).total
    masks = masks_for(gates, Target(sparsity))
    for found, wanted in zip(groups(masks), groups(decided), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("seed", range(4))
def test_whole_modules_may_go_too(seed: int) -> None:
    structure = tiny("base", layers=4)
    kinds = ("convolutions", "heads", "feed_forward", "attention_layers", "feed_forward_layers")
    gates = learned(structure, seed, gated=kinds)
    masks = masks_for(gates, Target(0.12), tolerance=0.02)
    smaller = smaller_structure(structure, masks)
    wanted = 0.88 * exact_size(structure).total
    assert 0.98 * wanted < exact_size(smaller).total <= wanted
    for layer in range(4):
        if masks.attention_layers[layer] == 0:
            assert smaller.heads[layer] == ()
            assert layer not in smaller.attention_biases


def test_progressive_targets_count_from_the_first_model() -> None:
    full = named_structure("wavlm-base-plus")
    once = smaller_structure(full, masks_for(WavLMGates(full), Target(0.6)))
    twice = smaller_structure(once, masks_for(WavLMGates(once), Target(0.8), full=full))
    assert exact_size(once).total == pytest.approx(0.4 * 94_381_168, rel=1e-3)
    assert exact_size(twice).total == pytest.approx(0.2 * 94_381_168, rel=1e-3)


def test_the_same_gates_give_the_same_masks() -> None:
    structure = tiny("large")
    one, other = (masks_for(learned(structure, 5), Target(0.1), tolerance=1.0) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(groups(one), groups(other), strict=True))


def test_what_is_not_gated_stays() -> None:
    structure = tiny("base")
    gates = WavLMGates(structure, gated=["feed_forward"])
    masks = masks_for(gates, Target(0.02))
    assert all((group == 1).all() for group in (*masks.convolutions, *masks.heads))


@pytest.mark.parametrize("measure", ["parameters", "macs"])
@pytest.mark.parametrize("parts", [(0.0, 0.1), (0.2, 0.0)], ids=["transformer", "cnn"])
def test_one_part_may_stay_whole(parts: tuple[float, float], measure: str) -> None:
    """Though surgery leaves a factor per channel, and a projection of fewer channels is smaller."""
    structure = tiny("base")
    target = Target(cnn=parts[0], transformer=parts[1], measure=measure)
    masks = masks_for(WavLMGates(structure), target, tolerance=0.05)
    smaller = smaller_structure(structure, masks)
    if parts[0]:
        assert smaller.heads == structure.heads
        assert smaller.feed_forward == structure.feed_forward
    else:
        assert smaller.convolutions == structure.convolutions


def test_a_part_that_lost_something_is_not_whole() -> None:
    structure = tiny("base")
    smaller = smaller_structure(structure, random_masks(structure, 1))
    with pytest.raises(InputError, match="of the CNN is gone already"):
        Target(cnn=0.0, transformer=0.1).sizes(smaller, structure)


KINDS = ("convolutions", "heads", "feed_forward", "attention_layers", "feed_forward_layers")


@settings(max_examples=40, deadline=None)
@given(
    st.sets(st.sampled_from(KINDS), min_size=1).map(sorted),
    st.integers(0, 1000),
    st.floats(0.01, 0.99),
    st.sampled_from(["parameters", "macs"]),
    st.booleans(),
)
def test_what_is_refused_before_would_be_afterwards(
    gated: list[str], seed: int, share: float, measure: str, separate: bool
) -> None:
    """Whatever was learned: none of these gates makes a size that was said to be out of reach."""
    structure = tiny("base", layers=2)
    least, whole = smallest_size(structure, measure, gated=gated), exact_size(structure, measure)
    overall, transformer = share * (1 - least.total / whole.total), share * (1 - least.transformer / whole.transformer)
    target = Target(None if separate else overall, *([0.0, transformer] if separate else []), measure=measure)
    assume((transformer if separate else overall) > 0.001)
    gates = learned(structure, seed, gated=gated)
    try:
        check_steps(structure, target, gated=gated)
    except InputError:
        with pytest.raises(InputError, match="no choice of gates"):
            masks_for(gates, target)


def test_layers_are_coarse_and_heads_of_the_real_wavlm_are_not() -> None:
    structure = named_structure("wavlm-base-plus")
    check_steps(structure, Target(0.2), gated=["heads"])
    check_steps(structure, Target(0.28), gated=["feed_forward_layers", "feed_forward"])
    check_steps(structure, Target(0.28), gated=["feed_forward_layers", "convolutions"])
    with pytest.raises(InputError, match=r"parameters \(Transformer\)"):
        check_steps(structure, Target(cnn=0.5, transformer=0.28), gated=["feed_forward_layers", "convolutions"])
    said = r"feed_forward_layers are too coarse: .* \(all\); the nearest targets are (0\.\d+) and (0\.\d+), or say more"
    with pytest.raises(InputError, match=said) as caught:
        check_steps(structure, Target(0.28), gated=["feed_forward_layers"])
    near = re.search(said, str(caught.value))
    assert near is not None
    assert near.groups() == ("0.2501", "0.3002"), "five or six of twelve, 4.72 M of 94.38 M each"
    for sparsity in map(float, near.groups()):
        target = Target(sparsity)
        check_steps(structure, target, gated=["feed_forward_layers"])
        assert masks_for(WavLMGates(structure, gated=["feed_forward_layers"]), target)


@pytest.mark.parametrize("measure", ["parameters", "macs"])
def test_each_number_of_heads_is_a_step(measure: str) -> None:
    structure = tiny("base")
    whole, sizes = exact_size(structure, measure).total, []
    for gone in range(4):  # of the first layer's four
        heads = (structure.heads[0][gone:], *structure.heads[1:])
        sizes.append(exact_size(replace(structure, heads=heads, output_scale=True), measure).total)
    for size, smaller in itertools.pairwise(sizes):
        check_steps(structure, Target(1 - smaller / whole, measure=measure), gated=["heads"], tolerance=0.001)
        between = 1 - (size + smaller) / 2 / whole
        with pytest.raises(InputError, match="too coarse"):
            check_steps(structure, Target(between, measure=measure), gated=["heads"], tolerance=0.001)


def test_steps_of_a_pruned_model_count_from_the_first_one() -> None:
    full = named_structure("wavlm-base-plus")
    once = smaller_structure(full, masks_for(WavLMGates(full), Target(0.4)))
    check_steps(once, Target(0.5), full=full)
    with pytest.raises(InputError, match="too coarse"):
        check_steps(once, Target(0.41), full=full, gated=["feed_forward_layers"])


def test_refusals() -> None:
    structure = named_structure("wavlm-base-plus")
    with pytest.raises(InputError, match=r"95\.00% of the parameters .* can't be removed, 94\.93% at most: lower"):
        masks_for(WavLMGates(structure), Target(0.95))
    with pytest.raises(
        InputError, match=r"80\.00% of the parameters .* removed, 60\.\d\d% at most: .* gates on feed_forward alone"
    ):
        masks_for(WavLMGates(structure, gated=["feed_forward"]), Target(0.8))
    with pytest.raises(InputError, match=r"no choice of gates is within 0\.1% of"):
        masks_for(WavLMGates(structure, gated=["heads"]), Target(0.105), tolerance=0.001)
