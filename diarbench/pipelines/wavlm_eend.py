"""Systems of networks that diarbench itself made: pruned, distilled or trained here. Cards need no code for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from diarbench.errors import InputError, did_you_mean
from diarbench.measure import Network
from diarbench.nn.eend_folder import FRONT_ENDS, EendFolder, head_shape, load_eend
from diarbench.nn.structures import Structure
from diarbench.pipelines.eend_recipes import find_recipe
from diarbench.pipelines.eend_system import (
    Choices,
    ClusteringOption,
    EendSystem,
    StructureOption,
    chosen_structure,
    eend_network,
    eend_stage,
    embedding_network,
    weights_of,
)
from diarbench.types import Audio, Seconds, Turns


class WavlmEend:
    """A network in diarbench's own layout (`diarbench.nn.eend_folder`), and an EEND-VC pipeline around it.

    `front_end`, `structure` and `head` say again what the folder says, so that the networks can be counted without
    it; where the two differ, nothing is run.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, Path],  # folder "segmentation", file "embedding"; folder "plda" for VBx
        recipe: str,  # published settings by name (diarbench.pipelines.eend_recipes); of these, not the window
        device: str = "cpu",
        front_end: str = "wavlm",  # or "fbank"
        structure: StructureOption | None = None,  # of WavLM: a name, or a table
        head: Mapping[str, int] | None = None,  # what differs from DiariZen's: {overlap = 4, ...}
        mode: str | None = None,  # whose rules: "diarizen" or "stock", which are pyannote.audio's
        clustering: ClusteringOption | None = None,  # of another recipe, or {method = "ahc", threshold = 0.7, ...}
        window: Seconds | None = None,  # None: as it was trained
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
        chosen = choices.recipe(replace(find_recipe(recipe), window=None, hop=None))
        folder = weights_of(weights, "segmentation")
        found = load_eend(folder)
        _check_agreement(found, folder, front_end, structure, head)
        self._system = EendSystem(
            eend_stage(found.network, found.window),
            weights_of(weights, "embedding"),
            chosen,
            choices,
            plda=weights.get("plda"),
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
        front_end: str = "wavlm",
        structure: StructureOption | None = None,
        head: Mapping[str, int] | None = None,
        window: Seconds | None = None,
        embedding: str = "wespeaker",
        **_others: object,
    ) -> Mapping[str, Network]:
        """The networks without weights; of the options, these change their sizes."""
        shape = head_shape(head or {}, "the card")
        return {
            "segmentation": eend_network(_structure(front_end, structure), shape, window),
            "embedding": embedding_network(embedding, window, shape.speakers),
        }


def _structure(front_end: str, structure: StructureOption | None) -> Structure | None:
    """The structure that a card says; None for a front end without one."""
    if front_end not in FRONT_ENDS:
        raise InputError(f"there is no front_end {front_end!r}{did_you_mean(front_end, FRONT_ENDS)}")
    if front_end == "fbank":
        if structure is not None:
            raise InputError('front_end = "fbank" has no structure: take it out of the card')
        return None
    if structure is None:
        raise InputError('the card doesn\'t say the structure of WavLM, such as structure = "wavlm_base_s80_md"')
    return chosen_structure(structure)


def _check_agreement(
    found: EendFolder, folder: Path, front_end: str, structure: StructureOption | None, head: Mapping[str, int] | None
) -> None:
    """What the card says again has to be what the folder says."""
    if (found.structure is None) != (front_end == "fbank"):
        raise InputError(f"{folder}: its front end is not {front_end}, which the card says (or, saying none, means)")
    if structure is not None and _structure(front_end, structure) != found.structure:
        raise InputError(f"{folder}: its WavLM has another structure than the card says")
    if head is not None and head_shape(head, "the card") != found.shape:
        raise InputError(f"{folder}: its head is {found.shape}, another than the card says")
