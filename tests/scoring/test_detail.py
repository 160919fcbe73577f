"""Jaccard errors, speakers, counts, and errors by how many speak at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarbench.scoring import (
    FAIR,
    FORGIVING,
    FULL,
    ErrorTimes,
    JaccardErrors,
    Pair,
    detail_recordings,
    score_everything,
    score_recording,
)
from diarbench.types import Turns

REGION = ((0.0, 20.0),)


def detail(reference, hypothesis, rule=FULL, uem=REGION):
    return detail_recordings([Pair(Turns.of(reference), Turns.of(hypothesis), uem)], rule)[0]


def test_a_worked_example():
    # A: 6 s, x: 5 s, both: 4 s. B: 4 s, y: 4 s, both: 2 s.
    found = detail([(0, 6, "A"), (8, 12, "B")], [(2, 7, "x"), (10, 14, "y")])
    first, second = found.speakers
    assert (first.speaker, first.mapped, first.scored, first.spoken_by_hypothesis, first.correct) == ("A", "x", 6, 5, 4)
    assert first.jaccard_error == pytest.approx(1 - 4 / 7)
    assert first.found == pytest.approx(4 / 6)
    assert second.jaccard_error == pytest.approx(1 - 2 / 6)
    assert found.jaccard.jer == pytest.approx((3 / 7 + 4 / 6) / 2)
    assert (found.reference_speakers, found.hypothesis_speakers) == (2, 2)


def test_a_speaker_without_a_partner_is_all_error():
    found = detail([(0, 6, "A"), (8, 12, "B")], [(0, 6, "x")])
    assert [speaker.mapped for speaker in found.speakers] == ["x", None]
    assert found.jaccard == JaccardErrors(1.0, 2)


def test_the_jaccard_mapping_is_its_own():
    # x shares 5 s with A and 4 s with B. For DER it is A's; with B, who says little else, the Jaccard errors are less.
    reference = [(0, 5, "A"), (10, 14, "B"), (14, 20, "A")]
    hypothesis = [(0, 5, "x"), (10, 14, "x")]
    found = detail(reference, hypothesis)
    assert found.times.confusion == 4
    assert [speaker.mapped for speaker in found.speakers] == [None, "x"]
    assert found.jaccard.total == pytest.approx(1 + (1 - 4 / 9))


def test_nobody_on_one_side():
    assert detail([], [(0, 5, "x")]).jaccard.jer is None
    assert detail([], [(0, 5, "x")]).hypothesis_speakers == 1
    assert detail([(0, 5, "A")], []).jaccard == JaccardErrors(1.0, 1)
    assert detail([], []).by_concurrency == (ErrorTimes.zero(),)


def test_who_is_outside_the_region_is_no_speaker():
    found = detail([(0, 5, "A"), (30, 40, "B")], [(0, 5, "x"), (30, 35, "y")])
    assert (found.reference_speakers, found.hypothesis_speakers) == (1, 1)
    assert found.jaccard.jer == 0


def test_errors_by_how_many_speak_at_once():
    found = detail([(0, 6, "A"), (4, 8, "B")], [(0, 6, "x"), (8, 10, "y")])
    nobody, one, two = found.by_concurrency
    assert nobody == ErrorTimes(0, 0, 2, 0)
    assert one == ErrorTimes(6, 2, 0, 0)
    assert two == ErrorTimes(4, 2, 0, 0)


def test_several_recordings_are_each_on_their_own():
    pairs = [
        Pair(Turns.of([(0, 6, "A")]), Turns.of([(0, 3, "x")]), REGION),
        Pair(Turns.of([]), Turns.of([]), None),
        Pair(Turns.of([(0, 2, "A"), (1, 3, "C")]), Turns.of([(0, 2, "x")]), REGION),
    ]
    assert detail_recordings(pairs, FULL) == [detail_recordings([pair], FULL)[0] for pair in pairs]


TURNS = st.lists(
    st.tuples(st.integers(0, 180), st.integers(1, 40), st.sampled_from("ABC")).map(
        lambda row: (row[0] / 10, (row[0] + row[1]) / 10, row[2])
    ),
    max_size=8,
)


@given(st.lists(st.tuples(TURNS, TURNS, st.sampled_from([None, REGION, ((2.0, 9.0),)])), max_size=5))
def test_the_quick_way_gives_the_same_jaccard_errors(rows):
    """Of several recordings at once, among them ones in which nobody speaks on one side or on both."""
    pairs = [Pair(Turns.of(reference), Turns.of(hypothesis), uem) for reference, hypothesis, uem in rows]
    rules = [FULL, FAIR, FORGIVING]
    quick = score_everything(pairs, rules)
    for rule in rules:
        for one, whole in zip(quick, detail_recordings(pairs, rule), strict=True):
            assert one[rule.name].jaccard.total == pytest.approx(whole.jaccard.total, abs=1e-9)
            assert one[rule.name].jaccard.speakers == whole.jaccard.speakers
            assert one[rule.name].jaccard.total >= 0
            assert one[rule.name].times.errors == pytest.approx(whole.times.errors, abs=1e-9)


@given(TURNS, TURNS, st.sampled_from([FULL, FAIR, FORGIVING]))
def test_parts_make_the_whole(reference, hypothesis, rule):
    found = detail(reference, hypothesis, rule)
    times = score_recording(Turns.of(reference), Turns.of(hypothesis), REGION, [rule])[rule.name]
    assert found.times == times
    total = sum(found.by_concurrency, ErrorTimes.zero())
    for part in ("scored", "missed", "false_alarm", "confusion"):
        assert getattr(total, part) == pytest.approx(getattr(times, part), abs=1e-9)
    assert sum(speaker.scored for speaker in found.speakers) == pytest.approx(times.scored, abs=1e-9)
    assert all(0 <= speaker.jaccard_error <= 1 and 0 <= speaker.found <= 1 + 1e-9 for speaker in found.speakers)
    mapped = [speaker.mapped for speaker in found.speakers if speaker.mapped is not None]
    assert len(mapped) == len(set(mapped))
