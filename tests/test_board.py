"""From stored runs to a board: which run speaks for a system, what is said of the others, what is never hidden."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from diarbench import board, store
from diarbench.board import read_board
from diarbench.errors import InputError, StoreError
from diarbench.leaderboard import Entry, Leaderboard, Place
from diarbench.scoring import FAIR, FORGIVING, FULL, ScoringRule
from diarbench.store import RunFolder, run_folder, store_dataset, store_machine
from diarbench.types import LabelledRecording, Recording, Timing, Turns

RULES = (FULL, FAIR, FORGIVING)
BOX = Place("box", "cpu", 1)
SPEECH = 8.0  # s of reference speech in each recording


RESULT = (
    "format", "recording", "status", "session", "rttm_sha256", "audio", "timing", "timing_counts", "timing_problem",
    "macs", "macs_problem",
)  # fmt: skip
NESTED = [("audio", key) for key in ("bytes", "mtime_ns", "sha256")]
NESTED += [("timing", key) for key in ("wall", "audio", "stages")] + [("macs", "net")]


class Shelf:
    """Made-up results: nothing is run. One reference speaker from 1 s to 9 s; a hypothesis has the first part right."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._clock = 0

    def dataset(self, name: str = "d", version: str = "1", ids: str = "abc", machine: str = "box") -> str:
        reference = Turns.of([(1.0, 1.0 + SPEECH, "A")])
        recordings = [LabelledRecording(Recording(i, None, 10.0, 16000), reference, ((0.0, 10.0),)) for i in ids]
        digest = f"{name}{version}".ljust(64, "0")
        facts = {"title": name.upper(), "licence": "CC0", "synthetic": False}
        store_machine(self.root, machine, {})
        store_dataset(self.root, machine, name, digest, facts, recordings)
        return digest

    def run(
        self,
        system: str = "s",
        dataset: str = "d",
        results: Mapping[str, float | str | None] | None = None,
        *,
        version: str = "1",
        place: Place = BOX,
        key: str = "0",
        wall: float | None = 1.0,
        problem: str | None = None,
        error: str | None = None,
        complexity: Mapping[str, Any] | None = None,
        identity: Mapping[str, Any] | None = None,
        **card: Any,
    ) -> RunFolder:
        """`results` by id: the DER that the hypothesis has, or the text of a failure."""
        self._clock += 1
        folder = run_folder(self.root, place.machine, system, dataset, f"{place.device}-{place.threads}t", key)
        session = store.new_session(f"{self._clock:04d}", f"2026-01-01T00:00:{self._clock:02d}")
        folder.write_session({**session, "error": error})
        folder.write_run(
            {
                "key": key, "machine": place.machine, "system": system, "dataset": dataset, "device": place.device,
                "threads": place.threads, "card": {"title": system.upper(), **card}, "complexity": complexity,
                "identity": {"system": dict(identity or {}), "dataset": f"{dataset}{version}".ljust(64, "0")},
            }
        )  # fmt: skip
        for name, value in (results if results is not None else dict.fromkeys("abc", 0.25)).items():
            if isinstance(value, str):
                folder.write_failure(name, value, "", session["session"])
            elif value is not None:
                turns = Turns.of([(1.0, 1.0 + SPEECH * (1 - value), "X")])
                timing = Timing(wall, 10.0) if wall is not None else None
                folder.write_result(name, turns, timing, session["session"], audio=None, timing_problem=problem)
        return folder

    def measure(
        self,
        ratios: Mapping[str, float | str | None],
        *,
        place: Place = BOX,
        baseline: str = "base",
        identities: Mapping[str, Mapping[str, Any]] | None = None,
        noise: Mapping[str, Any] | None = None,
        weights: bool = True,
    ) -> str:
        """Store a measuring session; `ratios` by system: the speed-up, None for the baseline, or why it failed."""
        self._clock += 1
        systems: dict[str, Any] = {}
        for name, ratio in ratios.items():
            speedup = {"median": ratio, "low": ratio, "high": ratio, "verdict": "faster"} if ratio else None
            systems[name] = {
                "identity": (identities or {}).get(name, {}),
                "error": ratio if isinstance(ratio, str) else None,
                "speed": {place.device: {"rtf": 0.1, "speedup": None if isinstance(ratio, str) else speedup}},
            }
        session = f"m{self._clock:04d}"
        value = {
            "started": f"2026-01-01T00:00:{self._clock:02d}", "device": place.device, "threads": place.threads,
            "baseline": baseline, "noise": {"floor": 0.02, "busy": False, **(noise or {})}, "systems": systems,
            "weights": weights,
        }  # fmt: skip
        store.store_measure(self.root, place.machine, session, value)
        return session

    def board(self, **how: Any) -> Leaderboard:
        how = {"title": "T", "rules": RULES, "rule": FULL, **how}
        return read_board(how.pop("roots", [self.root]), **how)

    def entry(self, system: str = "s", **how: Any) -> Entry:
        return next(line.entry for line in self.board(**how).lines if line.entry.system == system)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.setenv("DIARBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("os.fsync", lambda handle: None)
    return Shelf(tmp_path / "runs")


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


def test_the_newest_version_of_a_dataset_is_the_column(shelf: Shelf):
    shelf.dataset(version="1")
    shelf.run("old")
    shelf.run("both", key="1")
    shelf.dataset(version="2", ids="ab")
    shelf.run("both", results={"a": 0.5, "b": 0.5}, version="2", key="2")
    found = shelf.board()
    (column,) = found.columns
    assert column.recordings == ("a", "b")
    lines = {line.entry.system: line for line in found.lines}
    assert lines["both"].macro["full"] == pytest.approx(0.5)
    # A system of the older version is neither scored by the newer one, nor left out.
    assert (lines["old"].rank, lines["old"].unranked, lines["old"].entry.scores) == (None, "not run on d", {})
    assert lines["old"].entry.title == "OLD"
    assert lines["old"].entry.problems == ("d: it ran on another version of the dataset; run it again on this one",)
    # Whatever ran last is meant, not what was made last.
    shelf.run("old", key="3")
    assert shelf.board().columns[0].recordings == ("a", "b", "c")


def test_the_newest_run_of_a_place_speaks_for_it(shelf: Shelf):
    shelf.dataset()
    shelf.run(results=dict.fromkeys("abc", 0.5), key="1", title="Old")
    shelf.run(results=dict.fromkeys("abc", 0.25), key="0", title="New")
    entry = shelf.entry()
    assert entry.title == "New"
    assert entry.scores["d"].der("full") == pytest.approx(0.25)
    assert entry.problems == ()
    assert len(entry.provenance) == 1


def test_a_version_that_could_not_run_hides_no_result(shelf: Shelf):
    shelf.dataset()
    shelf.run(results=dict.fromkeys("abc", 0.5), key="1")
    broken = shelf.run(results={}, key="2", error="SyntaxError: invalid syntax")
    entry = shelf.entry()
    assert entry.scores["d"].der("full") == pytest.approx(0.5)
    assert entry.problems == (
        "d: its newest version could not run (SyntaxError: invalid syntax); an older one is shown",
    )
    # Asked for that run alone, the board shows that there is nothing.
    entry = shelf.entry(only=[broken])
    assert entry.scores["d"].missing == ("a", "b", "c")
    assert entry.problems == ("d: SyntaxError: invalid syntax",)
    # One that ran, and failed on every recording, is a result.
    shelf.run(results=dict.fromkeys("abc", "it broke"), key="3")
    assert len(shelf.entry().scores["d"].failures) == 3


def test_places_machines_devices_and_threads(shelf: Shelf):
    shelf.dataset()
    other, gpu, four = Place("other", "cpu", 1), Place("box", "cuda", 1), Place("box", "cpu", 4)
    shelf.run(place=BOX, wall=1.0)
    shelf.run(place=four, wall=0.5)
    shelf.run(place=gpu, wall=0.1)
    shelf.run(place=other, wall=2.0, results={"a": 0.25, "b": 0.25})
    entry = shelf.entry()
    assert {place: speed.rtf for place, speed in entry.speeds.items()} == {
        BOX: pytest.approx(0.1), four: pytest.approx(0.05), gpu: pytest.approx(0.01)
    }  # fmt: skip
    assert entry.scores["d"].complete  # the last one is not complete, so another speaks for the system
    assert entry.problems == ()


def test_places_that_disagree_are_named(shelf: Shelf):
    shelf.dataset()
    shelf.run(results=dict.fromkeys("abc", 0.5), place=Place("box", "cuda", 1))
    shelf.run(results=dict.fromkeys("abc", 0.25))
    entry = shelf.entry()
    assert entry.scores["d"].der("full") == pytest.approx(0.25)
    assert entry.problems == ("d: GPU on box gives 50.00% DER, CPU, 1 thread on box (shown) 25.00%",)
    shelf.run(results=dict.fromkeys("abc", 0.25001), place=Place("box", "cuda", 1))
    assert shelf.entry().problems == ()


def test_speeds_need_all_recordings_of_all_datasets_and_no_company(shelf: Shelf):
    shelf.dataset("d")
    shelf.dataset("e")
    shelf.run(dataset="d", wall=1.0)
    shelf.run(dataset="e", wall=2.0)
    assert shelf.entry().speeds[BOX].rtf == pytest.approx(0.15)
    assert shelf.entry(datasets=["e"]).speeds[BOX].rtf == pytest.approx(0.2)
    shelf.run(dataset="e", wall=2.0, problem="another diarbench ran on this machine")
    entry = shelf.entry()
    assert entry.speeds == {}
    assert entry.problems == (
        "e: no speed for CPU, 1 thread on box: 3 of 3 timings don't count (another diarbench ran on this machine); "
        "measure again with --again",
    )
    assert shelf.board().places == ()
    shelf.run(dataset="e", wall=None)
    entry = shelf.entry()
    assert (entry.speeds, entry.problems) == ({}, ())
    shelf.run(dataset="e", results={"a": 0.1, "b": "it broke", "c": 0.1})
    assert shelf.entry().speeds == {}


def test_datasets_from_different_versions_of_a_system(shelf: Shelf):
    shelf.dataset("d")
    shelf.dataset("e")
    shelf.run(dataset="d", identity={"code": "1"})
    shelf.run(dataset="e", identity={"code": "2"})
    assert "different versions of the system" in shelf.entry().problems[0]


def test_what_a_replay_has_of_one_dataset_is_no_version_of_it(shelf: Shelf):
    for name in "de":
        shelf.dataset(name)
        shelf.run(dataset=name, identity={"code": "1", "files": {name: f"outputs on {name}"}})
    assert shelf.entry().problems == ()


def test_two_channels_of_a_corpus_have_one_digest_and_two_columns(shelf: Shelf):
    """Their references and scoring regions are the same."""
    assert shelf.dataset("d", "21") == shelf.dataset("d2", "1")
    shelf.run(dataset="d", version="21")
    shelf.run(dataset="d2", version="1")
    assert [column.name for column in shelf.board().columns] == ["d", "d2"]
    assert shelf.entry(datasets=["d"]).problems == ()


def test_a_system_that_could_not_be_built(shelf: Shelf):
    shelf.dataset()
    shelf.run("good")
    shelf.run("bad", results={}, error="ImportError: no torch")
    found = shelf.board()
    assert [line.entry.system for line in found.lines] == ["good", "bad"]
    assert found.lines[1].entry.problems == ("d: ImportError: no torch",)
    assert found.lines[1].unranked == "0 of 3 recordings on d"
    # What it could not do later takes nothing from what it did before.
    shelf.run("good", results={}, error="ImportError: no torch")
    assert shelf.entry("good").scores["d"].complete
    assert shelf.entry("good").problems == ()


def test_complexity_is_that_of_the_newest_run_that_knows_it(shelf: Shelf):
    shelf.dataset("d")
    shelf.dataset("e")
    known = {"parameters": 3, "nonzero_parameters": 3, "parameters_by_stage": {}, "weight_bytes": None}
    shelf.run(dataset="d", complexity=known)
    shelf.run(dataset="e", complexity=None)
    complexity = shelf.entry().complexity
    assert complexity is not None
    assert complexity.parameters == 3
    assert shelf.entry(datasets=["e"]).complexity is None


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
    score = board.score_recordings
    monkeypatch.setattr(board, "score_recordings", lambda pairs, rules: (scored.extend(pairs), score(pairs, rules))[1])
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


# --- multiply-accumulates, stages and measuring sessions


def write(folder: RunFolder, recording: str, **changes: Any) -> None:
    """Change what is stored of a recording."""
    path = folder.rttm_path(recording).with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def stages_of(**seconds: Any) -> dict[str, Any]:
    return {"timing": {"wall": 1.0, "audio": 10.0, "stages": seconds}}


def test_macs_are_per_second_of_all_audio_and_need_all_recordings(shelf: Shelf):
    shelf.dataset("d")
    shelf.dataset("e")
    first, second = shelf.run(dataset="d"), shelf.run(dataset="e")
    assert shelf.entry().pipeline_macs is None
    for folder in (first, second):
        for name in "abc":
            write(folder, name, macs={"embedding": 40, "vad": 10})
    assert shelf.entry().pipeline_macs == pytest.approx(6 * 50 / 60)
    write(second, "b", macs={"embedding": 400})
    assert shelf.entry().pipeline_macs == pytest.approx((5 * 50 + 400) / 60)
    assert shelf.entry(datasets=["d"]).pipeline_macs == pytest.approx(5.0)
    for nothing in (None, {}, {"embedding": None}, {"embedding": "x"}, 5):
        write(second, "b", macs=nothing)
        assert shelf.entry().pipeline_macs is None
    assert shelf.entry(datasets=["e"], limit=1).pipeline_macs == pytest.approx(5.0)


def test_macs_of_another_place_serve_where_the_shown_one_has_none(shelf: Shelf):
    shelf.dataset()
    counted = shelf.run(place=Place("box", "cpu", 4))
    for name in "abc":
        write(counted, name, macs={"x": 20})
    shelf.run(place=BOX)
    assert shelf.entry().pipeline_macs == pytest.approx(2.0)


def test_stages_add_up_to_the_time(shelf: Shelf):
    shelf.dataset("d")
    shelf.dataset("e")
    folders = [shelf.run(dataset=name) for name in "de"]
    assert shelf.entry().stages == {}  # it marks none
    for folder in folders:
        for name in "abc":
            write(folder, name, **stages_of(embedding=0.5, vad=0.25))
    entry = shelf.entry()
    assert entry.stages == {BOX: {"embedding": 3.0, "vad": 1.5, "other": 1.5}}
    assert sum(entry.stages[BOX].values()) == pytest.approx(entry.speeds[BOX].wall)
    write(folders[0], "a", **stages_of(embedding=0.5, vad=0.25), timing_counts=False)
    assert shelf.entry().stages == {}  # as for speeds
    write(folders[0], "a", **stages_of(embedding=None), timing_counts=True)
    entry = shelf.entry()
    assert (entry.stages, list(entry.speeds)) == ({}, [BOX])


def test_a_stage_called_other_holds_the_rest_too(shelf: Shelf):
    shelf.dataset(ids="a")
    folder = shelf.run(results={"a": 0.1})
    write(folder, "a", **stages_of(other=0.25, vad=0.25))
    assert shelf.entry().stages == {BOX: {"other": 0.75, "vad": 0.25}}


def test_stages_of_a_gpu_come_by_its_own_clock(shelf: Shelf):
    shelf.dataset(ids="a")
    gpu = Place("box", "cuda", 1)
    write(shelf.run(results={"a": 0.1}, place=gpu), "a", **stages_of(vad=0.25))
    entry = shelf.entry()
    assert entry.stages == {gpu: {"vad": 0.25, "other": pytest.approx(0.75)}}


def test_complexity_of_newer_runs_is_read_whole(shelf: Shelf):
    shelf.dataset()
    stage = {"parameters": 3, "macs_1s": 9, "window": None, "macs_window": None, "parts": {}}
    known = {
        "parameters": 3,
        "nonzero_parameters": 3,
        "stages": {"x": stage},
        "held": {"int8": {"weights": 3, "bytes": 4}},
    }
    shelf.run(complexity=known)
    complexity = shelf.entry().complexity
    assert complexity is not None
    assert (complexity.stages["x"].macs_1s, complexity.held["int8"].bytes) == (9, 4)
    shelf.run(key="1", complexity={"unheard": 1})
    with pytest.raises(StoreError, match=r"run\.json, complexity: not what diarbench writes"):
        shelf.board()


def test_measures_stand_beside_the_runs(shelf: Shelf):
    shelf.dataset()
    for name in ("base", "small", "other"):
        shelf.run(name)
    session = shelf.measure({"base": None, "small": 2.0, "unknown": 9.0})
    small, base, other = (shelf.entry(name) for name in ("small", "base", "other"))
    measured = small.measured[BOX]
    assert measured.speedup is not None
    assert (measured.session, measured.baseline, measured.speedup.median) == (session, "base", 2.0)
    assert base.measured[BOX].speedup is None
    assert (other.measured, other.notes, small.notes, small.problems) == ({}, (), (), ())
    assert shelf.board().places == (BOX,)
    assert [line.entry.system for line in shelf.board().lines] == ["base", "other", "small"]


def test_the_newest_session_at_each_place_counts(shelf: Shelf):
    shelf.dataset()
    for name in ("base", "small"):
        shelf.run(name, wall=None)
    four, gpu, rack = Place("box", "cpu", 4), Place("box", "cuda", 1), Place("rack", "cpu", 1)
    shelf.measure({"base": None, "small": 2.0})
    newest = shelf.measure({"base": None, "small": 3.0}, noise={"busy": True, "reasons": ["a load"]})
    for number, place in enumerate((four, gpu, rack), start=4):
        shelf.measure({"base": None, "small": float(number)}, place=place)
    measured = shelf.entry("small").measured
    ratios = {place: found.speedup.median for place, found in measured.items() if found.speedup}
    assert ratios == {BOX: 3.0, four: 4.0, gpu: 5.0, rack: 6.0}
    assert (measured[BOX].session, measured[BOX].busy, measured[BOX].reasons) == (newest, True, ("a load",))
    assert not measured[four].busy
    assert shelf.board().places == (BOX, four, gpu, rack)  # though nothing was timed by running


def test_random_weights_hide_no_real_ones(shelf: Shelf):
    shelf.dataset()
    shelf.run("small")
    random = [shelf.measure({"small": ratio}, weights=False) for ratio in (2.0, 3.0)]
    assert shelf.entry("small").measured[BOX].session == random[1]
    real = shelf.measure({"small": 4.0})
    assert shelf.entry("small").measured[BOX].session == real
    shelf.measure({"small": 5.0}, weights=False)
    assert shelf.entry("small").measured[BOX].session == real


def test_another_version_of_a_system_is_not_shown(shelf: Shelf):
    shelf.dataset()
    shelf.run("base", identity={"code": "1"})
    shelf.run("small", identity={"code": "1"})
    now = {"base": {"code": "1"}, "small": {"code": "1"}}
    shelf.measure({"base": None, "small": 2.0}, identities={**now, "small": {"code": "0"}})
    small = shelf.entry("small")
    assert (small.measured, small.problems) == ({}, ())
    assert small.notes == (
        "what was measured on CPU, 1 thread on box was another version of it, and is not shown; measure it again",
    )
    assert shelf.entry("base").measured  # its own version is the same
    shelf.measure({"base": None, "small": 2.0}, identities=now)
    shelf.measure({"base": None, "small": 9.0}, identities={**now, "small": {"code": "2"}})
    small = shelf.entry("small")
    assert small.measured[BOX].speedup is not None
    assert small.measured[BOX].speedup.median == 2.0  # the newest of this version
    assert len(small.notes) == 1
    # Once the other version runs, it is the one that is shown.
    shelf.run("small", identity={"code": "2"}, key="2")
    assert shelf.entry("small").measured[BOX].speedup.median == 9.0  # type: ignore[union-attr]


def test_ratios_against_another_version_of_the_baseline_are_not_shown(shelf: Shelf):
    shelf.dataset()
    shelf.run("base", identity={"code": "1"})
    shelf.run("small")
    shelf.measure({"base": None, "small": 2.0}, identities={"base": {"code": "0"}})
    assert shelf.entry("small").measured == {}
    assert "against another version of base" in shelf.entry("small").notes[0]
    # Leaving the baseline off the board hides no difference.
    assert shelf.entry("small", systems=["small"]).measured == {}
    shelf.measure({"base": None, "small": 3.0}, identities={"base": {"code": "1"}})
    assert shelf.entry("small", systems=["small"]).measured[BOX].baseline == "base"
    # A baseline that never ran is taken as it is.
    shelf.measure({"never-run": None, "small": 4.0}, baseline="never-run")
    assert shelf.entry("small").measured[BOX].baseline == "never-run"


def test_a_failed_measurement_hides_no_older_one(shelf: Shelf):
    shelf.dataset()
    shelf.run("small")
    shelf.measure({"small": "out of memory"})
    small = shelf.entry("small")
    assert (small.measured, small.problems) == ({}, ())
    assert small.notes == ("it could not be measured on CPU, 1 thread on box: out of memory",)
    shelf.measure({"small": 2.0})
    assert (list(shelf.entry("small").measured), shelf.entry("small").notes) == ([BOX], ())
    shelf.measure({"small": "out of memory"})
    assert list(shelf.entry("small").measured) == [BOX]
    assert len(shelf.entry("small").notes) == 1


def test_a_session_that_is_no_session_stops_the_board(shelf: Shelf):
    shelf.dataset()
    shelf.run()
    shelf.measure({"s": 2.0}, noise={"floor": "low"})
    with pytest.raises(
        StoreError, match=r"box/_measures/m0002\.json, s: not what diarbench writes .*'low' is no number"
    ):
        shelf.board()
