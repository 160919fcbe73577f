"""Windows over speech, and turns from the speakers of windows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from diarbench.pipelines.windows import Windows, slide, turns_from_windows
from diarbench.rttm import merge_spans
from diarbench.types import Spans, Turns


def rows(windows: Windows) -> list[tuple[float, float, int]]:
    columns = (windows.starts.round(6).tolist(), windows.ends.round(6).tolist(), windows.spans.tolist())
    return list(zip(*columns, strict=True))


def test_windows_step_evenly_from_start_to_end() -> None:
    windows = slide(((1.0, 4.0),), window=1.6, hop=0.8, shortest=0.6, duration=5.0)
    assert rows(windows) == [(1.0, 2.6, 0), (1.7, 3.3, 0), (2.4, 4.0, 0)]


def test_a_span_as_long_as_the_window_is_one_window() -> None:
    assert rows(slide(((1.0, 2.6),), window=1.6, hop=0.4, shortest=0.6, duration=5.0)) == [(1.0, 2.6, 0)]


def test_short_spans_grow_around_their_middle_inside_the_recording() -> None:
    spans = ((0.0, 0.1), (2.0, 2.2), (4.9, 5.0))
    windows = slide(spans, window=1.6, hop=0.4, shortest=0.6, duration=5.0)
    assert rows(windows) == [(0.0, 0.6, 0), (1.8, 2.4, 1), (4.4, 5.0, 2)]


def test_a_recording_shorter_than_the_shortest_window() -> None:
    assert rows(slide(((0.1, 0.3),), window=1.6, hop=0.4, shortest=0.6, duration=0.4)) == [(0.0, 0.4, 0)]


def test_no_speech_no_windows_no_turns() -> None:
    windows = slide((), window=1.6, hop=0.4, shortest=0.6, duration=5.0)
    assert len(windows) == 0
    assert len(turns_from_windows((), windows, np.zeros(0, dtype=np.int64))) == 0


SPANS = st.lists(st.tuples(st.floats(0, 60), st.floats(0.01, 20)), min_size=1, max_size=8).map(
    lambda pairs: merge_spans((start, start + length) for start, length in pairs)
)


@given(SPANS, st.floats(0.5, 4), st.floats(0.1, 1))
def test_windows_cover_all_speech_and_little_else(spans: Spans, window: float, share: float) -> None:
    hop = window * share
    duration = spans[-1][1]
    windows = slide(spans, window=window, hop=hop, shortest=0.5, duration=duration)
    for index, (start, end) in enumerate(spans):
        own = windows.spans == index
        assert windows.starts[own].min() <= start + 1e-9
        assert windows.ends[own].max() >= end - 1e-9
        assert (np.diff(windows.starts[own]) <= hop + 1e-9).all()
    assert (windows.starts >= 0).all()
    assert (windows.ends <= duration + 1e-9).all()
    assert (windows.ends - windows.starts <= max(window, 0.5) + 1e-9).all()


@given(SPANS, st.integers(1, 4), st.integers(0, 2**16))
def test_turns_fill_the_speech_with_one_speaker_at_a_time(spans: Spans, speakers: int, seed: int) -> None:
    windows = slide(spans, window=1.6, hop=0.4, shortest=0.6, duration=spans[-1][1])
    labels = np.random.default_rng(seed).integers(speakers, size=len(windows))
    turns = turns_from_windows(spans, windows, labels)
    assert (turns.starts[1:] >= turns.ends[:-1]).all(), "one at a time"
    covered = merge_spans((turn.start, turn.end) for turn in turns)
    np.testing.assert_allclose(np.array(covered), np.array(spans), atol=1e-9)
    assert turns.labels == tuple(f"speaker{number + 1}" for number in range(len(turns.labels)))


def test_a_change_lies_midway_between_the_middles_of_two_windows() -> None:
    spans = ((0.0, 4.0), (6.0, 7.0))
    windows = Windows(np.array([0.0, 1.0, 2.0, 6.0]), np.array([2.0, 3.0, 4.0, 7.0]), np.array([0, 0, 0, 1]))
    assert turns_from_windows(spans, windows, np.array([5, 5, 2, 5])) == Turns.of(
        [(0.0, 2.5, "speaker1"), (2.5, 4.0, "speaker2"), (6.0, 7.0, "speaker1")]
    )
