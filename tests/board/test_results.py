"""From stored results to scores: nothing is believed that was not written by the run, and nothing is hidden."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from shelf import BOX, RULES, Shelf

from diarbench import board, store
from diarbench.errors import InputError, StoreError
from diarbench.leaderboard import Place
from diarbench.scoring import FULL, ScoringRule
from diarbench.store import store_dataset, store_machine
from diarbench.types import LabelledRecording, Recording, Timing, Turns

RESULT = (
    "format", "recording", "status", "session", "rttm_sha256", "audio", "timing", "timing_counts", "timing_problem",
    "macs", "macs_problem",
)  # fmt: skip
NESTED = [("audio", key) for key in ("bytes", "mtime_ns", "sha256")]
NESTED += [("timing", key) for key in ("wall", "audio", "stages")] + [("macs", "net")]


def test_one_run(shelf: Shelf):
    shelf.dataset()
    complexity = {"parameters": 3, "nonzero_parameters": 2, "parameters_by_stage": {"x": 3}, "weight_bytes": 12}
    shelf.run(results={"a": 0.0, "b": 0.25, "c": 0.5}, complexity=complexity, baseline="base", compression={"bits": 8})
    found = shelf.board()
    assert (found.title, found.rule, found.rules) == ("T", FULL, RULES)
    (column,) = found.columns
    assert (column.name, column.title, column.recordings, column.total, column.audio) == ("d", "D", tuple("abc"), 3, 30)
    (line,) = found.lines
    assert line.rank == 1
    assert line.macro["full"] == pytest.approx(0.25)
    entry = line.entry
    assert (entry.title, entry.baseline, entry.compression) == ("S", "base", {"bits": 8})
    assert entry.scores["d"].recordings["c"]["full"].missed == pytest.approx(4.0)
    assert entry.scores["d"].complete
    assert entry.speeds[BOX].rtf == pytest.approx(0.1)
    assert found.places == (BOX,)
    assert entry.complexity is not None
    assert entry.complexity.parameters == 3
    assert entry.problems == ()
    assert entry.provenance[0]["sessions"][0]["session"] == "0001"
    assert found.machines == {"box": {"format": 1, "name": "box"}}


def test_missing_and_failed_recordings(shelf: Shelf):
    shelf.dataset()
    shelf.run(results={"a": 0.0, "b": "it broke"})
    (line,) = shelf.board().lines
    score = line.entry.scores["d"]
    assert (set(score.recordings), score.failures, score.missing) == ({"a"}, {"b": "it broke"}, ("c",))
    assert line.rank is None
    assert line.unranked == "1 of 3 recordings on d, 1 failed"
    assert line.entry.speeds == {}
    # Of the first recording alone, nothing lacks.
    (line,) = shelf.board(limit=1).lines
    assert (line.rank, line.macro["full"]) == (1, 0.0)
    assert line.entry.speeds[BOX].audio == 10.0
    assert shelf.board(limit=1).columns[0].label == "d (first 1 of 3)"
    assert shelf.board(limit=100).columns[0].label == "d"


def test_scores_are_made_from_the_rttm(shelf: Shelf):
    """Not from anything stored beside it; and an RTTM that is not the run's own is a failure."""
    shelf.dataset()
    folder = shelf.run()
    path = folder.rttm_path("a")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"6.000", b"8.000"))
    assert shelf.entry().scores["d"].failures == {
        "a": "its stored RTTM is not the one that the run wrote; run the system again"
    }
    # One that carries the digest of the new content is believed, since it is what was written.
    stored = json.loads(path.with_suffix(".json").read_text())
    stored["rttm_sha256"] = store.sha256_of(path)
    path.with_suffix(".json").write_text(json.dumps(stored))
    assert shelf.entry().scores["d"].recordings["a"]["full"].errors == pytest.approx(0.0)
    # So is one that no reader takes: one failure, not a broken board.
    path.write_text("SPEAKER a 1 -1.000 2.000 <NA> <NA> X <NA> <NA>\n")
    stored["rttm_sha256"] = store.sha256_of(path)
    path.with_suffix(".json").write_text(json.dumps(stored))
    (error,) = shelf.entry().scores["d"].failures.values()
    assert error.startswith("its stored RTTM can't be read: the start is negative")


