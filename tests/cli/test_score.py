"""`diarbench score`."""

from __future__ import annotations

import csv
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
    assert "all its speech counts as missed (one" in answer.err
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


@pytest.fixture
def two_systems(files):
    Path("worse").mkdir()
    Path("worse/both.stm").write_text("one 1 x 0 5\ntwo 1 x 0 5 <o,f0> hello there\n")
    return files


def test_systems_make_a_leaderboard(diarbench, two_systems):
    words = ("score", "-r", "ref", "--system", "bad=worse", "--system", "good=hyp", "-u", "all.uem")
    systems = json.loads(diarbench(*words, "--format", "json").out)["systems"]
    assert {name: system["rank"] for name, system in systems.items()} == {"good": 1, "bad": 2}
    assert list(systems) == ["good", "bad"]
    assert systems["bad"]["rules"]["full"]["overall"]["der"] == pytest.approx(0.5)
    assert systems["good"]["region"] == "uem"
    lines = diarbench(*words, "--rule", "fair", "--rule", "full").out.splitlines()
    assert lines[0].startswith(
        "Ranked by fair: ±250 ms collar, overlap scored; full: no collar, overlap scored; scored"
    )
    good, bad = (line for line in lines if "good" in line or "bad" in line)
    assert [cell.strip() for cell in good.split("│")][1:4] == ["1", "good", "18.42"]  # 3.5 s of 19 s
    assert [cell.strip() for cell in bad.split("│")][1:3] == ["2", "bad"]


def test_equal_systems_share_a_rank_and_gaps_have_none(diarbench, two_systems):
    Path("gap").mkdir()
    Path("gap/one.rttm").write_text(Path("ref/one.rttm").read_text())
    words = [f"--system={name}={path}" for name, path in (("a", "hyp"), ("b", "hyp"), ("c", "worse"), ("d", "gap"))]
    answer = diarbench("score", "-r", "ref", *words, "-u", "all.uem", "--format", "json")
    systems = json.loads(answer.out)["systems"]
    assert {name: system["rank"] for name, system in systems.items()} == {"a": 1, "b": 1, "c": 3, "d": None}
    assert "note: d: 1 recording has no hypothesis; all its speech counts as missed (two" in answer.err
    assert "note: d has no rank, since it lacks recordings" in answer.err
    assert answer.code == 0


def test_systems_are_scored_on_the_same_recordings(diarbench, files):
    """A region without a reference counts for all as soon as one of them has a hypothesis there."""
    Path("all.uem").write_text("one 1 0 10\ntwo 1 0 12\nquiet 1 0 5\n")
    Path("hyp/quiet.rttm").write_text("SPEAKER quiet 1 0 5 <NA> <NA> x <NA> <NA>\n")
    words = ("--system", "talks=hyp", "--system", "keeps-quiet=ref", "-u", "all.uem", "--format", "json")
    systems = json.loads(diarbench("score", "-r", "ref", *words).out)["systems"]
    for system in systems.values():
        assert set(system["rules"]["full"]["recordings"]) == {"one", "two", "quiet"}
    assert systems["talks"]["rules"]["full"]["recordings"]["quiet"]["false_alarm"] == pytest.approx(5)
    assert systems["keeps-quiet"]["rank"] == 1


def test_one_system_of_several_files(diarbench, files):
    words = ("--system", "s=hyp/one.rttm", "--system", "s=hyp/two.rttm", "--format", "json", "--rule", "full")
    systems = json.loads(diarbench("score", "-r", "ref", *words).out)["systems"]
    assert systems["s"]["rules"]["full"]["overall"]["der"] == pytest.approx(7 / 20)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give either hypotheses (-y PATH) or systems (--system NAME=PATH)"),
        (("-y", "hyp", "--system", "a=hyp"), "give either"),
        (("--system", "some/hyp"), "--system 'some/hyp': NAME=PATH was expected, such as --system hyp=some/hyp"),
        (("--system", "=hyp"), "NAME=PATH was expected"),
        (("-y", "hyp", "--rule", "colar=0.1"), "no key 'colar'; did you mean collar?"),
        (("-y", "hyp", "--rule", "collar=250"), "collar is in seconds on each side"),
        (("-y", "@list"), "list: can't be read"),
        (("-y", "."), "also in"),
    ],
)
def test_wrong_requests_are_one_line(diarbench, files, words, says):
    answer = diarbench("score", "-r", "ref", *words)
    assert answer.code == 2
    assert says in answer.err
    assert answer.err.count("\n") == 1
    assert answer.out == ""


