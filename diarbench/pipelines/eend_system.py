"""What the EEND-VC families share: from a card's options and files to a pipeline, and to networks that are counted."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, TypeVar

import torch
from pyannote.audio.core.model import Model
from pyannote.audio.models.embedding.wespeaker import WeSpeakerResNet34
from pyannote.audio.models.embedding.wespeaker.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from diarbench.errors import InputError, did_you_mean
from diarbench.measure import Network
from diarbench.nn import eend, fbank, ge2e
from diarbench.nn.checkpoints import read_state
from diarbench.nn.conformer import HeadShape
from diarbench.nn.structures import FORMAT, Structure, named_structure
from diarbench.nn.weights import load_exactly
from diarbench.pipelines.eend_networks import Ge2eEmbedding, SegmentationModel
from diarbench.pipelines.eend_recipes import DIARIZEN, STOCK, Ahc, Recipe, Rules, Vbx, find_recipe
from diarbench.pipelines.eend_vc import EendVc
from diarbench.pipelines.resnet import resnet_frames
from diarbench.types import Audio, Seconds, Turns

SAMPLE_RATE = 16000  # Hz, of all these networks
MODES: Mapping[str, Rules] = {"diarizen": DIARIZEN, "stock": STOCK}
EMBEDDINGS = ("wespeaker", "ge2e")
A = TypeVar("A")
StructureOption = str | Mapping[str, Any]  # a name, or the fields of a structure
ClusteringOption = str | Mapping[str, Any]  # the name of a recipe, or a method with its settings


class Stage(NamedTuple):
    """One network of a pipeline."""

    model: Model  # as pyannote.audio takes it
    network: nn.Module  # inside it, what is really called


class PipelineOptions(TypedDict, total=False):
    """The options that all EEND-VC cards may say, for adapters that hand them on: `**options: Unpack[...]`.

    They are the fields of `Choices`.
    """

    mode: str | None
    clustering: ClusteringOption | None
    window: Seconds | None
    hop: Seconds | None
    embedding: str
    segmentation_batch: int | None
    embedding_batch: int | None
    precision: str
    speakers: int | None
    min_speakers: int | None
    max_speakers: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a card may say of an EEND-VC pipeline, whatever its networks are; None: as they were published.

    A fixed number of `speakers`, or bounds of it, is knowledge about the recordings: a card that has it is another
    system than the one without. Raises InputError, in one line, for what can't be meant.
    """

    mode: str | None = None  # among MODES: whose rules
    clustering: ClusteringOption | None = None  # "pyannote-3.1", or {method = "ahc", threshold = 0.7, ...}
    window: Seconds | None = None
    hop: Seconds | None = None  # None: the same share of the window as published
    embedding: str = "wespeaker"  # among EMBEDDINGS
    segmentation_batch: int | None = None  # windows
    embedding_batch: int | None = None
    precision: str = "fp32"
    speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None

    def recipe(self, published: Recipe) -> Recipe:
        """The published recipe with what was chosen instead; nothing has to be loaded to know that it holds."""
        if self.mode is not None and self.mode not in MODES:
            raise InputError(f"there is no mode {self.mode!r}{did_you_mean(self.mode, MODES)}")
        _check_embedding(self.embedding)
        rules = published.rules if self.mode is None else MODES[self.mode]
        clustering = published.clustering if self.clustering is None else chosen_clustering(self.clustering)
        if self.embedding == "ge2e" and (self.clustering is None or isinstance(clustering, Vbx)):
            raise InputError(
                "GE2E's embeddings lie otherwise than WeSpeaker's, for which the published settings and PLDA models "
                'are made: say clustering = {method = "ahc", ...} with a threshold of your own'
            )
        hints = [self.speakers, self.min_speakers, self.max_speakers]
        if isinstance(clustering, Vbx) and not rules.hints_bind_vbx and any(hint is not None for hint in hints):
            raise InputError('DiariZen\'s VBx heeds no number of speakers: with one, say mode = "stock", or use AHC')
        hop = self.hop if self.hop is not None else published.hop
        if self.hop is None and self.window is not None and published.hop and published.window:
            hop = published.hop / published.window * self.window
        window = self.window if self.window is not None else published.window
        try:
            return replace(published, rules=rules, clustering=clustering, window=window, hop=hop)
        except ValueError as error:
            raise InputError(str(error)) from error


