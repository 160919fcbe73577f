"""Where the numbers of a board come from, as flat tables: what all runs share once, and per system the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diarbench.report import text

if TYPE_CHECKING:
    from diarbench.leaderboard import Leaderboard

_MOST_ITEMS = 12  # of a list of plain values that are printed
_MOST_KEYS = 120  # of a system that are printed
_LONGEST_VALUE = 400  # characters
_BUDGET = 300_000  # characters for all systems together


def flatten(value: Mapping[str, Any]) -> dict[str, str]:
    """Nested mappings and lists as one mapping with dotted keys and printed values.

    >>> flatten({"a": {"b": 1, "c": [1, 2]}, "d": [{"e": None}], "f": {}, "g": True})
    {'a.b': '1', 'a.c': '1, 2', 'd.0.e': 'none', 'f': 'none', 'g': 'yes'}
    """
    flat: dict[str, str] = {}
    for key, item in value.items():
        _flatten(text.plain(key), item, flat)
    return flat


def common_facts(board: Leaderboard) -> dict[str, str]:
    """What every stored run of the board has in common; nothing with fewer than two runs."""
    runs = [flatten(run) for line in board.lines for run in line.entry.provenance]
    return _shared(runs) if len(runs) > 1 else {}


def provenance_tables(board: Leaderboard) -> list[dict[str, Any]]:
    """By system: `name`, number of `runs`, and `rows` of `key` with one value for all runs (`same`) or one for each
    (`cells`), less what all runs of the board share. `rows` is None where the page would grow too large; `more` is
    the number of keys left out.
    """
    common = common_facts(board)
    left = _BUDGET
    tables = []
    for line in board.lines:
        runs = [flatten(run) for run in line.entry.provenance]
        keys = [key for key in dict.fromkeys(key for run in runs for key in run) if key not in common]
        rows = [_row(key, runs) for key in keys[:_MOST_KEYS]]
        weight = sum(len(row["key"]) + sum(map(len, [row["same"] or "", *row["cells"]])) + 40 for row in rows)
        fits = weight <= left
        left -= weight if fits else 0
        tables.append(
            {
                "name": line.entry.system,
                "runs": len(runs),
                "rows": rows if fits else None,
                "more": max(0, len(keys) - _MOST_KEYS),
            }
        )
    return tables


def _row(key: str, runs: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    values = [run.get(key, text.NOTHING) for run in runs]
    same = values[0] if len(set(values)) == 1 else None
    return {"key": key, "same": same, "cells": [] if same is not None else values}


def _shared(runs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {key: value for key, value in runs[0].items() if all(run.get(key) == value for run in runs[1:])}


def _flatten(key: str, value: object, flat: dict[str, str]) -> None:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            _flatten(f"{key}.{text.plain(name)}", item, flat)
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value):
        for index, item in enumerate(value):
            _flatten(f"{key}.{index}", item, flat)
    else:
        flat[key] = _printed(value)


def _printed(value: object) -> str:
    if value is None or value in ({}, [], ()):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return text.clip(text.some([text.plain(item) for item in value], _MOST_ITEMS), _LONGEST_VALUE)
    return text.clip(text.plain(value), _LONGEST_VALUE)
