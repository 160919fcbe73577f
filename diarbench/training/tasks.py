"""What can be trained: diarization, pruning under a constraint, and distillation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from diarbench.compress.gated import GatedWavLM
from diarbench.compress.objective import DistillationLoss, Lagrangian
from diarbench.nn.eend import Eend
from diarbench.nn.wavlm import WavLM
from diarbench.training.loop import Losses
from diarbench.training.losses import LocalError, PowersetLoss, local_error
from diarbench.training.windows import Batch

_NEAR = 0.01  # of the whole: how far below its target an expected sparsity is as good as there


class Segmentation(Protocol):
    """A network for local diarization: log-probabilities (B, T, C) of samples (B, S)."""

    def __call__(self, samples: Tensor) -> Tensor:
        """Scores."""


class Diarize:
    """The powerset loss on a whole network; what lies in `encoder` has a rate of its own. Rates are DiariZen's."""

    def __init__(
        self,
        network: nn.Module,
        loss: PowersetLoss,
        *,
        rate: float = 1e-3,
        encoder: nn.Module | None = None,
        encoder_rate: float = 2e-5,
        decay: float = 0.01,
    ) -> None:
        self.network = network
        self._loss = loss
        self._encoder, self._rates, self._decay = encoder, (encoder_rate, rate), decay

    def groups(self) -> list[dict[str, Any]]:
        """The encoder's parameters, and the others."""
        return _two_groups(self.network, self._encoder, self._rates, self._decay)

    def loss(self, batch: Batch, step: int) -> Losses:
        """As `PowersetLoss`."""
        return Losses(self._loss(self.network(batch.samples), batch.activity))

    def validate(self, batches: Iterator[Batch]) -> Mapping[str, float]:
        """The mean loss, and the parts of the local error where anybody speaks."""
        return _validated(self.network, self._loss, batches)

    def counts(self, step: int) -> bool:
        """Every state may be chosen."""
        return True


class Distil:
    """A WavLM learns to make its teacher's states: after pruning, with what was kept no longer changing."""

    def __init__(
        self, student: WavLM, teacher: WavLM, layers: Sequence[int], *, rate: float = 2e-4, decay: float = 0.0
    ) -> None:
        self.network: nn.Module = student
        self._student, self._teacher = student, teacher.eval().requires_grad_(False)
        self._loss, self._rate, self._decay = DistillationLoss(layers), rate, decay

    def groups(self) -> list[dict[str, Any]]:
        """All parameters that learn."""
        learned = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return [{"params": learned, "lr": self._rate, "weight_decay": self._decay}]

    def loss(self, batch: Batch, step: int) -> Losses:
        """As `DistillationLoss`."""
        return Losses(distillation(self._student, self._teacher, self._loss, batch.samples))

    def validate(self, batches: Iterator[Batch]) -> Mapping[str, float]:
        """The mean loss."""
        losses = [distillation(self._student, self._teacher, self._loss, batch.samples).item() for batch in batches]
        return {"loss": sum(losses) / max(len(losses), 1)}

    def counts(self, step: int) -> bool:
        """Every state may be chosen."""
        return True


