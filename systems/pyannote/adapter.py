"""pyannote.audio's published pipelines: PyanNet on overlapping windows, WeSpeaker embeddings, AHC or VBx."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from torch import nn

from diarbench.errors import InputError
from diarbench.measure import Network
from diarbench.pipelines.eend_recipes import find_recipe
from diarbench.pipelines.eend_system import (
    Choices,
    EendSystem,
    PipelineOptions,
    embedding_network,
    spelled_out,
    weights_of,
)
from diarbench.pipelines.pyannote_files import SPEAKERS, pyannet_network, pyannet_stage
from diarbench.types import Audio, Seconds, Turns


@spelled_out
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
        **options: Unpack[PipelineOptions],  # docs/systems.md, "Options"
    ) -> None:
        choices = Choices(**options)
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
