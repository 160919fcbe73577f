"""Recipes (TOML): from which network, on which data, by which stages, to which system card."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from diarbench.cards import Line, Option, Text, Weights, read_card
from diarbench.errors import CardError, InputError

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Whole = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class New(_Strict):
    """A network with random weights."""

    front_end: Literal["wavlm", "fbank", "pyannet"] = "wavlm"
    structure: str | dict[str, Any] | None = None  # of WavLM: a name, a .json file beside the recipe, or a table
    head: dict[str, int | list[int]] = {}  # what differs from DiariZen's Conformer head, or from segmentation-3.0
    filters: Literal["random", "mel"] = "random"  # how WavLM's first convolution starts: "mel": pairs of band passes
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _of_wavlm(self) -> New:
        if self.front_end != "wavlm" and (self.structure is not None or self.filters != "random"):
            raise ValueError(f'`structure` and `filters` are a WavLM\'s: front_end = "{self.front_end}" has none')
        return self


class Pretrained(_Strict):
    """A WavLM that others trained, under a new head."""

    weights: Weights
    layout: Literal["transformers", "torchaudio"] = "transformers"
    structure: str = "wavlm-base-plus"
    head: dict[str, int] = {}
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1


class Start(_Strict):
    """What training begins with: exactly one of these."""

    system: Line | None = None  # a system of `wavlm_eend:WavlmEend`: its network
    new: New | None = None
    pretrained: Pretrained | None = None
    ge2e: Weights | None = None  # the GE2E encoder: Resemblyzer's file, or one of `nn.ge2e_file`
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1  # of a `system` while it trains
    teacher: Line | None = None  # a system to distil from; else the network as it is before the first pruning

    @model_validator(mode="after")
    def _one(self) -> Start:
        if sum(one is not None for one in (self.system, self.new, self.pretrained, self.ge2e)) != 1:
            raise ValueError("say where training begins: `system`, [start.new], [start.pretrained] or [start.ge2e]")
        return self


class Data(_Strict):
    """Datasets, by the names of their cards, and how they are cut into windows. Defaults are the pruning paper's."""

    train: Annotated[list[Line], Field(min_length=1)]
    development: Annotated[list[Line], Field(min_length=1)]
    window: Positive | None = None  # s; None: the system's that training begins with, or 8
    shift: Positive = 6.0  # s, of training windows
    development_shift: Positive = 8.0  # s; where windows are longer than that, theirs: they never overlap
    development_windows: Whole | None = None  # at most; a pseudo-random choice, the same for each run


class _Training(_Strict):
    """What all stages that train have in common."""

    steps: NotNegative | None = None
    epochs: Positive | None = None  # instead of steps: times that all windows are seen
    batch: Whole = 16  # windows that go through the network at once
    accumulate: Whole = 1  # batches to a step: the paper's 4 GPUs with 16 windows each are 4 of 16
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the training windows
    window: Positive | None = None  # s; None: as in the stage before
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warm_up: NotNegative = 0  # steps
    clip: Positive | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    validate_every: Whole | None = None  # steps; None: after each epoch
    average: NotNegative = 5  # states with the lowest validation loss; 0: the last one
    patience: Whole | None = None

    @model_validator(mode="after")
    def _length(self) -> _Training:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("say how long: `steps`, or `epochs`")
        return self

    def length(self, windows: int) -> int:
        """Steps, where there are so many windows."""
        if self.epochs is None:
            return self.steps or 0
        return math.ceil(self.epochs * self.epoch(windows))

    @property
    def trains(self) -> bool:
        """Whether there are any steps."""
        return self.length(1) > 0

    def epoch(self, windows: int) -> int:
        """Steps in which so many windows are seen once."""
        return max(1, math.ceil(windows / (self.batch * self.accumulate)))


class TrainStage(_Training):
    """Learn to diarize: the powerset loss on the whole network."""

    kind: Literal["train"]
    steps: Whole | None = None
    rate: Positive = 1e-3
    encoder_rate: Positive = 2e-5  # of WavLM
    overlap: Whole | None = None  # a new classifier, for so many speakers at once


class PruneStage(_Training):
    """Close gates until the target is reached, then remove what is closed."""

    kind: Literal["prune"]
    steps: Whole | None = None
    sparsity: Fraction | None = None  # of the WavLM as a whole; or of its two parts:
    cnn_sparsity: Annotated[float, Field(ge=0, lt=1)] | None = None
    transformer_sparsity: Annotated[float, Field(ge=0, lt=1)] | None = None
    measure: Literal["parameters", "macs"] = "parameters"
    objective: Literal["distillation", "task", "both"] = "distillation"
    target_warm_up: Annotated[float, Field(ge=0, lt=1)] = 1 / 6  # of all steps: in these the target grows
    layers: list[NotNegative] | None = None  # whose states are distilled; None: 0, and the last of each third
    gates: Annotated[list[Literal["convolutions", "heads", "feed_forward", "attention_layers", "feed_forward_layers"]],
                     Field(min_length=1)] = ["convolutions", "heads", "feed_forward"]  # fmt: skip
    masks: Literal["reference", "clamp"] = "reference"
    start: Literal["reference", "open"] = "reference"
    rate: Positive = 2e-4
    head_rate: Positive = 1e-3
    gate_rate: Positive = 2e-2
    multiplier_rate: Positive = 2e-2
    average: NotNegative = 0  # the gates' last state is taken: earlier ones are of other sizes

    @model_validator(mode="after")
    def _target(self) -> PruneStage:
        separate = self.cnn_sparsity is not None, self.transformer_sparsity is not None
        if separate != ((self.sparsity is None),) * 2:
            raise ValueError("give `sparsity`, or `cnn_sparsity` and `transformer_sparsity`")
        return self


