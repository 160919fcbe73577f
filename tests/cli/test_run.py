"""`diarbench run` and `report` as a user meets them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_run_scores_and_writes_a_page(diarbench, here):
    answer = diarbench("run", "-s", "good", "-s", "deaf", "-d", "mine", "--format", "json")
    assert answer.code == 0, answer.err
    board = json.loads(answer.out)
    lines = {line["system"]: line for line in board["systems"]}
    assert lines["good"]["rank"] == 1
    assert lines["good"]["macro_der"]["full"] == pytest.approx(0.0, abs=1e-9)
    assert lines["deaf"]["macro_der"]["full"] == pytest.approx(1.0)
    assert board["done"] == 6
    assert Path(board["page"]).read_text().lower().startswith("<!doctype html>")


def test_a_second_run_does_nothing_again(diarbench, here):
    diarbench("run", "-s", "good", "-d", "mine")
    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("recordings/*")}
    answer = diarbench("run", "-s", "good", "-d", "mine", "--format", "json")
    assert json.loads(answer.out)["kept"] == 3
    assert json.loads(answer.out)["done"] == 0
    assert before == {path: path.stat().st_mtime_ns for path in Path("runs").rglob("recordings/*")}
    again = diarbench("run", "-s", "good", "-d", "mine", "--again", "--format", "json")
    assert json.loads(again.out)["done"] == 3


def write_system(name: str, body: str) -> None:
    folder = Path("systems") / name
    folder.mkdir()
    (folder / "adapter.py").write_text(f"class System:\n    def diarize(self, audio):\n{body}")
    (folder / f"{name}.toml").write_text(f'title = "{name}"\nadapter = "./adapter.py:System"\n')


FAILS_ON_B = """\
        if audio.recording.id == 'b':
            raise RuntimeError('out of ideas')
        return [(1, 3, 'A')]
"""


def test_a_failing_system_leaves_the_rest_and_shows(diarbench, here):
    write_system("bad", FAILS_ON_B)
    answer = diarbench("run", "-s", "bad", "-s", "good", "-d", "mine", "--format", "json")
    assert answer.code == 1
    board = json.loads(answer.out)
    lines = {line["system"]: line for line in board["systems"]}
    assert lines["good"]["rank"] == 1
    assert lines["bad"]["rank"] is None
    error = "RuntimeError: out of ideas (systems/bad/adapter.py, line 4)"
    assert f"failed: bad on mine, b: {error}\n" in answer.err, "as it happens"
    assert f"failed: bad, mine, 1 of 3 recordings (b): {error}\n" in answer.err, "and in the end"
    assert board["failures"] == [f"bad on mine, b: {error}"]
    (stored,) = Path("runs").glob("*/bad/mine/*/*/recordings/b.json")
    assert f'note: the whole traceback is "detail" in {stored}\n' in answer.err
    assert "line 4, in diarize" in json.loads(stored.read_text())["detail"]
    assert "out of ideas" in Path(board["page"]).read_text()


def test_failures_are_told_as_they_happen_and_gathered_once_in_the_end(diarbench, here):
    write_system("none", "        pass\n")
    write_system("picky", "        raise ValueError(f'not {audio.recording.id}')\n")
    write_system("gone", "        pass\nimport no_such_module\n")
    systems = ("-s", "none", "-s", "picky", "-s", "gone", "-s", "good")
    table = diarbench("run", *systems, "-d", "mine")
    assert table.code == 1
    none = "diarize() returned None; it must return Turns, a pyannote Annotation, or an iterable of (start, end, "
    gone = "ModuleNotFoundError: No module named 'no_such_module' (systems/gone/adapter.py, line 4)"
    for name in "abc":
        assert table.err.count(f"failed: none on mine, {name}: {none}speaker) in seconds\n") == 1
        assert table.err.count(f"failed: picky on mine, {name}: ValueError: not {name} (") == 1
    assert table.err.count(f"failed: gone: {gone}\n") == 1
    assert table.err.count("failed: ") == 7, "the table above tells the rest"
    assert f"none, mine, 3 of 3 recordings (a, b, c): {none}" in table.out
    assert "\n3 recordings run, 9 failed, 0 already there. Page: " in table.out
    answer = diarbench("run", *systems, "-d", "mine", "--format", "json")
    ends = [line.partition(": ")[2] for line in answer.err.splitlines() if line.startswith("failed: ")][7:]
    begins = ["none, mine, 3 of 3 recordings (a, b, c): ", *(f"picky, mine, 1 of 3 recordings ({i}): " for i in "abc")]
    assert all(end.startswith(begin) for end, begin in zip(ends, [*begins, f"gone: {gone}"], strict=True))
    assert len(json.loads(answer.out)["failures"]) == 7


def test_what_the_board_does_not_tell_is_told_in_the_end(diarbench, here):
    """A system that can't be built any more keeps its results, and so has no problem on the board."""
    write_system("fickle", "        return []\nimport os\nif os.environ.get('BREAK'):\n    raise OSError('broken')\n")
    write_system("bad", FAILS_ON_B)
    assert diarbench("run", "-s", "fickle", "-d", "mine").code == 0
    os.environ["BREAK"] = "1"
    try:
        answer = diarbench("run", "-s", "fickle", "-s", "bad", "-d", "mine", "--again")
    finally:
        del os.environ["BREAK"]
    assert answer.code == 1
    assert "bad, mine, 1 of 3 recordings (b): RuntimeError" in answer.out
    assert "broken" not in answer.out
    assert answer.err.count("failed: bad") == 1
    assert answer.err.count("failed: fickle: OSError: broken (systems/fickle/adapter.py, line 6)\n") == 2


