from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, permutation_test

from diarbench.scoring.statistics import Stratum, changes, holm, interval, permutation_p, resampled_ders


def stratum(seed: int, recordings: int, systems: int = 2, worse: float = 0.0) -> Stratum:
    """Recordings of some minutes, skewed; the last system has `worse` more errors per second."""
    generator = np.random.default_rng(seed)
    scored = generator.gamma(2.0, 150.0, recordings)
    rates = generator.gamma(1.2, 0.15, recordings) * generator.gamma(8.0, 1 / 8, (systems, recordings))
    rates[-1] += worse
    return Stratum(scored, rates * scored)


def ratio_difference(first, second, scored, axis=-1):
    return (second.sum(axis=axis) - first.sum(axis=axis)) / scored.sum(axis=axis)


SETS = [stratum(1, 40), stratum(2, 80, worse=0.02), stratum(3, 25, worse=0.1)]


# --- intervals against scipy's


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("one", SETS)
def test_intervals_are_those_of_scipy(one, method):
    resamples = 40_000
    ours = interval([one], (-1, 1), method=method, resamples=resamples)
    theirs = bootstrap(
        (*one.errors, one.scored), ratio_difference, paired=True, vectorized=True, n_resamples=resamples,
        method=method.upper() if method == "bca" else method, rng=np.random.default_rng(5), batch=500,
    ).confidence_interval  # fmt: skip
    assert ours.estimate == pytest.approx(ratio_difference(*one.errors, one.scored))
    # Both are random: the 2.5 % quantile of 40 000 values stands to about a hundredth of the interval.
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.025 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.025 * width)


def test_bca_differs_from_percentile_where_errors_are_skewed():
    one = stratum(3, 25, worse=0.1)
    plain, corrected = (interval([one], (0, 1), method=method) for method in ("percentile", "bca"))
    assert corrected.low > plain.low
    assert corrected.high > plain.high


def test_the_correction_is_that_of_the_book():
    # Efron & Tibshirani 1993, equations 14.10, 14.14, 14.15, written out for one system.
    from scipy.stats import norm

    one = stratum(4, 15, systems=1)
    replicates = resampled_ders([one], resamples=4000)[0, 0]
    n, estimate = 15, float(one.ders[0])
    without = np.array(
        [(one.errors[0].sum() - e) / (one.scored.sum() - s) for e, s in zip(one.errors[0], one.scored, strict=True)]
    )
    deviations = without.mean() - without
    acceleration = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)
    bias = norm.ppf(np.mean(replicates < estimate))
    z = bias + norm.ppf([0.05, 0.95])
    expected = np.quantile(replicates, norm.cdf(bias + z / (1 - acceleration * z)))
    found = interval([one], (1,), level=0.9, resamples=4000)
    assert n == len(without)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-9)


# --- what an interval promises


def covered(method: str, recordings: tuple[int, ...], level: float = 0.95, experiments: int = 300) -> float:
    """How often the interval of a macro difference holds the true one, which is 0.01 for each dataset."""
    hits = 0
    for seed in range(experiments):
        generator = np.random.default_rng([seed, *recordings])
        strata = []
        for count in recordings:
            scored = generator.gamma(4.0, 75.0, count)
            first = generator.gamma(2.0, 0.1, count)
            second = first + 0.01 + generator.normal(0, 0.05, count)
            strata.append(Stratum(scored, np.stack([first, second]) * scored))
        found = interval(strata, (-1, 1), level=level, method=method, resamples=1000, seed=seed)  # type: ignore[arg-type]
        hits += found.low <= 0.01 <= found.high  # type: ignore[operator]
    return hits / experiments


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("recordings", [(60,), (40, 25)])
def test_about_95_of_100_intervals_hold_the_truth(method, recordings):
    # 300 experiments: the standard error at 0.95 is 0.013.
    assert 0.91 <= covered(method, recordings) <= 0.985


def test_a_lower_level_promises_less():
    assert 0.42 <= covered("percentile", (60,), level=0.5) <= 0.58


