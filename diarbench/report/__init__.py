"""A leaderboard on the page, in the terminal and in files: pure functions of a `Leaderboard`.

Nothing here touches the file system or a clock; what the formats need is imported when they are rendered.
"""

from diarbench.report.html import render_html
from diarbench.report.jsonable import leaderboard_json
from diarbench.report.tables import render_csv, render_latex, render_markdown
from diarbench.report.terminal import print_leaderboard

__all__ = ["leaderboard_json", "print_leaderboard", "render_csv", "render_html", "render_latex", "render_markdown"]
