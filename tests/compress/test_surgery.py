"""Smaller models against gated ones with the same masks, once and again, and the record of what was kept."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from small_gates import close, noise, numel, random_masks, tiny, wavlm

from diarbench.compress.gated import GatedWavLM
from diarbench.compress.gates import KeepAtStart, PerGate
from diarbench.compress.sizes import as_probabilities, expected_size, smallest_size
from diarbench.compress.surgery import Kept, Materialised, materialise, smaller_structure
from diarbench.errors import InputError
from diarbench.nn.structures import Structure
from diarbench.nn.wavlm import WavLM

KINDS = ("base", "large")


def pruned(network: WavLM, masks: PerGate, earlier: Kept | None = None) -> Materialised:
    return materialise(GatedWavLM(network).eval(), masks, earlier=earlier)


def masks_of(structure: Structure, **groups: tuple[list[float], ...] | list[float]) -> PerGate:
    """Masks that are 1 but for these groups."""
    given = {
        name: torch.tensor(values) if name.endswith("layers") else tuple(map(torch.tensor, values))
        for name, values in groups.items()
    }
    return replace(PerGate.ones(structure), **given)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 10_000))
@torch.no_grad()
def test_removing_heads_and_units_is_exact(kind: str, seed: int) -> None:
    """Also where whole modules go, with and without their output bias, and however soft the masks are."""
    gated = GatedWavLM(wavlm(tiny(kind, layers=4), seed)).eval()
    gated.fixed = random_masks(gated.structure, seed, channels=False)
    smaller = materialise(gated).wavlm
    close(list(smaller.states(noise())), gated.states(noise()))
    expected = expected_size(gated.structure, as_probabilities(gated.fixed)).total.item()
    assert numel(smaller) == expected
    again = materialise(GatedWavLM(smaller).eval(), random_masks(smaller.structure, seed + 1, channels=False))
    twice = GatedWavLM(smaller).eval()
    twice.fixed = random_masks(smaller.structure, seed + 1, channels=False)
    close(list(again.wavlm.states(noise())), twice.states(noise()))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_output_biases_stay_where_all_heads_or_units_went(kind: str) -> None:
    gated = GatedWavLM(wavlm(tiny(kind))).eval()
    none = [0.0] * 4
    gated.fixed = masks_of(
        gated.structure,
        heads=(none, [1.0, 0.0, 1.0, 0.0], none),
        feed_forward=([0.0] * 11, [0.0] * 13, [1.0] * 10),
        attention_layers=[1.0, 1.0, 0.0],
    )
    smaller = materialise(gated).wavlm
    structure = smaller.structure
    assert (structure.heads, structure.feed_forward) == (((), (0, 2), ()), (0, 0, 10))
    assert (structure.attention_biases, structure.feed_forward_biases) == ((0,), (0, 1))
    close(list(smaller.states(noise())), gated.states(noise()))
    layers = gated.wavlm.encoder.layers
    assert torch.equal(smaller.encoder.layers[0].attention_bias, layers[0].attention.output.bias)
    without = WavLM(replace(structure, attention_biases=(), feed_forward_biases=())).eval()
    missing, unexpected = without.load_state_dict(smaller.state_dict(), strict=False)
    assert (missing, len(unexpected)) == ([], 3)
    assert (without(noise()) - smaller(noise())).abs().max() > 0.01  # they are worth something
    again = Structure.from_json(structure.to_json())
    assert again == structure
    WavLM(again).load_state_dict(smaller.state_dict())


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_removing_channels_is_exact_up_to_the_first_norm_over_channels(kind: str) -> None:
    """Base norms each channel for itself until the projection; Large norms over all channels from the start."""
    gated = GatedWavLM(wavlm(tiny(kind))).eval()
    gated.fixed = replace(PerGate.ones(gated.structure), convolutions=random_masks(gated.structure, 1).convolutions)
    found = materialise(gated)
    last = list(found.kept.convolutions[-1])
    heard: list[torch.Tensor] = []
    hook = gated.wavlm.extractor.register_forward_hook(lambda _, __, output: heard.append(output))
    states = gated.states(noise())
    hook.remove()
    [whole] = heard
    assert (whole[:, :, [place for place in range(6) if place not in last]] == 0).all()
    difference = (found.wavlm.extractor(noise()) - whole[:, :, last]).abs().max()
    assert difference < 1e-5 if kind == "base" else difference > 1e-3
    assert (next(found.wavlm.states(noise())) - states[0]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_all_ones_keep_everything(kind: str) -> None:
    plain = wavlm(tiny(kind))
    found = pruned(plain, PerGate.ones(plain.structure))
    assert found.wavlm.structure == replace(plain.structure, output_scale=True)
    assert found.kept == Kept.all_of(plain.structure)
    close(list(found.wavlm.states(noise())), list(plain.states(noise())), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_progressive_pruning_maps_back_to_the_first_model(kind: str) -> None:
    first = wavlm(tiny(kind, layers=4))
    once = pruned(first, random_masks(first.structure, 0, soft=False))
    twice = pruned(once.wavlm, random_masks(once.wavlm.structure, 4, soft=False), once.kept)
    for before, after in ((first.structure, once), (once.wavlm.structure, twice)):
        after.kept.check(after.wavlm.structure)
        for heads, left in zip(before.heads, after.kept.heads, strict=True):
            assert set(left) <= set(heads)
    heads = [list(each) for each in twice.kept.heads]
    assert any(each and each != list(range(len(each))) for each in heads)
    kept = twice.kept
    inputs: tuple[int, ...] = (0,)
    for index, (channels, layer) in enumerate(zip(kept.convolutions, twice.wavlm.extractor.layers, strict=True)):
        original = first.extractor.layers[index].conv.weight
        assert torch.equal(layer.conv.weight, original[list(channels)][:, list(inputs)])
        inputs = channels
    for index, layer in enumerate(twice.wavlm.encoder.layers):
        original = first.encoder.layers[index]
        rows = [8 * head + unit for head in kept.heads[index] for unit in range(8)]
        units = list(kept.feed_forward[index])
        if rows:
            assert torch.equal(layer.attention.key.weight, original.attention.key.weight[rows])
            assert torch.equal(layer.attention.output.weight, original.attention.output.weight[:, rows])
        if units:
            assert torch.equal(layer.feed_forward.outer.weight, original.feed_forward.outer.weight[:, units])


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_next_to_nothing_still_runs(kind: str) -> None:
    gated = GatedWavLM(wavlm(tiny(kind)), start=KeepAtStart(*[1e-9] * 5)).eval()
    smallest = materialise(gated).wavlm
    assert numel(smallest) == smallest_size(gated.structure).total
    assert torch.isfinite(smallest(noise())).all()
    again = materialise(GatedWavLM(smallest).eval()).wavlm
    assert again.structure == smallest.structure


@torch.no_grad()
def test_two_steps_are_one() -> None:
    """Pruning what was pruned gives the model that both masks at once give, head indices and biases included."""
    first = wavlm(tiny("large"))
    ones = PerGate.ones(first.structure)
    heads = torch.tensor([0.0, 1.0, 0.0, 0.7])
    channels = (*ones.convolutions[:-2], torch.tensor([0.5, 0, 1, 1, 0, 1, 1, 0]), torch.tensor([0, 1.0, 0.4, 0, 1, 1]))
    once = pruned(first, replace(ones, heads=(heads, torch.zeros(4), ones.heads[2]), convolutions=channels))
    assert once.wavlm.structure.heads == ((1, 3), (), (0, 1, 2, 3))
    second = masks_of(once.wavlm.structure, heads=([0.0, 0.5], [], [0.0, 1.0, 1.0, 0.0]))
    channels = (*ones.convolutions[:-2], torch.tensor([0.5, 0, 1, 1, 0.25]), torch.tensor([0.0, 0.5, 1, 0.3]))
    twice = pruned(once.wavlm, replace(second, convolutions=channels), once.kept)
    heads, channels = (
        torch.tensor([0.0, 0.0, 0.0, 0.35]),
        (
            *ones.convolutions[:-2],
            torch.tensor([0.25, 0, 0, 1, 0, 1, 0.25, 0]),
            torch.tensor([0, 0, 0.2, 0, 1, 0.3]),
        ),
    )
    whole = replace(ones, heads=(heads, torch.zeros(4), torch.tensor([0.0, 1, 1, 0])), convolutions=channels)
    direct = pruned(first, whole)
    assert twice.wavlm.structure == direct.wavlm.structure
    assert twice.wavlm.structure.heads == ((3,), (), (1, 2))
    assert twice.kept == direct.kept
    close(list(twice.wavlm.states(noise())), list(direct.wavlm.states(noise())))


def test_the_gated_one_stays_and_settings_are_kept() -> None:
    network = WavLM(tiny("base"), dropout=0.25).to(torch.float64)
    gated = GatedWavLM(network).train()
    before = copy.deepcopy(gated.state_dict())
    found = materialise(gated, random_masks(network.structure, 0))
    assert all(torch.equal(tensor, before[name]) for name, tensor in gated.state_dict().items())
    assert found.wavlm.encoder.dropout.p == 0.25
    assert found.wavlm.training
    assert {parameter.dtype for parameter in found.wavlm.parameters()} == {torch.float64}
    learned = {name for name, parameter in found.wavlm.named_parameters() if not parameter.requires_grad}
    assert learned == {"extractor.scale"}
    found.wavlm(noise().double()).square().mean().backward()
    with torch.no_grad():
        for parameter in found.wavlm.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in gated.state_dict().items())


def test_without_masks_those_of_inference_count() -> None:
    gated = GatedWavLM(wavlm(tiny("base"))).train()
    expected = gated.gates.deterministic("reference")
    found = materialise(gated)
    assert found.wavlm.structure == smaller_structure(gated.structure, expected)
    assert sum(found.wavlm.structure.feed_forward) == round(0.8318 * 11) + round(0.8318 * 13) + round(0.8318 * 10)
    assert not materialise(gated.eval()).wavlm.training


def test_the_record_can_be_written_and_read() -> None:
    plain = wavlm(tiny("base"))
    kept = pruned(plain, random_masks(plain.structure, 2)).kept
    assert Kept.from_json(kept.to_json()) == kept
    values = json.loads(kept.to_json())
    assert list(values) == ["format", "convolutions", "heads", "feed_forward"]
    for text in (
        "[]",
        "{",
        json.dumps({**values, "format": 2}),
        json.dumps({**values, "more": 1}),
        json.dumps({**values, "heads": [[-1]]}),
        json.dumps({**values, "heads": [["0"]]}),
        json.dumps({**values, "heads": 3}),
    ):
        with pytest.raises(InputError, match=r"kept\.json: no record of what was kept") as error:
            Kept.from_json(text, "kept.json")
        assert "\n" not in str(error.value)


def test_refusals() -> None:
    plain = wavlm(tiny("base"))
    masks = PerGate.ones(plain.structure)
    empty = (*masks.convolutions[:3], torch.zeros(9), *masks.convolutions[4:])
    with pytest.raises(InputError, match="convolution 3 would lose all its channels"):
        pruned(plain, replace(masks, convolutions=empty))
    with pytest.raises(InputError, match="don't fit"):
        pruned(plain, PerGate.ones(tiny("base", layers=2)))
    with pytest.raises(InputError, match="kept before is not that of this WavLM"):
        pruned(plain, masks, Kept.all_of(tiny("base", layers=2)))
