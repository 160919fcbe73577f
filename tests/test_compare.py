from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarbench.compare import Comparison, compare
from diarbench.errors import InputError
from diarbench.leaderboard import Column, Entry, Leaderboard, Score, rank
from diarbench.scoring import FAIR, FULL, ErrorTimes, JaccardErrors
from diarbench.scoring.statistics import Stratum, interval, permutation_p

Times = tuple[float, float]  # scored and missed (s) of a recording


def board(systems: dict[str, dict[str, dict[str, Times]]], sizes: dict[str, int], rule=FULL) -> Leaderboard:
    """Systems by name, their datasets by name, and `sizes` recordings r00, r01, ... in each dataset."""
    columns = [
        Column(name, name, "digest", False, "CC0", tuple(f"r{i:02}" for i in range(size)), size, 60.0)
        for name, size in sizes.items()
    ]
    entries = []
    for system, datasets in systems.items():
        scores = {}
        for name, recordings in datasets.items():
            # Under "fair", half of the errors.
            times = {
                key: {"full": ErrorTimes(scored, s, 0, 0), "fair": ErrorTimes(scored, s / 2, 0, 0)}
                for key, (scored, s) in recordings.items()
            }
            missing = tuple(f"r{i:02}" for i in range(sizes[name]) if f"r{i:02}" not in times)
            scores[name] = Score(times, {}, missing)
        entries.append(Entry(system, system, None, {}, scores, {}, None))
    return rank(entries, title="t", columns=columns, rules=[FULL, FAIR], rule=rule, machines={}, version="0")


def spread(size: int, more: float = 0.0, wave: float = 0.0) -> dict[str, Times]:
    """Recordings of 100 s with some errors: `more` on each, and `wave` more or less on every other."""
    return {f"r{i:02}": (100.0, 10.0 + i % 5 + more + wave * (-1) ** i) for i in range(size)}


def single(made: Comparison):
    (one,) = made.others
    return one


CLEAR = board(
    {"base": {"d": spread(20), "e": spread(30)}, "bad": {"d": spread(20, 5, 1), "e": spread(30, 3, 1)}},
    {"d": 20, "e": 30},
)


# --- numbers


def test_differences_are_second_less_first():
    one = single(compare(CLEAR, "base", ["bad"]))
    assert [d.name for d in one.datasets] == ["d", "e"]
    assert [d.difference.b_minus_a for d in one.datasets] == pytest.approx([0.05, 0.03])
    assert one.macro.b_minus_a == pytest.approx(0.04)
    assert one.macro.interval.estimate == pytest.approx(0.04)
    assert 0.03 < one.macro.interval.low < 0.04 < one.macro.interval.high < 0.05
    assert one.macro.p_value == one.p_holm < 0.001
    assert (one.changes.recordings, one.changes.worse, one.changes.better) == (50, 50, 0)


def test_the_other_way_round_it_is_the_mirror_image():
    there, back = (single(compare(CLEAR, *pair)) for pair in (("base", ["bad"]), ("bad", ["base"])))
    assert back.macro.b_minus_a == -there.macro.b_minus_a
    assert back.macro.p_value == there.macro.p_value
    assert "bad is worse than base: +4.00 points" in there.conclusion
    assert "base is better than bad: -4.00 points" in back.conclusion


def test_jer_is_resampled_as_a_ratio_of_sums():
    """Of recordings with few and with many speakers; under JER the order is another than under DER."""
    counts = [2, 2, 3, 8, 4, 2, 5, 6, 2, 3]
    jaccard = {"a": [0.2 * n for n in counts], "b": [0.2 * n + 0.1 * (n > 3) for n in counts]}
    made = board({"a": {"d": spread(10, 5)}, "b": {"d": spread(10)}}, {"d": 10})
    entries = []
    for line in made.lines:
        totals = zip(jaccard[line.entry.system], counts, strict=True)
        errors = {f"r{i:02}": {"full": JaccardErrors(*e), "fair": JaccardErrors(*e)} for i, e in enumerate(totals)}
        entries.append(replace(line.entry, scores={"d": replace(line.entry.scores["d"], jaccard=errors)}))
    made = rank(entries, title="t", columns=made.columns, rules=made.rules, rule=FULL, machines={}, version="0")
    found = compare(made, "a", ["b"], metric="jer")
    one = single(found)
    assert found.metric == "jer"
    assert one.macro.b_minus_a == pytest.approx(0.4 / sum(counts))
    stratum = Stratum(np.array(counts, dtype=float), np.array([jaccard["a"], jaccard["b"]]))
    assert one.macro.interval == interval([stratum], (-1, 1))
    assert one.macro.p_value == permutation_p([stratum], 0, 1) == 2 / 2**4
    assert "points macro JER" in one.conclusion
    assert single(compare(made, "a", ["b"])).macro.b_minus_a == pytest.approx(-0.05)


