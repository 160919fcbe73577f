"""`diarbench compare` as a user meets it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

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


def test_stored_runs_are_compared_under_any_rule(ran):
    words = ("compare", "good", "half", "--format", "json", "--rule", "overlap=skip,collar=0.5")
    result = json.loads(ran(*words).out)
    assert result["rule"] == "collar=0.5,overlap=skip"
    # Of the second from 1.5 s to 2.5 s, half hears 0.5, 0.6 and 0.7.
    assert result["comparisons"][0]["macro"]["b"] == pytest.approx(0.4)
    assert "±500 ms collar, overlap skipped" in ran(*words[:3], *words[5:]).out


def test_jer_is_compared_too(ran):
    words = ("compare", "good", "half", "--metric", "jer")
    result = json.loads(ran(*words, "--format", "json").out)
    (one,) = result["comparisons"]
    board = json.loads(ran("report", "--format", "json").out)
    jers = {line["system"]: line["macro_jer"]["full"] for line in board["systems"]}
    assert result["metric"] == "jer"
    assert (one["macro"]["a"], one["macro"]["b"]) == (jers["good"], jers["half"])
    # Of the only speaker's two seconds half hears 1, 1.1 and 1.2.
    assert one["macro"]["b"] == pytest.approx(0.45)
    assert one["recordings"][0]["more_errors"] == pytest.approx(0.5)
    shown = " ".join(ran(*words).out.split())
    assert "JER, no collar, overlap scored" in shown
    assert "points macro JER" in shown
    assert not re.search(r"\bDER", shown)
    assert ran(*words[:3], "--metric", "wer").code == 2


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
    ("good",): "name two systems with stored runs (A B), or folders of turns",
    (): "name two systems",
    ("good", "deaf", "-u", "all.uem"): "-u: needs references (-r REF)",
    ("good", "deaf", "--system", "a=b"): "--system: needs references",
    ("good", "deaf", "--region", "turns"): "--region: needs references",
    ("good", "deaf", "-r", "ref"): "A: -r REF compares folders of turns",
    ("-r", "ref", "-d", "mine", "--system", "a=b", "--system", "b=c"): "-d: -r REF compares",
    ("-r", "ref", "--runs", "other", "--system", "a=b", "--system", "b=c"): "--runs: -r REF compares",
    ("-r", "ref", "--system", "a=b"): "needs two systems",
    ("-r", "ref", "--system", "a=b", "--system", "c"): "NAME=PATH was expected",
    ("-r", "nowhere", "--system", "a=b", "--system", "b=c"): "nowhere: can't be read",
    ("good", "deaf", "--limit", "0"): "limit",
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


def test_limit_takes_the_first_recordings(ran):
    words = ("compare", "good", "half", "--limit", "2", "--format", "json")
    found = json.loads(ran(*words).out)["comparisons"][0]["datasets"]["mine"]
    assert (found["recordings"], found["of"], found["low"]) == (2, 2, None)


# --- folders of turns


@pytest.fixture
def folders(here, monkeypatch):
    """References and outputs of `good` and `bad` on six recordings of 10 s; `bad` ends a second and more early."""
    for folder in ("ref", "good", "bad"):
        Path(folder).mkdir()
        for place, name in enumerate("abcdef"):
            end = 10 if folder != "bad" else 9 - place / 10
            Path(folder, f"{name}.rttm").write_text(f"SPEAKER {name} 1 0 {end} <NA> <NA> S <NA> <NA>\n")
    Path("all.uem").write_text("".join(f"{name} 1 0 {5 if name == 'a' else 20}\n" for name in "abcdef"))
    return ("compare", "-r", "ref", "--system", "good=good", "--system", "bad=bad")


def test_folders_are_compared_as_runs_are(diarbench, folders):
    answer = diarbench(*folders, "--format", "json")
    assert (answer.code, answer.err) == (0, "")
    result = json.loads(answer.out)
    assert (result["a"], result["rule"], result["region"]) == ("good", "full", "turns")
    (one,) = result["comparisons"]
    assert one["b"] == "bad"
    found = one["datasets"]["ref"]
    assert (found["recordings"], found["of"], found["a"], found["b"]) == (6, 6, 0, pytest.approx(7.5 / 60))
    assert found["low"] < 7.5 / 60 < found["high"]
    assert (one["macro"]["b_minus_a"], one["macro"]["p_value"]) == (found["b_minus_a"], found["p_value"])
    assert one["macro"]["p_value"] == 2 / 2**6
    assert one["conclusion"].startswith("bad is worse than good: +12.50 points macro DER, 95 % interval [")
    assert one["conclusion"].endswith("with 6 recordings on ref the interval is too narrow.")
    shown = diarbench(*folders).out
    assert "scored from the first to the last turn of both sides; 95 % intervals" in shown
    assert one["conclusion"] in shown


def test_folders_and_stored_runs_have_the_same_keys(diarbench, folders):
    result = json.loads(diarbench(*folders, "--system", "third=ref", "--format", "json").out)
    documented = re.findall(r"^\| `([\w\[\].*]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(set(paths(result))) == sorted(documented)
    assert [one["b"] for one in result["comparisons"]] == ["bad", "third"]
    assert "have the same errors on each of the 6 recordings that both have; " in result["comparisons"][1]["conclusion"]


def test_folders_take_the_options_of_score(diarbench, folders):
    words = ("-u", "all.uem", "--rule", "collar=0.5,overlap=skip", "--mapping", "scored", "--limit", "1")
    result = json.loads(diarbench(*folders, *words, "--format", "json").out)
    assert (result["region"], result["rule"]) == ("uem", "collar=0.5,overlap=skip,mapping=scored")
    assert result["comparisons"][0]["datasets"]["ref"]["b"] == 0  # inside the five seconds of `a`
    assert "speakers mapped over what is scored; scored inside the UEM" in diarbench(*folders, *words).out
    names = [f"ref/{name}.rttm" for name in "abcdef"]
    several = diarbench("compare", "-r", *names, *folders[3:], "--region", "reference", "--format", "json")
    result = json.loads(several.out)
    assert (result["region"], list(result["comparisons"][0]["datasets"])) == ("reference", ["references"])


def test_recordings_without_hypothesis_are_not_compared(diarbench, folders):
    Path("bad/b.rttm").unlink()
    Path("bad/z.rttm").write_text("SPEAKER z 1 0 1 <NA> <NA> S <NA> <NA>\n")
    Path("good/c.rttm").write_text("SPEAKER c 1 0 10000 <NA> <NA> S <NA> <NA>\n")
    answer = diarbench(*folders, "--format", "json")
    (one,) = json.loads(answer.out)["comparisons"]
    assert (one["datasets"]["ref"]["recordings"], one["datasets"]["ref"]["of"]) == (5, 6)
    assert one["macro"]["b"] is None
    assert "incomplete (bad: 5 of 6 recordings on ref)" in one["conclusion"]
    assert "note: bad: 1 recording has no hypothesis and is not compared (b)\n" in answer.err
    assert "note: bad: 1 hypothesis has no reference and is left out (z)\n" in answer.err
    assert "note: good: 1 hypothesis ends far too late (c: " in answer.err
    assert "counts as missed" not in answer.err
    for name in "acdef":
        Path(f"bad/{name}.rttm").unlink()
    answer = diarbench(*folders)
    assert (answer.code, answer.out) == (2, "")
    assert "no hypothesis has the id of a reference: ref has a, ..., bad has z" in answer.err


def test_long_names_are_not_cut(diarbench, folders, monkeypatch):
    monkeypatch.setattr("diarbench.cli.compare.console", lambda: Console(width=80, file=printed, highlight=False))
    printed = io.StringIO()
    names = [f"[i]a-system-with-a-rather-long-name-{end}" for end in ("first", "second")]
    diarbench(
        "compare", "-r", "ref", *(f"--system={name}={path}" for name, path in zip(names, ("ref", "bad"), strict=True))
    )
    text = printed.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    head = [[cell.strip() for cell in row.split("┃")[1:-1]] for row in text.split("┡")[0].splitlines() if "┃" in row]
    assert ["".join(cells) for cells in zip(*head, strict=True)][2:4] == names
