from __future__ import annotations

import csv
import io
import re

import boards
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarbench.leaderboard import Leaderboard
from diarbench.report import render_csv, render_latex, render_markdown
from diarbench.report.columns import table_columns


def board_of(name: str, **changes: str) -> Leaderboard:
    return boards.make_board(boards.make_entry(name, 0.2, **changes), boards.make_entry("other", 0.3))


def markdown_cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def test_markdown_holds_every_column_and_line(realistic: Leaderboard) -> None:
    rendered = render_markdown(realistic)
    table = [line for line in rendered.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(realistic.lines)
    assert {len(markdown_cells(row)) for row in table} == {4 + len(table_columns(realistic))}
    first = markdown_cells(table[2])
    assert first[:5] == ["1", "base-bf16", "bfloat16", "cast", "**18.2**"]
    assert "Ranked by macro DER under full (no collar, overlap scored); lower is better." in rendered
    assert "voices (12 recordings, 24 min, SYNTHETIC)" in rendered
    assert "Δ: macro DER under full less that of base, in percentage points." in rendered
    assert (
        "unweighted mean of the datasets' DERs; missed, false alarm, confusion and macro JER are such means too."
        in rendered
    )


def test_markdown_tells_what_is_not_ranked_and_what_failed(realistic: Leaderboard) -> None:
    rendered = render_markdown(realistic)
    assert "- outside-program: not run on ami-excerpts" in rendered
    assert "- base-hidden50, ami-excerpts, 3 of 8 recordings" in rendered
    assert '- Whole tracebacks: "detail" in recordings/ID.json' in rendered
    assert "## Failures" not in render_markdown(board_of("fine"))


@given(st.text(max_size=30))
def test_markdown_rows_hold_whatever_a_name_holds(name: str) -> None:
    table = [line for line in render_markdown(board_of("a", title=name)).split("\n") if line.startswith("|")]
    assert len(table) == 4
    assert len({len(markdown_cells(row.replace("\\\\", ""))) for row in table}) == 1
    assert "<" not in "".join(table)


def test_latex_is_a_booktabs_table(realistic: Leaderboard) -> None:
    rendered = render_latex(realistic)
    columns = 3 + len(table_columns(realistic))
    body = rendered[rendered.index(r"\midrule") : rendered.index(r"\bottomrule")].splitlines()[1:-1]
    assert len(body) == len(realistic.lines)
    assert {len(re.split(r"(?<!\\)&", row)) for row in body} == {columns}
    assert all(row.endswith(r"\\") for row in body)
    assert rf"\begin{{tabular}}{{rll{'r' * (columns - 3)}}}" in rendered
    assert r"1 & base-bf16 & cast & \textbf{18.2} & 14.2 & 11.1 & $-$0.21" in rendered
    spans = [int(width) for width in re.findall(r"\\multicolumn\{(\d+)\}", rendered)]
    assert sum(spans) == columns - 3
    assert r"\cmidrule(lr){4-7}" in rendered
    assert r"$\pm$250 ms collar" in rendered


def test_latex_says_what_it_needs_and_keeps_its_caption_short(realistic: Leaderboard) -> None:
    rendered = render_latex(realistic).splitlines()
    assert rendered[:2] == [r"% needs \usepackage{booktabs, graphicx, amssymb}", r"\begin{table}"]
    (caption,) = [line for line in rendered if r"\caption" in line]
    assert caption.strip() == (
        rf"\caption{{{realistic.title}. Ranked by macro DER under full (no collar, overlap scored); lower is better.}}"
    )
    notes = rendered[rendered.index(r"  \end{tabular}}") + 1 :]
    assert r"    \par Not ranked: outside-program: not run on ami-excerpts." in notes
    assert notes[-2:] == [r"  \end{minipage}", r"\end{table}"]


def test_columns_that_would_be_empty_are_left_out() -> None:
    """Of systems without a baseline, a network or a speed; and of a board on which nothing has a rank."""
    bare = {"rtf": None, "parameters": None, "compression": {}}
    board = boards.make_board(boards.make_entry("a", 0.2, **bare), boards.make_entry("b", 0.3, **bare))
    (heads, _, *rows) = [line for line in render_markdown(board).splitlines() if line.startswith("|")]
    assert markdown_cells(heads)[:5] == ["Rank", "System", "Title", "Macro DER (%): full", "Macro DER (%): fair"]
    assert not re.search("Δ|Compression|Size", heads)
    assert [len(markdown_cells(row)) for row in rows] == [len(markdown_cells(heads))] * 2
    latex = render_latex(board)
    assert not re.search(r"Delta|Compression|Size", latex)
    assert r"    & & \multicolumn{3}{c}{Macro DER (\%)} &" in latex
    assert r"\cmidrule(lr){3-5}" in latex
    assert "delta.full" in render_csv(board), "which has the same names for every board"
    entry = boards.make_entry("a", 0.2, **bare)
    failed = boards.make_board(boards.fail(boards.fail(entry, "voices", 1, "x"), "ami-excerpts", 1, "x"))
    (heads, _, row) = [line for line in render_markdown(failed).splitlines() if line.startswith("|")]
    assert markdown_cells(heads) == ["Rank", "System", "Title", "Macro DER (%): full"]
    assert markdown_cells(row) == ["–", "a", "The system a", "–"]


def test_latex_escapes_what_it_would_obey() -> None:
    rendered = render_latex(board_of(r"50%_of $x$ & {y} #1 ~^\input<a>"))
    assert r"50\%\_of \$x\$ \& \{y\} \#1 \textasciitilde{}\textasciicircum{}\textbackslash{}input" in rendered
    assert r"\textless{}a\textgreater{}" in rendered


@given(st.text(max_size=30))
def test_latex_stays_balanced_whatever_a_name_holds(name: str) -> None:
    rendered = render_latex(board_of(name or "x"))
    bare = re.sub(r"\\[{}$&#%_\\]", "", rendered)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert "%" not in bare.partition("\n")[2]  # a comment would swallow the end of the line
    assert "#" not in bare


def test_csv_comes_back_as_it_was_measured(realistic: Leaderboard) -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv(realistic))))
    assert [row["system"] for row in rows] == [line.entry.system for line in realistic.lines]
    for row, line in zip(rows, realistic.lines, strict=True):
        assert (int(row["rank"]) if row["rank"] else None) == line.rank
        for column in table_columns(realistic, everything=True):
            value = column.value(line)
            assert (float(row[column.key]) if row[column.key] else None) == value
        assert row["unranked"] == (line.unranked or "")


