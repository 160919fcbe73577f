"""Published tables: the reader is strict, and the shipped ones say what their sources say."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarbench.errors import CardError
from diarbench.published import RuleName, prints_alike, read_figure, read_published
from diarbench.registry import Registry
from diarbench.scoring import RULES

FOLDER = Path(__file__).resolve().parents[1] / "reports" / "published"
SHIPPED = sorted(FOLDER.glob("*.toml"))

GOOD = """\
title = "A table"
rule = "full"
columns = [
  { key = "system", head = "System" },
  { key = "size", head = "Params", figure = "parameters", of = "encoder" },
  { key = "ami", head = "AMI", group = "DER (%)", figure = "der", unit = "%", dataset = "ami" },
  { key = "speed", head = "GPU", figure = "speedup", unit = "x", device = "cuda" },
]
rows = [
  { cells = ["base", "94.4M", "15.8", "-"] },
  { cells = ["small", "18.8M", "16.0", "4.0"], system = "ours", doubts = { size = "as it is" } },
]
hardware = "a GPU"
[source]
title = "A paper"
authors = "Somebody et al."
year = 2025
url = "https://example.org/paper"
where = "Table 1"
"""


def written(folder: Path, text: str = GOOD) -> Path:
    path = folder / "table.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_is_read_as_printed(tmp_path):
    table = read_published(written(tmp_path))
    assert (table.name, table.systems, table.datasets) == ("table", ("ours",), ("ami",))
    assert [figure.text for figure in table.figures()] == ["94.4M", "15.8", "18.8M", "16.0", "4.0"]
    size, der, speed = (figure for figure in table.row_figures(1) if figure is not None)
    assert (size.value, size.rule, size.doubts, size.hardware) == (18_800_000, None, ("as it is",), None)
    assert (der.value, der.rule, der.rule_words, der.dataset, der.system) == (0.16, "full", "full", "AMI", "ours")
    assert (speed.value, speed.hardware) == (4.0, "a GPU")


def test_rows_and_columns_overrule_the_table(tmp_path):
    text = GOOD.replace('unit = "%", dataset', 'unit = "%", rule = "fair", dataset')
    text = text.replace('"15.8", "-"] }', '"15.8", "-"], other_rule = "±125 ms collar", hardware = "a phone" }')
    table = read_published(written(tmp_path, text))
    rules = [(f.rule, f.rule_words) for f in table.figures() if f.column.figure == "der"]
    assert rules == [(None, "±125 ms collar"), ("fair", "fair")]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('system = "ours"', 'sistem = "ours"', "unknown key 'rows.1.sistem'; did you mean system?"),
        ('title = "A table"', 'titel = "A table"', "unknown key 'titel'; did you mean title?"),
        ('"15.8", "-"]', '"15.8"]', r"row 1 \(base\) has 3 cells, and there are 4 columns"),
        ('"15.8"', '"about 16"', r"row 1 \(base\), column 'ami': 'about 16' is no figure"),
        ('"15.8"', '"1e400"', "'1e400' is no figure"),
        ('"15.8"', '"nan"', "'nan' is no figure"),
        ('"15.8"', "15.8", "'rows.0.cells.2' should be a text, found 15.8"),
        ('"94.4M"', '"94.4"', "'94.4' has no unit; set the column's `unit`"),
        ('"15.8"', '"15.8M"', "'15.8M' has another unit than its column"),
        ('rule = "full"', 'rule = "ful"', "'rule' should be 'full', 'fair' or 'forgiving', found 'ful'"),
        ('rule = "full"\n', "", r"row 1 \(base\), column 'ami': no scoring rule is said for it"),
        ('rule = "full"', 'rule = "full"\nother_rule = "x"', "the table: `rule` names one of ours, `other_rule`"),
        ("size = ", "sise = ", r"row 2 \(small\): `doubts` names 'sise', which is no column's key"),
        ('key = "size"', 'key = "ami"', "two columns have the key 'ami'"),
        (
            'figure = "speedup", unit = "x", device = "cuda"',
            'figure = "der", unit = "%", dataset = "ami"',
            "two columns have the DER of 'ami' under one rule; make rows of them",
        ),
        ('figure = "der", unit', "unit", "column 'ami': say what its figures are of, by `figure`"),
        (
            'of = "encoder"',
            'dataset = "ami"',
            "column 'size': only figures of `der`, `jer`, `rtf` and `speed` have a `dataset`",
        ),
        ('key = "system", head = "System"', 'key = "s", head = "S", figure = "other"', "has to say what the row is"),
        ("https://example.org/paper", "example.org", "'source.url'"),
        ("year = 2025", "year = 3025", "'source.year'"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, old, new, problem):
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(CardError, match=problem) as told:
        read_published(path)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


@given(st.decimals(min_value=0, max_value=10_000, places=2), st.sampled_from(["%", "1", "x", "M", "G", "MB", "MiB"]))
def test_figures_keep_their_digits(number: Decimal, unit: str):
    printed = f"{number:f}"
    assert prints_alike(float(read_figure(printed, unit)), printed, unit)
    step = float(read_figure("0.01", unit))
    assert not prints_alike(float(read_figure(printed, unit)) + step, printed, unit)


def test_rounding_decides_whether_two_print_alike():
    assert prints_alike(18_881_683, "18.9M", None)
    assert not prints_alike(18_881_683, "18.8M", None)
    assert prints_alike(0.21503, ".22", "1")


def test_the_rules_are_those_of_scoring():
    assert set(get_args(RuleName)) == set(RULES)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_tables_hold(path):
    table = read_published(path)
    registry = Registry.standard()
    assert path.stem in registry.published
    for system in table.systems:
        assert [spec.name for spec in registry.choose_systems([system])] == [system]
    for figure in table.figures():
        assert figure.value > 0 or (figure.column.figure, figure.text) == ("other", "0")
    for row in range(len(table.card.rows)):
        assert table.label(row)
    labels = [table.label(row) for row in range(len(table.card.rows))]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_published_macro_errors_are_means_of_their_row(path):
    """A digit mistyped by more than one in the last place would show."""
    table = read_published(path)
    for row in range(len(table.card.rows)):
        figures = {figure.column.key: figure for figure in table.row_figures(row) if figure is not None}
        for macro in (figure for figure in figures.values() if figure.column.figure == "macro_der"):
            parts = [figures[column.key].value for column in table.averaged(macro.column)]
            assert sum(parts) / len(parts) == pytest.approx(macro.value, abs=0.00101)


# The papers' own text, where it is there.


@pytest.fixture(scope="module")
def seeds(shared_data) -> Path:
    """The folder of the papers' texts, beside that of the data."""
    folder = shared_data.parent / "seeds"
    if not (folder / "pruning-paper.txt").is_file():
        pytest.skip("no folder seeds with the papers' texts beside the folder of real data")
    return folder