# --- strata


def test_the_macro_estimate_is_the_mean_of_the_datasets():
    one, two = SETS[1], SETS[2]
    expected = np.mean([one.ders[1] - one.ders[0], two.ders[1] - two.ders[0]])
    assert interval([one, two], (-1, 1), resamples=100).estimate == pytest.approx(expected)


def test_strata_are_resampled_apart():
    # Two datasets of one rate each: within them nothing varies, across them everything would.
    flat = [Stratum(np.full(5, 10.0), np.full((2, 5), errors)) for errors in (1.0, 9.0)]
    found = interval(flat, (1, 0))
    assert (found.low, found.estimate, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_the_variance_of_a_macro_is_that_of_its_parts():
    one, two = SETS[1], SETS[2]
    replicates = resampled_ders([one, two], resamples=4000)
    macro = replicates.mean(axis=0)[0].std()
    assert macro == pytest.approx(np.hypot(*replicates[:, 0].std(axis=1)) / 2, rel=0.05)


def test_systems_are_resampled_together():
    one = SETS[0]
    same = Stratum(one.scored, np.stack([one.errors[0], one.errors[0] + 0.05 * one.scored]))
    found = interval([same], (-1, 1))
    assert found.high - found.low < 1e-9
    assert found.estimate == pytest.approx(0.05)


def test_replicates_can_be_shared():
    strata = [stratum(7, 30, systems=4), stratum(8, 20, systems=4)]
    replicates = resampled_ders(strata, resamples=500, seed=3)
    shared = interval(strata, (-1, 0, 0, 1), replicates=replicates)
    assert shared == interval(strata, (-1, 0, 0, 1), resamples=500, seed=3)
    pair = [Stratum(s.scored, s.errors[[0, 3]]) for s in strata]
    alone = interval(pair, (-1, 1), resamples=500, seed=3)
    assert (alone.low, alone.high) == pytest.approx((shared.low, shared.high), rel=1e-9)


# --- the edges


@pytest.mark.parametrize("scored", [[100.0], [100.0, 0.0, 0.0]])
def test_one_recording_with_speech_gives_no_interval(scored):
    lone = Stratum(np.array(scored), np.array([[10.0] * len(scored), [12.0] * len(scored)]))
    for strata in ([lone], [SETS[0], lone]):
        found = interval(strata, (-1, 1))
        assert (found.low, found.high) == (None, None)
        assert found.estimate > 0
        assert not found.excludes_zero


def test_equal_systems_differ_by_nothing():
    one, two = (Stratum(s.scored, s.errors[[0, 0]]) for s in (SETS[0], SETS[1]))
    for method in ("percentile", "bca"):
        found = interval([one, two], (-1, 1), method=method)  # type: ignore[arg-type]
        assert (found.low, found.estimate, found.high) == (0, 0, 0)
        assert not found.excludes_zero
    assert permutation_p([one, two], 0, 1) == 1.0


def test_resamples_equal_to_the_estimate_count_half():
    # Of two recordings, half of all resamples draw both and repeat the estimate, up to rounding.
    one = Stratum(np.array([0.1, 0.3]), np.array([[0.0, 0.0], [0.01, 0.05]]))
    found = interval([one], (-1, 1), level=0.2)
    assert found.low == pytest.approx(found.estimate)
    assert found.high == pytest.approx(found.estimate)


def test_false_alarms_without_speech_count_in_the_dataset():
    one = Stratum(np.array([10.0, 10.0, 0.0]), np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 4.0]]))
    found = interval([one], (-1, 1))
    assert found.estimate == pytest.approx(0.2)
    assert found.high > 0.2
    assert math.isfinite(found.high)


def test_a_resample_without_speech_repeats_the_estimate():
    one = Stratum(np.array([10.0, 10.0, 0.0, 0.0]), np.array([[1.0, 2.0, 0.0, 5.0]]))
    assert np.isfinite(resampled_ders([one], resamples=2000)).all()


