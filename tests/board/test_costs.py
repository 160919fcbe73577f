"""What systems cost, on a board: multiply-accumulates, stages and measuring sessions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from shelf import BOX, Shelf

from diarbench.errors import StoreError
from diarbench.leaderboard import Place
from diarbench.store import RunFolder


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
