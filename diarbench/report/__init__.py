"""A leaderboard, a published table or timelines on the page, in the terminal and in files: pure functions.

Nothing here touches the file system or a clock; what the formats need is imported when they are rendered.
"""

from diarbench.report.html import render_html, render_sheet_html
from diarbench.report.jsonable import leaderboard_json
from diarbench.report.reported import reported_on
from diarbench.report.sheets import lay_out, print_sheet, sheet_csv, sheet_json, sheet_latex, sheet_markdown
from diarbench.report.tables import render_csv, render_latex, render_markdown
from diarbench.report.terminal import print_leaderboard
from diarbench.report.timeline import Timeline, Timelines, make_timeline, timelines_json
from diarbench.report.timelinepage import render_timeline_html

__all__ = [
    "Timeline",
    "Timelines",
    "lay_out",
    "leaderboard_json",
    "make_timeline",
    "print_leaderboard",
    "print_sheet",
    "render_csv",
    "render_html",
    "render_latex",
    "render_markdown",
    "render_sheet_html",
    "render_timeline_html",
    "reported_on",
    "sheet_csv",
    "sheet_json",
    "sheet_latex",
    "sheet_markdown",
    "timelines_json",
]
