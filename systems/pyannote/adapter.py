"""pyannote.audio's published pipelines: PyanNet on overlapping windows, WeSpeaker embeddings, AHC or VBx."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from diarbench.errors import InputError
from diarbench.measure import Network
from diarbench.pipelines.eend_recipes import find_recipe
from diarbench.pipelines.eend_system import (
    Choices,
    ClusteringOption,
    EendSystem,
    embedding_network,
    weights_of,
)
from diarbench.pipelines.pyannote_files import SPEAKERS, pyannet_network, pyannet_stage
from diarbench.types import Audio, Seconds, Turns


class Pyannote:
    """One of pyannote's segmentation networks, and the pipeline that is pyannote.audio's own, made cheaper.

    Weights come as two files, "segmentation" and "embedding", and the folder "plda" for VBx; or all of them in one
    folder "pipeline", laid out as speaker-diarization-community-1 is.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, Path],
        device: str = "cpu",
        recipe: str = "pyannote-3.1",  # published settings by name (diarbench.pipelines.eend_recipes)
        overlap: int | None = None,  # of three speakers, how many at once the classes tell apart; 0: no such classes
        mode: str | None = None,  # whose rules: "stock", which are the recipe's own, or "diarizen"
        clustering: ClusteringOption | None = None,  # of another recipe, or {method = "ahc", threshold = 0.7, ...}
        window: Seconds | None = None,
        hop: Seconds | None = None,
        embedding: str = "wespeaker",  # or "ge2e"
        segmentation_batch: int | None = None,  # windows
        embedding_batch: int | None = None,
        precision: str = "fp32",  # or "bf16"
        speakers: int | None = None,  # their number, where it is known: another system than the one without
        min_speakers: int | None = None,
        max_speakers: int | None = None,
    ) -> None:
        choices = Choices(
            mode=mode,
            clustering=clustering,
            window=window,
            hop=hop,
            embedding=embedding,
            segmentation_batch=segmentation_batch,
            embedding_batch=embedding_batch,
            precision=precision,
            speakers=speakers,
            min_speakers=min_speakers,
            max_speakers=max_speakers,
        )
        chosen = choices.recipe(find_recipe(recipe))
        files = _files(weights)
        place = weights_of(files, "segmentation")
        segmentation = pyannet_stage(place)
        found = segmentation.model.specifications.powerset_max_classes or 0
        if overlap is not None and overlap != found:
            raise InputError(f"{place}: its classes are of {found} speakers at once, not {overlap}")
        self._system = EendSystem(
            segmentation, weights_of(files, "embedding"), chosen, choices, plda=files.get("plda"), device=device
        )

    def diarize(self, audio: Audio) -> Turns:
        """Who spoke when."""
        return self._system.diarize(audio)

    def modules(self) -> Mapping[str, nn.Module]:
        """The networks as they are called, by stage."""
        return self._system.modules()

    @classmethod
    def networks(
        cls,
        *,
        overlap: int | None = None,
        window: Seconds | None = None,
        embedding: str = "wespeaker",
        **_others: object,
    ) -> Mapping[str, Network]:
        """The networks without weights; of the options, these change their sizes."""
        return {
            "segmentation": pyannet_network(overlap=2 if overlap is None else overlap, window=window),
            "embedding": embedding_network(embedding, window, SPEAKERS),
        }


def _files(weights: Mapping[str, Path]) -> Mapping[str, Path]:
    """The files by what they are for."""
    if "pipeline" not in weights:
        return weights
    folder = weights["pipeline"]
    inside = {name: folder / name / "pytorch_model.bin" for name in ("segmentation", "embedding")}
    return {**inside, "plda": folder / "plda", **weights}
