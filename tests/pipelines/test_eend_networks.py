"""Networks of any origin as pyannote.audio models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_networks import RATE, small_segmentation, voices
from torch import nn

from diarbench.errors import AdapterError
from diarbench.nn.ge2e import Ge2eEncoder, mel_power
from diarbench.pipelines.eend_networks import Ge2eEmbedding, SegmentationModel, SlidingSegmentation
from diarbench.pipelines.signals import SignalInMemory


@pytest.fixture(scope="module")
def ge2e() -> Ge2eEmbedding:
    torch.manual_seed(0)
    return Ge2eEmbedding(Ge2eEncoder().eval())


def test_geometry_is_wavlms():
    """399 frames of 8 s, 799 of 16 s; a frame sees 25 ms and lies 20 ms after the one before."""
    model = small_segmentation(window=16.0)
    assert model.num_frames(8 * RATE) == 399
    assert model.num_frames(16 * RATE) == 799
    assert model.receptive_field.duration == 0.025
    assert model.receptive_field.step == 0.02
    assert model(torch.zeros(1, 1, 16 * RATE)).shape == (1, 799, 11)


@pytest.mark.parametrize(("overlap", "classes"), [(2, 11), (4, 16), (None, 4)])
def test_classes(overlap, classes):
    assert small_segmentation(overlap=overlap).dimension == classes


def test_a_network_of_another_shape_is_named():
    model = SegmentationModel(nn.Conv1d(1, 5, 400, stride=320), window=4.0)
    with pytest.raises(AdapterError, match=r"Conv1d .*\(2, 5, 199\).*\(2, 199, 11\)"):
        model(torch.zeros(2, 1, 4 * RATE))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_sliding(precision):
    """Windows at any hop, the last one filled up; decisions of 0 and 1."""
    model = small_segmentation(window=4.0)
    sliding = SlidingSegmentation(model, window=2.0, hop=0.5, batch=3, precision=precision)
    found = sliding({"signal": SignalInMemory(voices(5.2), RATE, RATE)})
    assert found.data.shape == (8, 99, 4)
    assert found.data.dtype == np.float32
    assert set(np.unique(found.data)) == {0.0, 1.0}
    assert (found.sliding_window.duration, found.sliding_window.step) == (2.0, 0.5)


def masked(seconds: float, *spans: tuple[float, float]) -> torch.Tensor:
    mask = torch.zeros(round(50 * seconds))
    for start, end in spans:
        mask[round(50 * start) : round(50 * end)] = 1
    return mask


def test_ge2e_embeds_the_speech_of_the_mask(ge2e):
    """What lies outside the mask changes nothing; what lies inside is put together."""
    signal = torch.from_numpy(voices(4.0))[None, None]
    mask = masked(4.0, (0.5, 1.0), (2.0, 2.4))
    found = ge2e(signal, weights=mask[None])
    mels = mel_power(signal[0, 0])
    chosen = mask.repeat_interleave(2)[torch.arange(len(mels)) * 400 // len(mels)] > 0
    speech = mels[chosen]
    assert 88 <= len(speech) <= 91
    expected = ge2e.encoder(speech[:, None], torch.tensor([len(speech)]))
    torch.testing.assert_close(found, expected)


def test_ge2e_averages_windows_of_long_speech(ge2e):
    mels = mel_power(torch.from_numpy(voices(4.0)))  # 401 frames: windows from 0, 60, 120, 181 and 241
    found = ge2e.forward_embedding(mels[None])
    starts = (0, 60, 120, 181, 241)
    windows = torch.stack([mels[start : start + 160] for start in starts], dim=1)
    mean = ge2e.encoder(windows, torch.full((5,), 160)).sum(dim=0)
    torch.testing.assert_close(found[0], mean / mean.norm())


def test_ge2e_slots_are_as_single_masks(ge2e):
    signal = torch.from_numpy(voices(8.0)).reshape(2, 1, -1)
    masks = torch.stack([masked(4.0, (0, 1)), masked(4.0), masked(4.0, (0, 4))])
    masks = torch.stack([masks, masks.flip(0)])
    found = ge2e.forward_embedding(ge2e.forward_frames(signal), masks)
    assert found.shape == (2, 3, 256)
    for slot in range(3):
        torch.testing.assert_close(found[:, slot], ge2e(signal, weights=masks[:, slot]))
    torch.testing.assert_close(found.norm(dim=2), torch.ones(2, 3))
    torch.testing.assert_close(found[0, 1], found[1, 1])  # silence sounds the same everywhere


def test_ge2e_needs_a_frame(ge2e):
    with pytest.raises(ValueError, match="frame"):
        ge2e.forward_frames(torch.zeros(1, 1, 399))


def test_decisions_of_all_batches_lie_in_one_block():
    """Small pieces that stay until the last window would hold the memory between them."""
    signal = {"signal": SignalInMemory(voices(13.4), RATE, RATE)}
    model = small_segmentation()
    few = SlidingSegmentation(model, window=4.0, hop=1.0, batch=4)(signal).data
    many = SlidingSegmentation(model, window=4.0, hop=1.0, batch=32)(signal).data
    assert len(few) == 11  # two batches, a rest, and one that is filled up
    assert few.flags.owndata
    np.testing.assert_array_equal(few, many)
