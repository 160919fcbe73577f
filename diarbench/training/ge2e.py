"""The GE2E encoder made smaller without labels: what is left of it learns to give its teacher's embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diarbench.compress.heard import places_in
from diarbench.nn.ge2e import FRAME, SAMPLE_RATE, WINDOW, Ge2eEncoder, mel_power
from diarbench.training.loop import Losses
from diarbench.training.windows import Batch

LEVEL = -30.0  # dBFS, to which the power of each window is brought: what Resemblyzer's weights were trained on
_FRAMES = round(WINDOW * SAMPLE_RATE / FRAME)  # of mel power, that the encoder is given at once
_FIRST = 60  # frames: 0.6 s; systems embed nothing shorter


class Imitate:
    """A GE2E encoder learns to say of speech what its teacher says; nobody needs to know who speaks.

    Windows of a batch are cut into pieces of 1.6 s. The loss is the mean of 1 - cosine between the embeddings of
    student and teacher after each frame from 0.6 s on, and `states` times the mean squared error of the layers' states,
    where a student with fewer units is compared with those units that it kept. Weights that are zero stay zero.
    Without `first_layer`, that one doesn't learn: it reads mel power, whose peaks make its gradients a thousand times
    the others', so that clipping leaves nothing of these. In training, windows are up to `spread` dB louder or weaker,
    since speakers are.
    """

    def __init__(
        self,
        student: Ge2eEncoder,
        teacher: Ge2eEncoder,
        *,
        rate: float = 1e-3,
        states: float = 1.0,
        spread: float = 6.0,
        first_layer: bool = True,
    ) -> None:
        student.layers[0].requires_grad_(first_layer)
        self.network: nn.Module = student
        self._student, self._teacher = student, teacher.eval().requires_grad_(False)
        self._rate, self._states, self._spread = rate, states, spread
        self._kept = places_in(teacher, student)
        for parameter in student.parameters():
            if parameter.requires_grad and not parameter.all():
                # With no gradient, and no decay, AdamW leaves a zero as it is.
                parameter.register_hook(partial(_where_any, parameter.detach() != 0))  # type: ignore[no-untyped-call]

    def groups(self) -> list[dict[str, Any]]:
        """All parameters that learn."""
        learned = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return [{"params": learned, "lr": self._rate, "weight_decay": 0.0}]

    def loss(self, batch: Batch, step: int) -> Losses:
        """Of one batch."""
        gains = self._spread * (2 * torch.rand(len(batch.samples)) - 1)
        cosines, states = self._compare(pieces(batch.samples, gains))
        return Losses(1 - cosines.mean() + self._states * states, {"cosine": cosines[-1].mean().item()})

    def validate(self, batches: Iterator[Batch]) -> Mapping[str, float]:
        """The mean loss, and the mean cosine of whole pieces."""
        total, whole, count = 0.0, 0.0, 0
        for batch in batches:
            cosines, states = self._compare(pieces(batch.samples))
            total += (1 - cosines.mean() + self._states * states).item() * cosines.shape[1]
            whole += cosines[-1].sum().item()
            count += cosines.shape[1]
        return {"loss": total / max(count, 1), "cosine": whole / max(count, 1)}

    def counts(self, step: int) -> bool:
        """Every state may be chosen."""
        return True

    def _compare(self, mels: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines (frames from _FIRST on, pieces), and the mean squared error of the layers' states."""
        with torch.no_grad(), torch.autocast(mels.device.type, enabled=False):
            teacher = self._teacher.to(mels.device)
            wanted = teacher.states(mels)
            embedded = teacher.embeddings(wanted[-1][_FIRST - 1 :])
        found = self._student.states(mels)
        cosines = (self._student.embeddings(found[-1][_FIRST - 1 :]) * embedded).sum(dim=-1)
        errors = [
            (state.float() - target[..., units.to(target.device)]).square().mean()
            for state, target, units in zip(found, wanted, self._kept, strict=True)
        ]
        return cosines, torch.stack(errors).mean()


def pieces(samples: Tensor, gains: Tensor | None = None) -> Tensor:
    """Mel power (160, pieces, 40) of windows (B, S) at LEVEL plus `gains` (B,) in dB, cut into pieces of 1.6 s."""
    with torch.autocast(samples.device.type, enabled=False):
        power = samples.double().square().mean(dim=1).clamp(min=1e-12)
        scale = 10 ** (LEVEL / 10) / power
        if gains is not None:
            scale = scale * 10 ** (gains.to(scale) / 10)
        mels = torch.stack([mel_power(window) for window in samples]) * scale.float()[:, None, None]
    count = mels.shape[1] // _FRAMES
    cut = mels[:, : count * _FRAMES].reshape(len(mels) * count, _FRAMES, -1)
    return cut.transpose(0, 1).contiguous()


def _where_any(mask: Tensor, gradient: Tensor) -> Tensor:
    return gradient * mask.to(gradient.device)
