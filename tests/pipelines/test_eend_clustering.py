"""AHC and VBx by the rules of pyannote.audio (against its classes) and of DiariZen (against its description)."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyannote.audio.pipelines import clustering as pyannotes
from pyannote.audio.pipelines.clustering import AgglomerativeClustering, VBxClustering
from pyannote.audio.utils.vbx import cluster_vbx
from pyannote.core import SlidingWindow, SlidingWindowFeature
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from diarbench.errors import MissingRequirementError
from diarbench.pipelines import eend_clustering
from diarbench.pipelines.eend_clustering import RuledAhc, RuledVbx, load_plda
from diarbench.pipelines.eend_recipes import DIARIZEN, STOCK, Ahc, Vbx

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
SETTINGS = Vbx()


@pytest.fixture(scope="module")
def model(plda):
    return load_plda(plda)


def made_up(seed: int, *, windows: int = 30, voices: int = 3) -> tuple[np.ndarray, SlidingWindowFeature]:
    """Embeddings (windows, 4, 256) around some voices, and decisions (windows, 40, 4); some slots are silent."""
    random = np.random.default_rng(seed)
    centres = 4.0 * random.standard_normal((voices, 256))
    spoken = random.integers(voices, size=(windows, 4))
    embeddings = (centres[spoken] + random.standard_normal((windows, 4, 256))).astype(np.float32)
    decisions = (random.random((windows, 40, 4)) < 0.5 * random.random((windows, 1, 4))).astype(np.float32)
    decisions *= random.random((windows, 1, 4)) < 0.8
    embeddings[decisions.sum(axis=1) == 0] = random.standard_normal(256)  # what a network says of silence
    return embeddings, SlidingWindowFeature(decisions, SlidingWindow(duration=4.0, step=0.4))


HINTS = st.sampled_from([(None, 1, np.inf), (2, 2, 2), (5, 5, 5), (None, 4, np.inf), (None, 1, 2)])


def ask(clustering, embeddings, decisions, hints=(None, 1, np.inf)):
    count, least, most = hints
    found, _, _ = clustering(
        embeddings=embeddings.copy(), segmentations=decisions, num_clusters=count, min_clusters=least, max_clusters=most
    )
    return np.asarray(found)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 25), st.integers(1, 5), HINTS)
def test_stock_ahc_is_pyannotes(seed, windows, voices, hints):
    embeddings, decisions = made_up(seed, windows=windows + 1, voices=voices)
    stock = AgglomerativeClustering().instantiate({"threshold": 0.7, "method": "centroid", "min_cluster_size": 3})
    np.testing.assert_array_equal(
        ask(RuledAhc(Ahc(0.7, 3), STOCK), embeddings, decisions, hints), ask(stock, embeddings, decisions, hints)
    )


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 25), st.integers(1, 5), HINTS)
def test_stock_vbx_is_pyannotes(model, seed, windows, voices, hints):
    embeddings, decisions = made_up(seed, windows=windows + 1, voices=voices)
    if (decisions.data.sum(axis=1) == 0).all():
        return  # the pipeline asks no clustering about silence
    stock = VBxClustering(model).instantiate({"threshold": 0.6, "Fa": 0.07, "Fb": 0.8})
    most = len(stock.filter_embeddings(embeddings, decisions)[0])
    hints = tuple(hint if hint in (None, np.inf) else min(hint, max(1, most)) for hint in hints)  # or it fails
    np.testing.assert_array_equal(
        ask(RuledVbx(SETTINGS, STOCK, model), embeddings, decisions, hints), ask(stock, embeddings, decisions, hints)
    )


def as_described(embeddings, decisions, model) -> np.ndarray:
    """DiariZen's VBx, step by step."""
    windows, frames, slots = decisions.shape
    alone = decisions * (decisions.sum(axis=2, keepdims=True) == 1)
    chosen = alone.sum(axis=1) >= round(0.1 * frames)
    if chosen.sum() < 2:
        chosen = alone.sum(axis=1) >= 0
    train = embeddings[chosen]
    lengths = np.linalg.norm(train, axis=1, keepdims=True)
    start = fcluster(linkage(train / lengths, "centroid"), 0.6, "distance")
    start = np.unique(start, return_inverse=True)[1]
    responsible, priors = cluster_vbx(start, model(train), model.phi, Fa=0.07, Fb=0.8, maxIters=20)
    centroids = responsible[:, priors > 1e-7].T @ train  # sums: the same under the cosine
    scores = 2 - cdist(embeddings.reshape(-1, 256), centroids, "cosine").reshape(windows, slots, -1)
    found = np.full((windows, slots), -2)
    for window, score in enumerate(scores):
        slot, cluster = linear_sum_assignment(score, maximize=True)
        found[window, slot] = cluster
    return np.unique(found, return_inverse=True)[1].reshape(windows, slots)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 25), st.integers(1, 6), HINTS)
