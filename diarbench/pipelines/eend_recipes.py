"""How EEND-VC is configured: the rules of pyannote.audio and of DiariZen, and the published settings by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from diarbench.errors import NotFoundError, did_you_mean
from diarbench.types import Seconds


@dataclass(frozen=True, slots=True)
class Rules:
    """Where DiariZen's pipeline and pyannote.audio's go different ways. The defaults are pyannote.audio 4.0.7's.

    A window has a few slots, one per speaker that the segmentation network tells apart in it. A slot's clean frames
    are those in which nobody else speaks.

    Raises ValueError for a median filter of an even length, or a share outside 0 to 1.
    """

    median_frames: int = 1  # length of the median filter over each slot's decisions; 1: none
    clean_share: float = 0.2  # slots with fewer clean frames than this share of the window don't form clusters
    round_clean_frames: bool = False  # that number is rounded to whole frames, half to even
    all_if_few: bool = False  # where fewer than two slots pass, all do; otherwise all are one speaker
    ahc_one_each: bool = False  # AHC too gives each slot of a window a cluster of its own, the best for all (VBx does)
    silent_slots_compete: bool = False  # slots that never speak take part in that, and can take a speaker's cluster
    junk_speaker: bool = False  # VBx: slots that are left without a cluster become one more speaker; else nobody
    hints_bind_vbx: bool = True  # VBx heeds the number of speakers that it is told (by k-means); AHC always does

    def __post_init__(self) -> None:
        if self.median_frames < 1 or self.median_frames % 2 == 0:
            raise ValueError(f"median_frames is odd, 1 or more; got {self.median_frames}")
        if not 0.0 <= self.clean_share <= 1.0:
            raise ValueError(f"clean_share is a share of a window, 0 to 1; got {self.clean_share}")


# pyannote.audio 4.0.7: pipelines/speaker_diarization.py and pipelines/clustering.py.
STOCK = Rules()
# BUTSpeechFIT/DiariZen, its pipeline as published with the models of 2025: 11 frames are 220 ms.
DIARIZEN = Rules(
    median_frames=11,
    clean_share=0.1,
    round_clean_frames=True,
    all_if_few=True,
    ahc_one_each=True,
    silent_slots_compete=True,
    junk_speaker=True,
    hints_bind_vbx=False,
)


_LINKAGES = ("average", "centroid", "complete", "median", "single", "ward", "weighted")


def _check_threshold(threshold: float) -> None:
    if not 0.0 < threshold <= 2.0:
        raise ValueError(f"threshold is a distance between points on a sphere, above 0 to 2; got {threshold:g}")


@dataclass(frozen=True, slots=True)
class Ahc:
    """Agglomerative clustering of embeddings of unit length, by the distance of centroids unless told otherwise.

    Raises ValueError for a threshold outside 0 to 2, the largest distance between two points on a sphere.
    """

    threshold: float  # Euclidean distance at which merging stops
    min_cluster_size: int  # smaller clusters join the nearest larger one (at most a tenth of all embeddings)
    method: str = "centroid"  # of linkage, in SciPy's words

    def __post_init__(self) -> None:
        _check_threshold(self.threshold)
        if self.min_cluster_size < 1:
            raise ValueError(f"min_cluster_size counts embeddings, 1 or more; got {self.min_cluster_size}")
        if self.method not in _LINKAGES:
            raise ValueError(f"there is no linkage {self.method!r}{did_you_mean(self.method, _LINKAGES)}")


@dataclass(frozen=True, slots=True)
class Vbx:
    """Bayesian clustering (Landini et al., "Bayesian HMM clustering of x-vector sequences (VBx)", 2022), no HMM.

    It starts from agglomerative clusters, needs a PLDA model, and takes at most 20 iterations. Raises ValueError for
    a threshold outside 0 to 2 or factors that are not positive.
    """

    threshold: float = 0.6  # of the clusters that it starts from: Euclidean distance between centroids
    fa: float = 0.07  # scales the evidence of each embedding
    fb: float = 0.8  # the larger, the fewer speakers
    lda_dimension: int = 128  # of the embeddings, once PLDA has transformed them

    def __post_init__(self) -> None:
        _check_threshold(self.threshold)
        if self.fa <= 0 or self.fb <= 0 or self.lda_dimension < 1:
            raise ValueError(
                f"fa, fb and lda_dimension are above 0; got {self.fa:g}, {self.fb:g} and {self.lda_dimension}"
            )


@dataclass(frozen=True, slots=True)
class Recipe:
    """All settings of one EEND-VC system apart from its networks; `dataclasses.replace` makes variants.

    Raises ValueError for times, thresholds or numbers of speakers that can't be meant.
    """

    clustering: Ahc | Vbx
    rules: Rules = STOCK
    window: Seconds | None = None  # of audio that the networks are given at a time; None: as trained
    hop: Seconds | None = None  # from one window to the next; None: a tenth of the window
    exclude_overlap: bool = True  # embed a speaker's clean frames alone, where there are enough of them
    onset: float = 0.5  # a speaker speaks above this; only for networks that are no powerset classifiers
    min_off: Seconds = 0.0  # shorter pauses of one speaker are filled in the end
    min_speakers: int | None = None  # hints where none are given with a recording
    max_speakers: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.window <= 0:
            raise ValueError(f"a window is longer than 0 s; got {self.window:g} s")
        if self.hop is not None and self.hop <= 0:
            raise ValueError(f"a hop is longer than 0 s; got {self.hop:g} s")
        if self.min_off < 0 or not 0.0 < self.onset < 1.0:
            raise ValueError(
                f"min_off is 0 or more and onset between 0 and 1; got {self.min_off:g} s and {self.onset:g}"
            )
        for name in ("min_speakers", "max_speakers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is 1 or more; got {value}")
        if (self.min_speakers or 1) > (self.max_speakers or self.min_speakers or 1):
            raise ValueError(f"min_speakers, {self.min_speakers}, is above max_speakers, {self.max_speakers}")


# The config.yaml or config.toml of each published pipeline.
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        # pyannote/speaker-diarization@2.1, with pyannote/segmentation@2022.07 (5 s, no powerset).
        "pyannote-2.1": Recipe(
            Ahc(threshold=0.7153814381597874, min_cluster_size=15),
            onset=0.4442333667381752,
            min_off=0.5817029604921046,
        ),
        # pyannote/speaker-diarization-3.1, with pyannote/segmentation-3.0 (10 s).
        "pyannote-3.1": Recipe(Ahc(threshold=0.7045654963945799, min_cluster_size=12)),
        # pyannote/speaker-diarization-community-1 (10 s).
        "pyannote-community-1": Recipe(Vbx()),
        # BUT-FIT/diarizen-meeting-base: 8 s.
        "diarizen-meeting": Recipe(
            Ahc(threshold=0.70, min_cluster_size=30), DIARIZEN, window=8.0, min_speakers=2, max_speakers=8
        ),
        # BUT-FIT/diarizen-wavlm-base-s80-md, diarizen-wavlm-large-s80-md and -md-v2: 16 s.
        "diarizen-s80": Recipe(Vbx(), DIARIZEN, window=16.0, min_speakers=1, max_speakers=20),
    }
)


def find_recipe(name: str) -> Recipe:
    """The published recipe of that name; raises NotFoundError where there is none.

    >>> find_recipe("pyannote-3.1").clustering.min_cluster_size
    12
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise NotFoundError(f"there is no recipe {name!r}{did_you_mean(name, RECIPES)}") from None
