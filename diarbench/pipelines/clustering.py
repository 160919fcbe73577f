"""Clusters of speaker embeddings with an automatic number of speakers: average linkage, and spectral (NME-SC)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.floating]  # (windows, dimensions), rows of unit length
Labels = NDArray[np.int64]  # (windows,), clusters counted from 0 in the order in which they first occur


def centre(embeddings: Embeddings, *, share: float) -> NDArray[np.float64]:
    """Rows less `share` times their mean, back to unit length.

    What all speakers of a recording have in common (room, microphone, codec) matters less then.
    """
    moved = np.asarray(embeddings, dtype=np.float64)
    if len(moved):
        moved = moved - share * moved.mean(axis=0, keepdims=True)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved / np.maximum(lengths, 1e-12))


def agglomerative(embeddings: Embeddings, *, threshold: float, max_items: int = 2000) -> Labels:
    """Average-linkage clustering by cosine distance (1 − cosine): merges go on up to the distance `threshold`.

    Memory is 8·`max_items`² bytes, however long the recording: of more windows than that, the closest in each
    stretch of `max_items` are merged first, until no more than `max_items` are left in all (see `_condense`). From
    there on average linkage goes on exactly, since merged windows keep their weight.
    """
    items = _condense(embeddings, max_items)
    return _in_order(_merge(items.means, items.counts, threshold=threshold, fewest=1)[items.members])


def spectral(
    embeddings: Embeddings,
    *,
    min_neighbours: int = 10,
    min_share: float = 0.2,
    max_speakers: int = 8,
    max_items: int = 1000,
    seed: int = 0,
) -> Labels:
    """Spectral clustering with the numbers of neighbours and of speakers chosen by the normalized maximum eigengap.

    Park et al., "Auto-tuning spectral clustering for speaker diarization using normalized maximum eigengap", IEEE
    SPL 2019 (arXiv 2003.02405), section III. For each number of neighbours p: the p largest cosines of each row
    become 1 and all others 0, the matrix is made symmetric, A = (B + Bᵀ)/2, and of its Laplacian the largest gap
    between two successive of its smallest eigenvalues, divided by the largest eigenvalue, is g(p). The p with the
    smallest p/g(p) is taken; the place of its gap is the number of speakers (up to `max_speakers`); and k-means on
    that many eigenvectors gives the clusters.

    Two things are ours. The Laplacian is the symmetric normalized one, I − D^-½ A D^-½. And p runs, in at most twenty
    steps, from `min_neighbours` or `min_share` of the windows, whichever is more (not from 1), to four tenths of
    them: the nearest neighbours of a window are those that overlap it in time, and a p that reaches little further
    splits speakers. No more windows than `min_neighbours` are one speaker.

    Eigenvalues take the cube of the number of windows, so of more than `max_items` only that many, evenly spread over
    the recording, are clustered; the rest go to the nearest mean of these clusters.
    """
    if len(embeddings) <= min_neighbours:
        return np.zeros(len(embeddings), dtype=np.int64)
    chosen = np.unique(np.linspace(0, len(embeddings) - 1, min(max_items, len(embeddings))).astype(np.int64))
    clustered = _spectral_clusters(embeddings[chosen], min_neighbours, min_share, max_speakers, seed)
    if len(chosen) == len(embeddings):
        return _in_order(clustered)
    means = _means(embeddings[chosen], clustered, np.unique(clustered))
    labels = (embeddings @ means.T).argmax(axis=1)
    labels[chosen] = clustered
    return _in_order(labels)


def nearest_mean(embeddings: Embeddings, labels: Labels, *, smallest: int) -> Labels:
    """Each window given to the nearest mean (by cosine) of the clusters that have at least `smallest` windows.

    So small clusters dissolve, and windows that average linkage joined early and badly change sides. Where fewer than
    two clusters are as large as that, all windows are one.
    """
    sizes = np.bincount(labels)
    kept = np.flatnonzero(sizes >= smallest)
    if len(kept) <= 1:
        return np.zeros(len(labels), dtype=np.int64)
    return _in_order((embeddings @ _means(embeddings, labels, kept).T).argmax(axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class _Items:
    """Windows, or groups of them that were merged already."""

    means: Embeddings  # (items, dimensions): not of unit length where they stand for several windows
    counts: NDArray[np.float64]  # (items,): windows in each
    members: Labels  # (windows,): the item of each window


def _means(embeddings: Embeddings, labels: Labels, clusters: Labels) -> NDArray[np.float64]:
    """The mean direction, of unit length, of each of these clusters: (clusters, dimensions)."""
    return centre(np.stack([embeddings[labels == cluster].mean(axis=0) for cluster in clusters]), share=0.0)


def _spectral_clusters(
    embeddings: Embeddings, min_neighbours: int, min_share: float, max_speakers: int, seed: int
) -> Labels:
    size = len(embeddings)
    nearest_first = np.argsort(-(embeddings @ embeddings.T), axis=1, kind="stable")
    fewest = max(min_neighbours, int(min_share * size))
    tried = np.unique(np.linspace(fewest, max(fewest, int(0.4 * size)), 20).astype(np.int64)).tolist()
    best = min((_eigengap(_laplacian(nearest_first, p), p, max_speakers) for p in tried), key=lambda gap: gap.ratio)
    if best.speakers == 1:
        return np.zeros(size, dtype=np.int64)
    from sklearn.cluster import KMeans

    _, vectors = np.linalg.eigh(_laplacian(nearest_first, best.neighbours))
    kmeans = KMeans(best.speakers, n_init=10, random_state=seed)
    return np.asarray(kmeans.fit_predict(vectors[:, : best.speakers]), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Eigengap:
    neighbours: int  # p
    ratio: float  # p / g(p): the smaller the better
    speakers: int


def _laplacian(nearest_first: Labels, neighbours: int) -> NDArray[np.float64]:
    """The symmetric normalized Laplacian of the graph in which each item has its `neighbours` nearest.

    `nearest_first` (items, items) sorts each row's items by their distance; the nearest is the item itself.
    """
    size = len(nearest_first)
    affinity = np.zeros((size, size))
    np.put_along_axis(affinity, nearest_first[:, :neighbours], 1.0, axis=1)
    affinity = (affinity + affinity.T) / 2
    scale = 1.0 / np.sqrt(affinity.sum(axis=1))
    return np.asarray(np.eye(size) - scale[:, None] * affinity * scale[None, :])


def _eigengap(laplacian: NDArray[np.float64], neighbours: int, max_speakers: int) -> _Eigengap:
    values = np.linalg.eigvalsh(laplacian)
    gaps = np.diff(values[: max_speakers + 1]) / max(float(values[-1]), 1e-12)
    # Of equal gaps the last: a graph in more pieces than `max_speakers` has nothing but gaps of zero here.
    place = len(gaps) - 1 - int(np.round(gaps[::-1], 9).argmax())
    return _Eigengap(neighbours, neighbours / max(float(gaps[place]), 1e-12), place + 1)


def _condense(embeddings: Embeddings, max_items: int) -> _Items:
    """At most `max_items` items: in each stretch of `max_items` windows, the closest become one.

    As many are left of each stretch as make `max_items` in all, but no fewer than an eighth of it: then more passes
    follow. Windows of one stretch only are compared, so nothing larger than `max_items`² is ever held.
    """
    means = np.asarray(embeddings, dtype=np.float64)
    counts: NDArray[np.float64] = np.ones(len(means))
    members = np.arange(len(means), dtype=np.int64)
    while len(means) > max_items:
        share = max(max_items / len(means), 1 / 8)
        labels = np.empty(len(means), dtype=np.int64)
        found = 0
        for first in range(0, len(means), max_items):
            stretch = slice(first, first + max_items)
            fewest = max(1, int(len(means[stretch]) * share))
            labels[stretch] = found + _merge(means[stretch], counts[stretch], threshold=np.inf, fewest=fewest)
            found = int(labels[stretch].max()) + 1
        weights = np.bincount(labels, weights=counts).astype(np.float64)
        sums = np.zeros((found, means.shape[1]))
        np.add.at(sums, labels, means * counts[:, None])
        means, counts, members = sums / weights[:, None], weights, labels[members]
    return _Items(means, counts, members)


def _merge(means: Embeddings, counts: NDArray[np.float64], *, threshold: float, fewest: int) -> Labels:
    """Average linkage of weighted items, until the closest two are further apart than `threshold`, or `fewest` left.

    The mean cosine distance between the members of two items is 1 − (mean of one)·(mean of the other), so that items
    which stand for several windows take part exactly. Of equal distances the first is taken.
    """
    size = len(means)
    counts = counts.copy()
    labels = np.arange(size, dtype=np.int64)
    distances = 1.0 - np.asarray(means, dtype=np.float64) @ np.asarray(means, dtype=np.float64).T
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(axis=1) if size else labels
    nearest_distances = distances[labels, nearest] if size else counts
    for _ in range(size - fewest):
        one = int(nearest_distances.argmin())
        if nearest_distances[one] > threshold:
            break
        other = int(nearest[one])
        merged = (counts[one] * distances[one] + counts[other] * distances[other]) / (counts[one] + counts[other])
        merged[[one, other]] = np.inf
        distances[one] = distances[:, one] = merged
        distances[other] = distances[:, other] = np.inf
        counts[one] += counts[other]
        labels[labels == other] = one
        nearest_distances[other] = np.inf
        nearest[other] = -1
        # An average is never below the smaller of two distances, so only who pointed at the two has to look again.
        stale = np.flatnonzero((nearest == one) | (nearest == other))
        stale = np.append(stale, one)
        nearest[stale] = distances[stale].argmin(axis=1)
        nearest_distances[stale] = distances[stale, nearest[stale]]
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _in_order(labels: Labels) -> Labels:
    """The same clusters, numbered in the order in which they first occur."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[inverse], dtype=np.int64)
