"""Marked errors: they add up to the error times, and say who."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarbench.rttm import merge_spans
from diarbench.scoring import FAIR, FORGIVING, FULL, Pair, ScoringRule, mark_errors, score_recording
from diarbench.types import Turns

RULES = (
    FULL,
    FAIR,
    FORGIVING,
    ScoringRule("wide", 0.4, "score", "scored"),
    ScoringRule("no overlap", 0.0, "skip"),
    replace(FORGIVING, name="as pyannote", mapping="scored"),
)
LENGTH = 1500  # hundredths of a second


def turns(speakers: str) -> st.SearchStrategy[Turns]:
    one = st.tuples(st.integers(0, LENGTH - 1), st.integers(1, 400), st.sampled_from(speakers))
    return st.lists(one, max_size=12).map(
        lambda rows: Turns.of([(s / 100, min(s + d, LENGTH) / 100, who) for s, d, who in rows])
    )


UEMS = st.lists(st.tuples(st.integers(0, LENGTH), st.integers(1, 700)), max_size=4).map(
    lambda spans: merge_spans([(s / 100, min(s + d, LENGTH + 100) / 100) for s, d in spans])
)


def marked(reference, hypothesis, uem=None, rule=FULL):
    return mark_errors(Pair(Turns.of(reference), Turns.of(hypothesis), uem), rule)


def rows(found):
    return [(span.start, span.end, span.kind, span.speakers) for span in found.errors]


@given(turns("ABCD"), turns("wxyz"), st.none() | UEMS, st.sampled_from(RULES))
def test_spans_add_up_to_the_error_times(reference, hypothesis, uem, rule):
    found = mark_errors(Pair(reference, hypothesis, uem), rule)
    times = score_recording(reference, hypothesis, uem, [rule])[rule.name]
    assert found.times == times
    for kind in ("missed", "false_alarm", "confusion"):
        summed = sum(span.time for span in found.errors if span.kind == kind)
        assert summed == pytest.approx(getattr(times, kind), abs=1e-6), kind


@given(turns("ABCD"), turns("wxyz"), st.none() | UEMS, st.sampled_from(RULES))
def test_spans_are_in_order_whole_and_scored(reference, hypothesis, uem, rule):
    found = mark_errors(Pair(reference, hypothesis, uem), rule)
    assert all(span.end > span.start for span in (*found.errors, *found.unscored))
    assert list(found.errors) == sorted(found.errors, key=lambda span: (span.start, span.kind != "missed"))
    for one, other in pairwise(found.unscored):
        assert one.end <= other.start + 1e-9
        assert one.why != other.why or other.start > one.end + 1e-10
    for kind in ("missed", "false_alarm", "confusion"):
        alike = [span for span in found.errors if span.kind == kind]
        for one, other in pairwise(alike):
            assert one.end <= other.start + 1e-9
            assert other.start > one.end or (one.speakers, one.reference, one.hypothesis) != (
                other.speakers, other.reference, other.hypothesis
            )  # fmt: skip
    for span in found.errors:
        middle = (span.start + span.end) / 2
        assert not any(gap.start < middle < gap.end for gap in found.unscored)
        assert all(speaks(reference, speaker, middle) for speaker in span.reference)
        assert all(speaks(hypothesis, speaker, middle) for speaker in span.hypothesis)
        more = len(span.reference) - len(span.hypothesis)
        least = min(len(span.reference), len(span.hypothesis))
        assert span.speakers == {"missed": more, "false_alarm": -more, "confusion": least}[span.kind]


def speaks(turns: Turns, speaker: str, time: float) -> bool:
    return any(turn.speaker == speaker and turn.start <= time <= turn.end for turn in turns)


@given(turns("ABCD"), UEMS, st.sampled_from(RULES))
def test_what_is_scored_and_what_is_not_make_up_the_region(reference, region, rule):
    # Five who speak all through, more than the reference has: each scored second is five of speech or false alarm.
    everybody = Turns.of([(0, LENGTH / 100 + 10, who) for who in "vwxyz"])
    found = mark_errors(Pair(reference, everybody, region), rule)
    gaps = sum(gap.end - gap.start for gap in found.unscored if gap.why != "outside")
    scored = (found.times.scored + found.times.false_alarm) / 5
    assert scored + gaps == pytest.approx(sum(end - start for start, end in region), abs=1e-6)


def test_the_drawn_example():
    found = marked([(0, 4, "A"), (6, 8, "B")], [(1, 5, "x"), (6, 8, "x")])
    assert rows(found) == [(0, 1, "missed", 1), (4, 5, "false_alarm", 1), (6, 8, "confusion", 1)]
    assert [(span.reference, span.hypothesis) for span in found.errors] == [
        (("A",), ()),
        ((), ("x",)),
        (("B",), ("x",)),
    ]
    assert found.mapping == {"A": "x"}
    assert found.unscored == ()


def test_one_missed_and_one_confused_at_once():
    found = marked([(0, 2, "A"), (2, 4, "A"), (2, 4, "B"), (2, 4, "C")], [(0, 2, "x"), (2, 3, "y"), (3, 4, "x")])
    assert found.mapping == {"A": "x", "B": "y"}
    assert rows(found) == [(2, 3, "missed", 2), (3, 4, "missed", 2)]
    assert [span.reference for span in found.errors] == [("A", "C"), ("B", "C")]
    found = marked([(0, 5, "A"), (5, 6, "B"), (5, 6, "C")], [(0, 6, "x")])
    assert rows(found) == [(5, 6, "missed", 1), (5, 6, "confusion", 1)]
    assert found.errors[0].time + found.errors[1].time == found.times.errors == 2
    assert {span.reference for span in found.errors} == {("B", "C")}


def test_a_change_of_who_is_wrong_is_a_change_of_span():
    # Touching turns of other speakers: the kind goes on, the span does not.
    assert rows(marked([(0, 2, "A"), (2, 4, "B")], [])) == [(0, 2, "missed", 1), (2, 4, "missed", 1)]
    # A boundary of someone who is right tears nothing apart.
    found = marked([(0, 6, "A"), (2, 4, "B"), (8, 9, "B")], [(2, 4, "y"), (8, 9, "y")])
    assert rows(found) == [(0, 6, "missed", 1)]


def test_what_is_not_scored_is_told_with_its_reason():
    reference = [(2, 10, "A"), (6, 8, "B")]
    found = marked(reference, [(0, 12, "x")], ((1, 11),), FORGIVING)
    assert [(gap.start, gap.end, gap.why) for gap in found.unscored] == [
        (0, 1, "outside"),
        (1.75, 2.25, "collar"),
        (5.75, 6.25, "collar"),
        (6.25, 7.75, "overlap"),
        (7.75, 8.25, "collar"),
        (9.75, 10.25, "collar"),
        (11, 12, "outside"),
    ]
    assert rows(found) == [(1, 1.75, "false_alarm", 1), (10.25, 11, "false_alarm", 1)]


def test_pairs_that_share_no_time_are_not_mapped():
    found = marked([(0, 2, "A"), (5, 6, "B")], [(0, 2, "x"), (8, 9, "y")])
    assert found.mapping == {"A": "x"}
    for rule, mapping in ((FAIR, {"A": "x"}), (replace(FAIR, mapping="scored"), {})):
        assert marked([(0, 0.4, "A")], [(0, 0.4, "x")], rule=rule).mapping == mapping  # all of it in collars


def test_nobody_speaks():
    for uem in (None, (), ((0, 10),)):
        assert rows(marked([], [], uem)) == []
    assert rows(marked([(1, 2, "A")], [(1, 2, "x")], ())) == []
    assert [gap.why for gap in marked([(1, 2, "A")], [], ()).unscored] == ["outside"]


def test_rounding_tears_no_span_apart():
    assert rows(marked([], [(0, 3.3, "x"), (1.1 + 2.2, 5, "x")])) == [(0, 5, "false_alarm", 1)]
    reference = [(0.036, 0.536, "A"), (0.536, 3, "A"), (5, 6, "A")]
    found = marked(reference, [], ((0, 8),), FAIR)
    assert rows(found) == [(pytest.approx(0.786), 2.75, "missed", 1), (5.25, 5.75, "missed", 1)]