def test_without_jaccard_errors_there_is_no_jer_to_compare():
    one = single(compare(CLEAR, "base", ["bad"], metric="jer"))
    assert one.macro.b_minus_a is None
    assert one.conclusion == "Nothing can be compared: base and bad have no recording in common."


def test_the_ranking_rule_counts():
    systems = {"a": {"d": spread(20)}, "b": {"d": spread(20, 4, 1)}}
    assert single(compare(board(systems, {"d": 20}, FAIR), "a", ["b"])).macro.b_minus_a == pytest.approx(0.02)


def test_what_repeats_the_digits_is_kept():
    made = compare(CLEAR, "base", ["bad"], level=0.9, method="percentile", resamples=777, seed=5)
    assert (made.first, made.rule, made.level, made.method) == ("base", FULL, 0.9, "percentile")
    assert (made.resamples, made.seed) == (777, 5)
    assert made == compare(CLEAR, "base", ["bad"], level=0.9, method="percentile", resamples=777, seed=5)
    assert made.others != compare(CLEAR, "base", ["bad"], level=0.9, method="percentile", resamples=777, seed=6).others


def test_a_higher_level_is_wider():
    narrow, wide = (single(compare(CLEAR, "base", ["bad"], level=level)).macro.interval for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_recordings_that_changed_most():
    systems = {"a": {"d": spread(4)}, "b": {"d": {**spread(4), "r01": (100.0, 51.0), "r03": (50.0, 1.5)}}}
    one = single(compare(board(systems, {"d": 4}), "a", ["b"]))
    assert [(c.recording, c.b_minus_a, c.more_errors) for c in one.most_changed(2)] == [
        ("r01", pytest.approx(0.40), pytest.approx(40.0)),
        ("r03", pytest.approx(-0.10), pytest.approx(-11.5)),
    ]
    assert [c.recording for c in one.most_changed(99)] == ["r01", "r03", "r00", "r02"]


# --- only what both have


def test_only_recordings_that_both_have():
    part = {name: times for name, times in spread(20, 5).items() if name not in ("r00", "r07")}
    one = single(compare(board({"a": {"d": spread(20)}, "b": {"d": part}}, {"d": 20}), "a", ["b"]))
    (d,) = one.datasets
    assert (len(d.recordings), d.of) == (18, 20)
    assert d.difference.b_minus_a == pytest.approx(0.05)
    assert d.difference.interval.low is not None
    assert (one.macro.b_minus_a, one.macro.interval, one.macro.p_value, one.p_holm) == (None,) * 4
    assert one.conclusion == (
        "No macro difference between a and b, as a dataset is incomplete (b: 18 of 20 recordings on d); "
        "on d alone, b is worse; with 18 recordings on d the interval is too narrow."
    )


def test_a_dataset_that_one_never_ran():
    systems = {"a": {"d": spread(9), "e": spread(9)}, "b": {"d": spread(9, 1)}}
    one = single(compare(board(systems, {"d": 9, "e": 9}), "a", ["b"]))
    assert [len(d.recordings) for d in one.datasets] == [9, 0]
    assert one.datasets[1].difference.b_minus_a is None
    assert one.datasets[1].changes is None
    assert "b: not run on e" in one.conclusion


def test_nothing_in_common():
    one = single(compare(board({"a": {"d": spread(3)}, "b": {"e": spread(3)}}, {"d": 3, "e": 3}), "a", ["b"]))
    assert one.conclusion == "Nothing can be compared: a and b have no recording in common."
    assert one.changes is None
    assert one.most_changed(5) == []


def test_without_reference_speech_errors_count_but_no_der():
    silent = {**spread(12), "r12": (0.0, 2.0)}
    worse = {**spread(12), "r12": (0.0, 26.0)}
    one = single(compare(board({"a": {"d": silent}, "b": {"d": worse}}, {"d": 13}), "a", ["b"]))
    (d,) = one.datasets
    assert (len(d.recordings), d.without_speech) == (13, 1)
    assert d.difference.b_minus_a == pytest.approx(24 / 1200)
    assert d.changes.recordings == 12
    assert d.changes.maximum == 0
    assert "r12" not in [c.recording for c in one.most_changed(13)]
    assert d.recordings[-1].more_errors == 24


def test_no_reference_speech_at_all():
    silent = {"r00": (0.0, 2.0), "r01": (0.0, 3.0)}
    louder = {"r00": (0.0, 4.0), "r01": (0.0, 3.0)}
    one = single(compare(board({"a": {"d": silent}, "b": {"d": louder}}, {"d": 2}), "a", ["b"]))
    assert one.macro.b_minus_a is None
    assert "no reference speech is scored on d" in one.conclusion


# --- sentences


def test_one_recording_gives_no_interval_and_says_so():
    systems = {"a": {"d": spread(30), "s": spread(1)}, "b": {"d": spread(30, 5, 1), "s": spread(1, 7)}}
    one = single(compare(board(systems, {"d": 30, "s": 1}), "a", ["b"]))
    assert one.macro.b_minus_a == pytest.approx(0.06)
    assert (one.macro.interval.low, one.macro.p_value, one.p_holm) == (None, None, None)
    assert "+6.00 points macro DER" in one.conclusion
    assert "; too few recordings with reference speech for an interval: 1 on s" in one.conclusion
    assert one.conclusion.endswith("; on d alone, b is worse.")


def test_no_difference_says_what_would_have_shown():
    systems = {"a": {"d": spread(40)}, "b": {"d": spread(40, 0.2, 3)}}
    one = single(compare(board(systems, {"d": 40}), "a", ["b"]))
    assert one.conclusion.startswith(
        "No difference can be told between a and b: +0.20 points macro DER, 95 % interval ["
    )
    low, high = one.macro.interval.low, one.macro.interval.high
    # (1.960 + 0.842) / 1.960: two-sided test at 0.05 with a power of 0.8
    assert f"about {100 * (high - low) / 2 * 1.4294:.2f} points would show" in one.conclusion
    assert "too narrow" not in one.conclusion


def test_few_recordings_are_called_few():
    systems = {"a": {"d": spread(8)}, "b": {"d": spread(8, 5, 1)}}
    one = single(compare(board(systems, {"d": 8}), "a", ["b"]))
    assert one.conclusion.startswith("b is worse than a")
    assert one.conclusion.endswith("with 8 recordings on d the interval is too narrow.")


def test_an_interval_alone_settles_nothing():
    # Of three recordings no permutation test can be sure: its smallest p-value is 2 / 8.
    systems = {"a": {"d": spread(3)}, "b": {"d": spread(3, 5, 1)}}
    one = single(compare(board(systems, {"d": 3}), "a", ["b"]))
    assert one.macro.interval.excludes_zero
    assert one.macro.p_value == 0.25
    assert one.conclusion.startswith("Not settled whether a and b differ: +5.33 points")


def test_the_same_outputs():
    systems = {"a": {"d": spread(9)}, "b": {"d": spread(9)}}
    one = single(compare(board(systems, {"d": 9}), "a", ["b"]))
    assert one.conclusion == (
        "No difference: a and b have the same errors on each of the 9 recordings that both have; "
        "with 9 recordings on d the interval is too narrow."
    )
    assert (one.macro.interval.low, one.macro.interval.high, one.macro.p_value) == (0, 0, 1)


def test_the_same_outputs_on_few_of_many():
    systems = {"a": {"d": spread(9), "e": spread(40)}, "b": {"d": spread(2), "e": spread(40)}}
    one = single(compare(board(systems, {"d": 9, "e": 40}), "a", ["b"]))
    assert one.conclusion == (
        "No difference: a and b have the same errors on each of the 42 recordings that both have, while 7 of 49 lack a "
        "result; too few recordings with reference speech for an interval: 2 on d."
    )
    one = single(compare(board({"a": {"d": spread(9)}, "b": {"d": spread(1)}}, {"d": 9}), "a", ["b"]))
    assert "have the same errors on the one recording that both have, while 8 of 9 lack a result;" in one.conclusion


@pytest.mark.parametrize("size", [2, 3])
def test_two_recordings_make_no_interval(size):
    systems = {"a": {"d": spread(size)}, "b": {"d": spread(size, 5, 1)}}
    one = single(compare(board(systems, {"d": size}), "a", ["b"]))
    (d,) = one.datasets
    for difference in (d.difference, one.macro):
        assert (difference.interval.low is None, difference.p_value is None) == (size < 3, size < 3)
    assert ("too few recordings with reference speech for an interval: 2 on d" in one.conclusion) == (size < 3)
    assert ("with 3 recordings on d the interval is too narrow" in one.conclusion) == (size == 3)


def test_few_shared_recordings_are_called_few_without_a_macro_difference():
    systems = {"a": {"d": spread(40), "e": spread(40)}, "b": {"d": spread(40, 5), "e": spread(2, 5)}}
    one = single(compare(board(systems, {"d": 40, "e": 40}), "a", ["b"]))
    assert one.conclusion.startswith("No macro difference between a and b")
    assert one.conclusion.endswith("; too few recordings with reference speech for an interval: 2 on e.")


# --- several


def test_several_are_corrected_for_how_many():
    # Seven recordings all worse: p = 2 / 128 each, twice that with two, and more than 0.05 with four.
    others = [f"b{i}" for i in range(4)]
    systems = {"a": {"d": spread(7)}, **{name: {"d": spread(7, 5, 1)} for name in others}}
    made = board(systems, {"d": 7})
    two, four = (compare(made, "a", others[:count]) for count in (2, 4))
    assert [one.p_holm for one in two.others] == [4 / 128] * 2
    assert [one.macro.p_value for one in four.others] == [2 / 128] * 4
    assert [one.p_holm for one in four.others] == [8 / 128] * 4
    assert all("is worse" in one.conclusion and "(Holm, 2 comparisons)" in one.conclusion for one in two.others)
    assert all("Not settled" in one.conclusion for one in four.others)


def test_others_keep_their_order_and_their_numbers():
    systems = {"a": {"d": spread(20)}, "b": {"d": spread(20, 1, 1)}, "c": {"d": spread(20, 2, 1)}}
    made = board(systems, {"d": 20})
    both = compare(made, "a", ["c", "b"])
    assert [one.system for one in both.others] == ["c", "b"]
    for one in both.others:
        alone = single(compare(made, "a", [one.system])).macro
        assert (one.macro.b_minus_a, one.macro.p_value) == (alone.b_minus_a, alone.p_value)
        ends = (one.macro.interval.low, one.macro.interval.high)
        assert ends == pytest.approx((alone.interval.low, alone.interval.high), rel=1e-9)


def test_each_is_compared_on_what_it_shares_with_the_first():
    part = {name: times for name, times in spread(20, 5, 1).items() if name != "r00"}
    systems = {"a": {"d": spread(20)}, "part": {"d": part}, "all": {"d": spread(20, 5, 1)}}
    made = board(systems, {"d": 20})
    both = compare(made, "a", ["part", "all"])
    assert [len(one.datasets[0].recordings) for one in both.others] == [19, 20]
    assert both.others[1].macro == single(compare(made, "a", ["all"])).macro


def test_what_has_no_macro_is_not_counted_as_a_comparison():
    systems = {"a": {"d": spread(7)}, "b": {"d": spread(7, 5)}, "part": {"d": spread(6, 5)}}
    b, part = compare(board(systems, {"d": 7}), "a", ["b", "part"]).others
    assert b.p_holm == b.macro.p_value
    assert part.p_holm is None
    assert "Holm" not in b.conclusion


# --- wrong requests


@pytest.mark.parametrize(
    ("first", "others", "how", "says"),
    [
        ("base", ["bed"], {}, "did you mean bad?"),
        ("bass", ["bad"], {}, "did you mean base?"),
        ("base", ["bad", "base"], {}, "base is named twice"),
        ("base", ["bad", "bad"], {}, "bad is named twice"),
        ("base", [], {}, "needs two systems"),
        ("base", ["bad"], {"level": 95}, "the level is 95"),
        ("base", ["bad"], {"level": 0.0}, "the level is 0"),
        ("base", ["bad"], {"level": float("nan")}, "the level is nan"),
        ("base", ["bad"], {"resamples": 0}, "0 resamples"),
        ("base", ["bad"], {"seed": -1}, "the seed is -1"),
    ],
)
def test_requests_that_cannot_be(first, others, how, says):
    with pytest.raises(InputError, match=says.replace("?", r"\?")):
        compare(CLEAR, first, others, **how)


# --- properties

SECONDS = st.integers(0, 100_000).map(lambda milliseconds: milliseconds / 1000)
RECORDINGS = st.dictionaries(
    st.sampled_from([f"r{i:02}" for i in range(6)]), st.tuples(SECONDS, SECONDS, SECONDS), max_size=6
)


@given(RECORDINGS, RECORDINGS, st.sets(st.sampled_from([f"r{i:02}" for i in range(6)])))
def test_whatever_is_stored_there_is_one_sentence_and_no_nan(d, e, lost):
    systems: dict = {"a": {}, "b": {}}
    for name, rows in (("d", d), ("e", e)):
        systems["a"][name] = {key: (scored, one) for key, (scored, one, _) in rows.items()}
        systems["b"][name] = {key: (scored, two) for key, (scored, _, two) in rows.items() if key not in lost}
    one = single(compare(board(systems, {"d": 6, "e": 6}), "a", ["b"], resamples=50))
    assert one.conclusion.endswith(".")
    assert "nan" not in one.conclusion
    for difference in (*(d.difference for d in one.datasets), one.macro):
        found = difference.interval
        if found is not None and found.low is not None:
            assert found.low <= found.high
            assert 0 < difference.p_value <= 1
