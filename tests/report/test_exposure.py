"""Marks behind DERs of systems that were trained on the corpus, in every format."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import boards
import pytest
from rich.console import Console

from diarbench.leaderboard import Column, Leaderboard, exposure
from diarbench.report import leaderboard_json, print_leaderboard, render_csv, render_html, render_latex, render_markdown

RELATED, SEEN = "trained on another part of this corpus", "was, or may have been, trained on these very recordings"


def column(corpus: str | None = "ami", part: str | None = "test", name: str = "ami-array") -> Column:
    return replace(boards.make_column(name), corpus=corpus, part=part)


@pytest.mark.parametrize(
    ("trained", "perhaps", "corpus", "part", "found"),
    [
        ((), (), "ami", "test", None),
        (("ami/train",), (), None, None, None),
        (("icsi", "ami-excerpts/test"), ("am",), "ami", "test", None),
        (("ami/train",), (), "ami", "test", "related"),
        (("ami/development",), (), "ami", "test", "related"),
        ((), ("ami/train",), "ami", "test", "related"),
        (("ami/train",), ("ami/test",), "ami", "test", "seen"),
        (("ami/test",), (), "ami", "test", "seen"),
        (("ami/train",), (), "ami", "train", "seen"),
        (("ami",), (), "ami", "test", "seen"),  # nobody says which part
        (("ami/train",), (), "ami", None, "seen"),  # the dataset may be of any part
        ((), ("ami",), "ami", "train", "seen"),
    ],
)
def test_what_a_system_may_know(trained, perhaps, corpus, part, found):
    entry = boards.make_entry("a", 0.2, trained_parts=trained, may_have_seen=perhaps)
    assert exposure(entry, column(corpus, part)) == found


@pytest.fixture
def board() -> Leaderboard:
    """A system trained on AMI's training part, one that may have seen its test part, and one that knows nothing."""
    columns = (column(), column(None, None, "voices"))
    return boards.make_board(
        boards.make_entry("near", 0.1, columns=columns, trained_parts=("ami/train",)),
        boards.make_entry("nearer", 0.2, columns=columns, may_have_seen=("ami",)),
        boards.make_entry("far", 0.3, columns=columns),
        columns=columns,
    )


def printed(board: Leaderboard, width: int = 200) -> str:
    out = io.StringIO()
    print_leaderboard(board, Console(file=out, width=width, highlight=False))
    return out.getvalue()


def test_marks_change_no_rank(board):
    bare = [replace(line.entry, trained_parts=(), may_have_seen=()) for line in board.lines]
    plain = boards.make_board(*bare, columns=board.columns)
    assert [(line.rank, line.macro, line.delta) for line in plain.lines] == [
        (line.rank, line.macro, line.delta) for line in board.lines
    ]


def test_each_format_has_the_marks_and_says_once_what_they_mean(board):
    pages = {
        "terminal": printed(board),
        "markdown": render_markdown(board),
        "html": re.sub(r"(?s)<script.*?</script>|title=\"[^\"]*\"", "", render_html(board, generated="now")),
        "latex": render_latex(board).replace(r"\dag{}", "†").replace(r"\ddag{}", "‡"),
    }
    for name, page in pages.items():
        text = " ".join(page.split())
        assert text.count(f"† {RELATED}") == 1, name
        assert text.count(f"‡ {SEEN}") == 1, name
        assert len(re.findall(r"\d†", text)) == 2, name  # of DER and JER
        assert len(re.findall(r"\d‡", text)) == 2, name
        assert "this changes no rank" in text


def test_only_marks_that_stand_there_are_explained(board):
    columns = board.columns
    entry = boards.make_entry("a", 0.1, columns=columns, trained_parts=("ami/train",))
    some = boards.make_board(entry, columns=columns)
    assert RELATED in printed(some)
    assert SEEN not in printed(some)
    failed = boards.make_board(boards.fail(entry, "ami-array", 1, "fell over"), columns=columns)
    assert RELATED not in printed(failed)
    none = boards.make_board(replace(entry, trained_parts=("icsi",)), columns=columns)
    assert "†" not in printed(none) + render_markdown(none)
    assert "changes no rank" not in render_html(none, generated="now")


def test_a_narrow_terminal_keeps_its_width(board):
    assert max(map(len, printed(board, 80).splitlines())) <= 80


def test_pointing_at_a_marked_score_says_why(board):
    assert f", {RELATED}" in render_html(board, generated="now")


def test_json_and_csv_keep_numbers(board):
    plain = leaderboard_json(board)
    assert plain["datasets"][0]["corpus"] == "ami"
    assert {one["system"]: one["exposure"] for one in plain["systems"]} == {
        "near": {"ami-array": "related", "voices": None},
        "nearer": {"ami-array": "seen", "voices": None},
        "far": {"ami-array": None, "voices": None},
    }
    assert "†" not in render_csv(board)