@pytest.mark.parametrize("path", [("wrong",), *[(key,) for key in RESULT], *[(a, b) for a, b in NESTED]])
def test_a_result_that_was_tampered_with_breaks_nothing(shelf: Shelf, path: tuple[str, ...]):
    """Any value in the place of any other, or none: the recording counts as missing or failed, or nothing happens."""
    shelf.dataset()
    folder = shelf.run()
    audio = {"bytes": 1, "mtime_ns": 1, "sha256": "0"}
    folder.write_result("a", Turns.of([]), Timing(1.0, 1.0), "s", audio=audio, timing_problem=None, macs={"net": 3})
    file = folder.rttm_path("a").with_suffix(".json")
    whole = file.read_text()
    assert set(json.loads(whole)) == set(RESULT)
    for junk in (None, True, 3, -1.5, "x", [], {}, ["x"], {"x": None}, ...):
        value = json.loads(whole)
        inside = value
        for key in path[:-1]:
            inside = inside[key]
        if junk is ...:
            inside.pop(path[-1], None)
        else:
            inside[path[-1]] = junk
        file.write_text(json.dumps(value))
        score = shelf.entry().scores["d"]
        assert set(score.recordings) >= {"b", "c"}
        assert {*score.recordings, *score.failures, *score.missing} == {"a", "b", "c"}


def test_another_rule_needs_no_other_run(shelf: Shelf):
    shelf.dataset()
    shelf.run(results=dict.fromkeys("abc", 0.5))
    tight = ScoringRule("tight", 0.1, "score")
    score = shelf.entry(rules=(tight,), rule=tight).scores["d"].recordings["a"]["tight"]
    assert (score.scored, score.missed) == (pytest.approx(7.8), pytest.approx(3.9))


def test_names_are_checked(shelf: Shelf, tmp_path: Path):
    with pytest.raises(InputError, match=r"no results in .*; make some with `diarbench run`"):
        shelf.board()
    shelf.dataset()
    shelf.run("silero")
    with pytest.raises(InputError, match="no stored run of the system 'siler'; did you mean silero"):
        shelf.board(systems=["siler"])
    with pytest.raises(InputError, match="no stored run of the dataset 'e'"):
        shelf.board(datasets=["e"])
    with pytest.raises(InputError, match="no results"):
        shelf.board(only=[])
    with pytest.raises(InputError, match="no results"):
        shelf.board(roots=[tmp_path / "nowhere"])


def test_references_that_were_not_copied(shelf: Shelf):
    shelf.dataset()
    shelf.run()
    shutil.rmtree(shelf.root / "box" / "_datasets")
    with pytest.raises(StoreError, match=r"references of d .* are not stored beside the runs; copy the folder"):
        shelf.board()


def test_files_of_another_format(shelf: Shelf):
    shelf.dataset()
    folder = shelf.run()
    newer = {"format": 2, "recording": "a", "status": "done"}
    (folder.path / "recordings" / "a.json").write_text(json.dumps(newer))
    assert shelf.entry().scores["d"].missing == ("a",)
    for path in (folder.path / "run.json", *folder.path.glob("sessions/*.json"), shelf.root / "box" / "machine.json"):
        whole = path.read_bytes()
        path.write_text('{"format": 2}')
        with pytest.raises(StoreError, match="written by another version of diarbench"):
            shelf.board()
        path.write_bytes(whole)
    assert shelf.entry().scores["d"].missing == ("a",)


def test_machines_are_merged_by_copying(shelf: Shelf, tmp_path: Path):
    """Into one folder, or read from several; and what is lost on the way is missing, not zero."""
    shelf.dataset()
    shelf.run(results={"a": 0.0, "b": 0.0, "c": 0.0}, wall=1.0)
    away = Shelf(tmp_path / "away")
    away.dataset(machine="other")
    away.run("s", place=Place("other", "cpu", 1), results={"a": 0.0, "b": 0.0, "c": 0.0}, wall=3.0)
    away.run("t", place=Place("other", "cpu", 1))
    both = shelf.board(roots=[shelf.root, away.root])
    shutil.copytree(away.root / "other", shelf.root / "other")
    assert shelf.board() == both
    assert [line.entry.system for line in both.lines] == ["s", "t"]
    assert both.places == (BOX, Place("other", "cpu", 1))
    assert set(both.machines) == {"box", "other"}
    assert both.lines[0].entry.problems == ()
    for path in (shelf.root / "other").rglob("recordings/b.*"):
        path.unlink()
    assert shelf.entry("t").scores["d"].missing == ("b",)
    # Two halves of one run come together file by file.
    half = shelf.root / "box" / "s"
    for path in half.rglob("recordings/a.*"):
        path.unlink()
    assert shelf.entry("s").scores["d"].missing == ("a",)
    shelf.run(results={"a": 0.0})
    assert shelf.entry("s").scores["d"].complete


