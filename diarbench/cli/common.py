"""Options and output that several verbs share."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


class Format(StrEnum):
    """How a verb prints its result."""

    table = "table"
    json = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="A table to read, or JSON with documented keys.")]
CardsOption = Annotated[
    list[Path],
    typer.Option("--cards", metavar="DIR", help="Look for cards here first: DIR/systems, DIR/datasets, DIR/reports."),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights", metavar="DIR", help="Look for weights here first: DIR/NAME of a repository, or DIR/PATH."
    ),
]
RunsOption = Annotated[
    list[Path], typer.Option("--runs", metavar="DIR", help="Where results are kept; several are read together.")
]
RuleOption = Annotated[
    str, typer.Option("--rule", help="What ranks: full (no collar), fair (±250 ms), forgiving (±250 ms, no overlap).")
]


def console() -> Console:
    """For results: standard output; 200 columns where it is no terminal, so that nothing is cut on a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 200, highlight=False, soft_wrap=not sys.stdout.isatty())


def note(text: str) -> None:
    """A remark on standard error, apart from results."""
    sys.stderr.write(f"note: {text}\n")


def print_json(value: Any) -> None:
    """JSON on standard output; NaN would be an error of ours."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