class Prune:
    """Gates of a WavLM close until it has the size asked for, while it is distilled from a teacher, or does its task.

    Without `task`, the WavLM alone learns, and only to make its teacher's states (the pruning paper's stage 2). With
    `task`, an Eend whose `wavlm` is the gated one learns to diarize: with a teacher the two losses are added; without
    one it is pruning by the task's loss, or, begun from a network that was never fine-tuned, in-situ ("hybrid")
    pruning. Rates are the pruning paper's (III-B) where not given.
    """

    def __init__(
        self,
        gated: GatedWavLM,
        lagrangian: Lagrangian,
        *,
        teacher: WavLM | None = None,
        layers: Sequence[int] = (),
        task: tuple[Eend, PowersetLoss] | None = None,
        rate: float = 2e-4,
        head_rate: float = 1e-3,
        gate_rate: float = 2e-2,
        multiplier_rate: float = 2e-2,
    ) -> None:
        self._gated, self._lagrangian, self._task = gated, lagrangian, task
        self._teacher = teacher.eval().requires_grad_(False) if teacher is not None else None
        self._distillation = DistillationLoss(layers) if teacher is not None else None
        self._rates = rate, head_rate, gate_rate, multiplier_rate
        # The Eend holds the gated WavLM: its state is the whole.
        self.network: nn.Module = nn.ModuleDict({"student": task[0] if task else gated, "lagrangian": lagrangian})

    def groups(self) -> list[dict[str, Any]]:
        """Weights, gates, and multipliers, which climb; and what lies around the WavLM, where it learns too."""
        rate, head_rate, gate_rate, multiplier_rate = self._rates
        weights = [parameter for parameter in self._gated.wavlm.parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": weights, "lr": rate, "weight_decay": 0.0},
            {"params": list(self._gated.gates.parameters()), "lr": gate_rate, "weight_decay": 0.0},
            {
                "params": list(self._lagrangian.parameters()),
                "lr": multiplier_rate,
                "weight_decay": 0.0,
                "maximize": True,
            },
        ]
        if self._task is not None:
            inside = {id(parameter) for parameter in self._gated.parameters()}
            others = [p for p in self._task[0].parameters() if p.requires_grad and id(p) not in inside]
            groups.append({"params": others, "lr": head_rate, "weight_decay": 0.0})
        return groups

    def loss(self, batch: Batch, step: int) -> Losses:
        """The objective and what the constraint adds at this step."""
        objective = self._objective(batch)
        penalty = self._lagrangian(self._gated.gates.probabilities(), step)
        said = {f"sparsity_{part}": value for part, value in penalty.sparsities.items()}
        said |= {f"target_{part}": value for part, value in penalty.targets.items()}
        return Losses(objective + penalty.loss, {"objective": objective.item(), **said})

    def validate(self, batches: Iterator[Batch]) -> Mapping[str, float]:
        """The mean objective with the masks that surgery would use, and the expected sparsity."""
        losses = [self._objective(batch).item() for batch in batches]
        sparsities = self._lagrangian.sparsities(self._gated.gates.probabilities())
        return {
            "loss": sum(losses) / max(len(losses), 1),
            **{f"sparsity_{part}": value.item() for part, value in sparsities.items()},
        }

    def counts(self, step: int) -> bool:
        """Only once the target's warm-up is over, and the gates have come near to it.

        Until then each validation is of a smaller network than the one before: its loss can't be compared.
        """
        if step < self._lagrangian.warm_up:
            return False
        sparsities = self._lagrangian.sparsities(self._gated.gates.probabilities())
        return all(sparsities[part].item() >= goal - _NEAR for part, goal in self._lagrangian.goals.items())

    def _objective(self, batch: Batch) -> Tensor:
        parts = []
        if self._teacher is not None and self._distillation is not None:
            parts.append(distillation(self._gated, self._teacher, self._distillation, batch.samples))
        if self._task is not None:
            eend, loss = self._task
            parts.append(loss(eend(batch.samples), batch.activity))
        return torch.stack(parts).sum()


class _States(Protocol):
    def states(self, samples: Tensor) -> Any: ...


def distillation(student: _States, teacher: WavLM, loss: DistillationLoss, samples: Tensor) -> Tensor:
    """The distillation loss of a student, gated or plain, on some samples (B, S)."""
    with torch.no_grad():
        wanted = list(teacher.states(samples))
    found: Tensor = loss(student.states(samples), wanted)
    return found


def _two_groups(
    network: nn.Module, encoder: nn.Module | None, rates: tuple[float, float], decay: float
) -> list[dict[str, Any]]:
    inside = {id(parameter) for parameter in encoder.parameters()} if encoder is not None else set()
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    parts = [p for p in learned if id(p) in inside], [p for p in learned if id(p) not in inside]
    groups = zip(parts, rates, strict=True)
    return [{"params": part, "lr": rate, "weight_decay": decay} for part, rate in groups if part]


def _validated(network: Segmentation, loss: PowersetLoss, batches: Iterator[Batch]) -> Mapping[str, float]:
    total, windows, error = 0.0, 0, LocalError()
    for batch in batches:
        scores = network(batch.samples)
        total += loss(scores, batch.activity).item() * len(batch.samples)
        windows += len(batch.samples)
        error += local_error(loss.decide(scores), loss.align(scores, batch.activity))
    measures = {"loss": total / max(windows, 1)}
    if not error.speech:  # then there is no rate
        return measures
    return measures | {
        "local_error": error.rate,
        "missed": error.missed / error.speech,
        "false_alarm": error.false_alarm / error.speech,
        "confusion": error.confusion / error.speech,
    }