def test_diarizens_vbx_is_as_described(model, seed, windows, voices, hints):
    embeddings, decisions = made_up(seed, windows=windows + 1, voices=voices)
    found = ask(RuledVbx(SETTINGS, DIARIZEN, model), embeddings, decisions, hints)
    speaking = decisions.data.sum(axis=1) > 0  # the silent slots of a window are all alike: ties
    np.testing.assert_array_equal(found[speaking], as_described(embeddings, decisions.data, model)[speaking])


def test_more_speakers_than_embeddings(model):
    """pyannote.audio's VBx fails where it is to find more speakers than there are embeddings."""
    embeddings, decisions = two_voices((0, 1), (1, 0))
    assert sorted(set(ask(RuledVbx(SETTINGS, STOCK, model), embeddings, decisions, (7, 7, 7)).ravel())) == [0, 1, 2, 3]


def two_voices(*rows: tuple[int, ...], frames: int = 40) -> tuple[np.ndarray, SlidingWindowFeature]:
    """Windows of two slots: each number is a voice, -1 a silent slot (whose embedding lies near voice 0)."""
    centres = np.eye(256)[:2] + 0.01
    random = np.random.default_rng(0)
    embeddings = np.stack([[centres[max(voice, 0)] for voice in row] for row in rows])
    embeddings = embeddings + 0.001 * random.standard_normal(embeddings.shape)
    decisions = np.zeros((len(rows), frames, 2), dtype=np.float32)
    for window, row in enumerate(rows):
        for slot, voice in enumerate(row):
            if voice >= 0:
                decisions[window, slot * frames // 2 : (slot + 1) * frames // 2, slot] = 1
            else:
                embeddings[window, slot] = centres[0]
    return embeddings.astype(np.float32), SlidingWindowFeature(decisions, SlidingWindow(duration=4.0, step=0.4))


def test_ahc_one_each():
    """Both slots of the last window sound like the first voice."""
    example = two_voices((0, 1), (1, 0), (0, 1), (0, 0))
    free = ask(RuledAhc(Ahc(0.7, 1), STOCK), *example)
    assert free[3, 0] == free[3, 1] == free[0, 0]
    bound = ask(RuledAhc(Ahc(0.7, 1), dataclasses.replace(STOCK, ahc_one_each=True)), *example)
    assert sorted(bound[3]) == [0, 1]


@pytest.mark.parametrize("kind", ["ahc", "vbx"])
def test_silent_slots_compete(kind, model):
    """In the last window nobody speaks in the first slot, which sounds like voice 0, more so than the second slot."""
    example = two_voices((0, 1), (1, 0), (0, 1), (-1, 0))
    example[0][3, 1] += 0.7 * example[0][0, 1]
    example[1].data[3, :30, 1] = 0  # too little of it to form clusters

    def found(compete: bool) -> int:
        rules = dataclasses.replace(STOCK, ahc_one_each=True, silent_slots_compete=compete)
        clustering = RuledAhc(Ahc(0.7, 1), rules) if kind == "ahc" else RuledVbx(Vbx(fa=1.0, fb=0.1), rules, model)
        clusters = ask(clustering, *example)
        assert clusters.max() == 1
        return clusters[3, 1] == clusters[0, 0]

    assert found(compete=False)
    assert not found(compete=True)


def test_junk_speaker(model):
    """Of two slots with one voice VBx can give a cluster to one only: what becomes of the other?"""
    embeddings, decisions = two_voices((0, 0), (0, 0), (0, 0))
    dropped = ask(RuledVbx(SETTINGS, STOCK, model), embeddings, decisions)
    assert sorted(set(dropped.ravel().tolist())) == [-2, 0]
    junk = ask(RuledVbx(SETTINGS, dataclasses.replace(STOCK, junk_speaker=True), model), embeddings, decisions)
    np.testing.assert_array_equal(junk, np.where(dropped == -2, 0, 1))


def test_clean_share_and_few():
    """A slot of 5 clean frames in 40 counts at a tenth, not at a fifth; where none count, all or nothing does."""
    embeddings, decisions = two_voices((0, 1), (1, 0))
    decisions.data[:, 5:, :] = 0
    decisions.data[:, :5, 0] = 1
    decisions.data[:, 5:10, 1] = 1
    strict, loose = RuledAhc(Ahc(0.7, 1), STOCK), RuledAhc(Ahc(0.7, 1), dataclasses.replace(STOCK, clean_share=0.1))
    assert len(strict.filter_embeddings(embeddings, decisions)[0]) == 0
    assert len(loose.filter_embeddings(embeddings, decisions)[0]) == 4
    generous = RuledAhc(Ahc(0.7, 1), dataclasses.replace(STOCK, all_if_few=True))
    assert len(generous.filter_embeddings(embeddings, decisions)[0]) == 4


@pytest.mark.parametrize(("rounded", "kept"), [(True, 4), (False, 0)])
def test_clean_frames_rounded(rounded, kept):
    """A tenth of 44 frames is 4.4: 4 frames are enough when rounded, else not."""
    embeddings, decisions = two_voices((0, 1), (1, 0), frames=44)
    decisions.data[:] = 0
    decisions.data[:, :4, 0] = 1
    decisions.data[:, 4:8, 1] = 1
    rules = dataclasses.replace(STOCK, clean_share=0.1, round_clean_frames=rounded)
    assert len(RuledAhc(Ahc(0.7, 1), rules).filter_embeddings(embeddings, decisions)[0]) == kept


def test_plda_folders(plda, tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "xvec_transform.npz").write_bytes((plda / "xvec_transform.npz").read_bytes())
    (tmp_path / "bad").mkdir()
    for name in ("xvec_transform.npz", "plda.npz"):
        (tmp_path / "bad" / name).write_bytes(b"not an archive")
    (tmp_path / "swapped").mkdir()
    (tmp_path / "swapped" / "plda.npz").write_bytes((plda / "xvec_transform.npz").read_bytes())
    (tmp_path / "swapped" / "xvec_transform.npz").write_bytes((plda / "plda.npz").read_bytes())
    for folder in ("none", "half", "bad", "swapped"):
        with pytest.raises(MissingRequirementError, match=folder) as caught:
            load_plda(tmp_path / folder)
        assert "\n" not in str(caught.value)
    assert len(load_plda(plda, lda_dimension=64).phi) == 64


@pytest.mark.parametrize("method", ["centroid", "median", "ward"])
def test_dendrograms_without_pairs_are_scipys(monkeypatch, method):
    fastcluster = pytest.importorskip("fastcluster")
    random = np.random.default_rng(3)
    voices = random.standard_normal((5, 64))
    embeddings = (voices[random.integers(5, size=300)] + random.standard_normal((300, 64))).astype(np.float32)
    expected = linkage(embeddings, method=method)
    asked = []
    vector = fastcluster.linkage_vector
    monkeypatch.setattr(fastcluster, "linkage_vector", lambda *all, **named: asked.append(1) or vector(*all, **named))
    monkeypatch.setattr(eend_clustering, "MOST_IN_PAIRS", 299)
    found = eend_clustering.linkage(embeddings, method=method)
    assert asked
    np.testing.assert_array_equal(found[:, [0, 1, 3]], expected[:, [0, 1, 3]])
    np.testing.assert_allclose(found[:, 2], expected[:, 2], rtol=1e-12)


def test_few_embeddings_other_linkages_and_no_fastcluster_are_scipys(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastcluster", None)
    embeddings = np.random.default_rng(4).standard_normal((40, 8))
    centroid = linkage(embeddings, method="centroid")
    np.testing.assert_array_equal(eend_clustering.linkage(embeddings, method="centroid"), centroid)
    monkeypatch.setattr(eend_clustering, "MOST_IN_PAIRS", 10)
    np.testing.assert_array_equal(
        eend_clustering.linkage(embeddings, method="average", metric="cosine"), linkage(embeddings, "average", "cosine")
    )
    np.testing.assert_array_equal(eend_clustering.linkage(embeddings, method="centroid"), centroid)


@pytest.mark.parametrize("kind", ["ahc", "vbx"])
def test_many_embeddings_give_the_same_clusters(monkeypatch, model, kind):
    """Through pyannote.audio's classes, which call our linkage and get SciPy's back afterwards."""
    pytest.importorskip("fastcluster")
    embeddings, decisions = made_up(7, windows=60, voices=4)
    clustering = RuledAhc(Ahc(0.7, 3), STOCK) if kind == "ahc" else RuledVbx(SETTINGS, STOCK, model)
    expected = ask(clustering, embeddings, decisions)
    monkeypatch.setattr(eend_clustering, "MOST_IN_PAIRS", 5)
    counts = []
    ours = eend_clustering.linkage
    monkeypatch.setattr(
        eend_clustering, "linkage", lambda rows, *all, **named: counts.append(len(rows)) or ours(rows, *all, **named)
    )
    np.testing.assert_array_equal(ask(clustering, embeddings, decisions), expected)
    assert counts
    assert min(counts) > 5
    assert pyannotes.linkage is linkage