def test_rules_regions_and_mapping(diarbench, files):
    words = ("score", "-r", "ref", "-y", "hyp", "--rule", "collar=0.5", "--rule", "forgiving", "--format", "json")
    answer = json.loads(diarbench(*words, "--region", "reference", "--mapping", "scored").out)
    assert answer["region"] == "reference"
    assert set(answer["rules"]) == {"collar=0.5,mapping=scored", "forgiving"}
    assert answer["rules"]["collar=0.5,mapping=scored"]["collar"] == 0.5
    assert {rule["mapping"] for rule in answer["rules"].values()} == {"scored"}
    two = answer["rules"]["forgiving"]["recordings"]["two"]
    assert (two["false_alarm"], two["scored"]) == (0.0, pytest.approx(9.5))


def test_every_table_says_rule_and_region(diarbench, files):
    words = ("score", "-r", "ref", "-y", "hyp", "--rule", "fair")
    said = {
        "table": "fair: ±250 ms collar, overlap scored; scored from the first to the last turn of both sides",
        "md": "**fair: ±250 ms collar, overlap scored; scored from the first",
        "latex": r"\caption{fair: $\pm$250 ms collar, overlap scored; scored from the first",
    }
    for format, title in said.items():
        assert title in diarbench(*words, "--format", format).out


@pytest.fixture
def odd_names(files):
    """Names that Markdown, LaTeX or a spreadsheet would take for something else."""
    Path("odd.rttm").write_text(
        "SPEAKER [a_1 1 0 5 <NA> <NA> =A|B <NA> <NA>\nSPEAKER [a_1 1 5 5 <NA> <NA> 50%_&\\x <NA> <NA>\n"
    )
    return ("score", "-r", "odd.rttm", "-y", "odd.rttm", "--rule", "full", "--per-speaker", "--format")


def test_markdown_is_escaped(diarbench, odd_names):
    lines = diarbench(*odd_names, "md").out.splitlines()
    rows = [line for line in lines if line.startswith("| \\[a\\_1")]
    assert len(rows) == 3
    assert "=A\\|B" in rows[2] or "=A\\|B" in rows[1]
    assert any(line.startswith("| **OVERALL**") for line in lines)


def test_latex_is_escaped(diarbench, odd_names):
    text = diarbench(*odd_names, "latex").out
    assert r"50\%\_\&\textbackslash{}x" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    rows = [line.strip() for line in text.splitlines() if r"a\_1" in line]
    assert all(row.startswith("{}") for row in rows)  # else \\ would read the bracket as its option
    assert text.count(r"\midrule") == 3  # below both heads, and above OVERALL


def test_csv_holds_unrounded_numbers(diarbench, odd_names, files):
    text = diarbench("score", "-r", "ref", "-y", "hyp", "--rule", "full", "--rule", "fair", "--format", "csv").out
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["rule"], row["recording"]) for row in rows] == [
        (rule, name) for rule in ("full", "fair") for name in ("one", "two", "")
    ]
    assert float(rows[2]["der"]) == 7 / 20
    assert (rows[1]["reference_speakers"], rows[1]["hypothesis_speakers"]) == ("1", "2")
    assert rows[2]["reference_speakers"] == ""
    speakers = list(csv.DictReader(diarbench(*odd_names, "csv").out.splitlines()))
    assert {row["speaker"] for row in speakers} == {"'=A|B", "50%_&\\x"}
    assert {float(row["correct"]) for row in speakers} == {5.0}


