"""What pruning aims at: a target size, the Lagrangian that holds training to it, and distillation from a teacher.

The loss is distillation (or another) + Σ over targets of λ1 (s - t) + λ2 (s - t)², minimised over weights and gates and
maximised over λ1 and λ2 (Wang et al., "Structured pruning of large language models", 2020; the pruning paper, II-B),
where s is the expected sparsity and t what it should be by now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from diarbench.compress.gated import GatedWavLM
from diarbench.compress.gates import GATED, PerGate
from diarbench.compress.sizes import (
    MEASURES,
    SECOND,
    Counts,
    exact_size,
    expected_size,
    size_by_counts,
    smallest_size,
)
from diarbench.errors import InputError, did_you_mean
from diarbench.nn.structures import Structure


@dataclass(frozen=True, slots=True)
class Target:
    """The fraction of a WavLM that should go, by parameters or by MACs: of the whole, or of CNN and Transformer each.

    Parameters of the whole are the pruning paper's choice (IV-A, IV-C). Raises InputError where the numbers are no
    fractions, or not either `overall` or the other two.
    """

    overall: float | None = None
    cnn: float | None = None
    transformer: float | None = None
    measure: str = "parameters"
    samples: int = SECOND  # at 16 kHz; of MACs

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise InputError(f"{self.measure} is no measure of a size{did_you_mean(self.measure, MEASURES)}")
        separate = self.cnn is not None, self.transformer is not None
        if separate != ((self.overall is None),) * 2:
            raise InputError("a target is one sparsity overall, or one for the CNN and one for the Transformer")
        for part, sparsity in self.sparsities().items():
            if not 0 <= sparsity < 1:
                raise InputError(f"a target sparsity is from 0 to below 1, not {sparsity} ({part})")

    def sparsities(self) -> dict[str, float]:
        """By part: "all", or "CNN" and "Transformer"."""
        parts = {"all": self.overall, "CNN": self.cnn, "Transformer": self.transformer}
        return {part: sparsity for part, sparsity in parts.items() if sparsity is not None}

    def sizes(
        self, structure: Structure, full: Structure | None = None, gated: Sequence[str] = GATED
    ) -> dict[str, int]:
        """The size asked for, by part, of a WavLM that now has `structure` and had `full` before it was ever pruned.

        Sparsity is always a fraction of `full` (by default the same): a model that is pruned from 60 to 80 % ends with
        a fifth of what the first one had; of a part with sparsity 0, what there is stays. Raises InputError where the
        size can't be reached: because of what is never pruned (the positional convolution, norms, one channel of each
        convolution, whatever has no gates: `gated` names the kinds that have), or because the model is smaller already.
        """
        full = full or structure
        whole, now = (exact_size(of, self.measure, samples=self.samples) for of in (full, structure))
        least = smallest_size(structure, self.measure, samples=self.samples, gated=gated)
        # Surgery leaves a factor per channel behind: what loses nothing is larger by these, and may be.
        kept = size_by_counts(full, Counts.of(full), self.measure, samples=self.samples, scaled=True)
        goals: dict[str, int] = {}
        for part, sparsity in self.sparsities().items():
            goals[part] = round((1 - sparsity) * whole.part(part)) if sparsity else kept.part(part)
            name = f"{self.measure} of the {'whole WavLM' if part == 'all' else part}"
            if goals[part] < least.part(part):
                most = 1 - least.part(part) / whole.part(part)
                raise InputError(
                    f"{sparsity:.2%} of the {name} can't be removed, {max(most, 0):.2%} at most: lower the target"
                    + ("" if tuple(gated) == GATED else f" (there are gates on {', '.join(gated)} alone)")
                )
            if now.part(part) < (goals[part] if sparsity else whole.part(part)):
                gone = 1 - now.part(part) / whole.part(part)
                raise InputError(
                    f"{gone:.2%} of the {name} is gone already: set a target above that, not {sparsity:.2%}"
                )
        return goals


@dataclass(frozen=True, slots=True)
class Penalty:
    """What the constraints add to the loss at one step, and why."""

    loss: Tensor  # scalar
    sparsities: Mapping[str, float]  # expected, by part
    targets: Mapping[str, float]  # at this step


class Lagrangian(nn.Module):
    """λ1 (s - t) + λ2 (s - t)² for each part that has a target; λ1 and λ2 start at 0 and have to be maximised.

    The target t grows linearly over `warm_up` steps, then stays: from 0, or for a model that was pruned before from the
    sparsity that it has already. (The pruning paper warms up for 5 epochs.) Raises InputError where the target can't be
    reached (see `Target.sizes`).
    """

    def __init__(
        self,
        structure: Structure,
        target: Target,
        *,
        warm_up: int,
        full: Structure | None = None,
        gated: Sequence[str] = GATED,
    ) -> None:
        super().__init__()
        if warm_up < 0:
            raise InputError(f"a warm-up takes 0 steps or more, not {warm_up}")
        target.sizes(structure, full, gated)
        self.structure, self.target, self.warm_up = structure, target, warm_up
        whole = exact_size(full or structure, target.measure, samples=target.samples)
        now = exact_size(structure, target.measure, samples=target.samples)
        self.goals = target.sparsities()
        self.whole = {part: whole.part(part) for part in self.goals}
        self.start = {part: 1 - now.part(part) / whole.part(part) for part in self.goals}
        self.linear = nn.Parameter(torch.zeros(len(self.goals)))  # λ1
        self.quadratic = nn.Parameter(torch.zeros(len(self.goals)))  # λ2

    def forward(self, probabilities: PerGate, step: int) -> Penalty:
        """The penalty at a step, counted from 0, of gates that are not 0 with these probabilities."""
        sparsities = self.sparsities(probabilities)
        targets = self.targets(step)
        # In float64 up to here: a unit is a 10^-5th of the whole.
        over = torch.stack([sparsities[part] - targets[part] for part in self.goals]).to(self.linear)
        loss = (self.linear * over + self.quadratic * over.square()).sum()
        return Penalty(loss, {part: value.item() for part, value in sparsities.items()}, targets)

    def sparsities(self, probabilities: PerGate) -> dict[str, Tensor]:
        """The expected sparsity of each part that has a target, float64 scalars with gradient."""
        size = expected_size(self.structure, probabilities, self.target.measure, samples=self.target.samples)
        return {part: 1 - size.part(part) / self.whole[part] for part in self.goals}

    def targets(self, step: int) -> dict[str, float]:
        """What the sparsity of each part should be at a step."""
        share = min(step / self.warm_up, 1.0) if self.warm_up else 1.0
        return {part: start + share * (self.goals[part] - start) for part, start in self.start.items()}


def parameter_groups(
    gated: GatedWavLM, lagrangian: Lagrangian, *, weights: float = 2e-4, gates: float = 2e-2, multipliers: float = 2e-2
) -> list[dict[str, Any]]:
    """Groups for an optimiser (AdamW) with these learning rates: weights, log α, and λ by gradient ascent.

    The rates are the pruning paper's (III-B, stage 2); no group decays, as in its reference implementation.
    """
    learned = [parameter for parameter in gated.wavlm.parameters() if parameter.requires_grad]
    return [
        {"params": learned, "lr": weights, "weight_decay": 0.0},
        {"params": list(gated.gates.parameters()), "lr": gates, "weight_decay": 0.0},
        {"params": list(lagrangian.parameters()), "lr": multipliers, "weight_decay": 0.0, "maximize": True},
    ]


def layers_to_match(layers: int) -> tuple[int, ...]:
    """The states that distillation compares, 0 being the input of the first layer: after each third of the layers.

    Of WavLM Base+ and Large they are the pruning paper's (II-B).

    >>> layers_to_match(12), layers_to_match(24), layers_to_match(2)
    ((0, 4, 8, 12), (0, 8, 16, 24), (0, 1, 2))
    """
    return tuple(sorted({round(third * layers / 3) for third in range(4)}))


class DistillationLoss(nn.Module):
    """Mean absolute difference plus 1 - cosine over the Transformer's width, both averaged over frames and layers.

    The pruning paper's equation 2 with equal weights, and no projection between student and teacher, as in its
    reference implementation (DPHuBERT, where it comes from, has one); the 1 only makes it 0 for an equal student.
    Raises InputError where there is nothing to compare.
    """

    def __init__(self, layers: Sequence[int], *, absolute: float = 1.0, cosine: float = 1.0) -> None:
        super().__init__()
        if not layers or min(layers) < 0 or len(set(layers)) != len(layers):
            raise InputError(f"distillation compares layers from 0 on, each once, not {list(layers)}")
        if min(absolute, cosine) < 0 or absolute + cosine == 0:
            raise InputError(f"the weights of a distillation are not negative, nor both 0: not {absolute} and {cosine}")
        self.layers, self.absolute, self.cosine = tuple(layers), absolute, cosine

    def forward(self, student: Iterable[Tensor], teacher: Iterable[Tensor]) -> Tensor:
        """The loss of all states (B, T, D) of a student, as `states` gives them, against its teacher's."""
        ours, theirs = self._chosen(student), [state.detach() for state in self._chosen(teacher)]
        losses = [
            self.absolute * functional.l1_loss(mine, other)
            + self.cosine * (1 - functional.cosine_similarity(mine, other, dim=2).mean())
            for mine, other in zip(ours, theirs, strict=True)
        ]
        return torch.stack(losses).mean()

    def _chosen(self, states: Iterable[Tensor]) -> list[Tensor]:
        listed = list(states)
        if max(self.layers) >= len(listed):
            raise InputError(f"distillation compares layer {max(self.layers)}, but the last one is {len(listed) - 1}")
        return [listed[layer].float() for layer in self.layers]
