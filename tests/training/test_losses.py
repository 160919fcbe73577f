"""The powerset loss, whichever output stands for whom; and the local error."""

from __future__ import annotations

import itertools

import pytest
import torch

from diarbench.nn.powerset import powerset
from diarbench.training.losses import LocalError, PowersetLoss, local_error


def drawn(speakers=3, overlap=2, windows=4, frames=30, seed=0):
    torch.manual_seed(seed)
    loss = PowersetLoss(speakers, overlap)
    classes = torch.randint(len(powerset(speakers, overlap)), (windows, frames))
    activity = loss.members[classes]
    scores = torch.randn(windows, frames, len(loss.members)).log_softmax(2)
    return loss, scores, activity


def test_certain_and_right_costs_nothing_in_any_order():
    loss, _, activity = drawn()
    certain = torch.log(torch.nn.functional.one_hot(loss.classes(activity), 7).float() + 1e-9)
    for order in itertools.permutations(range(3)):
        assert loss(certain, activity[:, :, list(order)]).item() < 1e-5


@pytest.mark.parametrize(("speakers", "overlap"), [(2, 1), (3, 2), (4, 2), (4, 4)])
def test_it_is_the_likelihood_of_the_best_assignment(speakers, overlap):
    loss, scores, activity = drawn(speakers, overlap)
    sets = powerset(speakers, overlap)
    total = 0.0
    for window in range(len(scores)):
        decided = loss.members[scores[window].argmax(1)]
        best = min(
            itertools.permutations(range(speakers)),
            key=lambda order: ((activity[window][:, list(order)] - decided) ** 2).sum().item(),
        )
        for frame, row in enumerate(activity[window][:, list(best)]):
            chosen = tuple(row.nonzero().flatten().tolist())
            total -= scores[window, frame, sets.index(chosen)].item()
    assert loss(scores, activity).item() == pytest.approx(total / activity.shape[:2].numel(), rel=1e-5)


def test_more_speakers_at_once_than_a_class_holds():
    loss = PowersetLoss(4, 2)
    activity = torch.tensor([[[1.0, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]])
    sets = powerset(4, 2)
    assert [sets[index] for index in loss.classes(activity)[0].tolist()] == [(0, 1), (1, 2), (0, 1), (3,), ()]


def test_gradients_reach_the_scores():
    loss, scores, activity = drawn()
    scores = scores.clone().requires_grad_()
    loss(scores, activity).backward()
    assert scores.grad is not None
    assert (scores.grad != 0).sum() == activity.shape[:2].numel(), "one class of each frame"


def test_the_local_error_counts_frames():
    reference = torch.tensor([[[1.0, 0], [1, 1], [0, 1], [0, 0]]])
    decided = torch.tensor([[[1.0, 0], [1, 0], [1, 0], [0, 1]]])
    found = local_error(decided, reference)
    assert found == LocalError(speech=4, missed=1, false_alarm=1, confusion=1)
    assert found.rate == 0.75
    assert (found + found).speech == 8
    assert LocalError().rate != LocalError().rate, "without speech there is no rate"
