"""`diarbench report` on figures that others published, from a card to the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TABLE = """\
title = "Ours, as somebody saw it"
rule = "full"
columns = [
  { key = "system", head = "System" },
  { key = "mine", head = "Mine", group = "DER (%)", figure = "der", unit = "%", dataset = "mine" },
]
rows = [
  { cells = ["Good", "0.5"], system = "good" },
  { cells = ["Perfect", "0.0"] },
]
[source]
title = "A note"
authors = "Somebody"
year = 2025
url = "https://example.org"
where = "Table 1"
"""


@pytest.fixture
def ran(diarbench, here: Path) -> Path:
    """A working folder with a stored run of `good` on `mine`, and a published table of it."""
    published = here / "reports" / "published"
    published.mkdir(parents=True)
    (published / "seen.toml").write_text(TABLE)
    assert diarbench("run", "-s", "good", "-d", "mine").code == 0
    return here


def test_the_board_has_a_section_of_reported_figures(diarbench, ran):
    answer = diarbench("report", "--format", "md")
    assert answer.code == 0
    assert "## Reported, not measured here" in answer.out
    assert "| good | DER of mine, full | 0.5 |" in answer.out
    assert "Reported" not in diarbench("report", "--format", "md", "--no-reported").out
    found = json.loads(diarbench("report", "--format", "json").out)["reported"]
    assert [figure["table"] for figure in found] == ["seen", "seen"]
    assert diarbench("report").code == 0
    assert "not measured here" in Path("leaderboard.html").read_text()
    assert "not measured here" in diarbench("report", "--format", "table").out


def test_a_report_card_chooses_the_tables(diarbench, ran):
    card = 'title = "Ours"\nsystems = ["good"]\ndatasets = ["mine"]\nreported = [{}]\n'
    for wanted, shown in (("", False), ('"seen"', True), ('"s*"', True), ('"pruning-*"', False)):
        Path("reports/ours.toml").write_text(card.format(wanted))
        answer = diarbench("report", "ours", "--format", "md")
        assert answer.code == 0
        assert ("Reported, not measured here" in answer.out) is shown
    Path("reports/ours.toml").write_text(card.format('"sean"'))
    answer = diarbench("report", "ours", "--format", "md")
    assert (answer.code, "no published table 'sean'; did you mean seen" in answer.err) == (2, True)


@pytest.mark.parametrize("format", ["html", "md", "latex", "csv", "json", "table"])
def test_a_published_table_is_laid_out(diarbench, ran, format):
    answer = diarbench("report", "seen", "--format", format)
    assert answer.code == 0
    text = Path("seen.html").read_text() if format == "html" else answer.out
    assert "0.5" in text
    assert "measured" in text


def test_a_table_by_path_and_without_any_run(diarbench, ran, monkeypatch):
    assert "0.00" in diarbench("report", "reports/published/seen.toml", "--format", "csv").out
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    answer = diarbench("report", "pruning-table-2", "--format", "md")
    assert answer.code == 0
    assert "316.6M" in answer.out
    assert "what was measured stays empty" in answer.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("seen", "-s", "good"), "seen is a published table, with its own rows, datasets and rules"),
        (("sen",), "no report 'sen'; did you mean seen"),
        (("seen", "--runs", "nowhere"), "nowhere: no such folder of results"),
        (("seen", "--open", "--format", "md"), "--open shows a page"),
    ],
)
def test_wrong_requests_are_one_line(diarbench, ran, arguments, problem):
    answer = diarbench("report", *arguments)
    assert answer.code == 2
    assert problem in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_a_broken_table_is_told_and_hides_nothing(diarbench, ran):
    Path("reports/published/broken.toml").write_text(TABLE.replace('"0.5"', '"half"'))
    answer = diarbench("report", "--format", "md")
    assert answer.code == 0
    assert "not shown: " in answer.err
    assert "'half' is no figure" in answer.err
    assert "| Good | 0.5 |" in answer.out
    assert diarbench("report", "broken", "--format", "md").code == 2
    listed = diarbench("list", "published")
    assert (listed.code, "'half' is no figure" in listed.out.replace("\n", "")) == (1, True)


def test_tables_are_listed_and_checked(diarbench, ran):
    names = [row["name"] for row in json.loads(diarbench("list", "published", "--format", "json").out)["published"]]
    assert {"seen", "pruning-table-2", "pruning-table-9", "efficiency-table-1", "pruning-landing"} <= set(names)
    assert "2 figures of Somebody 2025, Table 1" in diarbench("check", "seen").out
    assert diarbench("check", "reports/published/seen.toml").code == 0