def test_no_speech_at_all_has_no_der():
    with pytest.raises(ValueError, match="no DER"):
        resampled_ders([Stratum(np.zeros(3), np.ones((2, 3)))])


def test_an_extreme_level_stays_within_the_resamples():
    one = Stratum(np.array([1.0] * 9 + [500.0]), np.array([[0.0] * 9 + [400.0]]))
    found = interval([one], (1,), level=0.9999999)
    replicates = resampled_ders([one])
    assert replicates.min() <= found.low <= found.high <= replicates.max()


@pytest.mark.parametrize("seed", [0, 17])
def test_the_same_seed_gives_the_same_digits(seed):
    assert interval(SETS, (-1, 1), seed=seed) == interval(SETS, (-1, 1), seed=seed)
    assert permutation_p(SETS, 0, 1, seed=seed) == permutation_p(SETS, 0, 1, seed=seed)


def test_another_seed_gives_others():
    assert interval(SETS, (-1, 1), seed=1) != interval(SETS, (-1, 1), seed=2)
    assert permutation_p(SETS[:1], 0, 1, seed=1) != permutation_p(SETS[:1], 0, 1, seed=2)


# --- permutation


def shares(strata: list[Stratum]) -> np.ndarray:
    return np.concatenate([(s.errors[1] - s.errors[0]) / s.scored.sum() / len(strata) for s in strata])


@pytest.mark.parametrize("strata", [[stratum(11, 9)], [stratum(12, 5, worse=0.2), stratum(13, 7, worse=0.1)]])
def test_few_recordings_are_permuted_exactly_as_scipy_does(strata):
    theirs = permutation_test(
        (shares(strata), np.zeros_like(shares(strata))), lambda x, y, axis=-1: x.sum(axis=axis) - y.sum(axis=axis),
        permutation_type="samples", n_resamples=np.inf, vectorized=True,
    )  # fmt: skip
    assert permutation_p(strata, 0, 1) == pytest.approx(theirs.pvalue)
    assert permutation_p(strata, 1, 0) == permutation_p(strata, 0, 1)


@pytest.mark.parametrize("strata", [SETS[:1], SETS, [stratum(21, 60, worse=0.02)]])
def test_many_recordings_are_permuted_at_random_as_scipy_does(strata):
    theirs = permutation_test(
        (shares(strata), np.zeros_like(shares(strata))), lambda x, y, axis=-1: x.sum(axis=axis) - y.sum(axis=axis),
        permutation_type="samples", n_resamples=20_000, vectorized=True, batch=500, rng=np.random.default_rng(9),
    )  # fmt: skip
    ours = permutation_p(strata, 0, 1, resamples=20_000)
    assert ours == pytest.approx(theirs.pvalue, abs=4 * math.sqrt(2 * 0.25 / 20_000))


def test_a_random_p_is_never_zero():
    assert permutation_p([stratum(22, 100, worse=1.0)], 0, 1, resamples=999) == 1 / 1000


def test_three_recordings_by_hand():
    # Differences 3, 1, 1 of 30 s: 8 swaps sum to ±5, ±3, ±3, ±1 of which only ±5 reach 5.
    one = Stratum(np.full(3, 10.0), np.array([[1.0, 1.0, 1.0], [4.0, 2.0, 2.0]]))
    assert permutation_p([one], 0, 1) == 2 / 8


def by_hand(differences: list[int]) -> float:
    """The exact p-value of whole differences: how many choices of signs have each sum, one difference at a time."""
    ways = {0: 1}
    for difference in differences:
        after: dict[int, int] = {}
        for total, many in ways.items():
            for signed in (total + difference, total - difference):
                after[signed] = after.get(signed, 0) + many
        ways = after
    reached = sum(many for total, many in ways.items() if abs(total) >= abs(sum(differences)))
    return reached / 2 ** len(differences)


