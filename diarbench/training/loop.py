"""A training loop that can be killed: the same seed gives the same weights, whether or not it was.

A stage trains in a folder of its own:

    checkpoint.pt   everything that the next step depends on; replaced as a whole
    best-STEP.pt    states of the network that validated best, as many as are averaged
    log.csv         one line for each logged step; lines after the checkpoint are dropped when training goes on
"""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from diarbench.errors import InputError, StoreError, did_you_mean
from diarbench.training.windows import Batch

SCHEDULES = ("constant", "linear", "cosine")
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_FORMAT = 2  # of checkpoint.pt
_NORMS = 1000  # gradient norms that automatic clipping looks back on, as in DiariZen


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how to train; rates belong to the task's parameter groups. Raises InputError for what can't be."""

    steps: int
    batch: int = 16  # windows that go through the network at once
    accumulate: int = 1  # batches whose gradients are averaged in a step
    schedule: str = "constant"  # of all rates, after the warm-up: "linear" and "cosine" end at 0
    warm_up: int = 0  # steps over which all rates rise linearly
    clip: float | None = None  # of the gradient's norm; None: at `clip_quantile` of the last thousand norms
    clip_quantile: float = 0.9  # DiariZen's
    precision: str = "fp32"
    validate_every: int = 500  # steps
    average: int = 1  # states with the lowest validation loss whose mean is the result; 0: the last one
    patience: int | None = None  # validations without a lower loss, after which training ends; of states that count
    log_every: int = 20  # steps
    seed: int = 3407

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise InputError(f"there is no schedule {self.schedule!r}{did_you_mean(self.schedule, SCHEDULES)}")
        if self.precision not in PRECISIONS:
            raise InputError(f"there is no precision {self.precision!r}{did_you_mean(self.precision, PRECISIONS)}")
        least = {
            "steps": 1,
            "batch": 1,
            "accumulate": 1,
            "warm_up": 0,
            "validate_every": 1,
            "average": 0,
            "log_every": 1,
            "seed": 0,
        }
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise InputError(f"{name} is {lowest} or more, not {getattr(self, name)}")
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"clip is a norm above 0, not {self.clip}")
        if not 0 < self.clip_quantile <= 1:
            raise InputError(f"clip_quantile is above 0 and at most 1, not {self.clip_quantile}")

    def factor(self, step: int) -> float:
        """What rates are multiplied by at a step, counted from 0."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        share = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return {"constant": 1.0, "linear": 1 - share, "cosine": 0.5 * (1 + math.cos(math.pi * share))}[self.schedule]


@dataclass(frozen=True, slots=True)
class Losses:
    """What one step minimises, and what a log should say of it."""

    total: Tensor  # scalar
    parts: Mapping[str, float] = field(default_factory=dict)


class Task(Protocol):
    """What is trained, and for what."""

    network: nn.Module  # all that has a state: also gates and multipliers

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for AdamW, each with its rate."""

    def loss(self, batch: Batch, step: int) -> Losses:
        """Of one batch, at a step counted from 0; the network is in training mode."""

    def validate(self, batches: Iterator[Batch]) -> Mapping[str, float]:
        """Measures over the development windows, "loss" among them; the network is in evaluation mode."""

    def counts(self, step: int) -> bool:
        """Whether a state of this step may be chosen, and patience counts: in pruning, not while the target grows."""


class Watcher(Protocol):
    """What shows how training goes."""

    def step(self, step: int, steps: int, parts: Mapping[str, float]) -> None:
        """One more step is done."""

    def validated(self, step: int, measures: Mapping[str, float]) -> None:
        """A validation is done."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What came out."""

    steps: int  # fewer than asked for where patience ended
    chosen: tuple[int, ...]  # steps whose states were averaged
    measures: Mapping[str, float]  # of the result, on the development windows
    seconds: float  # of training, over all sessions


def train(
    task: Task,
    batches: Callable[[int], Iterator[Batch]],
    development: Callable[[], Iterator[Batch]],
    settings: Settings,
    folder: Path,
    *,
    identity: str,
    watcher: Watcher,
    device: torch.device | str = "cpu",
    checkpoint_every: float = 60.0,
) -> Trained:
    """Train `task.network` in place, beginning or going on in `folder`; it ends in evaluation mode.

    `batches(first)` gives batches from that number on; `development()` all development batches, once. `identity` says
    what is trained (a digest): a folder of something else is refused. A checkpoint is written every `checkpoint_every`
    seconds, and at validations. A loss that is no number ends training, and so does a gradient, but in fp16.

    Raises InputError where the folder holds another training, or the loss is no number; StoreError where nothing can
    be written.
    """
    _make(folder)
    run = _Run(task, settings, folder, identity, torch.device(device))
    run.restore()
    saved = time.monotonic()
    source = batches(run.step * settings.accumulate)
    while run.step < settings.steps and not run.stopped:
        parts = run.advance([next(source) for _ in range(settings.accumulate)])
        watcher.step(run.step, settings.steps, parts)
        validating = run.step % settings.validate_every == 0 or run.step == settings.steps
        if validating:
            measures = run.validate(development())
            watcher.validated(run.step, measures)
        if validating or time.monotonic() - saved > checkpoint_every:
            run.save()
            saved = time.monotonic()
    del source
    return run.finish(development())


