"""What can't work, found out before anything is trained: each stage against the network and the data that it will have.

What only training decides (which channels go, and so how near a size can be) is not known here: stages refuse it.
"""

from __future__ import annotations

import fnmatch
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from diarbench.cards import SystemCard, SystemSpec
from diarbench.compress.gates import GATED
from diarbench.compress.objective import DistillationLoss, Target, layers_to_match
from diarbench.compress.quantize import NO_TORCHAO, plan
from diarbench.compress.rounding import check_steps
from diarbench.errors import DiarbenchError, InputError, MissingRequirementError
from diarbench.execute.looking import look_at
from diarbench.loaders import Dataset
from diarbench.nn.ge2e import WINDOW, Ge2eEncoder
from diarbench.nn.pyannet import PyanNet
from diarbench.nn.quantized import quantization_in
from diarbench.nn.quantmodes import QuantMode, quant_mode
from diarbench.nn.structures import Structure
from diarbench.nn.wavlm import WavLM
from diarbench.plan import find_adapter
from diarbench.training.begin import Model
from diarbench.training.losses import check_speakers
from diarbench.training.publish import ADAPTER, adapter_of, check_options, network_options
from diarbench.training.recipes import (
    Data,
    DistilStage,
    ImitateStage,
    MagnitudeStage,
    PruneStage,
    QuantizeStage,
    Recipe,
    Stage,
    TrainStage,
)
from diarbench.training.windows import SAMPLE_RATE, Windows
from diarbench.types import Seconds


def check_recipe(
    recipe: Recipe,
    model: Model,
    teacher: WavLM | None,
    *,
    train: Sequence[Dataset],
    development: Sequence[Dataset],
    recipe_folder: Path,
) -> None:
    """Raises InputError, which names the stage, where a recipe can't be done with the network that it begins with.

    Or where the card at its end could be no system: its adapter is imported, as far as what it imports is installed
    here, and held against `[card.options]`. `teacher` is that of `[start] teacher`. Raises MissingRequirementError
    where a package is missing.
    """
    checks = _Checks(recipe.data, model, teacher, train, development)
    for number, stage in enumerate(recipe.stages, start=1):
        try:
            checks.stage(stage)
        except InputError as error:
            raise InputError(f'stages.{number} (kind = "{stage.kind}"): {error}') from error
    check_options(recipe, model)
    _check_card(recipe, model, adapter_of(recipe, model, Path(), recipe_folder))


