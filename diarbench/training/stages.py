"""A recipe, stage by stage: each in a folder of its own, with its result in it, so that none is done twice."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

import diarbench
from diarbench.cards import SystemSpec
from diarbench.compress.gated import GatedWavLM
from diarbench.compress.gates import OPEN
from diarbench.compress.heard import Heard
from diarbench.compress.magnitude import Schedule, prune_ge2e, prune_hidden, prune_linear
from diarbench.compress.objective import Lagrangian, Target, layers_to_match
from diarbench.compress.quantization_aware import convert, prepare
from diarbench.compress.quantize import Batch as QuantizeBatch
from diarbench.compress.quantize import quantize
from diarbench.compress.rounding import masks_for
from diarbench.compress.sizes import exact_size
from diarbench.compress.surgery import materialise
from diarbench.files import digest_of, read_json, write_json
from diarbench.loaders import Dataset
from diarbench.nn.eend import Eend
from diarbench.nn.ge2e import Ge2eEncoder, prune_rows
from diarbench.nn.pyannet import PyanNet
from diarbench.nn.quantmodes import QuantMode
from diarbench.nn.structures import Structure
from diarbench.nn.wavlm import WavLM
from diarbench.training.begin import (
    Model,
    begin,
    load_model,
    load_system,
    save_model,
    trainable,
    trainable_encoder,
    with_overlap,
)
from diarbench.training.checks import check_recipe, development_windows, mode_of, target_of
from diarbench.training.ge2e import Imitate, pieces
from diarbench.training.loop import Settings, Task, Trained, Watcher, train
from diarbench.training.losses import PowersetLoss
from diarbench.training.recipes import (
    DistilStage,
    ImitateStage,
    MagnitudeStage,
    PruneStage,
    QuantizeStage,
    Recipe,
    Stage,
    TrainStage,
)
from diarbench.training.tasks import Diarize, Distil, Prune
from diarbench.training.windows import Batch, Grid, Windows

_DONE = "stage.json"  # beside a stage's result, written last
_DEVELOPMENT_BATCH = 32  # windows


class Reporter(Watcher, Protocol):
    """What shows how a recipe goes."""

    def stage(self, number: int, count: int, kind: str, status: str) -> None:
        """A stage begins ("training"), or was done before ("kept")."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where a recipe is done, and with what."""

    folder: Path  # of checkpoints, logs and results of stages
    recipe_folder: Path  # relative paths of the recipe begin here
    train: Sequence[Dataset]
    development: Sequence[Dataset]
    find_system: Callable[[str], SystemSpec]
    reporter: Reporter
    weights: Path | None = None  # a folder that is looked into first
    device: str = "cpu"
    threads: int = 1
    most_steps: int | None = None  # of each stage: to try a recipe out


def do_recipe(recipe: Recipe, place: Workplace) -> Model:
    """The network that a recipe ends with. What is done stays in the folder: the same call goes on where it was.

    The same recipe, data, versions, device and number of threads give the same weights. Raises DiarbenchError where
    something can't be had, doesn't fit, or can't be written: before anything is trained, as far as that can be known.
    """
    torch.set_num_threads(place.threads)
    torch.manual_seed(recipe.seed)
    model = begin(
        recipe.start, place.find_system, place.recipe_folder, window=recipe.data.window, weights=place.weights
    )
    run = _Run(recipe, place, model)
    check_recipe(
        recipe,
        model,
        run.teacher,
        train=place.train,
        development=place.development,
        recipe_folder=place.recipe_folder,
    )
    torch.set_num_threads(place.threads)  # what an adapter imports may have set others
    for number, stage in enumerate(recipe.stages, start=1):
        model = run.stage(number, stage, model)
    return model


