"""Text that shows as it is in Markdown, LaTeX and CSV."""

from __future__ import annotations

import re
from collections.abc import Iterable

from diarbench.report import text

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}",
    "±": r"$\pm$", "×": r"$\times$", "Δ": r"$\Delta$", "−": "$-$", "–": "--", "…": r"\dots{}", "µ": r"$\mu$",
    "≈": r"$\approx$", "✓": r"$\checkmark$",
}  # fmt: skip
_MARKDOWN = re.compile(r"([\\`*_\[\]|~])")
_FORMULA = re.compile(r"\s*[=+\-@\t\r＝＋－＠]")


def markdown(value: str) -> str:
    """The text as Markdown shows it as it is, also inside a cell."""
    escaped = text.plain(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", escaped)


def markdown_row(cells: Iterable[str]) -> str:
    """A row of a table, of cells that are Markdown already."""
    return f"| {' | '.join(cells)} |"


def latex(value: str) -> str:
    """The text as LaTeX prints it as it is."""
    return "".join(_LATEX.get(character, character) for character in text.plain(value))


def csv_text(value: str) -> str:
    """The text with an apostrophe in front where a spreadsheet would take it for a formula."""
    cleaned = text.plain(value)
    return f"'{cleaned}" if _FORMULA.match(cleaned) else cleaned