def spelled_out(adapter: type[A]) -> type[A]:
    """The adapter's class with PipelineOptions in its signature one by one: that is what cards are held against."""
    signature = inspect.signature(adapter)
    own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    shared = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(Choices)
    ]
    adapter.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    return adapter


def chosen_clustering(option: ClusteringOption) -> Ahc | Vbx:
    """The clustering of a published recipe, or a method ("ahc" or "vbx") with settings of one's own.

    Raises NotFoundError for an unknown recipe, InputError for settings that can't be.

    >>> chosen_clustering({"method": "vbx", "fa": 0.1})
    Vbx(threshold=0.6, fa=0.1, fb=0.8, lda_dimension=128)
    """
    if isinstance(option, str):
        return find_recipe(option).clustering
    settings = dict(option)
    name = settings.pop("method", None)
    kinds: Mapping[object, type[Ahc | Vbx]] = {"ahc": Ahc, "vbx": Vbx}
    if name not in kinds:
        raise InputError(f"clustering: method is {name!r}, not ahc or vbx")
    known = {"linkage" if field.name == "method" else field.name: field.name for field in fields(kinds[name])}
    for key in settings:
        if key not in known:
            raise InputError(f"clustering: {name} has no setting {key!r}{did_you_mean(key, known)}")
    try:
        return kinds[name](**{known[key]: value for key, value in settings.items()})
    except (TypeError, ValueError) as error:
        raise InputError(f"clustering: {error}") from error


class EendSystem:
    """One EEND-VC system behind the two methods of an adapter; `embedding` is the weight file of that network.

    Raises InputError or MissingRequirementError where the parts can't be had or don't fit each other.
    """

    def __init__(
        self, segmentation: Stage, embedding: Path, recipe: Recipe, choices: Choices, *, plda: Path | None, device: str
    ) -> None:
        stage = embedding_stage(choices.embedding, embedding)
        self._choices = choices
        self._networks = {"segmentation": segmentation.network, "embedding": stage.network}
        self.pipeline = EendVc(
            segmentation.model,
            stage.model,
            recipe,
            plda=plda,
            segmentation_batch=choices.segmentation_batch,
            embedding_batch=choices.embedding_batch,
            device=device,
            precision=choices.precision,
        )

    def diarize(self, audio: Audio) -> Turns:
        """Who spoke when."""
        return self.pipeline.diarize(
            audio.mono(),
            audio.sample_rate,
            speakers=self._choices.speakers,
            min_speakers=self._choices.min_speakers,
            max_speakers=self._choices.max_speakers,
        )

    def modules(self) -> Mapping[str, nn.Module]:
        """The networks as they are called, by stage."""
        return self._networks


def weights_of(weights: Mapping[str, Path], name: str) -> Path:
    """The weights that a card calls so; raises InputError where it calls none so."""
    if name not in weights:
        raise InputError(f"the card has no [weights.{name}], which this system needs")
    return weights[name]


