from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarbench.errors import InputError
from diarbench.scoring import FAIR, FORGIVING, FULL, RULES, ErrorTimes, ScoringRule, parse_rule

TIMES = st.builds(ErrorTimes, *[st.integers(0, 1000).map(float)] * 4)


def test_the_three_rules():
    assert {name: (rule.collar, rule.overlap) for name, rule in RULES.items()} == {
        "full": (0.0, "score"),
        "fair": (0.25, "score"),
        "forgiving": (0.25, "skip"),
    }
    assert (parse_rule("full"), parse_rule("fair"), parse_rule("forgiving")) == (FULL, FAIR, FORGIVING)


def test_rules_are_printed_so_that_nobody_has_to_guess():
    assert FULL.label == "no collar, overlap scored"
    assert FORGIVING.label == "±250 ms collar, overlap skipped"
    assert ScoringRule("x", 0.0625, "score").label == "±62.5 ms collar, overlap scored"
    assert parse_rule("mapping=scored").label == FULL.label  # where it makes no difference
    assert parse_rule("overlap=skip,mapping=scored").label.endswith("skipped, speakers mapped over what is scored")


def test_rules_that_differ_have_names_that_differ():
    assert parse_rule("collar=0.1234561").name != parse_rule("collar=0.1234562").name


def test_unknown_rules():
    with pytest.raises(InputError, match="no scoring rule 'fairr'; did you mean fair"):
        parse_rule("fairr")
    with pytest.raises(InputError, match="no scoring rule 'x'; known: fair, forgiving, full"):
        parse_rule("x")


@given(TIMES, TIMES, TIMES)
def test_error_times_add_like_numbers(a, b, c):
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + ErrorTimes.zero() == a
    assert sum([a, b], ErrorTimes.zero()).errors == a.errors + b.errors


@given(st.lists(TIMES.filter(lambda times: times.scored > 0), min_size=1, max_size=5))
def test_the_rate_is_of_the_sum_and_not_the_mean_of_rates(parts):
    total = sum(parts, ErrorTimes.zero())
    assert total.der == sum(part.errors for part in parts) / sum(part.scored for part in parts)


def test_no_speech_no_rate():
    assert ErrorTimes(0, 0, 5, 0).der is None
    assert ErrorTimes(0, 0, 5, 0).errors == 5
    assert ErrorTimes(1, 1, 2, 0).der == 3


def test_scores_can_not_be_changed():
    with pytest.raises(AttributeError):
        FULL.collar = 1.0  # type: ignore[misc]
    with pytest.raises(AttributeError):
        ErrorTimes.zero().missed = 1.0  # type: ignore[misc]
