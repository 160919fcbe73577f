"""A leaderboard or a published table on the page, in the terminal and in files: pure functions.

Nothing here touches the file system or a clock; what the formats need is imported when they are rendered.
"""

from diarbench.report.html import render_html, render_sheet_html
from diarbench.report.jsonable import leaderboard_json
from diarbench.report.reported import reported_on
from diarbench.report.sheets import lay_out, print_sheet, sheet_csv, sheet_json, sheet_latex, sheet_markdown
from diarbench.report.tables import render_csv, render_latex, render_markdown
from diarbench.report.terminal import print_leaderboard

__all__ = [
    "lay_out",
    "leaderboard_json",
    "print_leaderboard",
    "print_sheet",
    "render_csv",
    "render_html",
    "render_latex",
    "render_markdown",
    "render_sheet_html",
    "reported_on",
    "sheet_csv",
    "sheet_json",
    "sheet_latex",
    "sheet_markdown",
]
