"""The network that a recipe begins with."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diarbench.cards import SystemCard, SystemSpec, Weights
from diarbench.compress.surgery import Kept
from diarbench.errors import InputError
from diarbench.files import write_whole
from diarbench.nn.checkpoints import read_state
from diarbench.nn.conformer import HeadShape
from diarbench.nn.eend import Eend
from diarbench.nn.eend_folder import EendNetwork, head_shape, load_eend, pyannet_shape, save_eend
from diarbench.nn.fbank import FbankEend
from diarbench.nn.ge2e import FRAME, Ge2eEncoder
from diarbench.nn.ge2e_file import load_ge2e, save_ge2e
from diarbench.nn.layouts import load_wavlm
from diarbench.nn.pyannet import PyanNet, PyanNetShape
from diarbench.nn.quantized import quantization_in
from diarbench.nn.structures import FORMAT, Structure, named_structure, read_structure
from diarbench.training.recipes import New, Pretrained, Start
from diarbench.training.windows import SAMPLE_RATE, Grid
from diarbench.types import Seconds
from diarbench.weights import find_weights

_WINDOW: Seconds = 8.0  # the pruning paper's
KEPT = "kept.json"  # beside the files of an EEND folder: what is left of the network that was pruned first
ENCODER = "encoder.safetensors"  # all that the folder of a GE2E encoder holds


@dataclass(frozen=True, slots=True)
class Model:
    """A network between two stages."""

    network: EendNetwork | Ge2eEncoder
    window: Seconds  # that it was trained on; of a GE2E encoder, that are cut into pieces
    kept: Kept | None = None  # where it was pruned
    history: tuple[dict[str, Any], ...] = ()  # what each stage says of itself

    @property
    def shape(self) -> HeadShape | PyanNetShape:
        """Of the classes, among others. Raises InputError as `diarizer` does."""
        network = self.diarizer
        return network.shape if isinstance(network, PyanNet) else network.head.shape

    @property
    def grid(self) -> Grid:
        """Where its frames lie."""
        network = self.network
        if isinstance(network, Ge2eEncoder):
            return Grid(FRAME, FRAME, 1)  # nobody looks at it
        if isinstance(network, PyanNet):
            return Grid(network.shape.receptive_field, network.shape.step, network.shape.speakers)
        return Grid(network.receptive_field, network.step, network.head.shape.speakers)

    @property
    def diarizer(self) -> EendNetwork:
        """The network, where it tells who speaks when. Raises InputError where it doesn't."""
        if isinstance(self.network, Ge2eEncoder):
            raise InputError('a GE2E encoder can\'t learn to diarize: say kind = "imitate", "magnitude" or "quantize"')
        return self.network

    @property
    def encoder(self) -> Ge2eEncoder:
        """The network, where it is a GE2E encoder. Raises InputError where it is none."""
        if not isinstance(self.network, Ge2eEncoder):
            raise InputError(f"only a GE2E encoder imitates embeddings: {type(self.network).__name__} has none")
        return self.network

    @property
    def eend(self) -> Eend:
        """The network, where it has a WavLM. Raises InputError where it has none."""
        if not isinstance(self.network, Eend):
            raise InputError(f"only a WavLM has gates and states: {type(self.network).__name__} can't be pruned so")
        return self.network


def begin(
    start: Start,
    find_system: Callable[[str], SystemSpec],
    folder: Path,
    *,
    window: Seconds | None = None,
    weights: Path | None = None,
) -> Model:
    """The network of `[start]`, ready to be trained; random weights are drawn from torch's own noise.

    `find_system` gives the system of a name, `folder` is where the recipe lies, `weights` is looked into first; without
    a `window`, it is the system's, or 8 s. Raises DiarbenchError where the network can't be had.
    """
    if start.new is not None:
        return Model(_new(start.new, folder), window or _WINDOW)
    if start.pretrained is not None:
        return Model(_pretrained(start.pretrained, folder, weights), window or _WINDOW)
    if start.ge2e is not None:
        path = _file(start.ge2e, folder, weights)
        history = encoder_facts(path).get("stages", [])
        return Model(Ge2eEncoder.load(path), window or _WINDOW, history=tuple(history))
    assert start.system is not None
    found = load_system(find_system(start.system), start.dropout, weights)
    return replace(found, window=window or found.window)


