"""What pages are made of: templates that escape, style and scripts that stand in the page, a policy of digests."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

from diarbench.report import text

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup


def environment() -> jinja2.Environment:
    """The templates; what is put into them appears as text whatever it holds."""
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("diarbench.report"),
        autoescape=True,  # for every template: select_autoescape goes by file endings, and .j2 is none of its own
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
    )
    helpers = {function.__name__: function for function in (text.many, text.minutes, text.some, text.clip, text.plain)}
    templates.globals.update(helpers)
    return templates


def _printable(value: object) -> object:
    """Text without characters that can't be encoded or that turn the line's direction."""
    return text.plain(value) if type(value) is str else value


def resource(name: str) -> str:
    """A style sheet or script of this package."""
    from importlib.resources import files

    return (files("diarbench.report") / "templates" / name).read_text(encoding="utf-8")


def raw(source: str, end: str) -> Markup:
    """A style sheet or script to stand in its element as it is; raises ValueError if it would end the element."""
    from markupsafe import Markup

    if end in source.lower() or "<!--" in source or "\r" in source:
        raise ValueError(f"an inlined file holds {end}, <!-- or a carriage return, which HTML would change")
    return Markup(source)  # noqa: S704  a file of this package or of the chart library


def script_json(value: object) -> Markup:
    """JSON that can stand in a script element: no character in it means anything to HTML."""
    from markupsafe import Markup

    encoded = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        encoded = encoded.replace(character, f"\\u{ord(character):04x}")
    return Markup(encoded)  # noqa: S704  escaped just above; json.dumps escapes all that is not ASCII


def digest(source: str) -> str:
    """How a policy names a script or style sheet that it admits."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
