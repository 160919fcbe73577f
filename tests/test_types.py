from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarbench.errors import AdapterError, DiarbenchError, did_you_mean
from diarbench.types import Audio, Recording, Timing, Turn, Turns

TIMES = st.floats(0, 1e6, allow_nan=False).map(lambda value: round(value, 3))
ROWS = st.lists(
    st.tuples(TIMES, TIMES, st.sampled_from(["A", "B", "C", "ä"])).map(lambda r: (min(r[:2]), max(r[:2]), r[2])),
    max_size=30,
)


@given(ROWS)
def test_turns_are_sorted_and_hold_all_the_time_there_is(rows):
    turns = Turns.of(rows)
    assert list(turns) == sorted(turns)
    assert sorted(turns) == sorted(row for row in rows if row[1] > row[0])
    assert turns.labels == tuple(sorted({row[2] for row in rows if row[1] > row[0]}))


def test_two_speakers_may_share_a_segment():
    assert len(Turns.of([(0, 1, "A"), (0, 1, "B")])) == 2


def test_one_speaker_may_say_the_same_twice():
    assert len(Turns.of([(0, 1, "A"), (0, 1, "A")])) == 2


def test_arrays_are_read_only():
    turns = Turns.of([(0, 1, "A")])
    with pytest.raises(ValueError, match="read-only"):
        turns.starts[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        turns.ends[0] = 5


@pytest.mark.parametrize("row", [(1, 0, "A"), (float("nan"), 1, "A"), (0, float("nan"), "A"), (0, float("inf"), "A")])
def test_impossible_times_are_refused(row):
    with pytest.raises(ValueError, match=r"ends before it starts|not finite"):
        Turns.of([(0, 1, "B"), row])


@given(ROWS, TIMES, TIMES)
def test_crop_keeps_what_is_inside(rows, one, other):
    start, end = min(one, other), max(one, other)
    cropped = Turns.of(rows).crop(start, end)
    assert all(start <= turn.start < turn.end <= end for turn in cropped)
    kept = sum(max(0.0, min(e, end) - max(s, start)) for s, e, _ in rows)
    assert sum(turn.end - turn.start for turn in cropped) == pytest.approx(kept, abs=1e-6)


def test_turns_compare_by_content():
    assert Turns.of([(0, 1, "A")]) == Turns.of([(0.0, 1.0, "A"), (2, 2, "B")])
    assert Turns.of([(0, 1, "A")]) != Turns.of([(0, 1, "B")])
    assert Turns.of([]) != []


@given(ROWS)
def test_annotations_go_there_and_back(rows):
    pytest.importorskip("pyannote.core")
    turns = Turns.of(rows)
    # pyannote.core takes segments under a microsecond for empty; ours are in milliseconds.
    assert Turns.from_annotation(turns.to_annotation("r")) == turns


def test_an_annotation_with_a_shared_segment_keeps_both_speakers():
    core = pytest.importorskip("pyannote.core")
    annotation = core.Annotation()
    annotation[core.Segment(0, 1), "x"] = "A"
    annotation[core.Segment(0, 1), "y"] = "B"
    assert Turns.from_output(annotation).labels == ("A", "B")


@pytest.mark.parametrize(
    "output",
    [
        Turns.of([(0, 1, "A")]),
        [(0, 1, "A")],
        ((np.float32(0), np.int64(1), "A"),),
        (row for row in [(0, 1, "A")]),
    ],
)
def test_outputs_that_are_welcome(output):
    assert list(Turns.from_output(output)) == [Turn(0.0, 1.0, "A")]


def test_speakers_may_be_numbers():
    assert Turns.from_output([(0, 1, 7)]).labels == ("7",)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (None, r"^diarize\(\) returned None; it must return Turns"),
        (5, r"^diarize\(\) returned int: 'int' object is not iterable; it must return Turns"),
        ("abc", "str"),
        ([(0, 1)], "unpack"),
        ([(0, 1, "A", "B")], "unpack"),
        ([("zero", 1, "A")], "float"),
        ([(2, 1, "A")], "ends before it starts"),
        ([(float("nan"), 1, "A")], "not finite"),
        ([(0, 10**400, "A")], "int too large"),
        ([(0, 1, "")], "empty or holds white space"),
        ([(0, 1, "A B")], "empty or holds white space"),
        ([(0, 1, "A\n")], "empty or holds white space"),
        ([(0, 1, "\ud800")], "surrogates"),
        ([(-10.1, 1, "A")], r"^diarize\(\) returned list: a turn starts at -10.1 s, long before the recording; it"),
        ([(0, 1e12, "A")], "after any recording"),
    ],
)
def test_outputs_that_break_the_contract(output, says):
    with pytest.raises(AdapterError, match=says) as error:
        Turns.from_output(output)
    assert "\n" not in str(error.value)


def test_a_padded_window_may_begin_before_the_recording():
    assert list(Turns.from_output([(-10, 1, "A")])) == [Turn(-10.0, 1.0, "A")]


def test_mono_is_the_mean_of_the_channels():
    recording = Recording("r", None, 2.0, 2)
    audio = Audio(recording, np.array([[0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 1.0]], dtype=np.float32))
    assert audio.mono().tolist() == [0.5, 0.5, 0.5, 1.0]
    assert audio.mono().dtype == np.float32
    assert audio.duration == 2.0
    assert audio.sample_rate == 2


def test_rtf_is_wall_time_per_second_of_audio():
    assert Timing(wall=3.0, audio=60.0).rtf == 0.05


def test_did_you_mean_shows_a_short_list_or_its_beginning():
    assert did_you_mean("zzz", [f"name{i:02d}" for i in range(30)]).endswith("name19 and 10 more")
    assert did_you_mean("name1", ["name2", "other"]) == "; did you mean name2?"


def test_all_errors_are_of_one_tree():
    import diarbench.errors as errors

    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]
    assert all(issubclass(c, DiarbenchError) for c in classes)
    drawn = [word for word in (errors.__doc__ or "").split() if word.endswith("Error")]
    assert sorted(drawn) == sorted(c.__name__ for c in classes)