class _Run:
    """One recipe on the way: what later stages need of earlier ones."""

    def __init__(self, recipe: Recipe, place: Workplace, model: Model) -> None:
        self.recipe, self.place = recipe, place
        self.teacher: WavLM | None = None
        if recipe.start.teacher is not None:
            found = load_system(place.find_system(recipe.start.teacher), weights=place.weights)
            self.teacher = found.eend.wavlm
        self.first = model.network
        self.window = model.window
        self.identity = digest_of(
            {
                "diarbench": diarbench.__version__,
                "torch": torch.__version__,
                "start": recipe.start.model_dump(mode="json", exclude_defaults=True),
                "weights": _fingerprint(model.network),
                **({"teacher": _fingerprint(self.teacher)} if self.teacher is not None else {}),
                "train": [dataset.digest for dataset in place.train],
                "development": [dataset.digest for dataset in place.development],
                "data": recipe.data.model_dump(mode="json", exclude_defaults=True),
                "seed": recipe.seed,
                "device": place.device,
                "threads": place.threads,
                "most_steps": place.most_steps,
            }
        )

    def stage(self, number: int, stage: Stage, model: Model) -> Model:
        """The model after one more stage, done now or before."""
        folder = self.place.folder / f"{number:02d}-{stage.kind}"
        if isinstance(stage, PruneStage | DistilStage) and self.teacher is None:
            self.teacher = _teacher(model)
        self.identity = digest_of([self.identity, stage.model_dump(mode="json", exclude_defaults=True)])
        report = partial(self.place.reporter.stage, number, len(self.recipe.stages), stage.kind)
        result = folder / "result"
        self.window = stage.window or self.window
        if (folder / _DONE).is_file() and read_json(folder / _DONE).get("identity") == self.identity:
            report("kept")
            return load_model(result, self._dropout())
        report("training")
        # What a stage draws before it trains (gates, a new classifier) is its own, whatever happened in earlier ones;
        # training itself begins with the recipe's seed in each.
        torch.manual_seed(self.recipe.seed + number)
        after, facts = self._do(stage, replace(model, window=self.window), folder)
        if not stage.trains:
            after = replace(after, window=model.window)
        facts = {"kind": stage.kind, **facts}
        after = replace(after, history=(*model.history, facts))
        save_model(result, after, {"seed": self.recipe.seed})
        write_json(folder / _DONE, {"identity": self.identity, **facts})
        # As it will be when it is loaded: whether a run was interrupted makes no difference.
        return load_model(result, self._dropout())

    def _do(self, stage: Stage, model: Model, folder: Path) -> tuple[Model, dict[str, Any]]:
        if isinstance(stage, TrainStage):
            return self._train(stage, model, folder)
        if isinstance(stage, PruneStage):
            return self._prune(stage, model, folder)
        if isinstance(stage, DistilStage):
            return self._distil(stage, model, folder)
        if isinstance(stage, ImitateStage):
            return self._imitate(stage, model, folder)
        if isinstance(stage, MagnitudeStage):
            encoder = isinstance(model.network, Ge2eEncoder)
            return (self._magnitude_ge2e if encoder else self._magnitude)(stage, model, folder)
        return self._quantize(stage, model, folder)

    def _train(self, stage: TrainStage, model: Model, folder: Path) -> tuple[Model, dict[str, Any]]:
        network = trainable(model.diarizer, self._dropout())
        if stage.overlap is not None and stage.overlap != model.shape.overlap:
            network = with_overlap(network, stage.overlap, self._dropout())
        changed = replace(model, network=network)
        task = Diarize(
            network,
            self._loss(changed),
            rate=stage.rate,
            encoder=network.wavlm if isinstance(network, Eend) else None,
            encoder_rate=stage.encoder_rate,
        )
        trained = self._learn(task, stage, changed, folder)
        return changed, _facts(trained)

    def _prune(self, stage: PruneStage, model: Model, folder: Path) -> tuple[Model, dict[str, Any]]:
        eend = trainable(model.eend, self._dropout())
        assert isinstance(eend, Eend)
        assert self.teacher is not None
        target = target_of(stage)
        full = self.teacher.structure
        gated = GatedWavLM(
            eend.wavlm,
            gated=stage.gates,
            start=OPEN if stage.start == "open" else None,
            rule=stage.masks,
            seed=self.recipe.seed,
        )
        warm_up = math.floor(stage.target_warm_up * self._steps(stage, model))
        lagrangian = Lagrangian(eend.wavlm.structure, target, warm_up=warm_up, full=full, gated=stage.gates)
        distilled, by_task = stage.objective != "task", stage.objective != "distillation"
        if by_task:
            eend.wavlm = gated  # type: ignore[assignment]
        task = Prune(
            gated,
            lagrangian,
            teacher=self._teacher_here() if distilled else None,
            layers=stage.layers or layers_to_match(full.layers),
            task=(eend, self._loss(model).to(self.place.device)) if by_task else None,
            rate=stage.rate,
            head_rate=stage.head_rate,
            gate_rate=stage.gate_rate,
            multiplier_rate=stage.multiplier_rate,
        )
        trained = self._learn(task, stage, model, folder)
        masks = masks_for(gated.gates, target, rule=stage.masks, full=full)
        smaller = materialise(gated, masks, earlier=model.kept)
        pruned = Eend(smaller.wavlm.structure, model.eend.head.shape)
        pruned.wavlm.load_state_dict(smaller.wavlm.state_dict())
        pruned.layer_weights.load_state_dict(eend.layer_weights.state_dict())
        pruned.head.load_state_dict(eend.head.state_dict())
        facts = _facts(trained) | _sizes(smaller.wavlm.structure, full, target)
        return replace(model, network=pruned, kept=smaller.kept), facts

    def _distil(self, stage: DistilStage, model: Model, folder: Path) -> tuple[Model, dict[str, Any]]:
        network = trainable(model.eend, self._dropout())
        assert isinstance(network, Eend)
        teacher = self._teacher_here()
        layers = stage.layers or layers_to_match(teacher.structure.layers)
        task = Distil(network.wavlm, teacher, layers, rate=stage.rate)
        trained = self._learn(task, stage, model, folder)
        return replace(model, network=network), _facts(trained)

    def _magnitude(self, stage: MagnitudeStage, model: Model, folder: Path) -> tuple[Model, dict[str, Any]]:
        assert isinstance(model.network, PyanNet)  # as `check_recipe` says
        prune = prune_hidden if stage.units == "hidden" else prune_linear
        rounds: list[dict[str, Any]] = []

        def recover(network: PyanNet, number: int) -> None:
            if not stage.trains:
                return
            task = Diarize(network, self._loss(model), rate=stage.rate)
            trained = self._learn(task, stage, model, folder / f"round-{number}", round_number=number)
            rounds.append(_facts(trained))

        schedule = Schedule(stage.sparsity, stage.rounds)
        pruned = prune(trainable(model.network, self._dropout()), schedule, recover=recover)  # type: ignore[arg-type]
        facts: dict[str, Any] = {
            "units": stage.units,
            "nominal": stage.sparsity,
            "achieved": pruned.achieved,
            "rounds": rounds,
        }
        facts["widths"] = [list(widths) for widths in pruned.widths]
        return replace(model, network=pruned.network), facts

    def _imitate(self, stage: ImitateStage, model: Model, folder: Path) -> tuple[Model, dict[str, Any]]:
        student = trainable_encoder(model.encoder)
        task = Imitate(
            student, self._first_encoder(), rate=stage.rate, states=stage.states, first_layer=stage.first_layer
        )
        trained = self._learn(task, stage, model, folder)
        return replace(model, network=student), _facts(trained)

    def _magnitude_ge2e(self, stage: MagnitudeStage, model: Model, folder: Path) -> tuple[Model, dict[str, Any]]:
        rounds: list[dict[str, Any]] = []
        first = self._first_encoder()
        heard = Heard(first, map(pieces, self._some(stage, model, stage.heard))) if stage.heard else None

        def recover(network: Ge2eEncoder, number: int) -> None:
            if heard is not None:
                network.load_state_dict(heard.fit(network).state_dict())
            if stage.trains:
                task = Imitate(network, first, rate=stage.rate)
                trained = self._learn(task, stage, model, folder / f"round-{number}", round_number=number)
                rounds.append(_facts(trained))
                network.cpu()

        student = trainable_encoder(model.encoder)
        facts: dict[str, Any] = {"units": stage.units, "nominal": stage.sparsity}
        if stage.units == "weights":
            for number in range(1, stage.rounds + 1):
                sparsity = stage.sparsity * number / stage.rounds
                student = heard.prune(student, sparsity) if heard is not None else prune_rows(student, sparsity)
                recover(student, number)
            matrices = [parameter for parameter in student.parameters() if parameter.ndim == 2]
            zeros = sum(int((matrix == 0).sum()) for matrix in matrices)
            facts["achieved"] = zeros / sum(matrix.numel() for matrix in matrices)
        else:
            pruned = prune_ge2e(student, Schedule(stage.sparsity, stage.rounds), recover=recover)
            student = pruned.network
            facts |= {"achieved": pruned.achieved, "widths": [list(widths) for widths in pruned.widths]}
        return replace(model, network=student), facts | {"rounds": rounds}

    def _quantize(self, stage: QuantizeStage, model: Model, folder: Path) -> tuple[Model, dict[str, Any]]:
        mode = mode_of(stage)
        facts: dict[str, Any] = {}
        network = model.network
        if stage.trains:
            task = self._rounding(stage, model, mode)
            network = task.network  # type: ignore[assignment]
            facts = _facts(self._learn(task, stage, model, folder))
        batches = [_inputs(model, samples) for samples in self._some(stage, model, stage.calibration)]
        cpu = network.cpu().eval()
        done = convert(cpu, calibration=batches) if stage.trains else quantize(cpu, mode, calibration=batches)
        report = done.report.as_table()
        said = {key: value for key, value in report.items() if key not in ("covered", "skipped")}
        write_json(folder / "report.json", report)
        return replace(model, network=done.network), facts | said

    def _rounding(self, stage: QuantizeStage, model: Model, mode: QuantMode) -> Task:
        """What is learned with the rounding in sight."""
        if isinstance(model.network, Ge2eEncoder):
            return Imitate(prepare(trainable_encoder(model.network), mode), self._first_encoder(), rate=stage.rate)
        network = prepare(trainable(model.network, self._dropout()), mode)
        return Diarize(
            network,
            self._loss(model),
            rate=stage.rate,
            encoder=network.wavlm if isinstance(network, Eend) else None,
            encoder_rate=stage.encoder_rate,
        )

    def _learn(
        self,
        task: Task,
        stage: Stage,
        model: Model,
        folder: Path,
        *,
        round_number: int = 1,
    ) -> Trained:
        """Train in a folder. A later round of a stage goes on in the data where the one before stopped."""
        data, place = self.recipe.data, self.place
        windows = self._windows(stage, model)
        development = development_windows(place.development, data, model.window)
        steps = self._steps(stage, model)
        settings = Settings(
            steps,
            batch=stage.batch,
            accumulate=stage.accumulate,
            schedule=stage.schedule,
            warm_up=min(stage.warm_up, max(steps - 1, 0)),
            clip=stage.clip,
            precision=stage.precision,
            validate_every=stage.validate_every or stage.epoch(len(windows)),
            average=stage.average,
            patience=stage.patience,
            seed=self.recipe.seed,
        )
        grid = model.grid
        seen = (round_number - 1) * steps * stage.accumulate
        return train(
            task,
            partial(_shuffled, windows, stage.batch, self.recipe.seed, grid, seen),
            partial(development.once, batch=_DEVELOPMENT_BATCH, grid=grid),
            settings,
            folder,
            identity=self.identity,
            watcher=place.reporter,
            device=place.device,
        )

    def _windows(self, stage: Stage, model: Model) -> Windows:
        return Windows(self.place.train, window=model.window, shift=self.recipe.data.shift, fraction=stage.fraction)

    def _some(self, stage: Stage, model: Model, count: int) -> Iterator[Tensor]:
        """So many of the training windows, or all, evenly chosen: (1, S) each."""
        windows = self._windows(stage, model)
        for index in np.linspace(0, len(windows) - 1, min(count, len(windows))).astype(int).tolist():
            yield windows.read([index], model.grid).samples

    def _loss(self, model: Model) -> PowersetLoss:
        return PowersetLoss(model.shape.speakers, model.shape.overlap).to(self.place.device)

    def _first_encoder(self) -> Ge2eEncoder:
        """What imitators imitate: the encoder that the recipe began with."""
        assert isinstance(self.first, Ge2eEncoder)
        return self.first

    def _teacher_here(self) -> WavLM:
        assert self.teacher is not None
        return self.teacher.to(self.place.device)

    def _steps(self, stage: Stage, model: Model) -> int:
        steps = stage.length(len(self._windows(stage, model)))
        return steps if self.place.most_steps is None else min(steps, self.place.most_steps)

    def _dropout(self) -> float:
        start = self.recipe.start
        chosen = start.new or start.pretrained
        return chosen.dropout if chosen is not None else start.dropout


