from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarbench.rttm import merge_spans
from diarbench.scoring import FAIR, FORGIVING, FULL, ErrorTimes, ScoringRule, score_recording
from diarbench.types import Spans, Turns

# Mapped over what is scored, as pyannote does: then no two mappings are equally good and score differently.
RULES = (
    FULL,
    ScoringRule("fair", 0.25, "score", "scored"),
    ScoringRule("forgiving", 0.25, "skip", "scored"),
    ScoringRule("wide", 0.4, "score", "scored"),
    ScoringRule("no overlap", 0.0, "skip", "scored"),
)
# Mapped over the whole region, as md-eval does.
REGION = (FAIR, FORGIVING, ScoringRule("wide", 0.4, "score"), ScoringRule("no overlap", 0.0, "skip"))
LENGTH = 1500  # hundredths of a second


def turns(speakers: str, most: int = 10) -> st.SearchStrategy[Turns]:
    """Turns on a grid of 10 ms: crowded, so that they overlap, touch, repeat and share segments."""
    one = st.tuples(st.integers(0, LENGTH - 1), st.integers(1, 400), st.sampled_from(speakers))
    return st.lists(one, max_size=most).map(
        lambda rows: Turns.of([(s / 100, min(s + d, LENGTH) / 100, who) for s, d, who in rows])
    )


REFERENCES, HYPOTHESES = turns("ABCD"), turns("wxyz")
UEMS = st.lists(st.tuples(st.integers(0, LENGTH), st.integers(1, 700)), min_size=1, max_size=4).map(
    lambda spans: merge_spans([(s / 100, min(s + d, LENGTH + 100) / 100) for s, d in spans])
)


def parts(times: ErrorTimes) -> tuple[float, float, float, float]:
    return times.scored, times.missed, times.false_alarm, times.confusion


