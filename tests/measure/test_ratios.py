"""Speed-ups: what they are for made-up times, and how often noise passes for one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarbench.measure.ratios import Ratio, amdahl_bound, noise_floor, speedup, verdict

times = st.lists(st.floats(0.01, 100.0), min_size=5, max_size=20)


@settings(max_examples=20)
@given(times, st.floats(0.1, 10.0))
def test_a_system_that_is_faster_in_every_round_by_one_factor_has_exactly_that_ratio(walls, factor):
    found = speedup([factor * wall for wall in walls], walls)
    assert found == pytest.approx((factor, factor, factor))


def test_drift_that_both_share_leaves_the_ratio_alone():
    drift = np.linspace(1.0, 4.0, 15)
    assert speedup(2.0 * drift, drift).median == pytest.approx(2.0)


def test_the_interval_holds_the_true_ratio_nineteen_times_in_twenty():
    draw = np.random.default_rng(0)
    inside = 0
    for trial in range(150):
        base, own = 2.0 * draw.lognormal(0.0, 0.05, 15), draw.lognormal(0.0, 0.05, 15)
        found = speedup(base, own, seed=trial)
        inside += found.low <= 2.0 <= found.high
    assert 0.90 <= inside / 150 <= 0.99


def test_copies_of_one_system_are_seldom_called_faster_or_slower():
    draw = np.random.default_rng(1)
    called = 0
    for trial in range(150):
        base, control, copy = (draw.lognormal(0.0, 0.03, 15) for _ in range(3))
        floor = noise_floor(speedup(base, control, seed=trial))
        called += verdict(speedup(base, copy, seed=trial), floor) != "within noise"
    assert called / 150 <= 0.05


def test_the_floor_is_the_further_end_of_the_controls_interval():
    assert noise_floor(Ratio(1.0, 0.9, 1.05)) == pytest.approx(1 / 0.9 - 1)
    assert noise_floor(Ratio(1.1, 1.05, 1.2)) == pytest.approx(0.2)
    assert noise_floor(Ratio(1.0, 1.0, 1.0)) == 0.0


@given(st.floats(0.2, 5.0), st.floats(0.0, 0.5), st.floats(0.0, 0.5), st.floats(0.0, 0.3))
def test_a_ratio_and_its_inverse_get_opposite_verdicts(median, down, up, floor):
    ratio = Ratio(median, median * (1 - down), median * (1 + up))
    inverse = Ratio(1 / ratio.median, 1 / ratio.high, 1 / ratio.low)
    opposite = {"faster": "slower", "slower": "faster", "within noise": "within noise"}
    limits = [ratio.low / (1 + floor), ratio.high * (1 + floor)]
    if all(abs(limit - 1) > 1e-9 for limit in limits):  # else rounding decides
        assert verdict(inverse, floor) == opposite[verdict(ratio, floor)]


def test_times_that_do_not_pair_up_are_refused():
    with pytest.raises(ValueError, match="one time per round"):
        speedup([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="one time per round"):
        speedup([], [])


def test_amdahls_bound_has_no_value_where_nothing_else_is_left():
    assert amdahl_bound(1.0) is None
    assert amdahl_bound(0.0) == 1.0