def test_the_last_line_says_where_the_page_does_not_show_all(diarbench, here):
    assert "Page: runs/leaderboard.html\n" in diarbench("run", "-s", "deaf", "-d", "mine").out
    part = diarbench("run", "-s", "good", "-d", "mine").out
    assert part.endswith(
        "Page: runs/leaderboard.html, of this run alone; `diarbench report` shows all that is in runs "
        "(2 systems on 1 dataset)\n"
    )
    assert "Page: runs/leaderboard.html\n" in diarbench("run", "-s", "good", "-s", "deaf", "-d", "mine").out
    diarbench("run", "-s", "good", "-d", "mine", "--runs", "my runs")
    named = diarbench("run", "-s", "deaf", "-d", "mine", "--runs", "my runs").out
    command = named.partition("; `diarbench ")[2].partition("`")[0]
    assert command == "report --runs 'my runs'"
    assert {"good", "deaf"} <= set(diarbench(*shlex.split(command), "--format", "table").out.split())


def test_turns_before_the_beginning_are_told_once_for_a_system(diarbench, here):
    write_system("early", "        return [(-0.5, 3, 'A')]\n")
    for _ in ("first", "kept"):
        answer = diarbench("run", "-s", "early", "-d", "mine")
        assert (answer.code, answer.err.count("turns start before the recording, in 3 recordings")) == (0, 1)
    assert "note: early: turns start at -0.5 s, before the recording; they are cut off at 0 s\n" in (
        diarbench("check", "early").err
    )


def test_turns_after_the_end_are_told_once_for_a_system(diarbench, here):
    write_system("late", "        return [(1, 5.6, 'A')]\n")
    for _ in ("first", "kept"):
        answer = diarbench("run", "-s", "late", "-s", "good", "-d", "mine")
        assert (answer.code, answer.err.count("turns end after the recording")) == (0, 1)
        assert "note: late: turns end after the recording, by more than 0.5 s, in 3 recordings, " in answer.err


def test_limit_runs_the_first_and_says_so(diarbench, here):
    answer = diarbench("run", "-s", "good", "-d", "mine", "--limit", 2, "--format", "json")
    assert json.loads(answer.out)["done"] == 2
    assert json.loads(answer.out)["systems"][0]["rank"] == 1
    whole = diarbench("report", "--format", "table")
    assert "2 of 3" in whole.out
    note = "note: good: only begun (with a limit, or stopped), and so not ranked; `--limit 2` shows the first 2 of "
    assert note in whole.err
    assert "--limit" not in diarbench("report", "--limit", "2", "--format", "table").err
    diarbench("run", "-s", "good", "-d", "mine")
    assert "--limit" not in diarbench("report", "--format", "table").err