def test_csv_has_speedups_as_numbers(measured: Leaderboard) -> None:
    rows = {row["system"]: row for row in csv.DictReader(io.StringIO(render_csv(measured)))}
    place = "invented-4c-16g-eb1f9a.cuda.2.base"
    row = rows["base-zero50"]
    found = [row[f"speedup{key}.{place}"] for key in ("", "_low", "_high", "_within_noise", "_busy")]
    assert [*map(float, found)] == [0.99, pytest.approx(0.9603), pytest.approx(1.0197), 1, 1]
    assert rows["base"][f"speedup_busy.{place}"] == rows["silence"][f"speedup.{place}"] == ""
    assert row["macs_pipeline_per_s"] == "179550000.0"
    assert row["held_bytes"] == "7560000"


def test_markdown_and_latex_tell_speedups_and_where_they_are_from(measured: Leaderboard) -> None:
    rendered = render_markdown(measured)
    assert r"1.01× \[0.98, 1.04\] ≈" in rendered
    assert "## Measured cost" in rendered
    assert "Measured on CPU, 1 thread on invented-4c-16g-eb1f9a: against base" in rendered
    assert "base-w08: what was measured" in rendered
    assert "Measured on: invented-4c-16g-eb1f9a." in rendered
    latex = render_latex(measured)
    assert r"1.01$\times$ [0.98, 1.04] $\approx$" in latex
    assert "within the noise of its session" in latex


def test_csv_columns_have_types_in_pandas(realistic: Leaderboard) -> None:
    frame = pd.read_csv(io.StringIO(render_csv(realistic)))
    assert frame["macro_der.full"].dtype == float
    assert frame["delta.full"].notna().sum() == 8
    assert frame.set_index("system").loc["base-zero50", "nonzero_parameters"] == 958_000


def test_csv_always_has_both_counts() -> None:
    assert "nonzero_parameters" in render_csv(board_of("dense")).splitlines()[0]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1"])
def test_csv_text_is_never_a_formula(name: str) -> None:
    row = next(csv.DictReader(io.StringIO(render_csv(board_of(name)))))
    assert row["system"].startswith("'")


def test_csv_negative_differences_stay_numbers(realistic: Leaderboard) -> None:
    row = next(csv.DictReader(io.StringIO(render_csv(realistic))))
    assert float(row["delta.full"]) < 0


@given(st.text(max_size=30))
def test_csv_keeps_one_line_for_each_system(name: str) -> None:
    rendered = render_csv(board_of(name, title=name))
    assert len(list(csv.reader(io.StringIO(rendered)))) == 3
    rendered.encode()


def test_empty_boards_have_tables_too() -> None:
    board = boards.make_board(columns=())
    assert "Datasets: none." in render_markdown(board)
    assert r"\bottomrule" in render_latex(board)
    assert render_csv(board).count("\n") == 1
