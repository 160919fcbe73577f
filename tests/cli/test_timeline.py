"""`diarbench timeline` as a user meets it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "json.md"
KINDS = ("missed", "false_alarm", "confusion")
TIMES = ("der", "scored", *KINDS)


@pytest.fixture
def ran(diarbench, here):
    """Stored runs of three systems on `mine`: good, deaf, and half, which hears less of b than of a, and fails on c."""
    (here / "systems" / "half").mkdir()
    (here / "systems" / "half" / "adapter.py").write_text(
        "class System:\n    def diarize(self, audio):\n"
        "        assert audio.recording.id != 'c', 'it fell over'\n"
        "        return [(1.0, 2.5 if audio.recording.id == 'a' else 2.0, 'B'), (4.0, 4.1, 'B')]\n"
    )
    (here / "systems" / "half" / "half.toml").write_text('title = "Half"\nadapter = "./adapter.py:System"\n')
    assert diarbench("run", "-s", "good", "-s", "deaf", "-s", "half", "-d", "mine").code == 1
    return diarbench


@pytest.fixture
def folders(here):
    """References and outputs of `good` and `bad` on four recordings; `bad` hears less of each."""
    for folder in ("ref", "good", "bad"):
        Path(folder).mkdir()
        for place, name in enumerate("abcd"):
            end = 10 if folder != "bad" else 9 - place
            Path(folder, f"{name}.rttm").write_text(f"SPEAKER {name} 1 0 {end} <NA> <NA> S <NA> <NA>\n")
    Path("all.uem").write_text("".join(f"{name} 1 0 {5 if name == 'd' else 20}\n" for name in "abcd"))
    return ("timeline", "-r", "ref", "-s", "bad=bad", "-s", "good=good")


def found(answer):
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def paths(value, prefix=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, f"{prefix}.{key}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{prefix}[]")
    else:
        yield prefix


# --- stored runs


def test_stored_runs_make_a_page(ran):
    answer = ran("timeline", "-s", "half", "-s", "good", "-d", "mine", "-o", "page.html")
    assert (answer.code, answer.out, answer.err) == (0, "written: page.html\n", "")
    page = Path("page.html").read_text()
    assert "<title>Errors on mine</title>" in page
    assert "All recordings, those with the highest DER of half first." in page
    assert "failed: " in page
    assert "it fell over" in page
    assert [page.index(f">{name}</a>") for name in "bac"] == sorted(page.index(f">{name}</a>") for name in "abc")


def test_the_page_has_a_name_of_its_own(ran):
    assert ran("timeline", "-s", "good").out == "written: timeline.html\n"
    assert Path("timeline.html").exists()


def test_spans_are_those_of_the_scores(ran):
    board = json.loads(ran("report", "--format", "json").out)
    scores = {line["system"]: line["scores"]["mine"]["rules"] for line in board["systems"]}
    for rule in ("full", "fair", "forgiving"):
        result = found(ran("timeline", "-s", "half", "-s", "deaf", "--rule", rule, "--format", "json"))
        assert (result["rule"], result["region"], result["systems"]) == (rule, "uem", ["half", "deaf"])
        for recording in result["recordings"]:
            for answer in recording["systems"]:
                if answer["problem"] is not None:
                    continue
                expected = scores[answer["system"]][rule]["recordings"][recording["recording"]]
                assert {key: answer[key] for key in TIMES} == {key: expected[key] for key in TIMES}
                for kind in KINDS:
                    spans = [span for span in answer["errors"] if span["kind"] == kind]
                    summed = sum(span["speakers"] * (span["end"] - span["start"]) for span in spans)
                    assert summed == pytest.approx(expected[kind], abs=1e-6)


def test_what_failed_or_never_ran_is_shown_as_that(ran, here):
    (here / "systems" / "late.toml").write_text('title = "Late"\nadapter = "./adapter.py:System"\n')
    assert ran("run", "-s", "late", "-d", "mine", "--limit", "2").code == 0
    result = found(ran("timeline", "-s", "half", "-s", "late", "--recording", "c", "--format", "json"))
    (recording,) = result["recordings"]
    half, late = recording["systems"]
    assert "it fell over" in half["problem"]
    assert late["problem"] == "it never ran on this recording"
    assert (half["der"], half["errors"], half["hypothesis"]) == (None, [], [])
    assert [one["recording"] for one in result["left_out"]] == ["a", "b"]


def test_the_worst_are_shown_and_the_rest_is_named(ran):
    answer = ran("timeline", "-s", "half", "--most", "1", "-o", "page.html")
    assert answer.err == (
        "note: shown are 1 of 3 recordings, those with the highest DER of half; --most N shows more, "
        "--recording ID others\n"
    )
    page = Path("page.html").read_text()
    assert "Left out: a, c." in page
    assert '<h2 id="timeline-0-name">b</h2>' in page
    result = found(ran("timeline", "-s", "half", "--most", "2", "--format", "json"))
    assert [one["recording"] for one in result["recordings"]] == ["b", "a"]
    assert result["left_out"] == [{"dataset": "mine", "recording": "c"}]


def test_recordings_are_shown_as_they_are_named(ran):
    answer = ran("timeline", "-s", "half", "--recording", "c", "a", "--format", "json")
    assert answer.err == ""
    assert [one["recording"] for one in found(answer)["recordings"]] == ["c", "a"]


def test_the_newest_run_is_shown(ran, here):
    (here / "systems" / "half" / "adapter.py").write_text(
        "class System:\n    def diarize(self, audio):\n        return [(1.0, 3.0, 'new')]\n"
    )
    assert ran("run", "-s", "half", "-d", "mine").code == 0
    for recording in found(ran("timeline", "-s", "half", "--format", "json"))["recordings"]:
        assert [turn["speaker"] for turn in recording["systems"][0]["hypothesis"]] == ["new"]


def test_several_datasets_are_told_apart(ran, here):
    text = (here / "datasets" / "mine.toml").read_text()
    (here / "datasets" / "other.toml").write_text(text.replace('"Mine"', '"Other"'))
    assert ran("run", "-s", "good", "-d", "other").code == 0
    result = found(ran("timeline", "-s", "good", "--recording", "b", "--format", "json"))
    assert [(one["dataset"], one["recording"]) for one in result["recordings"]] == [("mine", "b"), ("other", "b")]
    assert ran("timeline", "-s", "good", "--recording", "b").code == 0
    page = Path("timeline.html").read_text()
    assert "<title>Errors on mine, other</title>" in page
    assert ">other: b</h2>" in page


# --- files of turns


def test_files_are_shown_as_runs_are(diarbench, folders):
    result = found(diarbench(*folders, "--format", "json"))
    assert (result["systems"], result["region"]) == (["bad", "good"], "turns")
    assert [one["recording"] for one in result["recordings"]] == ["d", "c", "b", "a"]
    assert all(one["dataset"] is None for one in result["recordings"])
    bad, good = result["recordings"][0]["systems"]
    assert (bad["missed"], bad["mapping"]) == (4.0, [{"reference": "S", "hypothesis": "S"}])
    (span,) = bad["errors"]
    assert (span["start"], span["end"], span["kind"]) == (6.0, 10.0, "missed")
    assert good["errors"] == []
    assert diarbench(*folders, "-o", "page.html").code == 0
    assert "<title>Errors on ref</title>" in Path("page.html").read_text()


@pytest.mark.parametrize("region", [(), ("--region", "reference"), ("-u", "all.uem")])
@pytest.mark.parametrize("rule", ["full", "fair"])
def test_time_that_a_reference_marks_is_not_scored_here_either(diarbench, folders, region, rule):
    with Path("ref", "a.rttm").open("a") as file:
        file.write("NOSCORE a 1 7 2.5 <NA> <NA> <NA> <NA> <NA>\n")
    result = found(diarbench(*folders, *region, "--rule", rule, "--recording", "a", "--format", "json"))
    options = ("-r", "ref", "--system", "bad=bad", "--system", "good=good", *region, "--rule", rule)
    scores = found(diarbench("score", *options, "--format", "json"))
    (recording,) = result["recordings"]
    for answer in recording["systems"]:
        expected = scores["systems"][answer["system"]]["rules"][rule]["recordings"]["a"]
        assert {kind: answer[kind] for kind in KINDS} == pytest.approx({kind: expected[kind] for kind in KINDS})
        assert any(span["start"] <= 7 and span["end"] >= 9.5 for span in answer["unscored"] if span["why"] == "outside")
    assert 0 < recording["systems"][0]["scored"] <= 7.5


def test_files_take_the_options_of_score(diarbench, folders):
    words = ("-u", "all.uem", "--rule", "collar=0.5,overlap=skip", "--mapping", "scored", "--format", "json")
    result = found(diarbench(*folders, *words))
    assert (result["region"], result["rule"]) == ("uem", "collar=0.5,overlap=skip,mapping=scored")
    (last,) = (one for one in result["recordings"] if one["recording"] == "d")
    assert last["systems"][0]["missed"] == 0  # beyond the five seconds that are scored
    assert {gap["why"] for gap in last["systems"][0]["unscored"]} == {"outside", "collar"}
    Path("good/a.rttm").write_text("SPEAKER a 1 0 30 <NA> <NA> S <NA> <NA>\n")
    for region, false_alarm in (("turns", 20.0), ("reference", 0.0)):
        result = found(diarbench(*folders, "--region", region, "--recording", "a", "--format", "json"))
        assert result["region"] == region
        assert result["recordings"][0]["systems"][1]["false_alarm"] == false_alarm


def test_what_is_missing_on_one_side_is_said(diarbench, folders):
    Path("bad/b.rttm").unlink()
    Path("bad/z.rttm").write_text("SPEAKER z 1 0 1 <NA> <NA> S <NA> <NA>\n")
    answer = diarbench(*folders, "--format", "json")
    assert "note: bad: 1 recording has no hypothesis; all its speech counts as missed (b)\n" in answer.err
    assert "note: bad: 1 hypothesis has no reference and is left out (z)\n" in answer.err
    assert found(answer)["recordings"][0]["recording"] == "b"


def test_a_page_of_very_many_recordings_is_refused(diarbench, here):
    Path("ref.rttm").write_text("".join(f"SPEAKER r{n} 1 0 9 <NA> <NA> S <NA> <NA>\n" for n in range(60)))
    words = ("timeline", "-r", "ref.rttm", "-s", "mine=ref.rttm")
    answer = diarbench(*words, "--most", "60")
    assert (answer.code, answer.out) == (2, "")
    assert "60 recordings are too many for a page; show at most 50" in answer.err
    assert not Path("timeline.html").exists()
    assert len(found(diarbench(*words, "--most", "60", "--format", "json"))["recordings"]) == 60


# --- the rest


def test_every_key_is_documented_and_no_other(ran):
    result = found(ran("timeline", "-s", "half", "-s", "deaf", "--rule", "fair", "--most", "2", "--format", "json"))
    section = DOCUMENT.read_text().split("\n# Timelines as JSON\n")[1]
    documented = re.findall(r"^\| `([\w\[\].*]+)` \|", section, re.MULTILINE)
    assert sorted(set(paths(result))) == sorted(documented)


WRONG = {
    (): "name systems with stored runs (-s NAME), or files of turns (-r REF -s NAME=PATH)",
    ("-s", "hal"): "did you mean half",
    ("-s", "half", "-d", "mein"): "did you mean mine",
    ("-s", "half", "--recording", "aa"): "mine: no recording 'aa'",
    ("-s", "half", "--runs", "nowhere"): "nowhere: no such folder of results",
    ("-s", "half=half"): "-s half=half: needs references (-r REF)",
    ("-s", "half", "-u", "all.uem"): "-u: needs references (-r REF)",
    ("-s", "half", "--region", "turns"): "--region: needs references",
    ("-s", "half", "--rule", "fare"): "did you mean fair",
    ("-s", "half", "--most", "0"): "most",
    ("-s", "half", "--format", "json", "--open"): "--open shows a page",
    ("-s", "half", "-o", "datasets"): "datasets: ",
    ("-r", "ref"): "-r REF needs a system: -s NAME=PATH",
    ("-r", "ref", "-s", "half"): "NAME=PATH was expected",
    ("-r", "ref", "-s", "a=b", "-d", "mine"): "-d: -r REF shows files of turns",
    ("-r", "ref", "-s", "a=b", "--runs", "other"): "--runs: -r REF shows",
    ("-r", "nowhere", "-s", "a=b"): "b: can't be read",
}


def test_wrong_requests_are_one_clear_line(ran):
    for words, says in WRONG.items():
        answer = ran("timeline", *words)
        assert (answer.code, answer.out) == (2, ""), words
        assert says in answer.err, words
        assert len(answer.err.splitlines()) == 1, words
        assert not Path("timeline.html").exists()