@pytest.mark.parametrize(("format", "sign"), [("md", "| "), ("latex", "\\toprule"), ("csv", "system"), ("json", "{")])
def test_report_formats(diarbench, here, format, sign):
    diarbench("run", "-s", "good", "-d", "mine")
    answer = diarbench("report", "--format", format)
    assert answer.code == 0
    assert sign in answer.out
    written = diarbench("report", "--format", format, "-o", f"out.{format}")
    assert written.code == 0
    assert Path(f"out.{format}").read_text().strip() == answer.out.strip()


def test_a_baseline_for_all(diarbench, here):
    Path("systems/third.toml").write_text(Path("systems/deaf.toml").read_text().replace("deaf", "third"))
    systems = ("-s", "good", "-s", "deaf", "-s", "third")
    ran = json.loads(diarbench("run", *systems, "-d", "mine", "--baseline", "deaf", "--format", "json").out)
    shown = json.loads(diarbench("report", "--baseline", "deaf", "--format", "json").out)
    for board in (ran, shown):
        assert {line["system"]: line["delta"]["full"] for line in board["systems"]} == {
            "good": pytest.approx(-1.0), "deaf": None, "third": pytest.approx(0.0),
        }  # fmt: skip
    assert "less that of deaf, in percentage points" in diarbench("report", "--baseline", "deaf", "--format", "md").out
    assert "less that of good, in percentage points" in diarbench("report", "--format", "md").out
    before = sorted(here.rglob("*"))
    for words in (("run", "-s", "good", "-d", "mine"), ("report",)):
        answer = diarbench(*words, "--baseline", "god")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "the baseline 'god' is n" in answer.err
        assert "did you mean good?" in answer.err
    assert sorted(here.rglob("*")) == before


def test_report_of_nothing_is_an_error(diarbench, here):
    assert diarbench("report").code == 2
    Path("empty").mkdir()
    answer = diarbench("report", "--runs", "empty")
    assert answer.code == 2
    assert "no results in empty" in answer.err
    assert not Path("leaderboard.html").exists()


def test_several_cards_by_pattern_and_path(diarbench, here):
    answer = diarbench("run", "-s", "g*", "-s", "systems/deaf.toml", "-d", "datasets/mine.toml", "--format", "json")
    assert {line["system"] for line in json.loads(answer.out)["systems"]} == {"good", "deaf"}


def test_what_a_pattern_finds_and_is_not_here_is_passed_over(diarbench, here):
    text = (here / "datasets" / "mine.toml").read_text()
    (here / "datasets" / "mine-too.toml").write_text(text.replace('root = "mine"', 'root = "nowhere"'))
    assert 'root = "nowhere"' in (here / "datasets" / "mine-too.toml").read_text()
    answer = diarbench("run", "-s", "good", "-d", "mine*")
    assert answer.code == 0, answer.err
    assert "passed over: dataset mine-too" in answer.err
    assert "Dataset mine:" in answer.out
    for wanted in ("mine-too", "mine-t*", "datasets/mine-too.toml"):
        answer = diarbench("run", "-s", "good", "-d", wanted)
        assert answer.code == 2, "named as such, or nothing else there"
        assert "error: dataset mine-too" in answer.err


def test_a_report_card(diarbench, here):
    Path("reports").mkdir()
    Path("reports/ours.toml").write_text('title = "Ours"\nsystems = ["good"]\ndatasets = ["mine"]\nrule = "fair"\n')
    answer = diarbench("run", "ours", "--format", "json")
    assert json.loads(answer.out)["title"] == "Ours"
    assert json.loads(answer.out)["rule"] == "fair"
    assert "Ours" in diarbench("report", "ours", "--format", "table").out


