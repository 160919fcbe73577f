"""`diarbench data list`, `get`, `verify` and `stats`: corpora on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diarbench.cli.common import CardsOption, Format, FormatOption, console, note, print_json
from diarbench.cli.transfers import counting, transfers
from diarbench.errors import DiarbenchError, MissingRequirementError

if TYPE_CHECKING:
    from diarbench.cards import DatasetCard
    from diarbench.corpora.getting import Got
    from diarbench.corpora.presence import Presence
    from diarbench.corpora.verifying import Verification

NamesArgument = Annotated[
    list[str], typer.Argument(metavar="NAME...", help='Dataset cards: names, patterns such as "ami-*", or .toml files.')
]


class StatsFormat(StrEnum):
    """How `data stats` prints its table."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"


def list_data(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Only these dataset cards, or patterns [all].")
    ] = None,
    cards: CardsOption = [],  # noqa: B006  typer reads it, nobody writes it
    format: FormatOption = Format.table,
) -> None:
    """Which datasets are here, and what is missing of the others."""
    from diarbench.corpora.presence import present

    found = present(_paths(names, cards))
    if format is Format.json:
        print_json({"datasets": [one.as_json() for one in found]})
        return
    _print_presence(found)


def get(
    names: NamesArgument,
    into: Annotated[
        Path | None,
        typer.Option(
            "--into", metavar="DIR", help="The data folder to put it below [where it lies, or $DIARBENCH_DATA's first]."
        ),
    ] = None,
    agree: Annotated[bool, typer.Option("--agree", help="I have read the dataset's terms, and agree to them.")] = False,
    cards: CardsOption = [],  # noqa: B006
    format: FormatOption = Format.table,
) -> None:
    """Download what may be downloaded; for the rest, tell the steps.

    Downloads are checked, and go on where they broke off. A dataset that fails leaves the others.
    """
    from diarbench.corpora.presence import presence

    results = []
    for name, (path, card) in _chosen(names, cards).items():
        try:
            got = _get(name, path, card, into=into, agreed=agree)
        except DiarbenchError as error:
            sys.stderr.write(f"error: {error}\n")
            if isinstance(error, MissingRequirementError) and format is Format.table:
                _print_steps(name, card)
            results.append(_failed_json(name, card, error))
            continue
        if got.unchecked:
            more = f" and {len(got.unchecked) - 1} more" if len(got.unchecked) > 1 else ""
            note(f"{got.unchecked[0]}{more}: the card knows no SHA-256 of it, so only sizes were checked")
        # What was put elsewhere is looked for there.
        now = presence(name, path, _rooted(card, got.folder) if into is not None else card)
        results.append(_got_json(got, now, card))
        if format is Format.table:
            _print_got(got, now, card)
    if format is Format.json:
        print_json({"datasets": results})
    if all(result["error"] is not None for result in results):
        raise typer.Exit(2)
    if any(result["state"] != "here" for result in results):
        raise typer.Exit(1)


def verify(names: NamesArgument, cards: CardsOption = [], format: FormatOption = Format.table) -> None:  # noqa: B006
    """Whether datasets are those that their cards mean. By recordings, hours, speakers, speech, overlap, digests."""
    from diarbench.corpora.verifying import verify as verified

    results: list[Verification | tuple[str, str]] = []
    for name, (path, card) in _chosen(names, cards).items():
        try:
            with counting(name) as on_progress:
                results.append(verified(name, path, card, on_progress))
        except DiarbenchError as error:
            results.append((name, str(error)))
    if format is Format.json:
        print_json(
            {
                "datasets": [
                    {"name": one[0], "holds": None, "error": one[1], "findings": [], "notes": []}
                    if isinstance(one, tuple)
                    else {"name": one.name, "error": None, **one.as_json()}
                    for one in results
                ]
            }
        )
    else:
        _print_verified(results)
    if any(isinstance(one, tuple) for one in results):
        raise typer.Exit(2)
    if not all(one.holds for one in results if not isinstance(one, tuple)):
        raise typer.Exit(1)


def stats(
    names: NamesArgument,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Also draw it: a file that ends with .svg, .png, .pdf or .html."),
    ] = None,
    cards: CardsOption = [],  # noqa: B006
    format: Annotated[StatsFormat, typer.Option("--format", help="What to print.")] = StatsFormat.table,
) -> None:
    """Datasets in numbers, as Table I of a paper. Recordings, speakers, hours, speech, overlap, turns."""
    from diarbench.corpora import tables
    from diarbench.corpora.counting import summarise
    from diarbench.corpora.plotting import check_plot
    from diarbench.corpora.plotting import plot as draw
    from diarbench.corpora.verifying import recordings_of

    if plot is not None:
        check_plot(plot)
    summaries = []
    for name, (path, card) in _chosen(names, cards).items():
        with counting(name) as on_progress:
            recordings, remarks = recordings_of(name, path, card, on_progress)
        summaries.append(summarise(name, recordings))
        for remark in remarks:
            note(remark)
    if format is StatsFormat.json:
        print_json({"datasets": [one.as_json() for one in summaries]})
    elif format is StatsFormat.csv:
        sys.stdout.write(tables.comma_separated(summaries))
    elif format is StatsFormat.markdown:
        sys.stdout.write(tables.markdown(summaries))
    else:
        _print_columns([tables.heads(), *map(tables.cells, summaries)], tables.NOTES)
    if plot is not None:
        draw(summaries, plot)
        note(f"{plot} is written")


