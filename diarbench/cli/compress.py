"""`diarbench compress`: make a smaller system by a recipe, from a system and data, and write its card."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diarbench.cli.common import CardsOption, WeightsOption, console
from diarbench.cli.progress import bars
from diarbench.cli.run import DeviceChoice, load_datasets
from diarbench.errors import InputError, MissingRequirementError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from diarbench.cards import DatasetCard, SystemSpec
    from diarbench.registry import Registry
    from diarbench.training.recipes import Recipe

_EVERY = 60.0  # s between lines where there is no bar


def compress(
    recipe: Annotated[Path, typer.Option("--recipe", metavar="FILE", help="The recipe (TOML): from what, by what.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where NAME.toml and weights/NAME are written.")] = Path(
        "systems", "compressed"
    ),
    name: Annotated[str | None, typer.Option(help="The new system's name [the recipe's file name].")] = None,
    system: Annotated[
        str | None, typer.Option("--system", "-s", help="Begin with this system instead of the recipe's.")
    ] = None,
    dataset: Annotated[
        list[str],
        typer.Option("--dataset", "-d", help="Train on this dataset instead; development data stays. Repeatable."),
    ] = [],  # noqa: B006
    work: Annotated[
        Path, typer.Option(metavar="DIR", help="Where checkpoints and logs are kept, in a folder per recipe.")
    ] = Path("training"),
    changes: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: stages.2.sparsity=0.9. Repeatable."),
    ] = [],  # noqa: B006
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many steps in each stage: to try a recipe out, as NAME-steps-N."),
    ] = None,
    device: Annotated[DeviceChoice, typer.Option(help="auto: the GPU if there is one.")] = DeviceChoice.auto,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = max(1, (os.cpu_count() or 2) // 2),
    weights: WeightsOption = None,
    cards: CardsOption = [],  # noqa: B006
) -> None:
    """Make a smaller system: fine-tune, prune, distil or quantize.

    A recipe says how. Ends with a system card, which `diarbench run` takes. Stopped in the middle, the same command
    goes on.
    """
    from diarbench.registry import Registry
    from diarbench.weights import check_folder

    try:
        from diarbench.training.begin import encoder_facts, encoder_file
        from diarbench.training.publish import check_out, publish
        from diarbench.training.recipes import read_recipe
        from diarbench.training.stages import Workplace, do_recipe
    except ImportError as error:
        raise MissingRequirementError(
            f"training needs more packages: pip install 'diarbench[compress]' ({error})"
        ) from error
    made = read_recipe(recipe, changes)
    # What is tried out has a folder, and without --name a card, of its own: it doesn't stand in the real one's way.
    trial = f"-steps-{steps}" if steps is not None else ""
    done_in = work / f"{_name(name) if name is not None else recipe.stem}{trial}"
    name = name if name is not None else f"{recipe.stem}{trial}"
    check_out(out)
    if (out / f"{name}.toml").exists():
        raise InputError(f"{out / name}.toml: exists already; remove it, or say another --name or --out")
    check_folder(weights)
    made = _changed(made, system, dataset)
    registry = Registry.standard(cards)

    def find_system(wanted: str) -> SystemSpec:
        return _only(registry, wanted)

    encoder = encoder_file(made.start, recipe.parent, weights)
    before = _earlier_parts(registry, made, encoder_facts(encoder) if encoder is not None else {})
    train = load_datasets(registry, made.data.train)
    development = load_datasets(registry, made.data.development)
    with _show() as reporter:
        place = Workplace(
            done_in,
            recipe.parent,
            train,
            development,
            find_system,
            reporter,
            weights=weights,
            device=_device(device),
            threads=threads,
            most_steps=steps,
        )
        model = do_recipe(made, place)
    card = publish(name, made, model, out, recipe.parent, parts=sorted({*before, *_parts(one.card for one in train)}))
    size = sum(file.stat().st_size for file in (out / "weights" / name).glob("*.safetensors"))
    console().print(f"{card}: {size / 1e6:.2f} MB of weights; next: diarbench run -s {card} -d DATASET")


def _changed(recipe: Recipe, system: str | None, datasets: list[str]) -> Recipe:
    """The recipe with another beginning, or other data."""
    if system is not None:
        start = recipe.start.model_copy(update={"system": system, "new": None, "pretrained": None, "ge2e": None})
        recipe = recipe.model_copy(update={"start": start})
    if datasets:
        # What the card would say of its training data was said of the recipe's.
        changes = {
            "data": recipe.data.model_copy(update={"train": datasets}),
            "card": recipe.card.model_copy(update={"trained_on": []}),
        }
        recipe = recipe.model_copy(update=changes)
    return recipe


def _name(name: str) -> str:
    """The name, if a system may have it."""
    from diarbench.cards import NAME

    if not NAME.fullmatch(name):
        raise InputError(
            f"--name {name}: can't be a system's name: use lower-case letters, digits, '.', '_' and '-', beginning "
            "with a letter or digit"
        )
    return name


def _only(registry: Registry, wanted: str) -> SystemSpec:
    """The one system of a name, a variant's name, a pattern, or a card's path."""
    found = registry.choose_systems([wanted])
    if len(found) > 1:
        names = ", ".join(spec.name for spec in found[:5]) + (", ..." if len(found) > 5 else "")
        raise InputError(f"{wanted}: training begins with one system, and these are {len(found)}: {names}")
    return found[0]


def _earlier_parts(registry: Registry, recipe: Recipe, facts: Mapping[str, Any]) -> set[str]:
    """The parts of corpora that the networks which a recipe begins with, and learns from, were trained on."""
    systems = [name for name in (recipe.start.system, recipe.start.teacher) if name is not None]
    parts = {part for name in systems for part in _only(registry, name).card.trained_parts}
    if "trained_parts" in facts:
        return {*parts, *facts["trained_parts"]}
    # An encoder's file that was written before these were in it names datasets.
    return {*parts, *_parts(card for _, card in registry.choose_datasets(facts.get("data", [])).values())}


def _parts(cards: Iterable[DatasetCard]) -> list[str]:
    """The parts of corpora that datasets are, where their cards say so."""
    return [f"{card.corpus}/{card.part}" if card.part else card.corpus for card in cards if card.corpus]


def _device(choice: DeviceChoice) -> str:
    import torch

    if choice is DeviceChoice.cuda and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no CUDA device here; use --device cpu or auto")
    return "cpu" if choice is DeviceChoice.cpu or not torch.cuda.is_available() else "cuda"


class _Bar:
    """A bar over a stage's steps."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def stage(self, number: int, count: int, kind: str, status: str) -> None:
        """Show an empty bar for the stage, or a line where it was done before."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        title = f"{number}/{count} {kind}"
        if status == "kept":
            self._progress.console.print(f"{title}: kept")
        self._task = self._progress.add_task(title, total=None, said="")

    def step(self, step: int, steps: int, parts: Mapping[str, float]) -> None:
        """Move the bar by a step."""
        if self._task is not None:
            self._progress.update(self._task, completed=step, total=steps, said=_said(parts))

    def validated(self, step: int, measures: Mapping[str, float]) -> None:
        """Print what was measured."""
        self._progress.console.print(f"step {step}: {_said(measures)}", highlight=False)


class _Lines:
    """Some lines on standard error: for pipes and logs."""

    def __init__(self) -> None:
        self._last = 0.0

    def stage(self, number: int, count: int, kind: str, status: str) -> None:
        """Say which stage begins, or was done before."""
        sys.stderr.write(f"[{number}/{count}] {kind}{': kept' if status == 'kept' else ''}\n")
        self._last = time.monotonic()

    def step(self, step: int, steps: int, parts: Mapping[str, float]) -> None:
        """Say now and then how far it is."""
        if time.monotonic() - self._last > _EVERY:
            sys.stderr.write(f"  step {step} of {steps}: {_said(parts)}\n")
            self._last = time.monotonic()

    def validated(self, step: int, measures: Mapping[str, float]) -> None:
        """Say what was measured."""
        sys.stderr.write(f"  step {step}, development: {_said(measures)}\n")


@contextmanager
def _show() -> Iterator[_Bar | _Lines]:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    with bars(
        "{task.description}",
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
        "left",
    ) as shown:
        yield _Bar(shown)


def _said(measures: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in measures.items())
