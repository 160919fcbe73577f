"""Text that shows as it is in Markdown, LaTeX and CSV."""

from __future__ import annotations

import re
from collections.abc import Iterable

from diarbench.report import text

# The first line of what a document takes in, as a comment: these packages are its own to load.
LATEX_NEEDS = r"% needs \usepackage{booktabs, graphicx, amssymb}"
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\texttt{\char34}", "`": r"\textasciigrave{}",
    "±": r"$\pm$", "×": r"$\times$", "Δ": r"$\Delta$", "−": "$-$", "–": "--", "…": r"\dots{}", "µ": r"$\mu$",
    "≈": r"$\approx$", "✓": r"$\checkmark$",
    "†": r"\dag{}", "‡": r"\ddag{}",
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
    """The text as LaTeX prints it as it is, also in the first cell of a row: there `[` and `*` would be read as
    belonging to the end of the row before."""
    cleaned = text.plain(value)
    start = "{}" if cleaned.lstrip().startswith(("[", "*")) else ""
    return start + "".join(_LATEX.get(character, character) for character in cleaned)


def latex_tabular(layout: str, lines: Iterable[str]) -> list[str]:
    r"""A `tabular` of these lines within `\resizebox` (graphicx): one wider than the page is made as wide as it is."""
    fit = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"
    return [rf"  {fit}{{\begin{{tabular}}{{{layout}}}", *(f"    {line}" for line in lines), r"  \end{tabular}}"]


def latex_notes(sentences: Iterable[str]) -> list[str]:
    """Sentences below a table, in small letters."""
    return [
        r"  \par\smallskip\begin{minipage}{\linewidth}\raggedright\footnotesize",
        *(rf"    \par {latex(sentence)}" for sentence in sentences),
        r"  \end{minipage}",
    ]


def csv_text(value: str) -> str:
    """The text with an apostrophe in front where a spreadsheet would take it for a formula."""
    cleaned = text.plain(value)
    return f"'{cleaned}" if _FORMULA.match(cleaned) else cleaned
