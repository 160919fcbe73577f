"""`diarbench list`, `check` and `new`: what there is, does it hold, and how to start one."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diarbench.cli.common import CardsOption, Format, FormatOption, WeightsOption, console, note, print_json
from diarbench.errors import CardError, InputError

if TYPE_CHECKING:
    from diarbench.registry import Registry

new_app = typer.Typer(help="Start something of your own.", no_args_is_help=True, rich_markup_mode=None)


class Kind(StrEnum):
    """What cards are about."""

    systems = "systems"
    datasets = "datasets"
    reports = "reports"
    published = "published"


@new_app.callback()
def _new() -> None:
    """Start something of your own."""


def list_cards(
    kind: Annotated[Kind | None, typer.Argument(help="Only these [all].")] = None,
    cards: CardsOption = [],  # noqa: B006  typer reads it, nobody writes it
    format: FormatOption = Format.table,
) -> None:
    """Systems, datasets, reports and published tables that there are."""
    from diarbench.registry import Registry

    registry = Registry.standard(cards)
    kinds = [kind] if kind is not None else list(Kind)
    found = {wanted.value: _rows(registry, wanted) for wanted in kinds}
    for text in (text for wanted in kinds if wanted is not Kind.published for text in registry.remarks(wanted.value)):
        note(text)
    if format is Format.json:
        print_json(found)
        return
    out = console()
    for name, rows in found.items():
        out.print(f"{name}", style="bold")
        width = max((len(row["name"]) for row in rows), default=0)
        for row in rows:
            text = row.get("error") or row["title"]
            out.print(f"  {row['name']:<{width}}  {text}", markup=False, style="red" if "error" in row else None)
    if any("error" in row for rows in found.values() for row in rows):
        raise typer.Exit(1)


def check(
    names: Annotated[
        list[str],
        typer.Argument(metavar="CARD...", help="Systems, datasets, reports, published tables: names or .toml."),
    ],
    weights: WeightsOption = None,
    no_weights: Annotated[
        bool, typer.Option("--no-weights", help="Fetch and run nothing: card, adapter, options, networks.")
    ] = False,
    cards: CardsOption = [],  # noqa: B006
    format: FormatOption = Format.table,
) -> None:
    """Whether a card holds: keys, files, digests, requirements. A system also runs on ten seconds of audio."""
    from diarbench.checking import check_card
    from diarbench.registry import Registry
    from diarbench.weights import check_folder

    if weights is not None and no_weights:
        raise InputError("--weights DIR and --no-weights exclude each other; leave one of them out")
    check_folder(weights)
    registry = Registry.standard(cards)
    results = [result for name in names for result in check_card(registry, name, run=not no_weights, weights=weights)]
    for text in dict.fromkeys(text for result in results for text in result.notes):
        note(text)
    if format is Format.json:
        print_json({"checks": [result.as_json() for result in results]})
    else:
        out = console()
        for result in results:
            mark = "ok    " if result.problem is None else "FAILED"
            out.print(f"{mark} {result.kind} {result.name}: {result.problem or result.summary}", markup=False)
    if any(result.problem is not None for result in results):
        raise typer.Exit(1)


@new_app.command("system")
def new_system(
    name: Annotated[str, typer.Argument(help="Its name: lower-case letters, digits, '.', '_' and '-'.")],
    cards: Annotated[Path, typer.Option("--cards", metavar="DIR", help="Write below DIR/systems.")] = Path(),
) -> None:
    """Write a card and an adapter that work, to begin from."""
    from diarbench.registry import Registry
    from diarbench.scaffold import write_system

    registry = Registry((cards, *Registry.standard().roots))
    # Not of systems alone: `diarbench check NAME` takes names of all kinds.
    taken = registry.published | registry.reports | registry.datasets | registry.systems
    card, adapter = write_system(name, cards / "systems", taken)
    typer.echo(f"written: {card} and {adapter}\nnext: diarbench check {name}; then put your system into {adapter.name}")


def _rows(registry: Registry, kind: Kind) -> list[dict[str, Any]]:
    """One row per card; a broken card is a row that says so, and the others are still listed."""
    from diarbench.cards import DatasetCard, ReportCard, expand, read_card
    from diarbench.cards import SystemCard as System
    from diarbench.published import read_published

    rows: list[dict[str, Any]] = []
    for name, path in getattr(registry, kind.value).items():
        try:
            if kind is Kind.systems:
                card = read_card(path, System)
                for spec in expand(name, path, card):
                    method = card.compression.get("method", "none")
                    rows.append({"name": spec.name, "title": card.title, "baseline": card.baseline, "method": method})
            elif kind is Kind.datasets:
                dataset = read_card(path, DatasetCard)
                rows.append({"name": name, "title": dataset.title, "synthetic": dataset.synthetic, "get": dataset.get})
            elif kind is Kind.reports:
                rows.append({"name": name, "title": read_card(path, ReportCard).title})
            else:
                table = read_published(path).card
                rows.append({"name": name, "title": table.title, "source": table.source.short})
        except CardError as error:
            rows.append({"name": name, "error": str(error)})
    return rows