def _paths(names: Sequence[str] | None, cards: Sequence[Path]) -> dict[str, Path]:
    """Dataset cards by name, unread: a broken one is to be listed too."""
    from fnmatch import filter as matching

    from diarbench.errors import NotFoundError, did_you_mean
    from diarbench.registry import Registry

    known = Registry.standard(cards).datasets
    if not names:
        return dict(sorted(known.items()))
    chosen: dict[str, Path] = {}
    for name in names:
        found = (
            {Path(name).stem: Path(name)}
            if name.endswith(".toml")
            else {one: known[one] for one in ([name] if name in known else sorted(matching(known, name)))}
        )
        if not found:
            raise NotFoundError(f"no dataset {name!r}{did_you_mean(name, known)}")
        chosen |= found
    return chosen


def _chosen(names: Sequence[str], cards: Sequence[Path]) -> dict[str, tuple[Path, DatasetCard]]:
    from diarbench.registry import Registry

    return Registry.standard(cards).choose_datasets(names)


def _rooted(card: DatasetCard, folder: Path | None) -> DatasetCard:
    """The card with the folder as its root."""
    for name in ("folder", "kaldi", "pyannote", "lhotse", "huggingface"):
        layout = getattr(card, name)
        if layout is not None and folder is not None:
            return card.model_copy(update={name: layout.model_copy(update={"root": str(folder.resolve())})})
    return card


def _print_presence(found: Sequence[Presence]) -> None:
    out = console()
    if not found:
        out.print("no dataset cards")
        return
    width = max(len(one.name) for one in found)
    part_width = max(len(_part(one)) for one in found)
    for one in found:
        count = f"{one.found:,}" if one.expected is None else f"{one.found:,} of {one.expected:,}"
        style = {"here": "green", "partly": "yellow", "missing": "dim", "wrong": "red"}[one.state]
        line = f"{one.name:<{width}}  {_part(one):<{part_width}}  {one.state:<7}  {count:>13} recordings"
        tail = one.reason or ("" if one.audio else "references alone, no audio")
        out.print(f"{line}{': ' if tail else ''}{tail}", markup=False, style=style)
    if any(one.state in ("partly", "missing") for one in found):
        out.print("what is missing: `diarbench data get NAME` downloads what may be downloaded, and tells the rest")


def _part(one: Presence) -> str:
    return "/".join(filter(None, (one.corpus, one.part))) or "–"


def _get(name: str, path: Path, card: DatasetCard, *, into: Path | None, agreed: bool) -> Got:
    """Get one dataset and show how far it is. Raises DiarbenchError where that can't be."""
    from diarbench.corpora.getting import get_dataset, is_cached

    if is_cached(card):
        with counting("recordings") as on_progress:
            return get_dataset(name, path, card, into=into, agreed=agreed, on_progress=on_progress)
    with transfers() as watcher:
        return get_dataset(name, path, card, into=into, agreed=agreed, watcher=watcher)


def _failed_json(name: str, card: DatasetCard, error: DiarbenchError) -> dict[str, Any]:
    return {
        "name": name,
        "error": str(error),
        "folder": None,
        "fetched": [],
        "kept": 0,
        "unchecked": [],
        "state": None,
        "reason": None,
        "steps": card.steps or card.get,
    }


def _got_json(got: Got, now: Presence, card: DatasetCard) -> dict[str, Any]:
    return {
        "name": got.name,
        "error": None,
        "folder": str(got.folder) if got.folder is not None else None,
        "fetched": list(got.fetched),
        "kept": got.kept,
        "unchecked": list(got.unchecked),
        "state": now.state,
        "reason": now.reason,
        "steps": None if now.state == "here" else card.steps or card.get,
    }


def _print_got(got: Got, now: Presence, card: DatasetCard) -> None:
    out = console()
    where = f" in {got.folder}" if got.folder is not None else ""
    if got.fetched or got.kept:
        files = f"{len(got.fetched)} file{'' if len(got.fetched) == 1 else 's'} fetched"
        out.print(f"{got.name}: {files}, {got.kept} there before{where}", markup=False)
    if now.state == "here":
        count = f"{now.found:,} recordings"
        out.print(f"{got.name}: here, {count}; next: diarbench data verify {got.name}", markup=False)
        return
    place = f" (its folder is {got.folder})" if got.folder is not None else ""
    out.print(f"{got.name}: not all of it is here{place}: {now.reason}", markup=False, style="yellow")
    _print_steps(got.name, card)


def _print_steps(name: str, card: DatasetCard) -> None:
    out = console()
    out.print(f"how to get {name} by hand:", markup=False)
    for line in (card.steps or card.get).splitlines():
        out.print(f"  {line}", markup=False)


def _print_verified(results: Sequence[Verification | tuple[str, str]]) -> None:
    out = console()
    for one in results:
        if isinstance(one, tuple):
            sys.stderr.write(f"error: {one[1]}\n")
            continue
        known = [finding for finding in one.findings if finding.holds is not None]
        wrong = sum(finding.holds is False for finding in known)
        verdict = "as its card says" if not wrong else f"{wrong} of {len(known)} facts are not as its card says"
        out.print(f"{one.name}: {verdict}", markup=False, style="bold")
        for finding in one.findings:
            mark = {True: "ok    ", False: "FAILED", None: "      "}[finding.holds]
            out.print(f"  {mark} {finding.words}", markup=False, style="red" if finding.holds is False else None)
        for remark in one.notes:
            note(remark)


def _print_columns(rows: Sequence[Sequence[str]], notes: Sequence[str]) -> None:
    """A table whose columns become lines where there are fewer datasets than columns: it fits 80 columns."""
    from rich import box
    from rich.table import Table

    out = console()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for place, head in enumerate([rows[0][0], *(row[0] for row in rows[1:])]):
        table.add_column(head, justify="right" if place else "left", overflow="fold")
    for column in range(1, len(rows[0])):
        table.add_row(*(row[column] for row in rows))
    out.print(table)
    for remark in notes:
        out.print(remark, markup=False, style="dim")