def test_another_rule_ranks_and_runs_nothing(diarbench, here):
    """good hears the turn from 1 s to 3 s; long hears half a second more, in what a collar of 0.6 s leaves out."""
    Path("systems/long").mkdir()
    long = "class System:\n    def diarize(self, audio):\n        return [(1, 3.5, 'A')]\n"
    Path("systems/long/adapter.py").write_text(long)
    Path("systems/long/long.toml").write_text('title = "Long"\nadapter = "./adapter.py:System"\n')
    words = ("-s", "good", "-s", "long", "-d", "mine")
    diarbench("run", *words)
    rules = ("--rule", "overlap=skip,collar=0.6", "--rule", "collar=0.1")
    reported = json.loads(diarbench("report", *rules, "--format", "json").out)
    ran = json.loads(diarbench("run", *words, *rules, "--format", "json").out)
    assert (ran["done"], ran["kept"]) == (0, 6)
    names = ["full", "fair", "forgiving", "collar=0.6,overlap=skip", "collar=0.1"]
    for board in (reported, ran):
        assert (board["rule"], [rule["name"] for rule in board["rules"]]) == (names[3], names)
        assert board["rules"][3]["label"] == "±600 ms collar, overlap skipped"
        assert [line["rank"] for line in board["systems"]] == [1, 1]
        (ders,) = [list(line["macro_der"].values()) for line in board["systems"] if line["system"] == "long"]
        assert ders == pytest.approx([0.25, 0.25 / 1.5, 0.25 / 1.5, 0.0, 0.4 / 1.8])
    for format in ("html", "md", "latex", "csv", "table"):
        shown = diarbench("report", *rules, "--format", format, "-o", "/dev/stdout").out
        assert names[3] in shown.replace("\n", " "), format
        assert names[4] in shown, format


def test_wrong_rules_are_one_line(diarbench, here):
    Path("reports").mkdir()
    Path("reports/ours.toml").write_text('title = "Ours"\nsystems = ["good"]\ndatasets = ["mine"]\nrule = "colar=1"\n')
    diarbench("run", "-s", "good", "-d", "mine")
    for words, says in {
        (
            "run",
            "-s",
            "good",
            "-d",
            "mine",
            "--rule",
            "full",
            "--rule",
            "colar=1",
        ): "no key 'colar'; did you mean collar?",
        ("report", "--rule", "collar=250"): "collar is in seconds on each side",
        ("report", "--rule", ""): "no scoring rule ''",
        ("compare", "good", "deaf", "--rule", "overlap=no"): "overlap can't be 'no'",
        ("report", "ours"): "the report ours: the scoring rule 'colar=1' has no key",
        ("run", "ours"): "the report ours: the scoring rule 'colar=1' has no key",
    }.items():
        answer = diarbench(*words)
        assert (answer.code, answer.err.count("\n"), answer.out) == (2, 1, ""), words
        assert says in answer.err, words


def test_the_rule_of_a_report_card_stays_a_column(diarbench, here):
    Path("reports").mkdir()
    card = 'title = "Ours"\nsystems = ["good"]\ndatasets = ["mine"]\nrule = "collar=0.125"\n'
    Path("reports/ours.toml").write_text(card)
    assert json.loads(diarbench("run", "ours", "--format", "json").out)["rule"] == "collar=0.125"
    board = json.loads(diarbench("report", "ours", "--rule", "fair", "--format", "json").out)
    assert board["rule"] == "fair"
    assert [rule["name"] for rule in board["rules"]] == ["full", "fair", "forgiving", "collar=0.125"]


def test_a_report_card_of_which_only_a_part_has_run(diarbench, here):
    Path("reports").mkdir()
    Path("reports/ours.toml").write_text('title = "Ours"\nsystems = ["good", "deaf"]\ndatasets = ["mine"]\n')
    diarbench("run", "-s", "good", "-d", "mine")
    answer = diarbench("report", "ours", "--format", "table")
    assert answer.code == 0
    assert "not run yet, and not shown: deaf" in answer.err
    assert "good" in answer.out


def test_a_plugin_arrives_by_entry_point(here, tmp_path_factory):
    target = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    install += ["--no-build-isolation", "--target", str(target), str(ROOT / "tests" / "sample_plugin")]
    subprocess.run(install, check=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), str(ROOT)])}
    command = [sys.executable, "-m", "diarbench", "run", "-s", "sample-loud", "-d", "mine", "--format", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)["systems"][0]
    assert line["system"] == "sample-loud"
    assert line["macro_der"]["full"] == pytest.approx(0.0)