class _Checks:
    """A recipe on the way: what is known of the model before each stage."""

    def __init__(
        self,
        data: Data,
        model: Model,
        teacher: WavLM | None,
        train: Sequence[Dataset],
        development: Sequence[Dataset],
    ) -> None:
        self.data, self.model, self.teacher = data, model, teacher
        self.train, self.development = train, development
        self.window = model.window
        self.before: list[Stage] = []

    def stage(self, stage: Stage) -> None:
        """Check one stage, and go on to the next."""
        if quantization_in(self.model.network) is not None:
            raise InputError("the network is quantized already: nothing can be done with it; begin with the one before")
        checks: dict[type[Stage], Callable[..., None]] = {
            TrainStage: self._train,
            PruneStage: self._prune,
            DistilStage: self._distil,
            ImitateStage: self._imitate,
            MagnitudeStage: self._magnitude,
            QuantizeStage: self._quantize,
        }
        checks[type(stage)](stage)
        self.window = stage.window or self.window
        self._windows(stage)
        self.before.append(stage)

    def _train(self, stage: TrainStage) -> None:
        network = self.model.diarizer
        if stage.overlap is not None and stage.overlap != self.model.shape.overlap:
            if isinstance(network, PyanNet):
                raise InputError("another number of overlapping speakers is for the Conformer head, not for PyanNet")
            replace(network.head.shape, overlap=stage.overlap)
        check_speakers(self.model.shape.speakers)

    def _prune(self, stage: PruneStage) -> None:
        structure = self.model.eend.wavlm.structure
        full = self._full(structure)
        _check_pair(structure, full)
        earlier = [other for other in self.before if isinstance(other, PruneStage)]
        target = target_of(stage)
        if not earlier:
            check_steps(structure, target, full=full, gated=stage.gates)
        else:
            # What earlier stages will leave isn't known: at least they can't have removed what has no gates.
            gates = [*stage.gates, *(gate for other in earlier for gate in other.gates)]
            target.sizes(full, full, tuple(gate for gate in _KINDS if gate in gates))
        for other in earlier:
            _check_rises(target, target_of(other))
        if stage.objective != "task":
            _check_layers(stage.layers, full)
        if stage.objective != "distillation":
            check_speakers(self.model.shape.speakers)

    def _distil(self, stage: DistilStage) -> None:
        wavlm = self.model.eend.wavlm
        changed = any(isinstance(other, PruneStage | DistilStage) for other in self.before)
        # Without a teacher of its own, a recipe distils from what it has before the first of these stages.
        if not (changed if self.teacher is None else self.before or not _equal(wavlm, self.teacher)):
            raise InputError(
                "its teacher would be the very network that it starts from, so there is nothing to learn: prune "
                "before, or say another [start] teacher"
            )
        full = self._full(wavlm.structure)
        _check_pair(wavlm.structure, full)
        _check_layers(stage.layers, full)

    def _imitate(self, stage: ImitateStage) -> None:
        _ = self.model.encoder

    def _magnitude(self, stage: MagnitudeStage) -> None:
        network = self.model.network
        if isinstance(network, Ge2eEncoder):
            if stage.units == "linear":
                raise InputError('a GE2E encoder has no linear channels to lose: say units = "hidden" or "weights"')
            return
        if not isinstance(network, PyanNet) or stage.units == "weights" or stage.heard:
            raise InputError(
                "pruning by magnitude is for units of PyanNet, and for units or weights of GE2E: for a WavLM, say "
                'kind = "prune"'
            )
        if not (network.shape.lstm if stage.units == "hidden" else network.shape.linear):
            raise InputError(f"this network has no {stage.units} layers that could be pruned")
        if stage.trains:
            check_speakers(self.model.shape.speakers)

    def _quantize(self, stage: QuantizeStage) -> None:
        mode = mode_of(stage)
        if mode.half and stage.trains:
            raise InputError(f"{mode.name} needs no training of its own: say steps = 0")
        if not mode.half and importlib.util.find_spec("torchao") is None:
            raise MissingRequirementError(NO_TORCHAO)
        if not any(isinstance(other, PruneStage | MagnitudeStage) for other in self.before):
            covered, _ = plan(self.model.network, mode)
            if not covered:
                raise InputError(f"{mode.name} covers nothing of {type(self.model.network).__name__}")
        # Pruning gives no module another name.
        paths = [path for path, _ in self.model.network.named_modules()]
        for pattern in mode.skip:
            if not any(fnmatch.fnmatchcase(path, pattern) for path in paths):
                raise InputError(f"skip {pattern!r} names no module of {type(self.model.network).__name__}")
        if stage.trains and not isinstance(self.model.network, Ge2eEncoder):
            check_speakers(self.model.shape.speakers)

    def _full(self, structure: Structure) -> Structure:
        """What sparsity is a fraction of."""
        return structure if self.teacher is None else self.teacher.structure

    def _windows(self, stage: Stage) -> None:
        """Whether there are windows, and none is too short for the network."""
        trains = stage.trains
        if (
            not trains
            and not isinstance(stage, QuantizeStage)
            and not (isinstance(stage, MagnitudeStage) and stage.heard)
        ):
            return
        _check_length(self.model, self.window)
        Windows(self.train, window=self.window, shift=self.data.shift, fraction=stage.fraction)
        if trains:
            development_windows(self.development, self.data, self.window)


_KINDS = (*GATED, "attention_layers", "feed_forward_layers")


def target_of(stage: PruneStage) -> Target:
    """The size that a stage prunes to."""
    return Target(
        overall=stage.sparsity,
        cnn=stage.cnn_sparsity,
        transformer=stage.transformer_sparsity,
        measure=stage.measure,
    )


def mode_of(stage: QuantizeStage) -> QuantMode:
    """What a stage quantizes to. Raises InputError for what there is not."""
    return quant_mode(stage.mode, group=stage.group, covers=stage.covers, skip=stage.skip)


