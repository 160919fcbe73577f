"""Which states of pruning count: those of networks of one size."""

from __future__ import annotations

import pytest
import torch

from diarbench.compress.gated import GatedWavLM
from diarbench.compress.objective import Lagrangian, Target
from diarbench.nn.wavlm import WavLM
from diarbench.training.tasks import Prune
from tests.training.small_data import STRUCTURE


@pytest.mark.parametrize(
    ("sparsity", "counted"),
    [(0.08, True), (0.5, False)],  # when gates start, 7.5 % are expected to be gone
)
def test_what_counts_has_the_size_that_was_asked_for(sparsity, counted):
    torch.manual_seed(0)
    gated = GatedWavLM(WavLM(STRUCTURE))
    task = Prune(gated, Lagrangian(STRUCTURE, Target(sparsity), warm_up=3), teacher=WavLM(STRUCTURE), layers=[0, 3])
    assert not task.counts(2), "the target still grows"
    assert task.counts(3) == counted
