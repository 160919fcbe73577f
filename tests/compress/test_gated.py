"""Gated WavLMs against plain ones whose weights were scaled by hand."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from small_gates import close, noise, random_masks, tiny, wavlm

from diarbench.compress.gated import GatedWavLM
from diarbench.compress.gates import OPEN, PerGate
from diarbench.compress.surgery import materialise
from diarbench.errors import AudioError, InputError
from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import Eend
from diarbench.nn.wavlm import WavLM

ALL = ("convolutions", "heads", "feed_forward", "attention_layers", "feed_forward_layers")


@pytest.mark.parametrize("kind", ["base", "large"])
@torch.inference_mode()
def test_open_gates_change_nothing(kind: str) -> None:
    plain = wavlm(tiny(kind))
    gated = GatedWavLM(copy.deepcopy(plain))
    gated.fixed = PerGate.ones(plain.structure)
    for mode in (True, False):
        close(gated.train(mode).states(noise()), list(plain.train(mode).states(noise())), 0)
    weights = torch.tensor([0.1, 0.4, -0.2, 0.7])
    assert torch.equal(gated(noise(), weights), plain(noise(), weights))
    assert torch.equal(gated(noise()), plain(noise()))


class Scaled(nn.Module):
    """What was there, times a mask over channels."""

    def __init__(self, inner: nn.Module, mask: torch.Tensor) -> None:
        super().__init__()
        self.inner, self.mask = inner, mask

    def forward(self, channels: torch.Tensor) -> torch.Tensor:
        return self.inner(channels) * self.mask[None, :, None]


def scaled(plain: WavLM, masks: PerGate) -> WavLM:
    """A plain WavLM with masks in its weights: all that they stand before is linear."""
    other = copy.deepcopy(plain)
    for index, mask in enumerate(masks.convolutions):
        other.extractor.layers[index] = Scaled(other.extractor.layers[index], mask)
    for index, layer in enumerate(other.encoder.layers):
        attention, feed_forward = masks.attention_layers[index], masks.feed_forward_layers[index]
        layer.attention.output.weight.mul_(masks.heads[index].repeat_interleave(8) * attention)
        layer.attention.output.bias.mul_(attention)
        layer.feed_forward.outer.weight.mul_(masks.feed_forward[index] * feed_forward)
        layer.feed_forward.outer.bias.mul_(feed_forward)
    return other


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["base", "large"])
@torch.no_grad()
def test_masks_act_where_they_should(kind: str, seed: int) -> None:
    plain = wavlm(tiny(kind))
    masks = random_masks(plain.structure, seed)
    gated = GatedWavLM(copy.deepcopy(plain)).eval()
    gated.fixed = masks
    close(gated.states(noise()), list(scaled(plain, masks).states(noise())))
    assert (gated(noise()) - plain(noise())).abs().max() > 0.1


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rule", ["reference", "clamp"])
def test_gradients_reach_weights_and_gates(rule: str, training: bool) -> None:
    gated = GatedWavLM(wavlm(tiny("base")), gated=ALL, rule=rule).train(training)
    with torch.no_grad():
        for parameter in gated.gates.parameters():
            parameter.copy_(torch.linspace(0.5, 1.5, len(parameter)))
    gated.generator = torch.Generator().manual_seed(0)
    for _ in range(6):  # a gate that is 0 or 1 gets nothing, nor does what lies behind one that is 0
        sum(state.square().sum() for state in gated.states(noise())).backward()
    for parameter in gated.gates.parameters():
        assert parameter.grad is not None
        assert (parameter.grad != 0).float().mean() >= 0.6
    for name, parameter in gated.wavlm.named_parameters():
        assert parameter.grad is not None, name


def test_training_draws_and_inference_does_not() -> None:
    torch.manual_seed(0)
    gated = GatedWavLM(wavlm(tiny("base")))
    first, second = (gated.train()(noise()) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(gated.eval()(noise()), gated(noise()))
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        first, second = second, gated.train()(noise())
    torch.manual_seed(1)
    assert torch.equal(gated(noise()), first)
    gated.generator = torch.Generator().manual_seed(7)
    one = gated(noise())
    gated.generator.manual_seed(7)
    torch.manual_seed(99)
    assert torch.equal(one, gated(noise()))
    # One mask for the whole batch: a window repeated is a window repeated.
    twice = gated(noise(1).repeat(2, 1))
    torch.testing.assert_close(twice[0], twice[1])


def test_a_seed_decides_how_gates_start() -> None:
    one, same, other = (GatedWavLM(wavlm(tiny("base")), seed=seed) for seed in (0, 0, 1))
    ours = [torch.cat(list(each.gates.parameters())) for each in (one, same, other)]
    assert torch.equal(ours[0], ours[1])
    assert not torch.equal(ours[0], ours[2])


def test_copies_are_independent_and_states_can_be_saved() -> None:
    gated = GatedWavLM(wavlm(tiny("large")), start=OPEN).eval()
    gated(noise())  # with gradients: none may stay behind
    other = copy.deepcopy(gated)
    before = gated(noise())
    with torch.no_grad():
        for parameter in other.gates.parameters():
            parameter.sub_(7)
    assert not torch.equal(other(noise()), before)
    assert torch.equal(gated(noise()), before)
    fresh = GatedWavLM(wavlm(tiny("large"), seed=5)).eval()
    fresh.load_state_dict(gated.state_dict())
    assert torch.equal(fresh(noise()), before)


def test_it_stands_in_an_eend() -> None:
    torch.manual_seed(0)
    eend = Eend(tiny("base"), HeadShape(units=8, feed_forward=8, heads=2, blocks=1, kernel=3)).eval()
    expected = eend(noise())
    eend.wavlm = GatedWavLM(eend.wavlm, start=OPEN).eval()
    eend.wavlm.fixed = PerGate.ones(tiny("base"))
    assert torch.equal(eend(noise()), expected)
    assert torch.allclose(eend.fold()(noise()), expected, atol=1e-5)
    assert (eend.step, eend.frames(16000)) == (320, 49)
    eend.wavlm.fixed = random_masks(tiny("base"), 0, channels=False)
    masked = eend(noise())
    eend.wavlm = materialise(eend.wavlm).wavlm
    torch.testing.assert_close(eend(noise()), masked, rtol=0, atol=1e-5)
    assert not torch.allclose(masked, expected, atol=1e-3)


def test_after_a_failure_the_plain_one_is_plain() -> None:
    plain = wavlm(tiny("base"))
    expected = plain(noise())
    gated = GatedWavLM(plain).eval()
    gated.fixed = random_masks(plain.structure, 0)
    for call in (gated, gated.states):
        with pytest.raises(AudioError):
            call(torch.zeros(1, 300))
        assert torch.equal(plain(noise()), expected)


def test_layers_that_are_gone_already() -> None:
    structure = replace(tiny("base"), heads=((0, 3), (), (1, 2, 3)), feed_forward=(5, 6, 0), attention_biases=(1,))
    gated = GatedWavLM(wavlm(structure), gated=ALL)
    sum(state.sum() for state in gated.states(noise())).backward()
    optimiser = torch.optim.AdamW(gated.parameters())
    optimiser.step()
    torch.nn.utils.clip_grad_norm_(gated.parameters(), 1.0)
    assert [len(group) for group in gated.masks().heads] == [2, 0, 3]


def test_half_precision() -> None:
    gated = GatedWavLM(wavlm(tiny("base"))).eval()
    expected = gated(noise())
    with torch.autocast("cpu", torch.bfloat16):
        found = gated(noise())
    assert torch.nn.functional.cosine_similarity(found.float(), expected, dim=2).min() > 0.99


def test_unknown_rule() -> None:
    with pytest.raises(InputError, match="hard is no rule for masks"):
        GatedWavLM(wavlm(tiny("base")), rule="hard")


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    from diarbench.compress.objective import Lagrangian, Target
    from diarbench.compress.rounding import masks_for

    here = GatedWavLM(wavlm(tiny("base")), gated=ALL).eval()
    there = GatedWavLM(wavlm(tiny("base")).cuda(), gated=ALL)
    constraint = Lagrangian(here.structure, Target(0.3), warm_up=0).cuda()
    loss = there(noise().cuda()).square().mean() + constraint(there.gates.probabilities(), 0).loss
    loss.backward()
    there.eval()
    there.fixed = masks_for(there.gates, Target(0.3), tolerance=0.1)
    here.fixed = there.fixed.map(torch.Tensor.cpu)
    with torch.inference_mode():
        close([materialise(there).wavlm(noise().cuda()).cpu()], [materialise(here).wavlm(noise())], 1e-3)
