"""Published tables as they are laid out: every format holds every figure with its own digits."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import boards
import pytest
from pages import read_page
from rich.console import Console

from diarbench.published import read_published
from diarbench.report import (
    lay_out,
    print_sheet,
    render_sheet_html,
    sheet_csv,
    sheet_json,
    sheet_latex,
    sheet_markdown,
)
from diarbench.report.reported import LABEL
from diarbench.report.sheets import pair_table

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "reports" / "published").glob("*.toml"))


def unescaped(cell: str) -> str:
    return re.sub(r"\\textsuperscript\{\w+\}|\\(?=[%*])", "", cell).strip()


def rows_of(rendered: str, separator: str) -> list[list[str]]:
    """Rows of a Markdown or LaTeX table that hold figures, without marks of footnotes."""
    lines = [
        line.strip().removesuffix("\\\\").strip().strip("|") for line in rendered.splitlines() if separator in line
    ]
    return [
        [re.sub(r" \\\[\w+\\\]", "", unescaped(cell)) for cell in re.split(rf"(?<!\\){re.escape(separator)}", line)]
        for line in lines
    ]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_table_renders_with_all_its_figures(path):
    table = read_published(path)
    sheet = lay_out(table, None)
    wanted = [[figure.text for figure in table.row_figures(row) if figure] for row in range(len(table.card.rows))]
    markdown = rows_of(sheet_markdown(sheet), "|")[2:]
    latex = sheet_latex(sheet)
    body = rows_of(latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")], "&")
    page = read_page(render_sheet_html(sheet, generated="now", version="1"))
    cells = [list(row.all("td")) for row in next(page.root.all("tbody")).all("tr")]
    html = [["".join(part for part in cell.children if isinstance(part, str)) for cell in row] for row in cells]
    comma = list(csv.reader(io.StringIO(sheet_csv(sheet))))[1:]
    for found in (markdown, body, html, comma):
        assert len(found) == len(wanted)
        assert {len(row) for row in found} == {len(sheet.heads)}
        figures = [
            [cell for cell, head in zip(row, sheet.heads, strict=True) if head.kind == "reported"] for row in found
        ]
        assert [[cell for cell in row if cell not in ("-", "--")] for row in figures] == wanted
        measured = [
            cell for row in found for cell, head in zip(row, sheet.heads, strict=True) if head.kind == "measured"
        ]
        assert not any(measured)
    assert table.card.source.url in sheet_markdown(sheet).replace("\\_", "_")
    for text in (sheet_markdown(sheet), latex, page.root.text):
        assert LABEL in text


@pytest.mark.parametrize("name", ["efficiency-table-1", "pruning-table-2", "fluidaudio"])
def test_doubts_are_footnotes(name):
    table = read_published(next(path for path in SHIPPED if path.stem == name))
    sheet = lay_out(table, None)
    doubted = {doubt for figure in table.figures() for doubt in figure.doubts}
    assert doubted
    assert doubted <= set(sheet.footnotes.values())
    marked = {mark for row in sheet.rows for cell in row for mark in cell.marks}
    assert marked == set(sheet.footnotes)
    page = read_page(render_sheet_html(sheet, generated="now", version="1"))
    for doubt in doubted:
        assert doubt in page.root.text


def ours(tmp_path: Path, system: str = "base") -> Path:
    path = tmp_path / "ours.toml"
    path.write_text(
        'title = "Ours"\nrule = "full"\ncolumns = [\n  { key = "system", head = "System" },\n'
        '  { key = "voices", head = "V", group = "DER (%)", figure = "der", unit = "%", dataset = "voices" },\n'
        '  { key = "trained", head = "Epochs", figure = "other", unit = "1" },\n]\nrows = [\n'
        f'  {{ cells = ["first", "20.0", "7"], system = "{system}" }},\n  {{ cells = ["second", "-", "7"] }},\n]\n'
        '[source]\ntitle = "T"\nauthors = "A"\nyear = 2025\nurl = "https://example.org"\nwhere = "Table 1"\n',
        encoding="utf-8",
    )
    return path


def board():
    whole = tuple(replace(column, total=len(column.recordings)) for column in boards.COLUMNS)
    return boards.make_board(boards.make_entry("base", 0.2), columns=whole)


def test_what_was_measured_stands_beside_and_never_in_the_cell(tmp_path):
    sheet = lay_out(read_published(ours(tmp_path)), board())
    assert [head.kind for head in sheet.heads] == ["text", "reported", "measured", "reported"]
    der = next(iter(board().lines)).entry.scores["voices"].der("full")
    assert [[cell.text for cell in row] for row in sheet.rows] == [
        ["first", "20.0", f"{100 * der:.2f}", "7"],
        ["second", "-", "", "7"],
    ]
    assert len(sheet.pairs) == 1
    assert "## Reported against measured" in sheet_markdown(sheet)
    found = sheet_json(sheet, board())["reported"]
    assert found[0]["measured"] == [
        {"value": der, "where": None, "difference": pytest.approx(der - 0.2), "rounds_to_it": False}
    ]
    json.dumps(found, allow_nan=False)


def test_it_says_what_was_not_run(tmp_path):
    table = read_published(ours(tmp_path, "elsewhere"))
    assert "Not run here: elsewhere" in lay_out(table, board()).told
    assert "Not run here: elsewhere" in lay_out(table, None).told


def test_the_terminal_leaves_empty_columns_out(tmp_path):
    def printed(system: str) -> str:
        out = io.StringIO()
        print_sheet(lay_out(read_published(ours(tmp_path, system)), board()), Console(file=out, width=120))
        return out.getvalue()

    assert "would be empty are left out" in printed("elsewhere")
    assert "left out" not in printed("base")


def test_the_page_of_a_table_runs_no_script(tmp_path):
    page = render_sheet_html(
        lay_out(read_published(ours(tmp_path, "<script>x</script>")), None), generated="now", version="1"
    )
    assert "<script" not in page
    assert "script-src" not in page


def test_the_difference_stands_beside_what_was_measured(tmp_path):
    sheet = lay_out(read_published(ours(tmp_path)), board())
    cell = sheet.rows[0][2]
    der = next(iter(board().lines)).entry.scores["voices"].der("full")
    assert (cell.text, cell.difference) == (f"{100 * der:.2f}", f"{100 * (der - 0.2):+.2f}".replace("-", "−"))
    assert [one.difference for row in sheet.rows for one in row if one is not cell] == [""] * 7
    both = f"{cell.text} ({cell.difference})"
    assert f"| {both} |" in sheet_markdown(sheet)
    assert both.replace("−", "$-$") in sheet_latex(sheet)
    assert f",{cell.text}," in sheet_csv(sheet)
    page = read_page(render_sheet_html(sheet, generated="now", version="1"))
    assert [small.text for small in page.root.all("small")] == [cell.difference]


def test_pairs_have_a_place_only_where_it_matters(tmp_path):
    sheet = lay_out(read_published(ours(tmp_path)), board())
    assert pair_table(sheet.pairs).heads == ("System", "What", "Reported", "Measured", "Difference", "Reported by")
    where = replace(sheet.pairs[0], twin=replace(sheet.pairs[0].twin, where="CPU, box"))
    table = pair_table([*sheet.pairs, where])
    assert table.heads[5] == "Measured on"
    assert [row[5] for row in table.rows] == ["", "CPU, box"]
    assert [table.heads[place] for place in sorted(table.right)] == ["Reported", "Measured", "Difference"]


@pytest.mark.parametrize(("width", "beside"), [(120, True), (32, False)])
def test_a_narrow_terminal_has_measurements_below(tmp_path, width, beside):
    out = io.StringIO()
    print_sheet(lay_out(read_published(ours(tmp_path)), board()), Console(file=out, width=width))
    first, _ = out.getvalue().split("Reported against measured")
    der = next(iter(board().lines)).entry.scores["voices"].der("full")
    assert (f"{100 * der:.2f}" in first) is beside
    assert ("too narrow" in " ".join(first.split())) is not beside