def encoder_facts(path: Path) -> dict[str, Any]:
    """How a GE2E encoder was made, as `save_model` wrote it into its file; nothing of one that others trained."""
    if path.suffix != ".safetensors":
        return {}
    facts: dict[str, Any] = load_ge2e(path).about.get("training", {})
    return facts


def encoder_file(start: Start, folder: Path, weights: Path | None = None) -> Path | None:
    """The file of `[start.ge2e]`, where a recipe in `folder` begins with one. Raises DiarbenchError as `begin`."""
    return _file(start.ge2e, folder, weights) if start.ge2e is not None else None


def load_system(spec: SystemSpec, dropout: float = 0.0, weights: Path | None = None) -> Model:
    """The network of a system that is an EEND folder of ours. Raises InputError where it is none."""
    source = spec.card.weights.get("segmentation")
    if source is None or spec.card.adapter != "diarbench.pipelines.wavlm_eend:WavlmEend":
        raise InputError(
            f"{spec.name}: no network of diarbench's own layout: training begins with a system of the adapter "
            "diarbench.pipelines.wavlm_eend:WavlmEend, or with [start.new] or [start.pretrained]"
        )
    return load_model(find_weights(spec, "segmentation", source, weights).path, dropout)


def save_model(folder: Path, model: Model, facts: dict[str, Any], *, halves: bool = False) -> None:
    """Write a model into a folder as `load_model` reads it; `facts` go into its model.json.

    `halves` stores an EEND network's large matrices as float16; those of a GE2E encoder always are. Raises StoreError
    where it can't be written, InputError for weights that float16 can't hold.
    """
    kept = folder / KEPT
    if model.kept is not None:
        write_whole(kept, model.kept.to_json())
    else:
        kept.unlink(missing_ok=True)
    made = {**facts, "stages": list(model.history)}
    if isinstance(model.network, Ge2eEncoder):
        save_ge2e(folder / ENCODER, model.network, {"window": model.window, "training": made})
    else:
        save_eend(folder, model.network, window=model.window, training=made, halves=halves)


def load_model(folder: Path, dropout: float = 0.0) -> Model:
    """The model in a folder, ready to be trained."""
    if (folder / ENCODER).is_file():
        encoder, about = (file := load_ge2e(folder / ENCODER)).encoder, file.about
        return Model(encoder, about["window"], history=tuple(about["training"].get("stages", [])))
    found = load_eend(folder)
    kept = None
    if (folder / KEPT).is_file():
        kept = Kept.from_json((folder / KEPT).read_text(encoding="utf-8"), folder / KEPT)
    history = found.training.get("stages", [])
    network = found.network if found.quantization is not None else trainable(found.network, dropout)
    return Model(network, found.window, kept, tuple(history))


def trainable(network: EendNetwork, dropout: float = 0.0) -> EendNetwork:
    """A copy of a network that learns in all its parameters, with this dropout.

    Raises InputError for a quantized one.
    """
    if quantization_in(network) is not None:
        raise InputError("a quantized network can't be trained: quantization comes last")
    student: EendNetwork
    if isinstance(network, Eend):
        student = Eend(network.wavlm.structure, network.head.shape, dropout=dropout)
    elif isinstance(network, FbankEend):
        student = FbankEend(network.head.shape, dropout=dropout)
    else:
        student = PyanNet(network.shape, dropout=dropout)
    student.load_state_dict({name: tensor.detach().clone() for name, tensor in network.state_dict().items()})
    return student.to(next(network.parameters()).device)


