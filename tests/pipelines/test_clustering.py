"""Clusters: the same as SciPy's where it has the method, found among known speakers, bounded, deterministic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from diarbench.pipelines.clustering import agglomerative, centre, nearest_mean, spectral


def speakers(counts: list[int], spread: float = 0.6, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Unit vectors around one direction per speaker, shuffled; and whose they are."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    directions = rng.standard_normal((len(counts), 64))
    return centre(directions[truth] + spread * rng.standard_normal((len(truth), 64)), share=0.0), truth


def same_clusters(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    pairs = set(zip(one.tolist(), other.tolist(), strict=True))
    return len(pairs) == len(set(one.tolist())) == len(set(other.tolist()))


@given(st.integers(2, 60), st.integers(0, 2**16), st.floats(0.3, 1.2))
@settings(max_examples=50)
def test_average_linkage_is_scipys(windows: int, seed: int, threshold: float) -> None:
    embeddings = centre(np.random.default_rng(seed).standard_normal((windows, 8)), share=0.0)
    expected = fcluster(linkage(embeddings, "average", "cosine"), threshold, "distance")
    assert same_clusters(agglomerative(embeddings, threshold=threshold), expected)


def test_windows_merged_beforehand_keep_their_weight() -> None:
    """In 900 windows of six speakers the first merges are within a speaker, wherever the stretches are cut."""
    embeddings, truth = speakers([300, 250, 200, 100, 40, 10])
    assert same_clusters(agglomerative(embeddings, threshold=0.6), truth)
    for max_items in (100, 400, 899):
        assert same_clusters(agglomerative(embeddings, threshold=0.6, max_items=max_items), truth)


@pytest.mark.parametrize("counts", [[60], [40, 30], [80, 40, 30], [70, 50, 40, 35]])
def test_spectral_finds_the_number_of_speakers(counts: list[int]) -> None:
    embeddings, truth = speakers(counts)
    assert same_clusters(spectral(embeddings), truth)


def test_spectral_on_some_of_many_windows() -> None:
    embeddings, truth = speakers([300, 250, 200])
    assert same_clusters(spectral(embeddings, max_items=100), truth)


def test_spectral_finds_no_more_speakers_than_it_may() -> None:
    embeddings, _ = speakers([40, 40, 40, 40])
    assert spectral(embeddings).max() == 3
    assert spectral(embeddings, max_speakers=2).max() == 1


@pytest.mark.parametrize("cluster", [lambda e: agglomerative(e, threshold=0.7), spectral], ids=["ahc", "spectral"])
def test_deterministic_and_numbered_as_they_come(cluster: object) -> None:
    embeddings, _ = speakers([50, 40, 30], spread=2.0)
    labels = cluster(embeddings)  # type: ignore[operator]
    np.testing.assert_array_equal(labels, cluster(embeddings.copy()))  # type: ignore[operator]
    _, first = np.unique(labels, return_index=True)
    assert (np.diff(first) > 0).all()
    assert labels[0] == 0


@pytest.mark.parametrize("cluster", [lambda e: agglomerative(e, threshold=0.7), spectral], ids=["ahc", "spectral"])
@pytest.mark.parametrize("windows", [0, 1, 2, 3, 11, 40])
def test_hardly_any_windows_and_zeros(cluster: object, windows: int) -> None:
    same = np.tile(centre(np.ones((1, 8)), share=0.0), (windows, 1))
    assert cluster(same).tolist() == [0] * windows  # type: ignore[operator]
    zeros = np.zeros((windows, 8))  # the embedding of digital silence
    assert len(cluster(zeros)) == windows  # type: ignore[operator]


def test_centring() -> None:
    embeddings, _ = speakers([10, 10])
    np.testing.assert_allclose(centre(embeddings * 3, share=0.0), embeddings)
    moved = centre(embeddings, share=1.0)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1.0)
    np.testing.assert_allclose(moved[0], centre((embeddings[0] - embeddings.mean(axis=0))[None], share=0.0)[0])
    assert np.isfinite(centre(embeddings[:1], share=1.0)).all(), "a lone window is its own mean"
    assert centre(np.zeros((0, 0)), share=0.5).shape == (0, 0)


def test_small_clusters_dissolve_into_the_nearest() -> None:
    east, north = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    embeddings = centre(np.array([east, east, north, north, east + 0.5 * north, north + 0.3 * east]), share=0.0)
    labels = np.array([0, 0, 1, 1, 2, 0])  # a cluster of one; and a window in the wrong one
    assert nearest_mean(embeddings, labels, smallest=2).tolist() == [0, 0, 1, 1, 0, 1]
    assert nearest_mean(embeddings, labels, smallest=3).tolist() == [0] * 6, "one cluster is left: all are its own"
    assert nearest_mean(embeddings, labels, smallest=9).tolist() == [0] * 6, "none is left: one speaker"
    assert nearest_mean(np.zeros((0, 2)), np.zeros(0, dtype=np.int64), smallest=2).tolist() == []
