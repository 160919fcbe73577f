"""LaTeX is LaTeX: what the formats write is compiled, where an engine is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import boards
import pytest

from diarbench.published import read_published
from diarbench.report import lay_out, render_latex, reported_on, sheet_latex
from diarbench.report.escapes import latex, latex_tabular

TABLES = [read_published(path) for path in sorted(Path(__file__).resolve().parents[2].glob("reports/published/*.toml"))]
PREAMBLE = "\\documentclass{article}\n\\usepackage{booktabs, graphicx, amssymb}\n\\begin{document}\n"

# "Overfull" is said of lines that stick out; two points nobody sees.
TOO_WIDE = re.compile(r"Overfull \\hbox \((\d+\.\d+)pt too wide\)")


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[[str], str]:
    """Compile the body of a document; what the engine says. A warning of something that sticks out is a failure."""
    engine = next(filter(None, map(shutil.which, ("pdflatex", "lualatex", "xelatex", "tectonic"))), None)
    if engine is None:
        pytest.skip("no LaTeX here: pdflatex, lualatex, xelatex or tectonic, with booktabs and graphicx")
    how = [] if Path(engine).stem == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]

    def run(body: str) -> str:
        (tmp_path / "page.tex").write_text(f"{PREAMBLE}{body}\n\\end{{document}}\n", encoding="utf-8")
        done = subprocess.run(
            [engine, *how, "page.tex"], cwd=tmp_path, capture_output=True, check=False, timeout=120
        )  # fmt: skip
        said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
        assert done.returncode == 0, said[-3000:]
        assert (tmp_path / "page.pdf").stat().st_size > 1000
        assert [wide for wide in TOO_WIDE.findall(said) if float(wide) > 2] == []
        assert "Float too large" not in said
        return said

    return run


def test_every_published_table_compiles(compiled):
    """Measured columns empty, as where nothing was run."""
    assert len(TABLES) > 15
    compiled("\n\\clearpage\n".join(sheet_latex(lay_out(table, None)) for table in TABLES))


@pytest.mark.parametrize("name", ["realistic", "measured", "hostile"])
def test_leaderboards_compile(compiled, request, name):
    compiled(render_latex(request.getfixturevalue(name)))


def test_a_leaderboard_with_reported_figures_compiles(compiled):
    columns = [boards.make_column(name) for name in ("ami-array", "aishell-4", "alimeeting-far")]
    entry = boards.make_entry("diarizen-wavlm-base-s80-md", 0.2, columns=columns)
    board = boards.make_board(entry, columns=columns)
    reported = reported_on(board, TABLES)
    assert len(reported.rows) > 20
    assert reported.pairs
    compiled(render_latex(board, reported))
    compiled(sheet_latex(lay_out(next(table for table in TABLES if table.name == "pruning-table-8"), board)))


def test_whatever_stands_in_a_cell_compiles(compiled):
    """Each character that means something to LaTeX, also first in a row, where `[` and `*` belong to the one before."""
    odd = ["\\", *"{}$&#%_^~<>|\"`'*[]!?-=±×Δ−–…µ≈✓“”é", "[1pt] x", "* y", "a_b^c%d&e#f$g", "\\end{tabular}"]
    compiled("\n".join(latex_tabular("ll", [rf"{latex(text)} & {latex(text)} \\" for text in [*odd, *odd]])))


def test_only_what_is_too_wide_is_made_smaller(compiled):
    for width, cells in ((1, "x"), (60, " & ".join(["wide"] * 60))):
        tabular = "\n".join(latex_tabular("l" * width, [cells + r" \\"])).strip()
        said = compiled(rf"\setbox0\hbox{{{tabular}}}\typeout{{width \the\wd0, line \the\linewidth}}\box0")
        found = re.search(r"width ([\d.]+)pt, line ([\d.]+)pt", said)
        assert found is not None
        assert (float(found[1]) == pytest.approx(float(found[2]), abs=0.1)) is (width == 60)