def test_csv_of_several_systems_names_them(diarbench, two_systems):
    words = ("score", "-r", "ref", "--system", "a=hyp", "--system", "b=worse", "--rule", "full", "--format", "csv")
    rows = list(csv.DictReader(diarbench(*words).out.splitlines()))
    assert [row["system"] for row in rows] == ["a"] * 3 + ["b"] * 3


def test_speakers(diarbench, files):
    words = ("score", "-r", "ref", "-y", "hyp", "--rule", "full", "--per-speaker")
    full = json.loads(diarbench(*words, "--format", "json").out)["rules"]["full"]
    assert full["recordings"]["one"]["speakers"] == [
        {"speaker": "A", "mapped": "x", "jaccard_error": pytest.approx(0.2), "scored": 10.0,
         "spoken_by_hypothesis": 8.0, "correct": 8.0},
    ]  # fmt: skip
    assert "speakers, full: no collar, overlap scored" in diarbench(*words).out
    full = json.loads(diarbench(*words[:-1], "--format", "json").out)["rules"]["full"]
    assert "speakers" not in full["recordings"]["one"]


def test_formats_by_ending_or_as_said(diarbench, files):
    segments = [{"session_id": name, "speaker": "x", "start_time": 0, "end_time": "10"} for name in ("one", "two")]
    Path("hyp.json").write_text(json.dumps(segments))
    words = ("score", "-r", "ref", "--rule", "full", "--format", "json")
    assert json.loads(diarbench(*words, "-y", "hyp.json").out)["rules"]["full"]["overall"]["der"] == 0
    Path("hyp.txt").write_text("one 1 x 0 10\ntwo 1 x 0 10\n")
    answer = diarbench(*words, "-y", "hyp.txt", "--hypothesis-format", "stm")
    assert json.loads(answer.out)["rules"]["full"]["overall"]["der"] == 0
    answer = diarbench(*words, "-y", "hyp.txt")
    assert (answer.code, answer.out) == (2, "")
    assert "hyp.txt, line 1: 'one' is no RTTM line type" in answer.err
    Path("list").write_text("ref/one.rttm\nref/two.rttm\n")
    words = ("score", "-r", "@list", "-y", "hyp.json", "--rule", "full", "--format", "json")
    assert set(json.loads(diarbench(*words).out)["rules"]["full"]["recordings"]) == {"one", "two"}


def test_the_published_voxconverse_from_folder_to_table(diarbench, shared_data):
    folder = shared_data / "published" / "voxconverse"
    answer = diarbench("score", "-r", folder / "reference", "-y", folder / "hypotheses" / "vbx-osd", "--rule", "fair")
    with (folder / "hypotheses" / "vbx-osd.scores.csv").open() as file:
        published = {row["recording"]: row for row in csv.DictReader(file)}
    rows = {}
    for line in answer.out.splitlines():
        cells = [cell.strip() for cell in line.split("│")]
        if len(cells) > 2 and cells[1] in published:
            rows[cells[1]] = cells[2:6]
    assert len(rows) == 233
    keys = ("der_pct", "missed_pct", "false_alarm_pct", "confusion_pct")
    for name, cells in rows.items():
        assert [float(cell) for cell in cells] == pytest.approx(
            [float(published[name][key]) for key in keys], abs=0.011
        )


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("{}.wav", "; one and one.wav differ only in their ending: rename one side"),
        ("{}", None),
        ("{}-b", "; one and one-b differ only in '-b' at the end: rename one side"),
        ("{0}{0}", ""),
    ],
)
def test_no_shared_id_is_an_error(diarbench, files, written, hint):
    Path("other").mkdir()
    for name in ("one", "two"):
        shown = written.format(name) if hint is not None else name.upper()
        Path(f"other/{shown}.rttm").write_text(f"SPEAKER {shown} 1 0 10 <NA> <NA> x <NA> <NA>\n")
    hint = "; one and ONE differ only in case: rename one side" if hint is None else hint
    for words in (("-y", "other"), ("--system", "good=hyp", "--system", "other=other")):
        answer = diarbench("score", "-r", "ref", *words)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith("error: no hypothesis has the id of a reference: ref has one, ..., other has ")
        assert answer.err.endswith(f", ...{hint}\n")
        assert answer.err.count("\n") == 1