class _Run:
    """A training as it is now: all of it is in the checkpoint."""

    def __init__(self, task: Task, settings: Settings, folder: Path, identity: str, device: torch.device) -> None:
        self.task, self.settings, self.folder, self.identity, self.device = task, settings, folder, identity, device
        task.network.to(device).train()
        self.optimizer = torch.optim.AdamW(task.groups())
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.scaler = GradScaler(device.type, enabled=settings.precision == "fp16")
        self.step, self.stopped, self.seconds = 0, False, 0.0
        self.norms: deque[float] = deque(maxlen=_NORMS)
        self.best: list[tuple[float, int]] = []  # (loss, step), lowest first, as many as are averaged
        self.lowest, self.since_best = math.inf, 0  # loss, and validations since then
        self.log = _Log(folder / "log.csv")
        torch.manual_seed(settings.seed)

    def advance(self, batches: Sequence[Batch]) -> Mapping[str, float]:
        """One step of the optimiser."""
        begun = time.monotonic()
        settings, network = self.settings, self.task.network
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * settings.factor(self.step)
        kind = PRECISIONS[settings.precision]
        network.zero_grad(set_to_none=True)
        total, said = 0.0, dict[str, float]()
        for batch in batches:
            with torch.autocast(self.device.type, dtype=kind, enabled=kind is not None):
                losses = self.task.loss(batch.to(self.device), self.step)
            torch.autograd.backward(self.scaler.scale(losses.total / len(batches)))
            total += losses.total.item() / len(batches)
            said |= losses.parts
        self.scaler.unscale_(self.optimizer)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]).item()
        if not math.isfinite(total) or not (math.isfinite(norm) or self.scaler.is_enabled()):
            what = "loss" if not math.isfinite(total) else "gradient's norm"
            raise InputError(
                f"{self.folder}: the {what} is no number at step {self.step + 1}: lower the rates, or train in fp32"
            )
        if math.isfinite(norm):  # with fp16, the scaler skips a step that isn't
            self.norms.append(norm)
            nn.utils.clip_grads_with_norm_(parameters, self._limit(), torch.tensor(norm))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.seconds += time.monotonic() - begun
        parts = {"loss": total, **said}
        if self.step % settings.log_every == 0 or self.step == 1:
            rate = self.optimizer.param_groups[0]["lr"]
            self.log.add({"step": self.step, "kind": "train", "seconds": round(self.seconds, 2), "rate": rate}
                         | {"norm": norm} | parts)  # fmt: skip
        return parts

    def _limit(self) -> float:
        """Where the gradient's norm is clipped."""
        if self.settings.clip is not None:
            return self.settings.clip
        norms = sorted(self.norms)
        return norms[min(len(norms) - 1, math.floor(self.settings.clip_quantile * len(norms)))]

    def validate(self, batches: Iterator[Batch]) -> Mapping[str, float]:
        """Measure the network as it is, and remember it where it is among the best."""
        measures = self._measure(batches)
        self.log.add({"step": self.step, "kind": "development", "seconds": round(self.seconds, 2)} | dict(measures))
        if not self.task.counts(self.step):
            return measures
        if measures["loss"] < self.lowest:
            self.lowest, self.since_best = measures["loss"], 0
        else:
            self.since_best += 1
        self.stopped = self.settings.patience is not None and self.since_best >= self.settings.patience
        if self.settings.average:
            self._keep(measures["loss"])
        return measures

    def _keep(self, loss: float) -> None:
        """Remember the state as it is where it is among the best."""
        ranked = sorted([*self.best, (loss, self.step)])
        if (loss, self.step) in ranked[: self.settings.average]:
            _write(self._state_path(self.step), {"state": self.task.network.state_dict()})
        self.best = ranked[: self.settings.average]

    def _measure(self, batches: Iterator[Batch]) -> Mapping[str, float]:
        network = self.task.network
        network.eval()
        state = torch.random.get_rng_state()
        with torch.no_grad():
            measures = self.task.validate(batch.to(self.device) for batch in batches)
        torch.random.set_rng_state(state)
        network.train()
        return measures

    def save(self) -> None:
        """Write the checkpoint, and then drop the states that it names no longer."""
        gpu = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.empty(0)
        _write(
            self.folder / "checkpoint.pt",
            {
                "format": _FORMAT,
                "identity": self.identity,
                "step": self.step,
                "stopped": self.stopped,
                "seconds": self.seconds,
                "norms": list(self.norms),
                "best": [list(pair) for pair in self.best],
                "lowest": self.lowest,
                "since_best": self.since_best,
                "network": self.task.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "noise": torch.random.get_rng_state(),
                "gpu_noise": gpu,
            },
        )
        # Not before: from the older checkpoint, a device that doesn't repeat itself may choose otherwise.
        chosen = {self._state_path(step) for _, step in self.best}
        for path in set(self.folder.glob("best-*.pt")) - chosen:
            path.unlink(missing_ok=True)

    def restore(self) -> None:
        """Go on where the folder's checkpoint is, if it has one."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            self.log.cut(0)
            return
        saved = read_states(path)
        if saved.get("format") != _FORMAT or saved.get("identity") != self.identity:
            raise InputError(
                f"{path}: belongs to another training: the recipe, its data, the weights it begins with, --steps, "
                "--threads, --device, torch or diarbench changed; move its folder away to begin anew, or say another "
                "--name"
            )
        self.step, self.stopped, self.seconds = saved["step"], saved["stopped"], saved["seconds"]
        self.norms.extend(saved["norms"])
        self.best = [(loss, step) for loss, step in saved["best"]]
        self.lowest, self.since_best = saved["lowest"], saved["since_best"]
        self.task.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        torch.random.set_rng_state(saved["noise"])
        if self.device.type == "cuda" and len(saved["gpu_noise"]):
            torch.cuda.set_rng_state(saved["gpu_noise"], self.device)
        self.log.cut(self.step)

    def finish(self, batches: Iterator[Batch]) -> Trained:
        """Put the mean of the best states into the network."""
        chosen = tuple(sorted(step for _, step in self.best))
        if chosen:
            states = [read_states(self._state_path(step))["state"] for step in chosen]
            self.task.network.load_state_dict(average(states))
        measures = self._measure(batches)
        self.task.network.eval()
        return Trained(self.step, chosen or (self.step,), measures, self.seconds)

    def _state_path(self, step: int) -> Path:
        return self.folder / f"best-{step}.pt"


def average(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each floating-point tensor of several states of one network; of others, the last one's."""
    mean = dict(states[-1])
    for name, tensor in mean.items():
        if tensor.is_floating_point() and len(states) > 1:
            mean[name] = torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
    return mean


