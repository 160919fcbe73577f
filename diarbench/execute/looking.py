"""A look at a system that isn't built: its adapter held against a card's options, its networks without weights."""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from diarbench.cardproblems import should_be
from diarbench.errors import AdapterError, DiarbenchError
from diarbench.execute.child import one_line
from diarbench.execute.loading import arguments_of, imported_adapter
from diarbench.measure.counts import build_networks
from diarbench.measure.networks import Network
from diarbench.plan import Adapter

_OFFERED = ("device", "weights", "files")  # what the harness hands to adapters that take it


def look_at(adapter: Adapter, options: Mapping[str, Any], *, networks: bool = True) -> Mapping[str, Network] | None:
    """The networks of a system by its card's options; None where the adapter shows none, or without `networks`.

    The adapter's code is imported, and nothing is built or fetched. Raises AdapterError where that fails, or where the
    adapter doesn't take an option, lacks one that it needs, says in its constructor's annotations that it takes another
    type, or can't make its networks of them; where a module is missing, ModuleNotFoundError is its cause.
    """
    try:
        # What a stranger's code prints is no part of the answer.
        with (
            contextlib.redirect_stdout(sys.stderr),
            imported_adapter(adapter.file, adapter.module, adapter.attribute) as adapter_class,
        ):
            arguments_of(adapter_class, options, dict.fromkeys(_OFFERED))
            _check_types(adapter_class, options)
            return build_networks(adapter_class, options) if networks else None
    except DiarbenchError:
        raise
    except (Exception, SystemExit) as error:
        raise AdapterError(f"its adapter can't be imported: {one_line(error, adapter.file)}") from error


def _check_types(adapter_class: type, options: Mapping[str, Any]) -> None:
    """Raises AdapterError for a value that the adapter's own annotations don't allow."""
    for name, kind in _annotations(adapter_class).items():
        if name not in options:
            continue
        try:
            # As JSON: there a list may stand for a tuple, and a text for a path, but not a text for a number.
            TypeAdapter(kind).validate_json(json.dumps(options[name]), strict=True)
        except ValidationError as error:
            raise AdapterError(
                f"{adapter_class.__name__} can't be built from the card's [options]: {name} "
                f"{should_be(error.errors()[0])}"
            ) from error
        except Exception:  # noqa: BLE001, S112  an annotation may be anything: one that is no type says nothing
            continue


def _annotations(adapter_class: type) -> dict[str, Any]:
    """The types of an adapter's options, as far as it says them: also those of `**options: Unpack[SomeTypedDict]`."""
    constructor: Any = getattr(adapter_class, "__init__")  # noqa: B009  mypy minds `adapter_class.__init__`
    try:
        hints = typing.get_type_hints(constructor)
        for name, parameter in inspect.signature(constructor).parameters.items():
            kind = hints.pop(name, None) if parameter.kind is inspect.Parameter.VAR_KEYWORD else None
            if typing.get_origin(kind) is typing.Unpack:
                hints |= typing.get_type_hints(typing.get_args(kind)[0])
    except Exception:  # noqa: BLE001  names that exist for type checkers alone, for one
        return {}
    return {name: kind for name, kind in hints.items() if name not in ("return", *_OFFERED)}
