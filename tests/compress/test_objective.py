"""The Lagrangian and its targets, by hand and in use; distillation against its formula."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from small_gates import noise, random_masks, tiny, wavlm

from diarbench.compress.gated import GatedWavLM
from diarbench.compress.gates import OPEN, PerGate, WavLMGates
from diarbench.compress.objective import DistillationLoss, Lagrangian, Target, layers_to_match, parameter_groups
from diarbench.compress.sizes import exact_size, expected_size
from diarbench.compress.surgery import smaller_structure
from diarbench.errors import InputError
from diarbench.nn.structures import Structure, named_structure


def test_the_penalty_by_hand() -> None:
    structure = tiny("base")
    constraint = Lagrangian(structure, Target(cnn=0.5, transformer=0.2), warm_up=10)
    with torch.no_grad():
        constraint.linear.copy_(torch.tensor([0.5, -2.0]))
        constraint.quadratic.copy_(torch.tensor([3.0, 7.0]))
    kept = PerGate.ones(structure).map(lambda ones: ones * 0.8)
    penalty = constraint(kept, 4)
    assert penalty.targets == pytest.approx({"CNN": 0.2, "Transformer": 0.08})
    expected, whole = expected_size(structure, kept), exact_size(structure)
    cnn, transformer = 1 - expected.cnn.item() / whole.cnn, 1 - expected.transformer.item() / whole.transformer
    assert penalty.sparsities == pytest.approx({"CNN": cnn, "Transformer": transformer})
    by_hand = 0.5 * (cnn - 0.2) + 3 * (cnn - 0.2) ** 2 - 2 * (transformer - 0.08) + 7 * (transformer - 0.08) ** 2
    assert penalty.loss.item() == pytest.approx(by_hand, rel=1e-5)
    penalty.loss.backward()
    assert constraint.linear.grad is not None
    assert constraint.linear.grad.tolist() == pytest.approx([cnn - 0.2, transformer - 0.08], rel=1e-5)


def test_targets_warm_up_linearly_from_what_is_gone() -> None:
    structure = tiny("base")
    constraint = Lagrangian(structure, Target(0.2), warm_up=20)
    assert [constraint.targets(step)["all"] for step in (0, 5, 20, 21, 999)] == pytest.approx([0, 0.05, 0.2, 0.2, 0.2])
    assert Lagrangian(structure, Target(0.2), warm_up=0).targets(0) == {"all": 0.2}
    smaller = smaller_structure(structure, random_masks(structure, 1))
    gone = 1 - exact_size(smaller, "macs").total / exact_size(structure, "macs").total
    target = Target(gone + 0.01, measure="macs")
    constraint = Lagrangian(smaller, target, warm_up=4, full=structure)
    assert constraint.targets(0)["all"] == pytest.approx(gone)
    assert constraint.targets(2)["all"] == pytest.approx(gone + 0.005)
    assert constraint.sparsities(PerGate.ones(smaller))["all"].item() == pytest.approx(gone)


def reached(structure: Structure, target: Target, *, rate: float, warm_up: int, steps: int) -> dict[str, float]:
    """The expected sparsity of gates that learn from nothing but the constraint."""
    gates = WavLMGates(structure, generator=torch.Generator().manual_seed(0))
    constraint = Lagrangian(structure, target, warm_up=warm_up)
    groups = [
        {"params": list(gates.parameters()), "lr": rate},
        {"params": list(constraint.parameters()), "lr": rate, "maximize": True},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=0)
    for step in range(steps):
        penalty = constraint(gates.probabilities(), step)
        optimiser.zero_grad()
        penalty.loss.backward()
        optimiser.step()
    return dict(penalty.sparsities)


TARGETS = [Target(0.2), Target(0.3, measure="macs"), Target(cnn=0.5, transformer=0.2)]


@pytest.mark.parametrize("target", TARGETS, ids=["parameters", "macs", "separate"])
def test_gates_reach_their_targets(target: Target) -> None:
    found = reached(tiny("base"), target, rate=0.05, warm_up=100, steps=400)
    assert found == pytest.approx(target.sparsities(), abs=0.005)  # of the size asked for, 1 % or less


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["parameters", "macs"])
def test_base_plus_reaches_80_percent_at_the_papers_rates(measure: str) -> None:
    target = Target(0.8, measure=measure)
    found = reached(named_structure("wavlm-base-plus"), target, rate=2e-2, warm_up=300, steps=1200)
    assert 1 - found["all"] == pytest.approx(0.2, rel=0.01)


def test_multipliers_climb() -> None:
    gated = GatedWavLM(wavlm(tiny("base")), start=OPEN)
    constraint = Lagrangian(gated.structure, Target(0.2), warm_up=0)
    groups = parameter_groups(gated, constraint)
    assert [(group["lr"], group["weight_decay"], group.get("maximize", False)) for group in groups] == [
        (2e-4, 0.0, False),
        (2e-2, 0.0, False),
        (2e-2, 0.0, True),
    ]
    learned = sum(len(group["params"]) for group in groups)
    assert learned == len([one for one in (*gated.parameters(), *constraint.parameters()) if one.requires_grad])
    optimiser = torch.optim.AdamW(groups)
    constraint(gated.gates.probabilities(), 0).loss.backward()
    optimiser.step()
    # Nothing is gone where a fifth should be: λ1 (s - t) grows with λ1 below 0, λ2 (s - t)² with λ2 above.
    assert constraint.linear.item() == pytest.approx(-0.02, rel=1e-3)
    assert constraint.quadratic.item() == pytest.approx(0.02, rel=1e-3)


def steps(seed: int) -> dict[str, Tensor]:
    """Some steps of pruning with distillation."""
    teacher = wavlm(tiny("base"))
    torch.manual_seed(seed)
    gated = GatedWavLM(copy.deepcopy(teacher), seed=seed).train()
    constraint = Lagrangian(gated.structure, Target(0.2), warm_up=3)
    distillation = DistillationLoss(layers_to_match(3))
    optimiser = torch.optim.AdamW(parameter_groups(gated, constraint))
    for step in range(4):
        with torch.no_grad():
            goals = list(teacher.states(noise()))
        loss = distillation(gated.states(noise()), goals) + constraint(gated.gates.probabilities(), step).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {name: tensor.clone() for name, tensor in (gated.state_dict() | constraint.state_dict()).items()}


def test_the_same_seed_gives_the_same_weights() -> None:
    one, same, other = steps(0), steps(0), steps(1)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert sum(not torch.equal(one[name], other[name]) for name in one) > len(one) / 2


def test_distillation_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    student = [torch.randn(2, 5, 8, generator=generator) for _ in range(4)]
    teacher = [torch.randn(2, 5, 8, generator=generator) for _ in range(4)]
    loss = DistillationLoss([0, 3], absolute=0.5, cosine=2.0)
    ours, theirs = (torch.stack([states[0], states[3]], 1) for states in (student, teacher))
    cosine = (ours * theirs).sum(3) / ours.norm(dim=3) / theirs.norm(dim=3)
    expected = 0.5 * (ours - theirs).abs().mean() + 2 * (1 - cosine.mean())
    assert loss(iter(student), iter(teacher)).item() == pytest.approx(expected.item(), rel=1e-6)
    assert loss(student, student).item() == pytest.approx(0, abs=1e-6)
    mine, other = [state.requires_grad_() for state in student], [state.requires_grad_() for state in teacher]
    loss(mine, other).backward()
    assert [state.grad is not None for state in mine] == [True, False, False, True]
    assert all(state.grad is None for state in other)


def test_refusals() -> None:
    structure = named_structure("wavlm-base-plus")
    for wrong in ({}, {"overall": 0.8, "cnn": 0.8}, {"cnn": 0.8}, {"overall": 0.8, "cnn": 0.8, "transformer": 0.8}):
        with pytest.raises(InputError, match="one sparsity overall, or one for the CNN and one for the Transformer"):
            Target(**wrong)
    for value in (1.0, -0.1, 80):
        with pytest.raises(InputError, match=r"from 0 to below 1, not .* \(all\)"):
            Target(value)
    with pytest.raises(InputError, match="flops is no measure of a size"):
        Target(0.8, measure="flops")
    with pytest.raises(InputError, match=r"96\.00% of the parameters of the whole WavLM can't be removed, 94\.93% at"):
        Lagrangian(structure, Target(0.96), warm_up=5)
    with pytest.raises(InputError, match=r"99\.00% of the macs of the Transformer can't be removed, 94\.72% at most"):
        Lagrangian(structure, Target(cnn=0.8, transformer=0.99, measure="macs"), warm_up=5)
    pruned = named_structure("wavlm_base_s80_md")
    with pytest.raises(
        InputError, match=r"79\.99% of the parameters of the whole WavLM is gone already: .* not 60\.00%"
    ):
        Lagrangian(pruned, Target(0.6), warm_up=5, full=structure)
    with pytest.raises(InputError, match="a warm-up takes 0 steps or more, not -1"):
        Lagrangian(structure, Target(0.6), warm_up=-1)
    for layers in ([], [-1], [0, 0]):
        with pytest.raises(InputError, match="compares layers from 0 on, each once"):
            DistillationLoss(layers)
    for weights in ((0, 0), (-1, 2)):
        with pytest.raises(InputError, match="not negative, nor both 0"):
            DistillationLoss([0], absolute=weights[0], cosine=weights[1])
    with pytest.raises(InputError, match="compares layer 4, but the last one is 3"):
        DistillationLoss([0, 4])([torch.zeros(1, 1, 2)] * 4, [torch.zeros(1, 1, 2)] * 4)
