"""Purity, coverage and their kin, by pyannote.metrics: how clean clusters are, apart from how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diarbench.errors import MissingRequirementError
from diarbench.scoring.sweep import Pair


@dataclass(frozen=True, slots=True)
class ClusterQuality:
    """Fractions, pooled over recordings by time; larger is better."""

    purity: float  # of hypothesis speakers' time, the part that is their main reference speaker's
    coverage: float  # of reference speakers' time, the part that their main hypothesis speaker has
    homogeneity: float  # as purity, by entropy
    completeness: float  # as coverage, by entropy

    @property
    def f_measure(self) -> float:
        """Harmonic mean of purity and coverage."""
        both = self.purity + self.coverage
        return 2 * self.purity * self.coverage / both if both else 0.0


def cluster_quality(pairs: Sequence[Pair]) -> ClusterQuality:
    """Purity, coverage, homogeneity and completeness of hypotheses (pyannote.metrics 4, its documentation has the
    formulas), over the scoring region of each recording, without collar, overlap scored. Turns of one speaker that
    overlap are joined first.

    Raises MissingRequirementError where pyannote.metrics is not installed: it is in the extra `pyannote`.
    """
    try:
        from pyannote.core import Segment, Timeline
        from pyannote.metrics import diarization
    except ImportError as error:
        raise MissingRequirementError(
            "purity and coverage are computed by pyannote.metrics: pip install 'diarbench[pyannote]'"
        ) from error
    kinds = ("DiarizationPurity", "DiarizationCoverage", "DiarizationHomogeneity", "DiarizationCompleteness")
    metrics: list[Any] = [getattr(diarization, kind)() for kind in kinds]
    for pair in pairs:
        sides = [pair.reference.to_annotation(), pair.hypothesis.to_annotation()]
        if pair.uem is not None:  # pyannote.metrics 4.2 takes a UEM here, and does not use it
            region = Timeline([Segment(*span) for span in pair.uem])
            sides = [side.crop(region) for side in sides]
        # Nobody speaks twice at once, here as in every score. pyannote.metrics' purity and coverage see it so too; its
        # entropies count time again in which turns of one speaker overlap.
        sides = [side.support() for side in sides]
        for metric in metrics:
            metric(*sides)
    return ClusterQuality(*(float(abs(metric)) for metric in metrics))
