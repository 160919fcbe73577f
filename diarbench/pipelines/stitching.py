"""From who speaks in each window to who speaks when: overlapping windows added up, frames into turns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment, SlidingWindow, SlidingWindowFeature
from pyannote.core.utils.generators import string_generator


def summed_activations(
    segmentations: SlidingWindowFeature, clusters: NDArray[np.integer], frames: SlidingWindow, total: int
) -> NDArray[np.float32]:
    """How active each cluster is in each frame, (total, clusters): summed over windows, its loudest slot in each.

    `segmentations` is (windows, frames, slots); `clusters` (windows, slots) holds negative numbers for slots that
    belong to none. Windows are added one at a time, so that nothing of (windows, frames, clusters) is ever in memory,
    in pyannote.audio's order and precision, so that sums round as there.
    """
    windows = segmentations.sliding_window
    length = segmentations.data.shape[1]
    sums = np.zeros((total, max(1, int(clusters.max()) + 1)), dtype=np.float32)
    for index, (own, active) in enumerate(zip(clusters, segmentations.data, strict=True)):
        first = frames.closest_frame(windows[index].start + 0.5 * frames.duration)
        for cluster in np.unique(own[own >= 0]):
            sums[first : first + length, cluster] += active[:, own == cluster].max(axis=1).astype(np.float64)
    return sums


def most_active(activations: NDArray[np.float32], counts: NDArray[np.integer]) -> NDArray[np.float32]:
    """1 for the `counts` (frames,) most active clusters of each frame, 0 for others; (frames, clusters) as given."""
    order = np.argsort(-activations, axis=-1)  # ties as pyannote.audio has them: the same sort on the same numbers
    chosen = np.zeros_like(activations)
    ranks = np.arange(activations.shape[1])
    np.put_along_axis(chosen, order, (ranks < counts[:, None]).astype(chosen.dtype), axis=-1)
    return chosen


def annotation_from_frames(speaking: NDArray[np.floating], frames: SlidingWindow) -> Annotation:
    """Turns of each column of (frames, speakers) that holds 0 or 1; labels are the columns' numbers.

    A turn lasts from the middle of its first frame to the middle of the first frame after it, or of the last frame
    of all.
    """
    starts = frames.start + np.arange(len(speaking)) * frames.step
    middles = (0.5 * (starts + (starts + frames.duration))).tolist()
    annotation = Annotation()
    tracks = string_generator()
    for speaker, active in enumerate(speaking.T > 0.5):
        track = next(tracks)
        edges = np.flatnonzero(np.diff(active, prepend=False, append=False)).reshape(-1, 2)
        for first, after in edges.tolist():
            annotation[Segment(middles[first], middles[min(after, len(middles) - 1)]), track] = speaker
    return annotation


def majority(decisions: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """A median filter of odd length over the frames of 0/1 decisions (windows, frames, slots), mirrored at the ends.

    The median of zeros and ones is what most of them are. At its ends each window is continued by its own mirror
    image, the outermost frame twice (SciPy's "reflect").
    """
    half = length // 2
    filtered = np.empty_like(decisions)
    for window, result in zip(decisions, filtered, strict=True):
        mirrored = np.pad(window, ((half, half), (0, 0)), mode="symmetric")
        sums = np.cumsum(mirrored, axis=0, dtype=np.int32)
        sums[length:] -= sums[:-length].copy()
        result[:] = sums[length - 1 :] > half
    return filtered
