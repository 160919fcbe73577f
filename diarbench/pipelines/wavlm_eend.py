"""Systems of networks that diarbench itself made: pruned, distilled or trained here. Cards need no code for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor, nn

from diarbench.errors import InputError, did_you_mean
from diarbench.measure import Network
from diarbench.nn.eend_folder import FRONT_ENDS, EendFolder, load_eend, shape_of
from diarbench.nn.pyannet import PARTS, SAMPLE_RATE, PyanNet, PyanNetShape
from diarbench.nn.quantized import simulated
from diarbench.nn.quantmodes import quant_mode
from diarbench.nn.structures import Structure
from diarbench.pipelines.eend_networks import SegmentationModel
from diarbench.pipelines.eend_recipes import find_recipe
from diarbench.pipelines.eend_system import (
    Choices,
    EendSystem,
    OneChannel,
    PipelineOptions,
    Stage,
    StructureOption,
    chosen_structure,
    eend_network,
    eend_stage,
    embedding_network,
    spelled_out,
    weights_of,
)
from diarbench.types import Audio, Seconds, Turns

HeadOption = Mapping[str, int | list[int]]


@spelled_out
class WavlmEend:
    """A network in diarbench's own layout (`diarbench.nn.eend_folder`), and an EEND-VC pipeline around it.

    `front_end`, `structure` and `head` say again what the folder says, so that the networks can be counted without
    it, and `quantization` says it so that who reads the card knows; where the two differ, nothing is run. A network
    whose quantized modules have no kernel of their own on the device is simulated, and not timed.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, Path],  # folder "segmentation", file "embedding"; folder "plda" for VBx
        recipe: str,  # published settings by name (diarbench.pipelines.eend_recipes); of these, not the window
        device: str = "cpu",
        front_end: str = "wavlm",  # or "fbank", "pyannet"
        structure: StructureOption | None = None,  # of WavLM: a name, or a table
        head: HeadOption | None = None,  # what differs from DiariZen's: {overlap = 4, ...}; a PyanNet's whole shape
        quantization: str | None = None,  # the folder's: "w8a8-dynamic" or another of diarbench.nn.quantmodes.MODES
        **options: Unpack[PipelineOptions],  # window: None is as it was trained
    ) -> None:
        choices = Choices(**options)
        chosen = choices.recipe(replace(find_recipe(recipe), window=None, hop=None))
        folder = weights_of(weights, "segmentation")
        found = load_eend(folder)
        _check_agreement(found, folder, front_end, structure, head)
        _check_quantization(found, folder, quantization, choices.precision)
        self.timed = not simulated(found.network, torch.device(device))
        self._system = EendSystem(
            _stage(found),
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
        head: HeadOption | None = None,
        window: Seconds | None = None,
        embedding: str = "wespeaker",
        **_others: object,
    ) -> Mapping[str, Network]:
        """The networks without weights; of the options, these change their sizes."""
        found = _structure(front_end, structure)
        shape = shape_of(front_end, head or {}, "the card")
        return {
            "segmentation": _pyannet_network(shape, window)
            if isinstance(shape, PyanNetShape)
            else eend_network(found, shape, window),
            "embedding": embedding_network(embedding, window, shape.speakers),
        }


def _stage(found: EendFolder) -> Stage:
    """The network of a folder as the segmentation of a pipeline."""
    network, shape = found.network, found.shape
    if not isinstance(network, PyanNet):
        return eend_stage(network, found.window)
    assert isinstance(shape, PyanNetShape)
    model = SegmentationModel(
        OneChannel(network),
        window=found.window,
        speakers=shape.speakers,
        overlap=shape.overlap,
        field=shape.receptive_field,
        step=shape.step,
    )
    return Stage(model, network)


def _pyannet_network(shape: PyanNetShape, window: Seconds | None) -> Network:
    """A PyanNet for counting."""

    def inputs(batch: int, seconds: Seconds) -> tuple[Tensor]:
        return (torch.randn(batch, round(SAMPLE_RATE * seconds)),)

    return Network(PyanNet(shape).requires_grad_(False), inputs, window, PARTS)


def _structure(front_end: str, structure: StructureOption | None) -> Structure | None:
    """The structure that a card says; None for a front end without one."""
    if front_end not in FRONT_ENDS:
        raise InputError(f"there is no front_end {front_end!r}{did_you_mean(front_end, FRONT_ENDS)}")
    if front_end != "wavlm":
        if structure is not None:
            raise InputError(f'front_end = "{front_end}" has no structure: take it out of the card')
        return None
    if structure is None:
        raise InputError('the card doesn\'t say the structure of WavLM, such as structure = "wavlm_base_s80_md"')
    return chosen_structure(structure)


def _check_agreement(
    found: EendFolder, folder: Path, front_end: str, structure: StructureOption | None, head: HeadOption | None
) -> None:
    """What the card says again has to be what the folder says."""
    if found.front_end != front_end:
        raise InputError(f"{folder}: its front end is not {front_end}, which the card says (or, saying none, means)")
    if structure is not None and _structure(front_end, structure) != found.structure:
        raise InputError(f"{folder}: its WavLM has another structure than the card says")
    if head is not None and shape_of(front_end, head, "the card") != found.shape:
        raise InputError(f"{folder}: its head is {found.shape}, another than the card says")


def _check_quantization(found: EendFolder, folder: Path, quantization: str | None, precision: str) -> None:
    """A system is called quantized where its network is, and by the name of what was done to it."""
    if quantization is not None:
        quant_mode(quantization)
    done = None if found.quantization is None else found.quantization.mode.name
    if done != quantization:
        says = "says no quantization" if quantization is None else f'says quantization = "{quantization}"'
        is_ = "not quantized" if done is None else f'quantized: "{done}"'
        raise InputError(f"{folder}: its network is {is_}, and the card {says}")
    if done is not None and precision != "fp32":
        raise InputError(f'{folder}: a quantized network has its own number types: take precision = "{precision}" out')