HEADS = {"Dataset", "System", "Sparsity", "Training Epochs", "Pruning strategy", "Pruning"}
NUMERALS = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
DECIMAL = re.compile(r"\d+\.\d")


def paper_tables(text: str) -> dict[str, list[list[str]]]:
    """By numeral: the rows with figures of each table of the pruning paper, which come in order.

    Cells that span rows stand only in the first of them; marks of footnotes and citations are left out.
    """
    tables: list[list[list[str]]] = []
    for line in text.splitlines():
        if not line.startswith("| ") or re.match(r"\| ?\(", line):
            continue
        cells = [
            re.sub(r" ?\[[^\]]*\]|†|(?<=[a-z])\*", "", cell).strip() for cell in line.strip().strip("|").split("|")
        ]
        cells = [cell for cell in cells if cell]
        if cells[0] in HEADS and cells[1] != "Objective":
            tables.append([])
        elif any(DECIMAL.match(cell) for cell in cells):
            tables[-1].append(cells)
    return dict(zip(NUMERALS, tables, strict=True))


@pytest.mark.parametrize("number", range(2, 10))
def test_every_figure_of_the_pruning_paper_is_as_in_its_text(seeds, number):
    rows = paper_tables((seeds / "pruning-paper.txt").read_text())[NUMERALS[number - 1]]
    table = read_published(FOLDER / f"pruning-table-{number}.toml")
    assert table.card.source.where == f"Table {NUMERALS[number - 1]}"
    columns = table.card.columns
    assert len(rows) == len(table.card.rows) > 2
    for printed, row in zip(rows, table.card.rows, strict=True):
        figures = [cell for column, cell in zip(columns, row.cells, strict=True) if column.figure is not None]
        texts = [cell for column, cell in zip(columns, row.cells, strict=True) if column.figure is None]
        assert printed[-len(figures) :] == figures
        for said in printed[: -len(figures)]:
            assert any(said in text for text in texts)


