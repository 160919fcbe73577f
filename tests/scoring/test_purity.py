"""Purity, coverage and their kin."""

from __future__ import annotations

import sys

import pytest

from diarbench.errors import MissingRequirementError
from diarbench.scoring import Pair, cluster_quality
from diarbench.types import Turns

REGION = ((0.0, 20.0),)


def pair(reference, hypothesis, uem=REGION):
    return Pair(Turns.of(reference), Turns.of(hypothesis), uem)


def test_one_cluster_for_two_speakers_covers_and_is_not_pure():
    pytest.importorskip("pyannote.metrics")
    found = cluster_quality([pair([(0, 6, "A"), (6, 10, "B")], [(0, 10, "x")])])
    assert (found.purity, found.coverage) == pytest.approx((0.6, 1.0))
    assert found.f_measure == pytest.approx(2 * 0.6 / 1.6)
    assert found.homogeneity == pytest.approx(0)


def test_recordings_are_pooled_by_time_and_the_region_counts():
    pytest.importorskip("pyannote.metrics")
    whole = pair([(0, 10, "A")], [(0, 10, "x")])
    parted = pair([(0, 10, "A"), (15, 30, "B")], [(0, 5, "x"), (5, 10, "y"), (25, 30, "x")])
    found = cluster_quality([whole, parted])
    assert found.purity == pytest.approx(1.0)
    # 10 s of 10, and 5 s of A's 10 and none of B's 5 inside the region.
    assert found.coverage == pytest.approx(15 / 25)


SPLIT = [(0, 5, "y"), (5, 12, "x")]


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ([(0, 10, "A"), (4, 10, "A"), (10, 12, "B")], SPLIT),
        ([(0, 10, "A"), (10, 12, "B")], [*SPLIT, (5, 9, "x"), (6, 12, "x")]),
    ],
)
def test_turns_of_one_speaker_that_overlap_count_once(reference, hypothesis):
    diarization = pytest.importorskip("pyannote.metrics.diarization")
    found = cluster_quality([pair(reference, hypothesis)])
    assert found == cluster_quality([pair([(0, 10, "A"), (10, 12, "B")], SPLIT)])
    sides = Turns.of(reference).to_annotation(), Turns.of(hypothesis).to_annotation()
    assert found.purity == pytest.approx(diarization.DiarizationPurity()(*sides))
    assert found.coverage == pytest.approx(diarization.DiarizationCoverage()(*sides))
    # Its entropies count such time twice: once the turns are joined, they are the same.
    homogeneity = diarization.DiarizationHomogeneity()
    assert homogeneity(*sides) != pytest.approx(found.homogeneity)
    assert homogeneity(*(side.support() for side in sides)) == pytest.approx(found.homogeneity)


def test_without_pyannote_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyannote.metrics", None)
    with pytest.raises(MissingRequirementError, match=r"diarbench\[pyannote\]"):
        cluster_quality([])
