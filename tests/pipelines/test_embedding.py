"""Windows cut out of a recording's features, in whatever batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from diarbench.pipelines.embedding import embed_windows
from diarbench.pipelines.windows import Windows


def first_and_length(features: Tensor, lengths: Tensor) -> Tensor:
    """An encoder that says what it was given: the first value, the length, and the mean of a window's own frames."""
    frames = torch.arange(len(features))[:, None]
    own = (frames < lengths[None, :]).float()
    mean = (features[:, :, 0] * own).sum(dim=0) / lengths
    return torch.stack([features[0, :, 0], lengths.float(), mean], dim=1)


@pytest.mark.parametrize("batch", [1, 2, 3, 64])
def test_each_window_gets_its_own_frames(batch: int) -> None:
    features = torch.arange(100.0)[:, None]
    starts, ends = np.array([0.0, 0.1, 0.335, 0.2, 0.9]), np.array([0.5, 0.25, 0.345, 1.0, 1.0])
    windows = Windows(starts, ends, np.zeros(5, dtype=np.int64))
    found = embed_windows(first_and_length, features, windows, frame=0.01, batch=batch)
    firsts, lengths = np.array([0, 10, 34, 20, 90]), np.array([50, 15, 1, 80, 10])
    expected = np.stack([firsts, lengths, firsts + (lengths - 1) / 2], axis=1)
    np.testing.assert_allclose(found, expected)


def test_windows_past_the_last_frame_are_cut_there() -> None:
    windows = Windows(np.array([0.05, 0.2]), np.array([0.3, 0.4]), np.zeros(2, dtype=np.int64))
    found = embed_windows(first_and_length, torch.arange(10.0)[:, None], windows, frame=0.01)
    assert found.tolist() == [[5.0, 5.0, 7.0], [9.0, 1.0, 9.0]]


def test_no_windows() -> None:
    nothing = Windows(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64))
    assert len(embed_windows(first_and_length, torch.zeros(10, 1), nothing, frame=0.01)) == 0
