"""`diarbench count`: parameters and multiply-accumulates, from cards alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diarbench.cli.common import CardsOption, Format, FormatOption, console, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from diarbench.execute.counting import Counted


def count(
    names: Annotated[
        list[str], typer.Argument(metavar="CARD...", help="Systems: names, patterns ('silero-*') or .toml.")
    ],
    seconds: Annotated[
        float | None, typer.Option(min=0.01, max=3600, help="Count MACs on so much audio too.", show_default=False)
    ] = None,
    cards: CardsOption = [],  # noqa: B006  typer reads it, nobody writes it
    format: FormatOption = Format.table,
) -> None:
    """Parameters and multiply-accumulates (MACs) of systems. By network and part; no weights and no audio needed."""
    from diarbench.execute.counting import count_cards
    from diarbench.registry import Registry
    from diarbench.report.text import plain

    counted = count_cards(Registry.standard(cards).choose_systems(names), seconds)
    known = [one for one in counted if one.size is not None]
    if format is Format.json:
        print_json({"systems": {one.name: _as_json(one, seconds) for one in counted}})
    elif known:
        out = console()
        out.print("MACs are multiply-accumulates, for a batch of 1", markup=False)
        out.print(_systems(known, seconds))
        for alike in _alike(known):
            out.print(f"\n{', '.join(plain(one.name) for one in alike)}", markup=False)
            out.print(_networks(alike[0], seconds))
    for one in counted:
        if one.problem is not None:
            sys.stderr.write(plain(f"{'error' if not known else 'not counted'}: {one.name}: {one.problem}") + "\n")
    if len(known) < len(counted):
        raise typer.Exit(1 if known else 2)


def _as_json(one: Counted, seconds: float | None) -> dict[str, Any]:
    """The keys of `diarbench measure` (docs/measuring.md), as far as they can be told without a run."""
    from diarbench.bench.results import macs_json, parts_json

    size: dict[str, Any] = asdict(one.size) if one.size is not None else {}
    return {
        "error": one.problem,
        "parameters": size.get("parameters"),
        "encoder_parameters": size.get("encoder_parameters"),
        "bytes": {"files": size.get("weight_bytes"), "held": None, "by_type": {}},
        "macs": macs_json(size, None, None),
        "macs_at": {"seconds": seconds, "encoder": one.encoder_macs, "stages": dict(one.macs)} if seconds else None,
        "parts": parts_json(size),
        "stages": {
            name: {key: stage[key] for key in ("parameters", "macs_1s", "window", "macs_window")}
            for name, stage in size.get("stages", {}).items()
        },
    }


def _systems(known: Sequence[Counted], seconds: float | None) -> Table:
    from diarbench.report import text

    table = _table(
        "system", "parameters", "files", "encoder", "its MACs, 1 s", "per s of its own window", *_asked("its ", seconds)
    )
    for one in known:
        assert one.size is not None
        size = one.size
        files = text.size(size.weight_bytes) if size.weight_bytes is not None else text.NOTHING
        more = [_macs(one.encoder_macs)] if seconds else []
        table.add_row(
            text.plain(one.name),
            _exact(size.parameters),
            files,
            _exact(size.encoder_parameters),
            _macs(size.encoder_macs_1s),
            _per_second(size.encoder_macs_window, size.encoder_window),
            *more,
        )
    return table


def _alike(known: Sequence[Counted]) -> list[list[Counted]]:
    """Systems whose networks have the same sizes, together: variants often differ in nothing that counts."""
    found: dict[str, list[Counted]] = {}
    for one in known:
        assert one.size is not None
        found.setdefault(repr(one.size.stages), []).append(one)
    return list(found.values())


def _networks(one: Counted, seconds: float | None) -> Table:
    """Each network of a system and its parts."""
    from diarbench.report.text import plain

    table = _table("network", "parameters", "MACs, 1 s", "per s of its own window", *_asked("", seconds))
    assert one.size is not None
    for stage, size in one.size.stages.items():
        more = [_macs(one.macs.get(stage))] if seconds else []
        own = _per_second(size.macs_window, size.window)
        table.add_row(plain(stage), _exact(size.parameters), _macs(size.macs_1s), own, *more)
        for part, part_size in size.parts.items():
            table.add_row(f"  {plain(part)}", _exact(part_size.parameters), _macs(part_size.macs_1s))
    return table


def _asked(what: str, seconds: float | None) -> list[str]:
    return [f"{what}{seconds:g} s"] if seconds else []


def _table(first: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _exact(number: int | None) -> str:
    from diarbench.report.text import NOTHING

    return f"{number:,}" if number is not None else NOTHING


def _macs(number: float | None) -> str:
    """Four digits: three don't tell one pruned network from the next."""
    from diarbench.report.text import NOTHING

    if number is None:
        return NOTHING
    for power, unit in ((9, "G"), (6, "M"), (3, "K")):
        if number >= 10**power:
            return f"{number / 10**power:#.4g} {unit}"
    return f"{number:g}"


def _per_second(macs: int | None, window: float | None) -> str:
    return f"{_macs(macs / window)} ({window:g} s)" if macs is not None and window else _macs(None)
