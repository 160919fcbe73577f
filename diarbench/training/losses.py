"""The loss of local diarization, and the error that people understand.

Shape letters: B windows, T frames, K speakers, C classes (sets of speakers, as `powerset` orders them).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from diarbench.errors import InputError
from diarbench.nn.powerset import powerset

MOST_SPEAKERS = 7  # whose 5,040 orders are tried in each window; of 8 there are 40,320


class PowersetLoss(nn.Module):
    """Negative log-likelihood of the right set of speakers, whichever output stands for whom.

    As Plaquet and Bredin ("Powerset multi-class cross entropy loss for neural speaker diarization", Interspeech 2023)
    and DiariZen have it: in each window, the reference's speakers are first assigned to outputs so that the squared
    difference from the network's hard decisions is least, and then each frame counts alike. Where more speak at once
    than a class can hold, the first of them that fit are the target.
    """

    members: Tensor
    orders: Tensor

    def __init__(self, speakers: int, overlap: int) -> None:
        """Raises InputError for more speakers than MOST_SPEAKERS."""
        super().__init__()
        check_speakers(speakers)
        sets = powerset(speakers, overlap)
        members = torch.zeros(len(sets), speakers)
        for row, chosen in enumerate(sets):
            members[row, list(chosen)] = 1.0
        self.register_buffer("members", members, persistent=False)  # (C, K)
        orders = torch.tensor(list(itertools.permutations(range(speakers))))
        self.register_buffer("orders", orders, persistent=False)  # (K!, K)

    def forward(self, scores: Tensor, activity: Tensor) -> Tensor:
        """The mean over frames of log-probabilities (B, T, C) against who speaks (B, T, K), a scalar."""
        aligned = self.align(scores, activity)
        return functional.nll_loss(scores.flatten(0, 1).float(), self.classes(aligned).flatten())

    def decide(self, scores: Tensor) -> Tensor:
        """Who speaks (B, T, K), 0 or 1, by the likeliest class of each frame."""
        return self.members[scores.argmax(dim=2)]

    @torch.no_grad()
    def align(self, scores: Tensor, activity: Tensor) -> Tensor:
        """The activity (B, T, K) with its speakers in the order that fits the hard decisions best."""
        decided = self.decide(scores)
        # Squared differences of 0 and 1: speakers x outputs; those of a whole order are a sum over its pairs.
        apart = torch.cdist(activity.transpose(1, 2), decided.transpose(1, 2), p=1)  # (B, K, K)
        costs = torch.stack([apart[:, order, torch.arange(len(order))].sum(1) for order in self.orders], dim=1)
        best = self.orders[costs.argmin(dim=1)]  # (B, K): which speaker each output stands for
        return activity.gather(2, best[:, None, :].expand_as(activity))

    def classes(self, activity: Tensor) -> Tensor:
        """The class of each frame (B, T): the set of who speaks, or the first one that holds as many of them as can."""
        common = activity @ self.members.T  # (B, T, C)
        # Of the sets that hold most of those who speak, the smallest: it holds nobody else.
        return (common - 0.5 * self.members.sum(1) / self.members.shape[1]).argmax(dim=2)


def check_speakers(speakers: int) -> None:
    """Raises InputError where there are too many for the loss."""
    if speakers > MOST_SPEAKERS:
        raise InputError(
            f"head.speakers is {speakers}: in each window the loss tries all orders of speakers, here "
            f"{math.factorial(speakers):,} of them; at most {MOST_SPEAKERS} speakers can be trained"
        )


@dataclass(frozen=True, slots=True)
class LocalError:
    """Speaker time in frames, over windows: the diarization error rate of windows by themselves."""

    speech: float = 0.0
    missed: float = 0.0
    false_alarm: float = 0.0
    confusion: float = 0.0

    @property
    def rate(self) -> float:
        """(missed + false alarm + confusion) / speech; NaN where nobody speaks."""
        return (self.missed + self.false_alarm + self.confusion) / self.speech if self.speech else float("nan")

    def __add__(self, other: LocalError) -> LocalError:
        return LocalError(
            self.speech + other.speech,
            self.missed + other.missed,
            self.false_alarm + other.false_alarm,
            self.confusion + other.confusion,
        )


def local_error(decided: Tensor, aligned: Tensor) -> LocalError:
    """The error of decisions (B, T, K) against an activity (B, T, K) that is aligned to them; no collar.

    Speakers are assigned once per window, so there is no error between windows in it: it is not the DER of a system.
    """
    theirs, ours = aligned.sum(2), decided.sum(2)
    right = (aligned * decided).sum(2)
    return LocalError(
        theirs.sum().item(),
        (theirs - ours).clamp(min=0).sum().item(),
        (ours - theirs).clamp(min=0).sum().item(),
        (torch.minimum(theirs, ours) - right).sum().item(),
    )
