"""`diarbench compare` as a user meets it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "comparing.md"


@pytest.fixture
def ran(diarbench, here):
    """Stored runs of three systems on `mine`: good, deaf, and half, which hears the first second of two."""
    (here / "systems" / "half").mkdir()
    (here / "systems" / "half" / "adapter.py").write_text(
        "class System:\n    def diarize(self, audio):\n"
        "        end = 2 + 0.1 * 'abc'.index(audio.recording.id)\n        return [(1, end, 'A')]\n"
    )
    (here / "systems" / "half" / "half.toml").write_text('title = "Half"\nadapter = "./adapter.py:System"\n')
    answer = diarbench("run", "-s", "good", "-s", "deaf", "-s", "half", "-d", "mine")
    assert answer.code == 0, answer.err
    return diarbench


def paths(value, prefix=""):
    """Key paths as docs/comparing.md writes them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            # Names of datasets are not keys.
            yield from paths(inner, f"{prefix}.*" if prefix.endswith("datasets") else f"{prefix}.{key}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{prefix}[]")
    else:
        yield prefix


def test_compare_says_the_difference(ran):
    result = json.loads(ran("compare", "good", "deaf", "--format", "json").out)
    (one,) = result["comparisons"]
    assert one["macro"]["b_minus_a"] == pytest.approx(1.0)
    assert one["datasets"]["mine"]["recordings"] == one["datasets"]["mine"]["of"] == 3
    assert one["datasets"]["mine"]["changes"]["worse"] == 3
    assert len(one["recordings"]) == 3
    assert (result["level"], result["method"], result["resamples"], result["seed"]) == (0.95, "bca", 10_000, 0)
    shown = ran("compare", "good", "deaf").out
    assert "+100.00" in shown
    assert one["conclusion"] in shown
    assert "Not settled" in one["conclusion"]  # three recordings


def test_options_are_followed_and_recorded(ran):
    options = ("--level", "0.5", "--method", "percentile", "--resamples", "200", "--seed", "7", "--most", "1")
    answer = ran("compare", "good", "half", *options, "--rule", "fair", "--format", "json")
    result = json.loads(answer.out)
    assert (result["level"], result["method"], result["resamples"], result["seed"]) == (0.5, "percentile", 200, 7)
    assert result["rule"] == "fair"
    assert len(result["comparisons"][0]["recordings"]) == 1
    assert answer.out == ran("compare", "good", "half", *options, "--rule", "fair", "--format", "json").out
    assert "50 % intervals (percentile)" in ran("compare", "good", "half", *options).out


def test_several_against_one(ran):
    result = json.loads(ran("compare", "good", "deaf", "half", "--format", "json").out)
    assert [one["b"] for one in result["comparisons"]] == ["deaf", "half"]
    assert [one["macro"]["p_value"] for one in result["comparisons"]] == [0.25, 0.25]
    assert [one["macro"]["p_holm"] for one in result["comparisons"]] == [0.5, 0.5]
    shown = ran("compare", "good", "deaf", "half").out
    assert "Against good" in shown
    assert "p (Holm)" in shown


def test_every_key_is_documented_and_no_other(ran):
    result = json.loads(ran("compare", "good", "deaf", "half", "--format", "json").out)
    documented = re.findall(r"^\| `([\w\[\].*]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(set(paths(result))) == sorted(documented)


def test_a_recording_that_failed_is_left_out_and_said(ran, here):
    (here / "systems" / "half" / "adapter.py").write_text(
        "class System:\n    def diarize(self, audio):\n"
        "        assert audio.recording.id != 'b'\n        return [(1, 2, 'A')]\n"
    )
    assert ran("run", "-s", "half", "-d", "mine").code == 1
    (one,) = json.loads(ran("compare", "good", "half", "--format", "json").out)["comparisons"]
    assert (one["datasets"]["mine"]["recordings"], one["datasets"]["mine"]["of"]) == (2, 3)
    assert one["macro"]["b_minus_a"] is None
    assert "2 of 3 recordings on mine, 1 failed" in one["conclusion"]
    assert "2 of 3" in ran("compare", "good", "half").out


WRONG = {
    ("good", "dea"): "did you mean deaf",
    ("good", "good"): "named twice",
    ("good", "deaf", "deaf"): "named twice",
    ("good",): "Missing argument",
    ("good", "deaf", "--level", "95"): "between 0 and 1",
    ("good", "deaf", "--method", "jackknife"): "jackknife",
    ("good", "deaf", "--resamples", "0"): "resamples",
    ("good", "deaf", "--seed", "-1"): "seed",
    ("good", "deaf", "--rule", "fare"): "did you mean fair",
    ("good", "deaf", "--runs", "nowhere"): "no such folder",
    ("good", "deaf", "-d", "mein"): "did you mean mine",
}


def test_wrong_requests_are_one_clear_message(ran):
    for words, says in WRONG.items():
        answer = ran("compare", *words)
        assert answer.code == 2, words
        assert says in answer.err, words
        assert "Traceback" not in answer.err, words
        assert answer.out == "", words
