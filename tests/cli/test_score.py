"""`diarbench score`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def files(here):
    Path("ref").mkdir()
    Path("hyp").mkdir()
    for name in ("one", "two"):
        Path(f"ref/{name}.rttm").write_text(f"SPEAKER {name} 1 0 10 <NA> <NA> A <NA> <NA>\n")
    Path("hyp/one.rttm").write_text("SPEAKER one 1 0 8 <NA> <NA> x <NA> <NA>\n")
    Path("hyp/two.rttm").write_text(
        "SPEAKER two 1 0 10 <NA> <NA> x <NA> <NA>\nSPEAKER two 1 10 5 <NA> <NA> y <NA> <NA>\n"
    )
    Path("all.uem").write_text("one 1 0 10\ntwo 1 0 12\n")
    return here


def test_json_is_as_documented(diarbench, files):
    answer = diarbench("score", "-r", "ref", "-y", "hyp", "--format", "json")
    rules = json.loads(answer.out)["rules"]
    assert set(rules) == {"full", "fair", "forgiving"}
    assert rules["full"]["overall"]["der"] == pytest.approx(7 / 20)
    assert rules["full"]["recordings"]["one"] == {
        "der": pytest.approx(0.2), "missed": pytest.approx(2), "false_alarm": 0.0, "confusion": 0.0, "scored": 10.0,
        "jer": pytest.approx(0.2), "reference_speakers": 1, "hypothesis_speakers": 1,
        "by_concurrency": [
            {"der": None, "missed": 0.0, "false_alarm": 0.0, "confusion": 0.0, "scored": 0.0},
            {"der": pytest.approx(0.2), "missed": 2.0, "false_alarm": 0.0, "confusion": 0.0, "scored": 10.0},
        ],
    }  # fmt: skip
    assert rules["full"]["overall"]["jer"] == pytest.approx(0.1)
    assert rules["full"]["overall"]["speaker_count_error"] == 0.5
    assert rules["full"]["overall"]["speaker_counts"] == [
        {"reference": 1, "hypothesis": 1, "recordings": 1},
        {"reference": 1, "hypothesis": 2, "recordings": 1},
    ]
    assert {key: rules["forgiving"][key] for key in ("label", "collar", "overlap", "mapping")} == {
        "label": "±250 ms collar, overlap skipped", "collar": 0.25, "overlap": "skip", "mapping": "region",
    }  # fmt: skip
    assert rules["full"]["recordings"]["two"]["false_alarm"] == pytest.approx(5)


def test_a_uem_bounds_what_is_scored(diarbench, files):
    answer = diarbench("score", "-r", "ref", "-y", "hyp", "-u", "all.uem", "--rule", "full", "--format", "json")
    assert json.loads(answer.out)["rules"]["full"]["recordings"]["two"]["false_alarm"] == pytest.approx(2)


def test_several_words_after_an_option(diarbench, files):
    words = ("score", "-r", "ref/one.rttm", "ref/two.rttm", "-y", "hyp/one.rttm", "hyp/two.rttm", "--rule", "full")
    answer = diarbench(*words, "--format", "json")
    assert json.loads(answer.out)["rules"]["full"]["overall"]["der"] == pytest.approx(7 / 20)
    assert "35.00" in diarbench(*words).out


def test_gaps_on_either_side_are_said(diarbench, files):
    Path("hyp/one.rttm").unlink()
    Path("hyp/three.rttm").write_text("SPEAKER three 1 0 1 <NA> <NA> x <NA> <NA>\n")
    answer = diarbench("score", "-r", "ref", "-y", "hyp", "--rule", "full", "--format", "json")
    assert json.loads(answer.out)["rules"]["full"]["recordings"]["one"]["missed"] == pytest.approx(10)
    assert "all their speech counts as missed (one" in answer.err
    assert "three" in answer.err


def test_nothing_scored_is_null_not_nan(diarbench, files):
    Path("ref/one.rttm").write_text("")
    answer = diarbench("score", "-r", "ref/one.rttm", "-y", "hyp/one.rttm", "-u", "all.uem", "--format", "json")
    full = json.loads(answer.out)["rules"]["full"]["recordings"]
    assert full["one"]["der"] is None
    assert full["one"]["false_alarm"] == pytest.approx(8)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (("ref/one.rttm", "SPEAKER one 1 0 -1 <NA> <NA> A <NA> <NA>\n"), "one.rttm, line 1: the duration is negative"),
        (
            ("hyp/one.rttm", "SPEAKER one 1 0 x <NA> <NA> A <NA> <NA>\n"),
            "line 1: the duration 'x' is no number",
        ),
        (("hyp/one.rttm", "\nSPEAKER one 1 0\n"), "one.rttm, line 2: 4 columns"),
        (("all.uem", "one 1 0 10\n"), "all.uem: no scoring region for the recording 'two'"),
    ],
)
def test_bad_input_is_one_line(diarbench, files, break_it, says):
    path, text = break_it
    Path(path).write_text(text)
    answer = diarbench("score", "-r", "ref", "-y", "hyp", "-u", "all.uem")
    assert answer.code == 2
    assert says in answer.err
    assert answer.err.count("\n") == 1
    assert answer.out == ""


def test_unknown_rule_and_missing_file(diarbench, files):
    assert "did you mean fair" in diarbench("score", "-r", "ref", "-y", "hyp", "--rule", "fare").err
    answer = diarbench("score", "-r", "nowhere.rttm", "-y", "hyp")
    assert answer.code == 2
    assert "nowhere.rttm: can't be read" in answer.err