class OneChannel(nn.Module):
    """A network of (windows, samples) as one of (windows, 1, samples)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, waveforms: Tensor) -> Tensor:
        """What the network says of the only channel."""
        scores: Tensor = self.network(waveforms[:, 0])
        return scores


def eend_stage(network: eend.Eend | fbank.FbankEend, window: Seconds) -> Stage:
    """A network of ours as the segmentation of a pipeline; `window` (s) as it was trained."""
    shape = network.head.shape
    model = SegmentationModel(
        OneChannel(network),
        window=window,
        speakers=shape.speakers,
        overlap=shape.overlap,
        field=network.receptive_field,
        step=network.step,
    )
    return Stage(model, network)


def eend_network(structure: Structure | None, shape: HeadShape, window: Seconds | None) -> Network:
    """The same for counting: `Eend`, or `FbankEend` where there is no WavLM; `window` (s) as it is run."""
    if structure is None:
        network: nn.Module = fbank.FbankEend(shape)
        return Network(network.requires_grad_(False), _samples, window, fbank.PARTS, fbank.ENCODER)
    network = eend.Eend(structure, shape)
    return Network(network.requires_grad_(False), _samples, window, eend.PARTS, eend.ENCODER)


def chosen_structure(option: StructureOption) -> Structure:
    """The structure that a card names or spells out as a table. Raises NotFoundError or InputError."""
    if isinstance(option, str):
        return named_structure(option)
    return Structure.from_json(json.dumps({"format": FORMAT, **option}), "structure")


def embedding_stage(name: str, file: Path) -> Stage:
    """The embedding network of that name from its weight file; raises InputError for an unknown name.

    "wespeaker" is ResNet34-LM as pyannote.audio publishes it (Wang et al., "WeSpeaker", 2023), "ge2e" the encoder that
    ships in Resemblyzer's wheel.
    """
    _check_embedding(name)
    if name == "ge2e":
        encoder = ge2e.Ge2eEncoder.load(file)
        return Stage(Ge2eEmbedding(encoder), encoder)
    model = WeSpeakerResNet34()
    model.resnet = _CalledResNet34()
    load_exactly(model, read_state(file), file)
    return Stage(model, model.resnet)


def embedding_network(name: str, window: Seconds | None, slots: int) -> Network:
    """The same for counting: one window, and the masks of all its slots."""
    _check_embedding(name)
    if name == "ge2e":
        return replace(ge2e.network(), encoder=None)  # the encoder of these systems is the one that segments

    def inputs(batch: int, seconds: Seconds) -> tuple[Any, ...]:
        features = 1 + (round(SAMPLE_RATE * seconds) - 400) // 160  # windows of 25 ms, one each 10 ms
        return torch.randn(batch, features, 80), torch.ones(batch, slots, features)

    parts = {"CNN": ["conv1", "layer1", "layer2", "layer3", "layer4"], "linear": ["seg_1"]}
    return Network(_CalledResNet34(), inputs, window, parts)


class _CalledResNet34(ResNet):  # type: ignore[misc]
    """pyannote.audio's ResNet34, whose two steps go through a call, so that who counts calls sees them."""

    def __init__(self) -> None:
        super().__init__(BasicBlock, [3, 4, 6, 3], feat_dim=80, embed_dim=256, two_emb_layer=False)

    def forward(self, inputs: Tensor, weights: Tensor | None = None, step: str = "both") -> Any:
        """Embeddings of features, or one of the two steps to them."""
        steps: dict[str, Callable[[], Any]] = {
            "frames": lambda: resnet_frames(self, inputs),
            "embedding": lambda: super(_CalledResNet34, self).forward_embedding(inputs, weights=weights),
            "both": lambda: super(_CalledResNet34, self).forward(inputs, weights=weights),
        }
        return steps[step]()

    def forward_frames(self, fbank: Tensor) -> Any:
        """Features (windows, frames, 80) to what is pooled."""
        return self(fbank, step="frames")

    def forward_embedding(self, frames: Tensor, weights: Tensor | None = None) -> Any:
        """That, pooled under weights (windows, slots, frames), to embeddings."""
        return self(frames, weights, step="embedding")


def _check_embedding(name: str) -> None:
    if name not in EMBEDDINGS:
        raise InputError(f"there is no embedding {name!r}{did_you_mean(name, EMBEDDINGS)}")


def _samples(batch: int, seconds: Seconds) -> tuple[Tensor, ...]:
    return (torch.randn(batch, round(SAMPLE_RATE * seconds)),)
