"""One pass per window gives what one pass per speaker gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyannote.audio.core.model import Model
from random_networks import RATE, resnet, voices

from diarbench.pipelines.embedding_pool import PooledEmbedder, Window, shortest_mask, slot_masks


class OneMask(Model):
    """An embedding model that shows nothing of its inside; counts what it is asked."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.asked = inner, 0

    def forward(self, waveforms, weights=None):
        self.asked += len(waveforms)
        return self.inner(waveforms, weights=weights)


@pytest.fixture(scope="module")
def model():
    return resnet(voices(20.0))


@pytest.fixture(scope="module")
def windows() -> list[Window]:
    """Eleven windows of two seconds with four slots; the fourth window and some slots are silent."""
    random = np.random.default_rng(0)
    signal = torch.from_numpy(voices(22.0, seed=5)).reshape(11, 1, -1)
    masks = (random.random((11, 4, 99)) < 0.5).astype(np.float32)
    masks[3] = 0.0
    masks[:, 2] = 0.0
    masks[5, 2, 40:60] = 1.0
    return [Window(waveform, mask) for waveform, mask in zip(signal, masks, strict=True)]


@pytest.fixture(scope="module")
def expected(model, windows):
    """The network, asked about one window and one mask at a time, as pyannote.audio does."""
    with torch.inference_mode():
        return np.stack(
            [
                [model(window.waveform[None], weights=torch.from_numpy(mask)[None])[0].numpy() for mask in window.masks]
                for window in windows
            ]
        )


@pytest.mark.parametrize("batch", [1, 4, 5, 32])
@pytest.mark.parametrize("full", [False, True])
def test_pooling_together_is_pooling_apart(model, windows, expected, batch, full):
    found = PooledEmbedder(model, batch=batch, full_batches=full)(iter(windows), (11, 4))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_silent_slots_get_what_an_empty_mask_gives(model, windows, expected):
    found = PooledEmbedder(model, batch=4)(windows, (11, 4))
    np.testing.assert_array_equal(found[3], expected[3])
    np.testing.assert_array_equal(found[:5, 2], expected[:5, 2])
    assert (found[3] == model.resnet.seg_1.bias.numpy()).all()


def test_rounding_is_that_of_large_batches(model, windows):
    """The last layer gets four rows at least: with fewer, products of matrices are computed another way."""
    rows = []
    handle = model.resnet.seg_1.register_forward_hook(lambda _, inputs, output: rows.append(inputs[0][..., 0].numel()))
    three = [Window(window.waveform, window.masks[:3]) for window in windows]
    found = PooledEmbedder(model, batch=1)(three, (11, 3))
    handle.remove()
    assert set(rows) == {4}
    assert found.shape == (11, 3, 256)


def test_silent_windows_are_not_embedded(model, windows):
    passed = []
    handle = model.resnet.conv1.register_forward_hook(lambda _, inputs, output: passed.append(len(inputs[0])))
    PooledEmbedder(model, batch=3)(windows, (11, 4))
    handle.remove()
    assert passed == [3, 3, 3, 1, 1]  # ten windows in which somebody speaks, and one for the value of silence


def test_full_batches_have_one_shape(model, windows):
    passed = []
    handle = model.resnet.conv1.register_forward_hook(lambda _, inputs, output: passed.append(len(inputs[0])))
    PooledEmbedder(model, batch=4, full_batches=True)(windows[:3], (3, 4))
    handle.remove()
    assert set(passed) == {4}


def test_models_without_frames_are_asked_about_speakers_alone(model, windows, expected):
    closed = OneMask(model)
    found = PooledEmbedder(closed, batch=4)(windows, (11, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert closed.asked == sum(mask.any() for window in windows for mask in window.masks) + 1 * 4


def test_half_precision_is_near(model, windows, expected):
    found = PooledEmbedder(model, batch=4, precision=torch.bfloat16)(windows, (11, 4))
    similar = (found * expected).sum(axis=2) / np.linalg.norm(found, axis=2) / np.linalg.norm(expected, axis=2)
    assert similar.min() > 0.9
    assert not np.array_equal(found, expected)


def test_only_one_batch_is_asked_for_at_a_time(model, windows):
    """Windows come from an iterator and go once they are embedded."""
    alive = []

    def each():
        for window in windows:
            alive.append(1)
            yield window

    generator = PooledEmbedder(model, batch=2)._batches(each())
    next(generator)
    assert len(alive) == 2


def test_nobody_at_all(model, windows):
    silent = [Window(window.waveform, np.zeros_like(window.masks)) for window in windows[:2]]
    assert PooledEmbedder(model, batch=4)(silent, (2, 4)).shape == (2, 4, 0)


def test_clean_frames_where_there_are_enough():
    decisions = np.array([[1, 0], [1, 0], [1, 1], [1, 1], [0, 1], [0, 0]], dtype=np.float32)
    assert slot_masks(decisions, exclude_overlap=False, shortest=-1).tolist() == decisions.T.tolist()
    assert slot_masks(decisions, exclude_overlap=True, shortest=1).tolist() == [
        [1, 1, 0, 0, 0, 0],  # two clean frames, more than one
        [0, 0, 1, 1, 1, 0],  # one clean frame: all
    ]


@given(st.integers(0, 2**32 - 1), st.integers(-1, 30))
def test_masks_by_the_letter(seed, shortest):
    random = np.random.default_rng(seed)
    decisions = (random.random((40, 4)) < random.random(4)).astype(np.float32)
    decisions[random.random(40) < 0.1] = np.nan
    masks = slot_masks(decisions, exclude_overlap=True, shortest=shortest)
    for slot, mask in enumerate(masks):
        spoken = [frame for frame in range(40) if decisions[frame, slot] == 1]
        clean = [frame for frame in spoken if decisions[frame].sum() == 1]
        assert np.flatnonzero(mask).tolist() == (clean if len(clean) > shortest else spoken)


def test_the_least_input_in_frames():
    """400 samples of a window of 16 s with 799 frames: 2 frames."""
    assert shortest_mask(799, 400, 16.0 * RATE) == 2