def test_the_tables_of_the_pruning_paper_lack_no_figure_and_no_column(seeds):
    """Counted in the text without knowing where a table's rows and columns are."""
    lines = [line for line in (seeds / "pruning-paper.txt").read_text().splitlines() if line.startswith("| ")]
    starts = [number for number, line in enumerate(lines) if re.match(rf"\| ({'|'.join(HEADS)}) \|", line)]
    starts = [number for number in starts if "Objective" not in lines[number]]
    assert len(starts) == len(NUMERALS)
    figures = 0
    for numeral, start, end in zip(NUMERALS, starts, [*starts[1:], len(lines)], strict=True):
        if numeral == "I":
            continue
        columns = read_published(FOLDER / f"pruning-table-{NUMERALS.index(numeral) + 1}.toml").card.columns
        rows = [re.sub(r"\[[^\]]*\]", "", line) for line in lines[start:end]]
        heads = [[cell.strip() for cell in row.strip("| ").split("|")] for row in rows[:2]]
        # The lower row of headings, in its order, and what spans both rows.
        lower = iter(heads[1])
        for column in columns:
            if column.figure is not None and column.head not in heads[0]:
                assert column.head in lower, (numeral, column.head)
            assert column.head.lower() in {head.lower() for row in heads for head in row}
        printed = sum(len(re.findall(r"\| *\d+\.\d[GMx]?(?=[ †])", row)) for row in rows[2:])
        table = read_published(FOLDER / f"pruning-table-{NUMERALS.index(numeral) + 1}.toml")
        assert printed == sum(1 for _ in table.figures()), numeral
        figures += printed
    assert figures == 381


@pytest.mark.parametrize("number", [1, 2])
def test_every_figure_of_the_efficiency_paper_is_as_in_its_text(seeds, number):
    text = (seeds / "efficiency-tradeoffs-paper.txt").read_text()
    after = text[text.index(f"\nTable {number}: ") :]
    lines = [line for line in after.splitlines() if "\t" in line]
    table = read_published(FOLDER / f"efficiency-table-{number}.toml")
    wanted = [column.head for column in table.card.columns], *(row.cells for row in table.card.rows)
    assert [line.split("\t") for line in lines[: len(wanted)]] == list(wanted)
    assert len(wanted) > 5


def test_the_landing_page_says_its_numbers(seeds):
    text = (seeds / "pruning-paper-landing-page.txt").read_text()
    cells = read_published(FOLDER / "pruning-landing.toml").card.rows[0].cells
    assert cells[1:] == ["80%", "4x", "eight", "third"]
    for phrase in (f"up to {cells[1]} ", f"up to {cells[2]} faster", f"{cells[3]} public", f"{cells[4]}-place"):
        assert phrase in text


def test_doubtful_figures_say_so():
    doubts = {
        (table.name, figure.text): figure.doubts
        for table in map(read_published, SHIPPED)
        for figure in table.figures()
        if figure.doubts
    }
    assert "315,452,608" in doubts["pruning-table-2", "316.6M"][0]
    assert "MiB" in doubts["efficiency-table-1", "5.63"][0]
    assert "LSTM" in doubts["efficiency-table-2", "1.54"][0]
    assert "Mix-Headset" in doubts["fluidaudio", "10.6"][0]


@pytest.mark.parametrize(
    ("corpus", "column"),
    [("ami-array", "ami"), ("ami-headset", "ami_headset"), ("aishell4", "aishell4"), ("voxconverse", "voxconverse")],
)
def test_the_authors_scores_are_those_beside_their_outputs(shared_data, corpus, column):
    table = read_published(FOLDER / "diaper-outputs.toml")
    found = {figure.system: figure.text for figure in table.figures() if figure.column.key == column}
    scores = (shared_data / "published" / corpus / "hypotheses").glob("*.scores.csv")
    overall = {
        path.name.removesuffix(".scores.csv"): path.read_text().splitlines()[-1].split(",")[1] for path in scores
    }
    assert overall
    assert overall.items() <= found.items()