def development_windows(datasets: Sequence[Dataset], data: Data, window: Seconds) -> Windows:
    """The windows by which states are chosen; they don't overlap."""
    shift = max(data.development_shift, window)
    return Windows(datasets, window=window, shift=shift, most=data.development_windows)


def _check_card(recipe: Recipe, model: Model, adapter: str) -> None:
    """Whether the adapter takes the options that the card will have, as `diarbench check` finds it of a finished card.

    What those stages change that are still to come (structure, widths, window) is as it is before the first one.
    """
    card = SystemCard(title=recipe.card.title, adapter=adapter)
    last = recipe.stages[-1]
    quantized = {"quantization": last.mode} if isinstance(last, QuantizeStage) else {}
    options = {**recipe.card.options, **network_options(model), **quantized}
    try:
        look_at(find_adapter(SystemSpec(name="recipe", card=card, folder=Path(), options=options)), options)
        if adapter == ADAPTER:
            _check_pipeline(recipe)
    except DiarbenchError as error:
        missing = error.__cause__.name if isinstance(error.__cause__, ModuleNotFoundError) else None
        # Systems may run where other packages are installed than where they are trained; ours can't lie elsewhere.
        if missing is None or missing.partition(".")[0] == "diarbench":
            raise InputError(f"[card]: {error}") from error


def _check_pipeline(recipe: Recipe) -> None:
    """Whether the options are a pipeline of `ADAPTER`, and it has the other weights that it needs."""
    from diarbench.pipelines.eend_recipes import Vbx, find_recipe
    from diarbench.pipelines.eend_system import Choices

    known = {field.name for field in fields(Choices)}
    said: Mapping[str, Any] = recipe.card.options
    choices = Choices(**{key: value for key, value in said.items() if key in known})
    chosen = choices.recipe(replace(find_recipe(said["recipe"]), window=None, hop=None))
    if recipe.card.embedding is None:
        raise InputError(f'its pipeline embeds by a network of its own ("{choices.embedding}"): add [card.embedding]')
    if isinstance(chosen.clustering, Vbx) and recipe.card.plda is None:
        raise InputError(
            'VBx clustering needs a PLDA model: add [card.plda], or say clustering = {method = "ahc", ...}'
        )


def _check_pair(student: Structure, teacher: Structure) -> None:
    """Whether states of one can be compared with the other's, and its sparsity is counted from that."""
    if (student.layers, student.width) != (teacher.layers, teacher.width):
        raise InputError(
            f"a student has as many layers as its teacher, and as wide ones: {student.layers} of {student.width} "
            f"can't learn from {teacher.layers} of {teacher.width} (pruning leaves empty layers in their place)"
        )


def _check_layers(layers: list[int] | None, teacher: Structure) -> None:
    """Whether there are states of these layers."""
    compared = DistillationLoss(layers or layers_to_match(teacher.layers)).layers
    if max(compared) > teacher.layers:
        raise InputError(f"layers: distillation compares layer {max(compared)}, the last one is {teacher.layers}")


def _check_rises(target: Target, earlier: Target) -> None:
    """Later targets are of the first network too, so there must be something left to remove."""
    if target.measure != earlier.measure:
        return
    before = earlier.sparsities()
    for part, sparsity in target.sparsities().items():
        if part in before and (sparsity < before[part] or (sparsity == before[part] > 0)):
            raise InputError(
                f"an earlier stage has removed {before[part]:.2%} already: set a target above that, not {sparsity:.2%}"
            )


def _check_length(model: Model, window: Seconds) -> None:
    if isinstance(model.network, Ge2eEncoder):
        if window < WINDOW:
            raise InputError(f"GE2E learns on pieces of {WINDOW:g} s: windows of {window:g} s hold none")
    elif model.grid.frames(round(window * SAMPLE_RATE)) < 1:
        least = model.grid.receptive_field / SAMPLE_RATE
        raise InputError(f"windows of {window:g} s hold no frame: the network sees {least:.3f} s at once")


def _equal(one: WavLM, other: WavLM) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return one.structure == other.structure and all(torch.equal(ours[name].cpu(), theirs[name].cpu()) for name in ours)