def _shuffled(windows: Windows, batch: int, seed: int, grid: Grid, seen: int, first: int) -> Iterator[Batch]:
    return windows.shuffled(batch=batch, seed=seed, grid=grid, first=seen + first)


def _teacher(model: Model) -> WavLM:
    copy = trainable(model.eend)
    assert isinstance(copy, Eend)
    return copy.wavlm.eval()


def _sizes(structure: Structure, full: Structure, target: Target) -> dict[str, Any]:
    """What was asked for, and what was reached, by parameters and by MACs of one second."""
    reached: dict[str, Any] = {}
    for measure in ("parameters", "macs"):
        now, whole = exact_size(structure, measure), exact_size(full, measure)
        reached[measure] = {part: 1 - now.part(part) / whole.part(part) for part in ("all", "CNN", "Transformer")}
    return {"measure": target.measure, "target": target.sparsities(), "reached": reached}


def _inputs(model: Model, samples: Tensor) -> QuantizeBatch:
    """What the network is called with, of windows (B, S)."""
    if not isinstance(model.network, Ge2eEncoder):
        return samples
    mels = pieces(samples)
    return mels, torch.full((mels.shape[1],), len(mels))


def _facts(trained: Trained) -> dict[str, Any]:
    return {
        "steps": trained.steps,
        "chosen": list(trained.chosen),
        "development": dict(trained.measures),
        "seconds": round(trained.seconds, 1),
    }


def _fingerprint(network: nn.Module) -> str:
    """A digest of all weights."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        # As bytes: NumPy has no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