def test_empty_hypotheses_and_silent_references(shelf: Shelf):
    shelf.dataset()
    shelf.run(results=dict.fromkeys("abc", 1.0))
    assert shelf.entry().scores["d"].der("full") == pytest.approx(1.0)
    nobody = LabelledRecording(Recording("a", None, 10.0, 16000), Turns.of([]), ((0.0, 10.0),))
    facts = {"title": "N", "licence": "CC0", "synthetic": False}
    store_dataset(shelf.root, "box", "n", "n1".ljust(64, "0"), facts, [nobody])
    shelf.run("s", "n", results={"a": 0.5})
    line = next(line for line in shelf.board(datasets=["n"]).lines)
    assert line.entry.scores["n"].recordings["a"]["full"].false_alarm == pytest.approx(4.0)
    assert (line.rank, line.unranked) == (None, "no reference speech is scored on n")
    assert (line.entry.scores["n"].jer("full"), line.macro_jer["full"]) == (None, None)


def test_jer_is_over_speakers_and_needs_every_recording(shelf: Shelf):
    shelf.dataset()
    shelf.run(results={"a": 0.5, "b": 0.25, "c": 0.0})  # one speaker in each, who is found for so much less
    (line,) = shelf.board().lines
    assert line.entry.scores["d"].jer("full") == pytest.approx(0.25)
    assert line.macro_jer["full"] == pytest.approx(0.25)
    # Of 7.5 s between the collars at 1 s and 9 s, 3.75 s and 1.75 s are missed.
    assert line.macro_jer["fair"] == pytest.approx((3.75 + 1.75) / 7.5 / 3)
    shelf.dataset("e")
    shelf.run("s", "e", results=dict.fromkeys("abc", 1.0))
    assert shelf.board().lines[0].macro_jer["full"] == pytest.approx((0.25 + 1) / 2)
    shelf.run(results={"b": "fell over"})
    (line,) = shelf.board().lines
    assert (line.entry.scores["d"].jer("full"), line.macro_jer["full"]) == (None, None)


def test_scores_are_kept_and_never_stale(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    """Of 210 recordings, a second board scores none, and one after a change those that changed."""
    names = [f"r{number:03d}" for number in range(210)]
    recordings = [
        LabelledRecording(Recording(name, None, 10.0, 16000), Turns.of([(1.0, 9.0, "A")]), ((0.0, 10.0),))
        for name in names
    ]
    facts = {"title": "D", "licence": "CC0", "synthetic": False}
    store_dataset(shelf.root, "box", "d", "d1".ljust(64, "0"), facts, recordings)
    store_machine(shelf.root, "box", {})
    folder = shelf.run(results=dict.fromkeys(names, 0.25))
    scored = []
    score = board.score_everything
    monkeypatch.setattr(board, "score_everything", lambda pairs, rules: (scored.extend(pairs), score(pairs, rules))[1])
    first = shelf.entry()
    assert len(scored) == 210
    scored.clear()
    assert shelf.entry() == first
    assert scored == []
    shelf.run(results={"r007": 0.5})
    entry = shelf.entry()
    assert len(scored) == 1
    assert entry.scores["d"].recordings["r007"]["full"].missed == pytest.approx(4.0)
    assert entry.scores["d"].recordings["r008"] == first.scores["d"].recordings["r008"]
    assert list(entry.scores["d"].recordings) == names
    scored.clear()
    wide, wider = (ScoringRule("same name", collar, "score") for collar in (0.5, 0.75))
    for rule in (wide, wider, wide):
        line = shelf.entry(rules=(FULL, rule)).scores["d"].recordings["r008"]
        assert line["same name"].scored == pytest.approx(8 - 2 * rule.collar)
    assert len(scored) == 420  # what was kept of the first serves again
    scored.clear()
    # Other rules, another scorer, other references: all anew.
    shelf.entry(rules=(FULL,))
    assert len(scored) == 210
    scored.clear()
    monkeypatch.setattr(board, "_scoring_digest", lambda: "another scorer")
    shelf.entry()
    assert len(scored) == 210
    scored.clear()
    later = [LabelledRecording(r.recording, Turns.of([(2.0, 9.0, "A")]), r.uem) for r in recordings]
    store_dataset(shelf.root, "box", "d", "d1".ljust(64, "0"), facts, later)
    assert shelf.entry().scores["d"].recordings["r008"]["full"].scored == pytest.approx(7.0)
    assert len(scored) == 210
    folder.rttm_path("r001").write_text("")
    assert set(shelf.entry().scores["d"].failures) == {"r001"}
