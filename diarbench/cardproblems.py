"""What is wrong with a card, in one line: the file's line, the key, and what would be right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from diarbench.errors import did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# Tags of a key that is a text or a table. They are not shown: pydantic puts them into the place of an error.
TEXT, TABLE = "(a text)", "(a table)"

# pydantic's words for these speak of Python.
_SHOULD = {
    "bool_type": "should be true or false",
    "dict_type": "should be a table",
    "float_type": "should be a number",
    "int_from_float": "should be a whole number",
    "int_type": "should be a whole number",
    "list_type": "should be a list",
    "mapping_type": "should be a table",
    "model_type": "should be a table",
    "string_pattern_mismatch": "should be 64 hexadecimal digits in lower case",
    "string_too_short": "should not be empty",
    "string_type": "should be a text",
    "too_short": "should not be empty",
    "tuple_type": "should be a list",
}


def explain(path: Path, text: str, kind: type[BaseModel], error: ValidationError) -> str:
    """The first problem in one line; how many more there are."""
    # A mistyped key is both unknown and missing; the first says more.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    keys = [str(part) for part in first["loc"] if part not in (TEXT, TABLE)]
    line = _line_of(text, keys)
    where = f"{path}, line {line}" if line else f"{path}"
    dotted = ".".join(keys)
    if first["type"] == "extra_forbidden":
        what = f"unknown key {dotted!r}{did_you_mean(keys[-1], _known_keys(kind, keys[:-1]))}"
    elif first["type"] == "missing":
        what = f"the key {dotted!r} is missing"
    elif first["type"] == "value_error":
        what = (f"[{dotted}]: " if dotted else "") + str(first["ctx"]["error"])
    else:
        what = f"{dotted!r} {should_be(first)}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {what}{more}"


def should_be(problem: ErrorDetails) -> str:
    """What a value of the wrong kind should be, and what was found."""
    found = repr(problem["input"])
    found = found if len(found) <= 60 else f"{found[:60]}..."
    return f"{_SHOULD.get(problem['type']) or problem['msg'].removeprefix('Input ')}, found {found}"


def _known_keys(kind: type[BaseModel], keys: list[str]) -> list[str]:
    """The keys that are allowed in the table that `keys` leads to."""
    model: Any = kind
    for key in keys:
        field = model.model_fields.get(key) if hasattr(model, "model_fields") else None
        if field is None:
            # a free name, as in [weights.NAME]: the table's own type is already in `model`
            continue
        model = _model_in(field.annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        if found := _model_in(part):
            return found
    return None


def _line_of(text: str, keys: list[str]) -> int | None:
    """The line that sets the dotted key, or that opens the nearest table around it; TOML readers don't say."""
    best: tuple[int, int] | None = None
    table: list[str] = []
    in_text = False  # of several lines, in triple quotes
    for number, line in enumerate(text.split("\n"), start=1):
        was_in_text, in_text = in_text, in_text ^ (len(re.findall(r'"""|\'\'\'', line)) % 2 == 1)
        if was_in_text:
            continue
        if header := re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line):
            table = [part.strip().strip("\"'") for part in header[1].split(".")]
            here = table
        elif setting := re.match(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*[\w"'-]+)*)\s*=""", line):
            here = table + [part.strip().strip("\"'") for part in setting[1].split(".")]
        else:
            continue
        shared = min(len(here), len(keys))
        if here[:shared] == keys[:shared] and shared > (best[0] if best else 0):
            best = (shared, number)
    return best[1] if best else None