def read_states(path: Path) -> dict[str, Any]:
    """A file that training wrote: tensors and plain values, nothing that could run. Raises InputError."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, TypeError) as error:
        raise InputError(f"{path}: can't be read: move its folder away to begin anew ({error})") from error
    except Exception as error:
        raise InputError(f"{path}: holds what is no state of a training: move its folder away ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no state of a training: move its folder away")
    return found


def _write(path: Path, value: Mapping[str, Any]) -> None:
    """Tensors to a file, which is whole or as it was before."""
    making = path.with_name(f".{path.name}.part")
    try:
        with making.open("wb") as file:
            torch.save(dict(value), file)
            file.flush()
            os.fsync(file.fileno())
        making.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        making.unlink(missing_ok=True)
        raise StoreError(f"{path}: can't be written: {error}") from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: can't be made: {error.strerror}") from error


class _Log:
    """CSV whose columns grow as new measures come up."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, str]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self._rows = list(csv.DictReader(file))

    def add(self, row: Mapping[str, Any]) -> None:
        """One more line."""
        text = {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in row.items()}
        known = set(self._rows[0]) if self._rows else set()
        self._rows.append(text)
        if not known or set(text) - known:
            self._write()
            return
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, list(self._rows[0]), restval="").writerow(text)

    def cut(self, step: int) -> None:
        """Drop what comes after a step."""
        self._rows = [row for row in self._rows if int(row["step"]) <= step]
        if self._path.exists():
            self._write()

    def _write(self) -> None:
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="")
        writer.writeheader()
        writer.writerows(self._rows)
        making = self._path.with_name(f".{self._path.name}.part")
        making.write_text(text.getvalue(), encoding="utf-8")
        making.replace(self._path)
        self._rows = [{name: row.get(name, "") for name in names} for row in self._rows]