@pytest.mark.parametrize("recordings", [*range(1, 20), 31, 32])
def test_exact_p_values_count_every_swap_and_every_tie(recordings):
    generator = np.random.default_rng(recordings)
    for shift in (0, 1, 3):
        differences = generator.integers(-6, 7, recordings) + shift
        differences[differences == 0] = 1
        # Of scored seconds that make no share a whole number, so that ties are ties of rounded sums.
        one = Stratum(np.full(recordings, 7.3), np.array([np.full(recordings, 9.0), 9.0 + differences]))
        assert permutation_p([one], 0, 1) == by_hand(differences.tolist())


def test_where_swaps_are_no_longer_counted_random_ones_say_the_same():
    # The 33rd hardly differs: the p-value of 32 has to come out, to what 20,000 swaps can tell.
    one = stratum(31, 32, worse=0.02)
    errors = np.hstack([one.errors, [[3.0], [3.0 + 1e-9]]])
    exact, random = permutation_p([one], 0, 1), permutation_p([Stratum(np.append(one.scored, 1e-6), errors)], 0, 1)
    assert 0.001 < exact < 0.9
    assert random == pytest.approx(exact, abs=4 * math.sqrt(0.25 / 10_000))
    assert random != exact


def test_ties_count_although_sums_are_rounded():
    # 0.1 + 0.2 - 0.3 is not 0 in binary; all swaps are as far as what was observed, or nearer.
    one = Stratum(np.ones(3), np.array([[0.0, 0.0, 0.0], [0.1, 0.2, -0.3]]))
    assert permutation_p([one], 0, 1) == 1.0


def test_recordings_without_a_difference_change_nothing():
    one = stratum(23, 6, worse=0.1)
    padded = Stratum(np.append(one.scored, np.full(50, 20.0)), np.hstack([one.errors, np.full((2, 50), 3.0)]))
    assert permutation_p([padded], 0, 1) == permutation_p([one], 0, 1)


def test_chance_alone_is_rarely_significant():
    # Systems that don't differ: p is below 0.05 in 5 of 100 experiments; the standard error of 400 is 0.011.
    small = sum(permutation_p([stratum(1000 + i, 12)], 0, 1) <= 0.05 for i in range(400)) / 400
    assert 0.02 <= small <= 0.085


# --- Holm


def test_holm_by_hand():
    # 0.005·4; 0.01·3; max(0.03·2, 0.03); max(0.04·1, 0.06)
    assert holm({"d": 0.04, "a": 0.005, "c": 0.03, "b": 0.01}) == pytest.approx(
        {"d": 0.06, "a": 0.02, "c": 0.06, "b": 0.03}
    )
    assert holm({}) == {}
    assert holm({"only": 0.2}) == {"only": 0.2}


P_VALUES = st.dictionaries(st.text("abc", max_size=3), st.floats(0, 1), max_size=12)


@given(P_VALUES)
def test_holm_keeps_the_order_and_lies_between_the_plain_and_bonferroni(p_values):
    adjusted = holm(p_values)
    assert list(adjusted) == list(p_values)
    for name, p in p_values.items():
        assert p <= adjusted[name] <= min(1.0, p * len(p_values)) or adjusted[name] == pytest.approx(p)
    by_plain = [adjusted[name] for name in sorted(p_values, key=lambda name: (p_values[name], name))]
    assert by_plain == sorted(by_plain)


@given(P_VALUES, st.floats(0, 1))
def test_one_more_comparison_makes_no_other_easier(p_values, more):
    grown = holm({**p_values, "another": more})
    assert all(grown[name] >= p for name, p in holm(p_values).items())


# --- changes


def test_the_spread_of_changes():
    found = changes([0.1] * 5, [0.1, 0.0, 0.2, 0.3, 0.5])
    assert (found.recordings, found.better, found.worse) == (5, 1, 3)
    spread = (found.quartile_low, found.median, found.quartile_high, found.percentile_90, found.maximum)
    assert spread == pytest.approx((0.0, 0.1, 0.2, 0.32, 0.4))


def test_no_recordings_have_no_changes():
    with pytest.raises(ValueError, match="no recordings"):
        changes([], [])