def same(one: dict[str, ErrorTimes], other: dict[str, ErrorTimes]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert parts(one[name]) == pytest.approx(parts(other[name]), abs=1e-9), name


def full(reference: list, hypothesis: list, uem: Spans | None = None, rule: ScoringRule = FULL) -> tuple:
    return parts(score_recording(Turns.of(reference), Turns.of(hypothesis), uem, [rule])[rule.name])


# --- drawn examples: (scored, missed, false alarm, confusion)


def test_one_speaker():
    #  reference   AAAAAAAAAA
    #  hypothesis     xxxxxxxxxx
    assert full([(0, 10, "A")], [(3, 13, "x")]) == (10, 3, 3, 0)


def test_two_speakers_taken_for_one():
    #  reference   AAAAAABBBB
    #  hypothesis  xxxxxxxxxx
    assert full([(0, 6, "A"), (6, 10, "B")], [(0, 10, "x")]) == (10, 0, 0, 4)


def test_overlap():
    #  reference   AAAAAAAAAA
    #                  BBBB
    #  hypothesis  xxxxxxxxxx
    assert full([(0, 10, "A"), (4, 8, "B")], [(0, 10, "x")]) == (14, 4, 0, 0)
    assert full([(0, 10, "A")], [(0, 10, "x"), (4, 8, "y")]) == (10, 0, 4, 0)


def test_two_speakers_on_one_segment():
    assert full([(0, 4, "A"), (0, 4, "B")], [(0, 4, "x"), (0, 4, "y")]) == (8, 0, 0, 0)
    assert full([(0, 4, "A"), (0, 4, "B")], [(0, 4, "x")]) == (8, 4, 0, 0)


def test_the_mapping_is_one_to_one_and_the_best():
    # x fits A for 5 s and B for 4 s; y fits A for 4 s only: x to B and y to A is worth more than x to A alone.
    reference = [(0, 9, "A"), (9, 13, "B")]
    assert full(reference, [(0, 5, "x"), (5, 9, "y"), (9, 13, "x")]) == (13, 0, 0, 5)


def test_a_collar_is_on_each_side_of_each_boundary_of_the_reference():
    #  reference      |AAAAAAAAA|
    #  not scored   ---         ---      0.25 s to the left and to the right
    assert full([(5, 10, "A")], [], ((0, 20),), FAIR) == (4.5, 4.5, 0, 0)
    assert full([(5, 10, "A")], [(0, 20, "x")], ((0, 20),), FAIR) == (4.5, 0, 4.75 + 9.75, 0)
    # The hypothesis has no collars.
    assert full([], [(5, 10, "x")], ((0, 20),), FAIR) == (0, 0, 5, 0)


def test_turns_shorter_than_the_collar_vanish():
    assert full([(5, 5.4, "A")], [], ((0, 20),), FAIR) == (0, 0, 0, 0)


def test_skipped_overlap_is_that_of_the_reference():
    reference, hypothesis = [(0, 10, "A"), (4, 8, "B")], [(0, 10, "x"), (0, 10, "y")]
    assert full(reference, hypothesis, rule=ScoringRule("r", 0, "skip")) == (6, 0, 6, 0)


def test_without_a_region_it_runs_from_the_first_to_the_last_turn_of_both():
    assert full([(5, 6, "A")], [(1, 2, "x"), (5, 6, "y"), (9, 10, "x")]) == (1, 0, 2, 0)


def test_speech_before_and_after_counts_with_a_region():
    # Whatever lies outside of it does not.
    assert full([(5, 6, "A")], [(0, 20, "x")], ((4, 8),)) == (1, 0, 3, 0)
    assert full([(5, 6, "A"), (8, 30, "A")], [(5, 6, "x")], ((4, 8),)) == (1, 0, 0, 0)


def test_nobody_speaks():
    for uem in (None, ((0, 10),), ()):
        assert full([], [], uem) == (0, 0, 0, 0)
    assert full([], [(1, 3, "x")]) == (0, 0, 2, 0)
    assert full([(1, 3, "A")], []) == (2, 2, 0, 0)
    assert full([(1, 3, "A")], [(1, 3, "x")], ()) == (0, 0, 0, 0)


def test_names_may_be_the_same_on_both_sides_and_mean_nothing():
    assert full([(0, 5, "A"), (5, 10, "B")], [(0, 5, "B"), (5, 10, "A")]) == (10, 0, 0, 0)


def test_a_speakers_own_overlaps_count_once():
    assert full([(0, 6, "A"), (4, 10, "A"), (0, 6, "A")], [(0, 10, "x"), (2, 3, "x")]) == (10, 0, 0, 0)


def test_a_joint_within_a_speaker_keeps_its_collar():
    whole, parted = [(0, 10, "A")], [(0, 5, "A"), (5, 10, "A")]
    assert full(whole, [], ((0, 10),), FAIR) == (9.5, 9.5, 0, 0)
    assert full(parted, [], ((0, 10),), FAIR) == (9, 9, 0, 0)
    assert full(parted, [], ((0, 10),)) == (10, 10, 0, 0)


def test_speakers_are_mapped_over_the_region_or_over_what_is_scored():
    # x shares 0.9 s with A, all of it inside collars, and 0.5 s with B, outside of them.
    reference = [(0, 0.45, "A"), (1, 1.45, "A"), (2, 4, "B")]
    hypothesis = [(0, 0.45, "x"), (1, 1.45, "x"), (2.75, 3.25, "x")]
    by_region = full(reference, hypothesis, ((0, 5),), FAIR)
    by_scored = full(reference, hypothesis, ((0, 5),), ScoringRule("fair", 0.25, "score", "scored"))
    assert by_region == pytest.approx((1.5, 1, 0, 0.5))
    assert by_scored == pytest.approx((1.5, 1, 0, 0))


def test_rounding_is_no_speech():
    """A turn of twice the collar is all collar: 0.036 + 0.25 and 0.536 - 0.25 differ in the last digit."""
    for start in range(3000):
        turn = [(start / 1000, start / 1000 + 0.5, "A")]
        assert full(turn, [], ((0, 10),), FAIR) == (0, 0, 0, 0), start


# --- against a second scorer that counts frames and tries every mapping


def frames(turns: Turns) -> np.ndarray:
    grid = np.zeros((len(turns.labels), LENGTH + 200), dtype=bool)
    for turn in turns:
        grid[turns.labels.index(turn.speaker), round(turn.start * 100) : round(turn.end * 100)] = True
    return grid


def edges(turns: Turns) -> set[int]:
    """Boundaries in frames; a speaker's turns that overlap are one, those that touch are two."""
    found: set[int] = set()
    for label in turns.labels:
        end = -1
        for turn in (turn for turn in turns if turn.speaker == label):
            if round(turn.start * 100) >= end:
                found |= {end, round(turn.start * 100)}
                end = round(turn.end * 100)
            end = max(end, round(turn.end * 100))
        found.add(end)
    return found - {-1}


def count_frames(
    reference: Turns, hypothesis: Turns, uem: Spans, rule: ScoringRule
) -> tuple[tuple[float, float, float], set[float]]:
    """Scored, missed and false alarm; and the confusions that the equally good mappings give."""
    ref, hyp = frames(reference), frames(hypothesis)
    region = np.zeros(ref.shape[1], dtype=bool)
    for start, end in uem:
        region[round(start * 100) : round(end * 100)] = True
    scored = region.copy()
    if collar := round(rule.collar * 100):
        for edge in edges(reference):
            scored[max(0, edge - collar) : edge + collar] = False
    if rule.overlap == "skip":
        scored &= ref.sum(axis=0) < 2
    references, hypotheses = ref[:, scored].sum(axis=0), hyp[:, scored].sum(axis=0)
    small, large = sorted([ref, hyp], key=len)

    def shared(chosen: tuple[int, ...], where: np.ndarray) -> int:
        return sum(int((small[i] & large[j] & where).sum()) for i, j in enumerate(chosen))

    mappings = list(permutations(range(len(large)), len(small)))
    over = region if rule.mapping == "region" else scored
    best = max(shared(chosen, over) for chosen in mappings)
    both = int(np.minimum(references, hypotheses).sum())
    times = (
        references.sum() / 100,
        np.maximum(references - hypotheses, 0).sum() / 100,
        np.maximum(hypotheses - references, 0).sum() / 100,
    )
    return times, {(both - shared(chosen, scored)) / 100 for chosen in mappings if shared(chosen, over) == best}


@given(REFERENCES, HYPOTHESES, UEMS)
def test_the_sweep_counts_what_frames_count(reference, hypothesis, uem):
    for rule in (*RULES, *REGION):
        found = parts(score_recording(reference, hypothesis, uem, [rule])[rule.name])
        times, confusions = count_frames(reference, hypothesis, uem, rule)
        assert found[:3] == pytest.approx(times, abs=1e-9), rule
        assert min(abs(found[3] - confusion) for confusion in confusions) < 1e-9, rule


# --- against pyannote.metrics, whose collar is the total width


def joined(turns: Turns) -> Turns:
    """A speaker's overlapping turns as one, as dscore does; pyannote's own support() also joins those that touch."""
    rows: list[list] = []
    for turn in sorted(turns, key=lambda turn: (turn.speaker, turn.start)):
        if rows and rows[-1][2] == turn.speaker and turn.start < rows[-1][1]:
            rows[-1][1] = max(rows[-1][1], turn.end)
        else:
            rows.append([turn.start, turn.end, turn.speaker])
    return Turns.of(map(tuple, rows))


@given(turns("ABCDEFGH", 14), turns("rstuvwxyz", 14), UEMS)
def test_the_sweep_agrees_with_pyannote(reference, hypothesis, uem):
    core = pytest.importorskip("pyannote.core")
    metrics = pytest.importorskip("pyannote.metrics.diarization")
    region = core.Timeline([core.Segment(*span) for span in uem])
    scores = score_recording(reference, hypothesis, uem, RULES)
    for rule in RULES:
        metric = metrics.DiarizationErrorRate(collar=2 * rule.collar, skip_overlap=rule.overlap == "skip")
        found = metric.compute_components(
            joined(reference).to_annotation(), joined(hypothesis).to_annotation(), uem=region
        )
        expected = [found[key] for key in ("total", "missed detection", "false alarm", "confusion")]
        assert parts(scores[rule.name]) == pytest.approx(expected, abs=1e-9), rule.name


def drawn(generator: np.random.Generator, turns: int, speakers: int) -> Turns:
    """Turns at random, some of them shared by two speakers, some overlapped by their own speaker."""
    rows = []
    for _ in range(turns):
        start, length = round(generator.uniform(0, 60), 3), round(generator.gamma(1.5, 1.2), 3)
        rows.append((start, start + length, str(generator.integers(speakers))))
        if generator.random() < 0.15:
            rows.append((start, start + length, str(generator.integers(speakers))))
        if generator.random() < 0.15:
            rows.append((start + length / 3, start + length * 1.3, rows[-1][2]))
    return Turns.of(rows)


@pytest.mark.slow
@pytest.mark.parametrize(("cases", "turns", "speakers"), [(3000, 14, 6), (3, 600, 300)])
def test_thousands_of_recordings_and_hundreds_of_speakers_as_pyannote_scores_them(cases, turns, speakers):
    core = pytest.importorskip("pyannote.core")
    metrics = pytest.importorskip("pyannote.metrics.diarization")
    generator = np.random.default_rng(7)
    uem = ((0.0, 20.0), (25.0, 70.0))
    region = core.Timeline([core.Segment(*span) for span in uem])
    for case in range(cases):
        sides = [drawn(generator, int(generator.integers(turns + 1)), speakers) for _ in range(2)]
        scores = score_recording(*sides, uem, RULES)
        annotations = [joined(side).to_annotation() for side in sides]
        for rule in RULES:
            metric = metrics.DiarizationErrorRate(collar=2 * rule.collar, skip_overlap=rule.overlap == "skip")
            found = metric.compute_components(*annotations, uem=region)
            expected = [found[key] for key in ("total", "missed detection", "false alarm", "confusion")]
            assert parts(scores[rule.name]) == pytest.approx(expected, abs=1e-9), (case, rule.name)


# --- symmetries

SETTINGS = (REFERENCES, HYPOTHESES, st.one_of(st.none(), UEMS))


@given(*SETTINGS, st.permutations("ABCD"), st.permutations("ABCD"))
def test_names_do_not_matter(reference, hypothesis, uem, one, other):
    def renamed(turns: Turns, names: list[str], old: str) -> Turns:
        return Turns.of([(t.start, t.end, names[old.index(t.speaker)]) for t in turns])

    same(
        score_recording(reference, hypothesis, uem, RULES),
        score_recording(renamed(reference, one, "ABCD"), renamed(hypothesis, other, "wxyz"), uem, RULES),
    )


@given(*SETTINGS, st.data())
def test_a_turn_may_be_written_in_two_parts(reference, hypothesis, uem, data):
    def split(turns: Turns) -> Turns:
        rows = []
        for turn in turns:
            steps = round((turn.end - turn.start) * 100)
            cut = (round(turn.start * 100) + data.draw(st.integers(0, steps))) / 100
            # A little overlap is as good as none: a speaker's own turns are merged.
            rows += [(turn.start, min(cut + 0.01, turn.end), turn.speaker), (cut, turn.end, turn.speaker)]
        return Turns.of(rows)

    same(
        score_recording(reference, hypothesis, uem, RULES),
        score_recording(split(reference), split(hypothesis), uem, RULES),
    )


@given(*SETTINGS, st.integers(0, 10**6))
def test_the_clock_may_start_anywhere(reference, hypothesis, uem, hundredths):
    by = hundredths / 100

    def moved(turns: Turns) -> Turns:
        return Turns.of([(t.start + by, t.end + by, t.speaker) for t in turns])

    there = uem if uem is None else tuple((start + by, end + by) for start, end in uem)
    one, other = (
        score_recording(reference, hypothesis, uem, (FULL,)),
        score_recording(moved(reference), moved(hypothesis), there, (FULL,)),
    )
    # Binary fractions round differently at 10000 s.
    assert parts(one["full"]) == pytest.approx(parts(other["full"]), abs=1e-6)


@given(*SETTINGS)
def test_sides_may_be_swapped_where_there_is_no_collar(reference, hypothesis, uem):
    one = score_recording(reference, hypothesis, uem, [FULL])["full"]
    other = score_recording(hypothesis, reference, uem, [FULL])["full"]
    assert (one.missed, one.false_alarm) == pytest.approx((other.false_alarm, other.missed), abs=1e-9)
    assert one.confusion == pytest.approx(other.confusion, abs=1e-9)
    assert one.scored - one.missed == pytest.approx(other.scored - other.missed, abs=1e-9)


@given(*SETTINGS)
def test_bounds(reference, hypothesis, uem):
    for times in score_recording(reference, hypothesis, uem, RULES).values():
        assert min(parts(times)) >= 0
        assert times.missed + times.confusion <= times.scored + 1e-9
    for times in score_recording(reference, reference, uem, RULES).values():
        assert times.errors == pytest.approx(0, abs=1e-9)
    for times in score_recording(reference, Turns.of([]), uem, RULES).values():
        assert times.missed == times.scored


@given(*SETTINGS)
def test_rules_in_one_pass_are_rules_one_by_one(reference, hypothesis, uem):
    together = score_recording(reference, hypothesis, uem, RULES)
    for rule in RULES:
        same({rule.name: together[rule.name]}, score_recording(reference, hypothesis, uem, [rule]))


@given(REFERENCES, HYPOTHESES, UEMS)
def test_the_same_bits_every_time(reference, hypothesis, uem):
    assert score_recording(reference, hypothesis, uem, RULES) == score_recording(reference, hypothesis, uem, RULES)


def test_many_speakers_and_turns():
    rng = np.random.default_rng(0)
    starts, lengths, speakers = rng.uniform(0, 3600, 4000), rng.exponential(2, 4000), rng.integers(0, 40, 4000)
    reference = Turns.of(zip(starts, starts + lengths, [f"s{k}" for k in speakers], strict=True))
    # The same under other names, in another order: 7 has no divisor in common with 40.
    hypothesis = Turns.of(zip(starts, starts + lengths, [f"h{7 * k % 40}" for k in speakers], strict=True))
    for times in score_recording(reference, hypothesis, ((0, 3600),), RULES).values():
        assert times.errors == pytest.approx(0, abs=1e-6)
        assert times.scored > 0