class DistilStage(_Training):
    """Learn to make the teacher's states, with the structure as it is."""

    kind: Literal["distil"]
    steps: Whole | None = None
    rate: Positive = 2e-4
    layers: list[NotNegative] | None = None


class ImitateStage(_Training):
    """A GE2E encoder learns to give the embeddings of the one that training began with; labels are not read."""

    kind: Literal["imitate"]
    steps: Whole | None = None
    rate: Positive = 1e-3
    states: Annotated[float, Field(ge=0)] = 1.0  # how much its layers' states count beside its embeddings
    first_layer: bool = True  # whether the one that reads mel power learns too


class MagnitudeStage(_Training):
    """Remove the units of least weight, in rounds, training after each. `steps` are those of one round; 0: none.

    Of a GE2E encoder also single weights: then `units = "weights"`, and the least of each row become zero.
    """

    kind: Literal["magnitude"]
    steps: NotNegative | None = None
    units: Literal["hidden", "linear", "weights"]
    sparsity: Fraction
    rounds: Whole = 4
    rate: Positive = 1e-3
    heard: Whole | None = None  # training windows by which a GE2E encoder is pruned, and fitted before it is trained


class QuantizeStage(_Training):
    """Fewer bits, as the last stage: at once (no steps), or after steps of training with the rounding in sight."""

    kind: Literal["quantize"]
    mode: Line  # among diarbench.nn.quantmodes.MODES
    group: NotNegative | None = None  # weights that share a scale
    covers: list[Line] | None = None
    skip: list[Line] = []
    calibration: Whole = 64  # training windows: for static ranges, and to compare outputs on
    rate: Positive = 1e-4
    encoder_rate: Positive = 2e-5

    @model_validator(mode="after")
    def _length(self) -> QuantizeStage:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("say how long: `steps`, or `epochs`; neither: nothing is learned")
        return self


Stage = Annotated[
    TrainStage | PruneStage | DistilStage | ImitateStage | MagnitudeStage | QuantizeStage, Field(discriminator="kind")
]


class CardTemplate(_Strict):
    """The system card that a recipe ends with; what is measured or follows from the stages is added."""

    title: Line
    adapter: Line | None = None  # of a GE2E encoder's system; a file's path is meant from the recipe's folder
    baseline: Line | None = None
    licence: Line | None = None
    description: Text | None = None
    trained_on: list[Text] = []
    tuned_on: list[Text] = []
    store: Literal["fp32", "fp16"] = "fp32"  # how an EEND network's file holds large matrices; they compute in fp32
    options: dict[str, Option] = {}
    embedding: Weights | None = None
    plda: Weights | None = None
    vad: Weights | None = None


class Recipe(_Strict):
    """How a system was made, or will be."""

    title: Line
    description: Text | None = None
    source: Line | None = None
    seed: NotNegative = 3407
    start: Start
    data: Data
    stages: Annotated[list[Stage], Field(min_length=1)]
    card: CardTemplate

    @model_validator(mode="after")
    def _last(self) -> Recipe:
        if any(stage.kind == "quantize" for stage in self.stages[:-1]):
            raise ValueError('what is quantized can\'t be trained any more: kind = "quantize" comes last')
        if self.stages[-1].kind == "quantize" and self.card.store != "fp32":
            raise ValueError("[card] store: the file of a quantized network holds what its mode says: leave it out")
        return self


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe in a TOML file; each change says "stages.2.sparsity=0.9", the value as TOML writes it.

    Raises CardError with file, line, key, and what would be right; InputError for a change that can't be made. Stages
    are counted from 1 in both.
    """
    try:
        recipe = read_card(path, Recipe)
    except CardError as error:
        said = str(error).removeprefix(str(path))
        raise CardError(str(error).removesuffix(said) + _counted(said)) from error
    if not changes:
        return recipe
    table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    for change in changes:
        _change(table, change)
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        place = _counted(".".join(str(part) for part in first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}, as --set changed it: {place + ': ' if place else ''}{said}") from error


def _counted(text: str) -> str:
    """A message that names stages as `--set` does: from 1 on, and without the kind, which pydantic puts after it."""
    kinds = "train|prune|distil|imitate|magnitude|quantize"
    return re.sub(rf"\bstages\.(\d+)(?:\.(?:{kinds})\b)?", lambda found: f"stages.{int(found[1]) + 1}", text)


def _change(table: dict[str, Any], change: str) -> None:
    """One change, in place; stages are counted from 1."""
    key, equals, text = change.partition("=")
    *path, last = key.strip().split(".")
    if not equals or not last:
        raise InputError(f"--set {change}: write KEY=VALUE, such as stages.2.sparsity=0.9")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"--set {change}: {text!r} is no value in TOML; a text needs quotes: {error}") from error
    place: Any = table
    for part in path:
        try:
            place = _of_list(place, part) if isinstance(place, list) else place[part]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise InputError(f"--set {change}: the recipe has no {part!r} there (stages count from 1)") from error
    if not isinstance(place, dict):
        raise InputError(f"--set {change}: {'.'.join(path)} is no table with keys")
    place[last] = value


def _of_list(items: list[Any], number: str) -> Any:
    """The item of that number, counted from 1. Raises IndexError, ValueError."""
    if not 1 <= int(number) <= len(items):
        raise IndexError(number)
    return items[int(number) - 1]
