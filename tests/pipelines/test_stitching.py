"""Adding windows up and making turns: against pyannote.audio's and SciPy's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyannote.audio.pipelines.utils.diarization import SpeakerDiarizationMixin
from pyannote.audio.utils.signal import Binarize
from pyannote.core import SlidingWindow, SlidingWindowFeature
from scipy.ndimage import median_filter

from diarbench.pipelines.stitching import annotation_from_frames, majority, most_active, summed_activations

FRAMES = SlidingWindow(start=0.0, duration=0.025, step=0.02)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([0.1, 0.25, 0.5, 1.0]), st.booleans())
def test_sums_and_choices_are_pyannotes(seed, windows, step, soft):
    random = np.random.default_rng(seed)
    data = random.random((windows, 50, 3)) if soft else random.integers(0, 2, (windows, 50, 3))
    clusters = random.integers(-2, 4, (windows, 3))
    clusters[clusters == -1] = -2
    clusters[0, 0] = random.integers(4)
    segmentations = SlidingWindowFeature(data.astype(np.float32), SlidingWindow(duration=1.0, step=step))
    count = SpeakerDiarizationMixin.speaker_count(segmentations, FRAMES, warm_up=(0.0, 0.0))
    count.data = np.minimum(count.data, clusters.max() + 1)

    clustered = np.full((windows, 50, clusters.max() + 1), np.nan)
    for index, own in enumerate(clusters):
        for cluster in set(own.tolist()) - {-2}:
            clustered[index, :, cluster] = segmentations.data[index][:, own == cluster].max(axis=1)
    expected = SpeakerDiarizationMixin.to_diarization(
        SlidingWindowFeature(clustered, segmentations.sliding_window), count
    )

    sums = summed_activations(segmentations, clusters, count.sliding_window, len(count))
    np.testing.assert_array_equal(most_active(sums, count.data[:, 0]), expected.data)


def test_no_cluster_at_all_is_nobody():
    segmentations = SlidingWindowFeature(np.ones((1, 50, 2), np.float32), SlidingWindow(duration=1.0, step=1.0))
    assert not summed_activations(segmentations, np.full((1, 2), -2), FRAMES, 52).any()


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=2, max_size=60))
def test_turns_are_pyannotes(rows):
    data = np.array(rows, dtype=np.float32)
    found = annotation_from_frames(data, FRAMES)
    expected = Binarize(onset=0.5, offset=0.5)(SlidingWindowFeature(data, FRAMES))
    assert list(found.itertracks(yield_label=True)) == list(expected.itertracks(yield_label=True))


def test_a_turn_ends_in_the_middle_of_the_first_frame_after_it():
    turns = annotation_from_frames(np.array([[0], [1], [1], [0], [1]], dtype=np.float32), FRAMES)
    assert [(segment.start, segment.end) for segment in turns.itersegments()] == [
        (pytest.approx(0.0325), pytest.approx(0.0725))
    ]  # the last frame alone is no turn: it would end where it starts


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 11, 21]), st.integers(1, 60), st.floats(0.05, 0.95))
def test_majority_is_the_median(seed, length, frames, share):
    data = (np.random.default_rng(seed).random((2, frames, 3)) < share).astype(np.float32)
    expected = median_filter(data, size=(1, length, 1), mode="reflect")
    np.testing.assert_array_equal(majority(data, length), expected)