def test_what_is_missing_is_in_the_json(diarbench, files):
    Path("hyp/one.rttm").unlink()
    Path("hyp/three.rttm").write_text("SPEAKER three 1 0 1 <NA> <NA> x <NA> <NA>\n")
    answer = diarbench("score", "-r", "ref", "-y", "hyp", "--format", "json")
    found = json.loads(answer.out)
    assert (found["absent"], found["left_out"], found["beyond"]) == (["one"], ["three"], [])
    assert "(one)\n" in answer.err
    assert "(three)\n" in answer.err
    named = json.loads(diarbench("score", "-r", "ref", "--system", "s=hyp", "--format", "json").out)["systems"]["s"]
    assert (named["absent"], named["left_out"]) == (["one"], ["three"])


@pytest.mark.parametrize("uem", [(), ("-u", "all.uem")])
def test_milliseconds_are_suspected(diarbench, files, uem):
    Path("hyp/one.rttm").write_text("SPEAKER one 1 0 8000 <NA> <NA> x <NA> <NA>\n")
    answer = diarbench("score", "-r", "ref", "-y", "hyp", *uem, "--format", "json")
    assert answer.code == 0
    assert (
        "note: 1 hypothesis ends far too late (one: at 8000 s, its reference and scoring region at 10 s)" in answer.err
    )
    assert json.loads(answer.out)["beyond"] == ["one"]
    assert diarbench("score", "-r", "ref", "-y", "ref", *uem).err == ""


def test_a_system_given_twice(diarbench, files):
    for second in ("hyp", "ref"):
        answer = diarbench("score", "-r", "ref", "--system", "A=hyp", "--system", f"A={second}")
        assert (answer.code, answer.out) == (2, "")
        assert f"A is given twice, and {second} has the recording 'one' again" in answer.err


def test_what_references_mark_is_told_once_and_in_the_json(diarbench, files):
    Path("ref/two.rttm").write_text(Path("ref/two.rttm").read_text() + "NOSCORE two 1 9 6\n")
    said = "note: ref/two.rttm: marked as not to be scored, and left out of scoring: 6 s in 1 region of 1 recording\n"
    answer = diarbench("score", "-r", "ref", "--system", "a=hyp", "--system", "b=hyp", "--format", "json")
    assert answer.err == said
    for system in json.loads(answer.out)["systems"].values():
        assert (system["excluded"], system["unreferenced"]) == ({"two": [[9.0, 15.0]]}, [])
        two = system["rules"]["full"]["recordings"]["two"]
        assert (two["scored"], two["false_alarm"]) == (pytest.approx(9), 0)
    assert "scored inside the UEM, less what ref" in diarbench("score", "-r", "ref", "-y", "hyp", "-u", "all.uem").out
    answer = diarbench("compare", "-r", "ref", "--system", "a=hyp", "--system", "b=ref")
    assert answer.err.startswith(said)
    assert "note: b: ref/two.rttm: marked as not to be scored, and scored all the same" in answer.err


def test_a_uem_without_references_is_said(diarbench, files):
    Path("ref/two.rttm").unlink()
    answer = diarbench("score", "-r", "ref", "-y", "hyp", "-u", "all.uem", "--format", "json")
    assert json.loads(answer.out)["unreferenced"] == ["two"]
    assert "note: 1 recording of the UEM has no reference (two): what the hypothesis says there counts" in answer.err
    assert "false alarm, 12 s" in answer.err
