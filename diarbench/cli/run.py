"""`diarbench run`: plan, run what is missing, score, show, write the page."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diarbench.cli.common import (
    CardsOption,
    Format,
    FormatOption,
    RuleOption,
    WeightsOption,
    board_rules,
    console,
    note,
    print_json,
)
from diarbench.cli.report import BaselineOption, note_hidden, readable_tables
from diarbench.errors import AudioError, InputError, MissingRequirementError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from diarbench.execute import Failure
    from diarbench.leaderboard import Leaderboard
    from diarbench.loaders import Dataset
    from diarbench.registry import Registry
    from diarbench.report.troubles import Trouble


class DeviceChoice(StrEnum):
    """Where systems run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def run(
    report: Annotated[
        str | None,
        typer.Argument(metavar="[REPORT]", help="A report card (its name, or a .toml): systems and datasets."),
    ] = None,
    systems: Annotated[
        list[str] | None,
        typer.Option("--system", "-s", help="A system: name, pattern ('silero-*') or card. Repeatable."),
    ] = None,
    datasets: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="A dataset: name, pattern or card. Repeatable.")
    ] = None,
    device: Annotated[
        DeviceChoice, typer.Option(help="auto: the GPU for systems that can use one.")
    ] = DeviceChoice.auto,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each system.")] = 1,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Where results are kept.")] = Path("runs"),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N recordings of each dataset.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Run what is there, too.")] = False,
    rule: RuleOption = None,
    baseline: BaselineOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The page [DIR/leaderboard.html].")] = None,
    machine: Annotated[str | None, typer.Option(help="A name for this machine [from its hardware].")] = None,
    weights: WeightsOption = None,
    time_limit: Annotated[
        float | None, typer.Option(min=1.0, help="Seconds for one recording [600 + 20 x its length].")
    ] = None,
    cards: CardsOption = [],  # noqa: B006  typer reads it, nobody writes it
    format: FormatOption = Format.table,
) -> None:
    """Run systems on datasets: only what is missing. Ends with the leaderboard and an HTML page."""
    from diarbench.board import read_board
    from diarbench.cli.progress import progress
    from diarbench.execute import execute, overhangs
    from diarbench.files import write_whole
    from diarbench.measure.machine import fingerprint, machine_name
    from diarbench.plan import is_replay, plan
    from diarbench.registry import Registry
    from diarbench.rttm import check_id

    registry = Registry.standard(cards)
    title, wanted_systems, wanted_datasets = _wanted(registry, report, systems, datasets)
    ranking, rules = board_rules(rule, registry.choose_report(report) if report is not None else None)
    specs = registry.choose_systems(wanted_systems)
    jobs = plan(
        specs,
        load_datasets(registry, wanted_datasets, needs_audio=not all(map(is_replay, specs))),
        device=device.value,
        threads=threads,
        limit=limit,
        weights=weights,
    )
    for text in dict.fromkeys(text for job in jobs for text in job.system.notes):
        note(text)
    note_hidden(registry, [job.system.spec.name for job in jobs], [job.dataset.name for job in jobs])
    if device is DeviceChoice.cuda and (others := sorted({j.system.spec.name for j in jobs if j.device == "cpu"})):
        note(f"these systems know no GPU and run on the CPU: {', '.join(others)}")
    names = list(dict.fromkeys(job.system.spec.name for job in jobs))
    if baseline is not None and baseline not in names:
        raise InputError(f"the baseline {baseline!r} is not among the systems that run{did_you_mean(baseline, names)}")
    facts = fingerprint()
    name = check_id(machine, "--machine") if machine else machine_name(facts)
    with progress() as shown:
        outcome = execute(
            jobs, root=runs, machine=name, machine_facts=facts, progress=shown, again=again, time_limit=time_limit
        )
    board = read_board(
        [runs],
        title=title,
        rules=rules,
        rule=ranking,
        systems=names,
        datasets=list(dict.fromkeys(job.dataset.name for job in jobs)),
        limit=limit,
        only=outcome.folders.values(),
        baseline=baseline,
    )
    from diarbench.report import leaderboard_json, print_leaderboard, render_html, reported_on
    from diarbench.report.troubles import troubles

    tables = readable_tables(registry, registry.choose_report(report)[1].reported if report is not None else ["*"])
    reported = reported_on(board, tables)
    page = output or runs / "leaderboard.html"
    write_whole(page, render_html(board, generated=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", reported=reported))
    if format is Format.json:
        print_json({**leaderboard_json(board, tables), "page": str(page), "done": outcome.done, "kept": outcome.kept,
                    "failures": list(outcome.failures)})  # fmt: skip
    else:
        print_leaderboard(board, console(), reported)
        failed = sum(failure.count for failure in outcome.failed)
        counts = [f"{outcome.done} recordings run", *([f"{failed} failed"] if failed else [])]
        typer.echo(f"\n{', '.join(counts)}, {outcome.kept} already there. Page: {page}{_of_what(runs, board)}")
    for text in overhangs(outcome.folders):
        note(text)
    told = troubles(board) if format is Format.table else []
    for failure in _gathered(outcome.failed, board):
        if not any(failure.system == one.system and failure.error in one.error for one in told):
            typer.echo(f"failed: {failure.sentence}", err=True)
    if outcome.details:
        rest = f", and {len(outcome.details) - 1} more like it" if len(outcome.details) > 1 else ""
        note(f'the whole traceback is "detail" in {outcome.details[0]}{rest}')
    if outcome.failed:
        raise typer.Exit(1)


def load_datasets(registry: Registry, wanted: list[str], *, needs_audio: bool = True) -> list[Dataset]:
    """Datasets by name, checked; making one shows its progress. Where no system needs audio, references and scoring
    regions will do, and what is wrong with the audio is told. One that a pattern matched and that is not here is
    passed over, and it is said."""
    from diarbench.loaders import load_dataset
    from diarbench.plan import without_audio

    loaded = []
    absent: list[MissingRequirementError] = []
    for name, (path, card) in registry.choose_datasets(wanted).items():
        if card.simulate is not None:
            note(f"{name}: simulated conversations are made once and kept in the cache; this takes a while")
        try:
            dataset = load_dataset(name, path, card)
        except AudioError as error:
            if needs_audio:
                raise
            if (silent := without_audio(card)) is None:
                raise AudioError(
                    f"{error}; stored outputs need no audio, but how long whole files are is known from nothing else: "
                    "name a UEM file in a card of your own"
                ) from error
            dataset = load_dataset(name, path, silent)
            note(f"{name}: without its audio, which stored outputs don't need ({error})")
        except MissingRequirementError as error:
            if name in wanted or str(path) in wanted:
                raise
            note(f"passed over: {error}")
            absent.append(error)
            continue
        for text in dataset.notes:
            note(text)
        loaded.append(dataset)
    if absent and not loaded:
        raise absent[0]
    return loaded


def _gathered(failed: Iterable[Failure], board: Leaderboard) -> list[Trouble]:
    """Failures as a board tells them: recordings of one system and dataset with the same error together."""
    from diarbench.report.troubles import Trouble

    sizes = {column.name: len(column.recordings) for column in board.columns}
    found: dict[tuple[str, str | None, str], list[str]] = {}
    for one in failed:
        names = found.setdefault((one.system, one.dataset, one.error), [])
        names += [one.recording] if one.recording is not None else []
    return [
        Trouble(system, dataset, tuple(names), sizes[dataset] if dataset is not None else 0, error)
        for (system, dataset, error), names in found.items()
    ]


def _of_what(runs: Path, board: Leaderboard) -> str:
    """That the page does not show all that is stored, where that is so, and what does."""
    from diarbench.report.text import many
    from diarbench.store import find_runs

    stored = [folder.run for folder in find_runs([runs])]
    systems, datasets = {run["system"] for run in stored}, {run["dataset"] for run in stored}
    if systems <= {line.entry.system for line in board.lines} and datasets <= {one.name for one in board.columns}:
        return ""
    command = "diarbench report" if runs == Path("runs") else f"diarbench report --runs {shlex.quote(str(runs))}"
    everything = f"{many(len(systems), 'system')} on {many(len(datasets), 'dataset')}"
    return f", of this run alone; `{command}` shows all that is in {runs} ({everything})"


def _wanted(
    registry: Registry, report: str | None, systems: list[str] | None, datasets: list[str] | None
) -> tuple[str, list[str], list[str]]:
    """Title, systems and datasets: from the report card, where -s and -d don't say otherwise."""
    if report is None:
        if not systems or not datasets:
            lacking = "systems (-s)" if not systems else "datasets (-d)"
            raise InputError(
                f"nothing to run: name {lacking}, or a report card such as demo; `diarbench list` shows what there is"
            )
        return "Leaderboard", systems, datasets
    _, card = registry.choose_report(report)
    return card.title, systems or card.systems, datasets or card.datasets
