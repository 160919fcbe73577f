"""DiariZen: WavLM, Conformer and powerset classes on overlapping windows, WeSpeaker embeddings, AHC or VBx."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from torch import nn

from diarbench.errors import InputError
from diarbench.measure import Network
from diarbench.nn.checkpoints import read_state
from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import load_diarizen
from diarbench.pipelines.diarizen_folder import DiarizenFolder, read_diarizen
from diarbench.pipelines.eend_recipes import find_recipe
from diarbench.pipelines.eend_system import (
    Choices,
    EendSystem,
    PipelineOptions,
    StructureOption,
    chosen_structure,
    eend_network,
    eend_stage,
    embedding_network,
    spelled_out,
    weights_of,
)
from diarbench.types import Audio, Seconds, Turns

_TRAINED: Seconds = 8.0  # the window of models whose recipe says none


@spelled_out
class DiariZen:
    """A DiariZen model and the pipeline around it. What is not said is as the model's config.toml says.

    `structure` and `overlap` say again what config.toml says, so that the networks can be counted without it; where
    the two differ, nothing is run.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, Path],  # folder "segmentation", file "embedding"; folder "plda" if not in the first
        device: str = "cpu",
        structure: StructureOption | None = None,  # of WavLM: "wavlm_base_s80_md", ..., or a table
        overlap: int | None = None,  # of a window's four speakers, how many at once the classes tell apart
        recipe: str | None = None,  # in place of config.toml's: "diarizen-s80", ... (diarbench.pipelines.eend_recipes)
        **options: Unpack[PipelineOptions],  # docs/systems.md, "Options"
    ) -> None:
        found = read_diarizen(weights_of(weights, "segmentation"))
        _check_agreement(found, structure, overlap)
        published = found.recipe if recipe is None else find_recipe(recipe)
        if published is None:
            raise InputError(
                f"{found.folder}: config.toml is an old one, without [inference] and [clustering]: say recipe in the "
                'card, "diarizen-meeting" perhaps'
            )
        choices = Choices(**options)
        chosen = choices.recipe(published)
        network = load_diarizen(found.structure, read_state(found.weights), found.weights, found.shape)
        self._system = EendSystem(
            eend_stage(network, published.window or _TRAINED),
            weights_of(weights, "embedding"),
            chosen,
            choices,
            plda=weights.get("plda", found.plda),
            device=device,
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
        structure: StructureOption | None = None,
        overlap: int | None = None,
        window: Seconds | None = None,
        embedding: str = "wespeaker",
        **_others: object,
    ) -> Mapping[str, Network]:
        """The networks without weights; of the options, these change their sizes."""
        if structure is None:
            raise InputError('the card doesn\'t say the structure of WavLM, such as structure = "wavlm_base_s80_md"')
        shape = HeadShape() if overlap is None else HeadShape(overlap=overlap)
        return {
            "segmentation": eend_network(chosen_structure(structure), shape, window),
            "embedding": embedding_network(embedding, window, shape.speakers),
        }


def _check_agreement(found: DiarizenFolder, structure: StructureOption | None, overlap: int | None) -> None:
    """What the card says again has to be what config.toml says."""
    if structure is not None and chosen_structure(structure) != found.structure:
        named = structure if isinstance(structure, str) else "of a table"
        raise InputError(f"{found.folder}: its WavLM has another structure than {named}, which the card says")
    if overlap is not None and overlap != found.shape.overlap:
        raise InputError(
            f"{found.folder}: its classes are of {found.shape.overlap} speakers at once, the card says {overlap}"
        )
