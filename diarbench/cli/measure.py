"""`diarbench measure`: what systems cost, timed against each other on this machine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diarbench.cli.common import CardsOption, Format, FormatOption, WeightsOption, console, note, print_json
from diarbench.cli.progress import bars
from diarbench.cli.run import DeviceChoice, load_datasets
from diarbench.errors import InputError

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from diarbench.bench import Wanted
    from diarbench.bench.session import Progress
    from diarbench.plan import Prepared
    from diarbench.types import Recording


def measure(
    systems: Annotated[
        list[str], typer.Option("--system", "-s", help="A system: name, pattern ('silero-*') or card. Repeatable.")
    ],
    baseline: Annotated[
        str | None, typer.Option(help="What speed-ups are taken against [the cards' common one, or the first].")
    ] = None,
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="Where the audio comes from: a dataset's name or card.")
    ] = "sample",
    limit: Annotated[int, typer.Option(min=1, help="Its first N recordings are one call.")] = 1,
    device: Annotated[
        DeviceChoice, typer.Option(help="auto: the GPU if there is one and all of them can use it.")
    ] = DeviceChoice.auto,
    threads: Annotated[
        str, typer.Option(metavar="N[,N...]", help="CPU threads; several show how systems scale.")
    ] = "1",
    batch: Annotated[
        str, typer.Option(metavar="N[,N...]", help="Batch sizes for the encoders alone; max on a GPU; 0 for none.")
    ] = "1",
    window: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds of the encoders' windows.")] = 8.0,
    repeats: Annotated[int, typer.Option(min=5, help="Rounds; in each, every system takes one turn.")] = 15,
    turn: Annotated[float, typer.Option(min=0.01, max=3600, help="Seconds that a turn lasts at least.")] = 0.5,
    memory: Annotated[
        str, typer.Option(metavar="M[,M...]", help="Minutes of audio at which peak memory is measured; 0 for none.")
    ] = "1,10,60",
    weights: WeightsOption = None,
    no_weights: Annotated[
        bool, typer.Option("--no-weights", help="Only encoders, with random weights: no files, no audio.")
    ] = False,
    block: Annotated[
        bool, typer.Option("--block", help="All turns of a system in a row: shows what interleaving saves you from.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the order within rounds.")] = 0,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Where results are kept.")] = Path("runs"),
    machine: Annotated[str | None, typer.Option(help="A name for this machine [from its hardware].")] = None,
    cards: CardsOption = [],  # noqa: B006  typer reads it, nobody writes it
    format: FormatOption = Format.table,
) -> None:
    """What systems cost: parameters, MACs, speed, memory, energy. With speed-ups that hold on a noisy machine."""
    from diarbench.bench import Wanted
    from diarbench.cli.measuretables import print_session
    from diarbench.fetch import nothing_fetched
    from diarbench.measure.machine import fingerprint, machine_name
    from diarbench.plan import choose_device, prepare
    from diarbench.registry import Registry
    from diarbench.rttm import check_id
    from diarbench.store import store_machine, store_measure

    if os.name == "nt":
        raise InputError("diarbench measure needs Linux or macOS; on Windows, call it inside WSL")
    registry = Registry.standard(cards)
    with nothing_fetched() if no_weights else contextlib.nullcontext():
        prepared = [prepare(spec, weights) for spec in registry.choose_systems(systems)]
    if not no_weights:
        for text in dict.fromkeys(text for system in prepared for text in system.notes):
            note(text)
    on = choose_device(device.value, [system.spec for system in prepared])
    counts = _numbers(threads, "--threads", least=1)
    batches = _batches(batch, on)
    minutes = [float(length) for length in _numbers(memory, "--memory", least=0) if length]
    recordings, digest = _audio(registry, dataset, limit) if not no_weights else ((), "")
    against = _baseline(baseline, prepared)
    _check(prepared, against, batches, weights=not no_weights)
    facts = fingerprint()
    name = check_id(machine, "--machine") if machine else machine_name(facts)
    store_machine(runs, name, facts)
    sessions = []
    for position, number in enumerate(counts):
        wanted = Wanted(
            systems=prepared,
            baseline=against,
            device=on,
            threads=number,
            dataset=dataset,
            digest=digest,
            recordings=recordings,
            rounds=repeats,
            turn=turn,
            batches=batches,
            window=window,
            minutes=minutes if position == 0 else (),
            weights=not no_weights,
            order="block" if block else "interleaved",
            seed=seed,
        )
        with _progress() as shown:
            session = _run(wanted, name, facts, shown)
        store_measure(runs, name, session["session"], session)
        sessions.append(session)
    if format is Format.json:
        print_json({**sessions[0], "scaling": _scaling(sessions) if len(sessions) > 1 else None})
    else:
        print_session(sessions[0], console())
        if len(sessions) > 1:
            from diarbench.cli.measuretables import print_scaling

            print_scaling(_scaling(sessions), console())
    failed = {name: one["error"] for session in sessions for name, one in session["systems"].items() if one["error"]}
    for system, error in failed.items():
        typer.echo(f"failed: {system}: {error}", err=True)
    if failed:
        raise typer.Exit(1)


def _audio(registry: Any, dataset: str, limit: int) -> tuple[tuple[Recording, ...], str]:
    datasets = load_datasets(registry, [dataset])
    if len(datasets) > 1:
        raise InputError(f"--dataset {dataset} stands for {len(datasets)} datasets; name one")
    recordings = tuple(labelled.recording for labelled in datasets[0].recordings[:limit])
    silent = [recording.id for recording in recordings if recording.path is None]
    if silent:
        raise InputError(f"{dataset} comes without audio ({silent[0]}); name a dataset that has some")
    return recordings, datasets[0].digest


def _baseline(named: str | None, prepared: list[Prepared]) -> str:
    """The one that was named; else the one that most cards name, if it takes part; else the first."""
    from diarbench.errors import did_you_mean

    names = [system.spec.name for system in prepared]
    if named is not None:
        if named not in names:
            raise InputError(f"--baseline {named} is none of the systems named with -s{did_you_mean(named, names)}")
        return named
    wanted = [name for system in prepared if (name := system.spec.card.baseline) is not None and name in names]
    return max(wanted, key=wanted.count) if wanted else names[0]


def _check(prepared: list[Prepared], baseline: str, batches: list[int | str], *, weights: bool) -> None:
    if not weights and not batches:
        raise InputError("--no-weights with --batch 0 leaves nothing to time; give a batch size")
    first = next(system for system in prepared if system.spec.name == baseline)
    if first.problem is not None and weights:
        raise InputError(f"the baseline {baseline} can't run here: {first.problem}")


def _run(wanted: Wanted, machine: str, facts: dict[str, Any], shown: Progress) -> dict[str, Any]:
    from diarbench.bench import measure as run_session

    try:
        return run_session(wanted, machine=machine, facts=facts, progress=shown)
    except KeyboardInterrupt:
        typer.echo("\nstopped; of a session that is not complete nothing is kept", err=True)
        raise typer.Exit(130) from None


def _numbers(text: str, option: str, *, least: int) -> list[int]:
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text}: whole numbers with commas between them, as 1,2,4") from None
    if any(number < least for number in found):
        raise InputError(f"{option} {text}: numbers from {least} on")
    return list(dict.fromkeys(found))


def _batches(text: str, device: str) -> list[int | str]:
    words = [word.strip() for word in text.split(",")]
    if "max" in words and device != "cuda":
        raise InputError("--batch max is for a GPU, whose memory sets the limit; on the CPU give a number")
    if not all(word == "max" or word.isdecimal() for word in words):
        raise InputError(f"--batch {text}: whole numbers with commas between them, as 1,8,32; on a GPU also max")
    sizes = [word if word == "max" else int(word) for word in words]
    return list(dict.fromkeys(size for size in sizes if size))


def _scaling(sessions: list[dict[str, Any]]) -> dict[str, Any]:
    """RTF of each system by number of threads."""
    return {
        name: {
            str(session["threads"]): session["systems"][name]["speed"][session["device"]]["rtf"]
            for session in sessions
        }
        for name in sessions[0]["systems"]
    }  # fmt: skip


class _Lines:
    """One line per step on standard error: for pipes and logs."""

    def step(self, what: str, total: int) -> None:
        """Say what begins."""
        if total:
            sys.stderr.write(f"{what} ({total})\n")

    def part(self, what: str) -> None:
        """Nothing: a log needs no ticks."""

    def advance(self) -> None:
        """Nothing."""


class _Bar:
    """A bar per step, with what is at work. It is drawn where a part begins and never while one is timed."""

    def __init__(self, progress: Bars) -> None:
        self._progress = progress
        self._task = progress.add_task("starting", total=None)
        self._step = ""

    def step(self, what: str, total: int) -> None:
        """A new bar; one without an end where the step's parts aren't known."""
        self._step = what
        self._progress.reset(self._task, description=what, total=total or None)
        self._progress.refresh()

    def part(self, what: str) -> None:
        """Name it, and show what was done before it."""
        self._progress.update(self._task, description=f"{self._step}: {what}")
        self._progress.refresh()

    def advance(self) -> None:
        """A part of the bar, drawn with what comes next."""
        self._progress.advance(self._task)


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    description = TextColumn("{task.description}", markup=False)
    columns = (description, BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn(), "left")
    with bars(*columns, by_itself=False) as shown:  # a thread that draws would run beside what is timed
        yield _Bar(shown)
