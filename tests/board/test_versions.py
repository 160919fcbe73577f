"""Which run speaks for a system where there are several: versions, places, datasets; and what is said of the others."""

from __future__ import annotations

import pytest
from shelf import BOX, Shelf

from diarbench.leaderboard import Place


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
    assert (entry.speeds, entry.problems) == ({}, ())
    assert entry.timings_left_out == (
        "no speed for CPU, 1 thread on box: 3 of 6 timings don't count (e: another diarbench ran on this machine); "
        "--again makes them anew",
    )
    assert shelf.entry(datasets=["d"]).timings_left_out == ()
    shelf.run(dataset="d", problem="another diarbench ran on this machine")
    assert "6 of 6 timings don't count (d, e: another" in shelf.entry().timings_left_out[0], "one line for a place"
    shelf.run(dataset="d", results={"a": 0.1, "b": "it broke", "c": None}, problem="another diarbench ran", key="1")
    assert "4 of 4 timings don't count" in shelf.entry().timings_left_out[0], "what failed or lacks has none"
    shelf.run(dataset="d", problem="another diarbench ran on this machine")
    shelf.run(dataset="d")
    assert shelf.board().places == ()
    shelf.run(dataset="e", wall=None)
    entry = shelf.entry()
    assert (entry.speeds, entry.problems, entry.timings_left_out) == ({}, (), ())
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
