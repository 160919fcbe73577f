"""pyannote.audio's AHC and VBx, with the rules by which DiariZen's differ from them.

Neither hands out centroids: all that pyannote.audio's pipeline does with them is to put them beside its output, and it
fails there if a cluster without turns has a smaller number than one with turns.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.cluster.hierarchy
from numpy.typing import NDArray
from pyannote.audio.core.plda import PLDA
from pyannote.audio.pipelines import clustering as stock
from pyannote.audio.pipelines.clustering import AgglomerativeClustering, VBxClustering
from pyannote.core import SlidingWindowFeature

from diarbench.errors import MissingRequirementError
from diarbench.measure import stage
from diarbench.pipelines.eend_recipes import Ahc, Rules, Vbx

_log = logging.getLogger(__name__)

# Embeddings up to which SciPy's linkage is used. It holds the distance of every pair twice, 0.13 GB for so many.
MOST_IN_PAIRS = 4096


class RuledAhc(AgglomerativeClustering):  # type: ignore[misc]
    """Agglomerative clustering of window-wise embeddings by these rules."""

    def __init__(self, settings: Ahc, rules: Rules) -> None:
        super().__init__(metric="cosine", constrained_assignment=rules.ahc_one_each)
        self.rules = rules
        self.instantiate(
            {
                "threshold": settings.threshold,
                "method": settings.method,
                "min_cluster_size": settings.min_cluster_size,
            }
        )

    def __call__(self, embeddings: NDArray[Any], segmentations: SlidingWindowFeature, **hints: Any) -> Any:
        """Clusters (windows, slots), their scores, and no centroids; see pyannote.audio's class."""
        self._silent = segmentations.data.sum(axis=1) == 0
        with stage("clustering"), _silenced(), _linear_memory():
            clusters, scores, _ = super().__call__(embeddings, segmentations, **hints)
        return clusters, scores, None

    def filter_embeddings(self, embeddings: NDArray[Any], segmentations: SlidingWindowFeature) -> Any:
        """The embeddings that form clusters, (embeddings, dimensions), with their windows and slots."""
        window, slot = _clean_slots(embeddings, segmentations.data, self.rules)
        return embeddings[window, slot], window, slot

    def constrained_argmax(self, soft_clusters: NDArray[Any]) -> Any:
        """The assignment of slots to clusters, (windows, slots), that is best for each window as a whole."""
        if not self.rules.silent_slots_compete:
            soft_clusters[self._silent] = soft_clusters.min() - 1.0
        return super().constrained_argmax(soft_clusters)


class RuledVbx(VBxClustering):  # type: ignore[misc]
    """VBx clustering of window-wise embeddings by these rules."""

    def __init__(self, settings: Vbx, rules: Rules, plda: PLDA) -> None:
        super().__init__(plda, metric="cosine")
        self.rules = rules
        self.instantiate({"threshold": settings.threshold, "Fa": settings.fa, "Fb": settings.fb})

    def __call__(
        self,
        embeddings: NDArray[Any],
        segmentations: SlidingWindowFeature,
        num_clusters: int | None = None,
        min_clusters: int = 1,
        max_clusters: float = np.inf,
        **others: Any,
    ) -> Any:
        """Clusters (windows, slots), their scores, and no centroids; see pyannote.audio's class."""
        if not self.rules.hints_bind_vbx:
            num_clusters, min_clusters, max_clusters = None, 1, np.inf
        decisions = real = segmentations.data
        if self.rules.silent_slots_compete:
            # The base class takes slots out of the assignment if these are all 0; the filter below sees the real ones.
            decisions = np.ones((len(real), 1, real.shape[2]))
        with stage("clustering"), _silenced(), _linear_memory():
            # It can't find more speakers than there are embeddings, and fails where it is told to.
            most = max(1, len(self.filter_embeddings(embeddings, SimpleNamespace(real=real))[0]))
            clusters, scores, _ = super().__call__(
                embeddings,
                SimpleNamespace(data=decisions, real=real),
                num_clusters=None if num_clusters is None else min(num_clusters, most),
                min_clusters=min(min_clusters, most),
                max_clusters=max_clusters,
                **others,
            )
        if self.rules.junk_speaker:
            # -2 is "no cluster"; numbering all labels anew makes it cluster 0.
            _, labels = np.unique(clusters, return_inverse=True)
            clusters = labels.reshape(clusters.shape)
        return clusters, scores, None

    def filter_embeddings(self, embeddings: NDArray[Any], segmentations: Any) -> Any:
        """The embeddings that form clusters, (embeddings, dimensions), with their windows and slots."""
        window, slot = _clean_slots(embeddings, segmentations.real, self.rules)
        return embeddings[window, slot], window, slot


def load_plda(folder: Path, lda_dimension: int = 128) -> PLDA:
    """The PLDA model in a folder with xvec_transform.npz and plda.npz, as pyannote.audio and DiariZen lay it out.

    Raises MissingRequirementError where it can't be read.
    """
    try:
        return PLDA(folder / "xvec_transform.npz", folder / "plda.npz", lda_dimension=lda_dimension)
    except (OSError, ValueError, KeyError, EOFError, IndexError, np.linalg.LinAlgError) as error:
        problem = " ".join(str(error).split())
        raise MissingRequirementError(
            f"{folder}: no PLDA model (xvec_transform.npz and plda.npz) can be read from here: {problem}"
        ) from error


def _clean_slots(
    embeddings: NDArray[Any], decisions: NDArray[Any], rules: Rules
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Windows and slots whose embeddings form clusters; `decisions` is (windows, frames, slots), 0 or 1."""
    alone = decisions.sum(axis=2, keepdims=True) == 1
    clean = (decisions * alone).sum(axis=1)
    frames = rules.clean_share * decisions.shape[1]
    fine = ~np.isnan(embeddings).any(axis=2)
    chosen = (clean >= (round(frames) if rules.round_clean_frames else frames)) & fine
    if rules.all_if_few and chosen.sum() < 2:
        chosen = fine
    window, slot = np.nonzero(chosen)
    return window, slot


def linkage(embeddings: NDArray[Any], method: str = "single", metric: str = "euclidean") -> NDArray[np.float64]:
    """The dendrogram of SciPy's `linkage`, (embeddings - 1, 4), in memory that does not grow with pairs of embeddings.

    For more than MOST_IN_PAIRS of them, fastcluster computes distances anew instead of keeping them, in up to three
    times SciPy's time; heights are the same but for rounding (1e-14). That is so for the linkages whose clusters are
    points in space (the published recipes have "centroid"); others, and all where fastcluster is missing, are SciPy's.
    """
    if len(embeddings) > MOST_IN_PAIRS and metric == "euclidean" and method in ("centroid", "median", "ward"):
        try:
            from fastcluster import linkage_vector
        except ImportError:
            _log.warning(
                "%d embeddings are clustered pair by pair: pip install fastcluster saves memory", len(embeddings)
            )
        else:
            return np.asarray(linkage_vector(embeddings, method=method, metric=metric))
    return np.asarray(scipy.cluster.hierarchy.linkage(embeddings, method=method, metric=metric))


@contextlib.contextmanager
def _linear_memory() -> Iterator[None]:
    """pyannote.audio's clustering calls our `linkage` meanwhile."""
    before = stock.linkage
    stock.linkage = linkage
    try:
        yield
    finally:
        stock.linkage = before


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """What pyannote.audio prints goes to the log; NumPy says nothing of empty means, which only centroids meet."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        warnings.filterwarnings("ignore", "invalid value encountered in", RuntimeWarning)
        yield
    for line in printed.getvalue().splitlines():
        _log.warning("%s", line)
