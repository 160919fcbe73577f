"""Options and output that several verbs share."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from diarbench.cards import ReportCard
    from diarbench.scoring import ScoringRule


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
    list[str] | None,
    typer.Option(
        "--rule",
        help="What ranks: full (no collar), fair (±250 ms), forgiving (±250 ms, no overlap), or as "
        "collar=0.1,overlap=skip with the collar in seconds on each side; repeatable: the first one ranks, the others "
        "are columns [full, or what the report card says].",
    ),
]


def board_rules(
    asked: Sequence[str] | None, report: tuple[str, ReportCard] | None = None
) -> tuple[ScoringRule, tuple[ScoringRule, ...]]:
    """The rule that ranks a board, and all of its rules: those that have names, that of its report card (its name or
    path, and what it says), and those asked for. Raises InputError, and CardError where the card names no rule."""
    from diarbench.errors import CardError, InputError
    from diarbench.scoring import FULL, RULES, parse_rule

    found = [parse_rule(text) for text in asked or ()]
    default = FULL
    if report is not None:
        name, card = report
        try:
            default = parse_rule(card.rule)
        except InputError as error:
            raise CardError(f"the report {name}: {error}") from error
    rules = {rule.name: rule for rule in (*RULES.values(), default, *found)}
    return (found or [default])[0], tuple(rules.values())


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
