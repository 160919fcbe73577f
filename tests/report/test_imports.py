from __future__ import annotations

import subprocess
import sys

import diarbench.report

HEAVY = {"altair", "vl_convert", "pandas", "tabulate", "jinja2", "markupsafe", "rich", "torch"}


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, diarbench.report; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "diarbench.report.html" in loaded
    assert not loaded & HEAVY


def test_the_public_list_is_exactly_this() -> None:
    boards = {"leaderboard_json", "print_leaderboard", "render_csv", "render_html", "render_latex", "render_markdown"}
    sheets = {"lay_out", "print_sheet", "render_sheet_html", "sheet_csv", "sheet_json", "sheet_latex", "sheet_markdown"}
    timelines = {"Timeline", "Timelines", "make_timeline", "render_timeline_html", "timelines_json"}
    names = boards | sheets | timelines | {"reported_on"}
    assert set(diarbench.report.__all__) == names