def trainable_encoder(encoder: Ge2eEncoder) -> Ge2eEncoder:
    """A copy of a GE2E encoder that learns in all its parameters. Raises InputError for a quantized one."""
    if quantization_in(encoder) is not None:
        raise InputError("a quantized network can't be trained: quantization comes last")
    return copy.deepcopy(encoder).requires_grad_(True)


def with_overlap(network: EendNetwork, overlap: int, dropout: float = 0.0) -> EendNetwork:
    """A copy with this dropout whose classes hold so many speakers at once; its classifier is new, and random."""
    if isinstance(network, PyanNet):
        raise InputError("another number of overlapping speakers is for the Conformer head, not for PyanNet")
    shape = replace(network.head.shape, overlap=overlap)
    wider: EendNetwork
    if isinstance(network, Eend):
        wider = Eend(network.wavlm.structure, shape, dropout=dropout)
    else:
        wider = FbankEend(shape, dropout=dropout)
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("head.classifier.")}
    missing = wider.load_state_dict(state, strict=False).missing_keys
    assert all(name.startswith("head.classifier.") for name in missing)
    return wider.to(next(network.parameters()).device)


def _new(new: New, folder: Path) -> EendNetwork:
    if new.front_end == "pyannet":
        return PyanNet(pyannet_shape(new.head, "[start.new]"), dropout=new.dropout)
    head = head_shape(new.head, "[start.new]")
    if new.front_end == "fbank":
        return FbankEend(head, dropout=new.dropout)
    eend = Eend(_structure(new.structure, folder), head, dropout=new.dropout)
    if new.filters == "mel":
        first = eend.wavlm.extractor.layers[0].conv
        assert isinstance(first, nn.Conv1d)
        with torch.no_grad():
            first.weight.copy_(band_passes(first.out_channels, first.kernel_size[0])[:, None])
    return eend


def _structure(said: str | dict[str, Any] | None, folder: Path) -> Structure:
    if said is None:
        raise InputError("[start.new]: a WavLM needs a structure: a name, a .json file beside the recipe, or a table")
    if isinstance(said, dict):
        return Structure.from_json(json.dumps({"format": FORMAT, **said}), "[start.new.structure]")
    return read_structure(folder / said) if said.endswith(".json") else named_structure(said)


def _pretrained(start: Pretrained, folder: Path, weights: Path | None) -> Eend:
    structure = named_structure(start.structure)
    path = _file(start.weights, folder, weights)
    wavlm = load_wavlm(structure, read_state(path), path, layout=start.layout)
    eend = Eend(structure, head_shape(start.head, "[start.pretrained]"), dropout=start.dropout)
    eend.wavlm.load_state_dict(wavlm.state_dict())
    return eend


def _file(source: Weights, folder: Path, weights: Path | None) -> Path:
    card = SystemCard(title="recipe", adapter="none:None", weights={"wavlm": source})
    spec = SystemSpec(name="recipe", card=card, folder=folder, options={})
    return find_weights(spec, "wavlm", source, weights).path


def band_passes(channels: int, kernel: int) -> Tensor:
    """Pairs of a cosine and a sine under a Hann window (channels, kernel), their frequencies even on the mel scale.

    From 50 Hz to 7.6 kHz, each of norm 1: what convolutions on waveforms come to look like, so that small networks
    need not find it from little data. The last of an odd number of channels is a cosine.
    """

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    mels = torch.linspace(mel(50.0), mel(7600.0), (channels + 1) // 2, dtype=torch.float64)
    hertz = 700 * (10 ** (mels / 2595) - 1)
    times = (torch.arange(kernel, dtype=torch.float64) - kernel / 2) / SAMPLE_RATE
    phases = 2 * math.pi * hertz[:, None] * times
    window = torch.hann_window(kernel, dtype=torch.float64)
    filters = torch.stack([window * phases.cos(), window * phases.sin()], dim=1).flatten(0, 1)[:channels]
    unit: Tensor = filters / filters.norm(dim=1, keepdim=True)
    return unit.float()
