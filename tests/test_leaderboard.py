from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarbench.leaderboard import Column, Entry, Place, Score, Speed, beginnings, macro_der, pareto_front, rank
from diarbench.scoring import FAIR, FULL, ErrorTimes


def column(name: str, *recordings: str, total: int | None = None) -> Column:
    return Column(name, name, "digest", False, "CC0", recordings, total or len(recordings), 60.0)


ONE, TWO = column("one", "a", "b"), column("two", "c")


def score(missed: dict[str, float], *, failures=None, missing=(), scored: float = 10.0) -> Score:
    """Recordings with `missed` seconds of `scored`; under "fair", half as many."""
    return Score(
        {
            name: {"full": ErrorTimes(scored, s, 0, 0), "fair": ErrorTimes(scored, s / 2, 0, 0)}
            for name, s in missed.items()
        },
        failures or {},
        missing,
    )


def entry(system: str, *scores: Score | None, baseline: str | None = None, speeds=None) -> Entry:
    named = {c.name: s for c, s in zip((ONE, TWO), scores, strict=False) if s is not None}
    return Entry(system, system, baseline, {}, named, speeds or {}, None)


def good(a: float, b: float, c: float) -> tuple[Score, Score]:
    return score({"a": a, "b": b}), score({"c": c})


def board(*entries: Entry, columns=(ONE, TWO), rule=FULL):
    return rank(entries, title="t", columns=columns, rules=[FULL, FAIR], rule=rule, machines={}, version="0")


def places(made) -> list[tuple[str, int | None]]:
    return [(line.entry.system, line.rank) for line in made.lines]


# --- pooled within a dataset, unweighted over datasets


def test_macro_is_the_mean_of_pooled_ders():
    uneven = Score({"a": {"full": ErrorTimes(90, 9, 0, 0)}, "b": {"full": ErrorTimes(10, 3, 1, 1)}}, {}, ())
    made = Entry("x", "x", None, {}, {"one": uneven, "two": score({"c": 5})}, {}, None)
    assert uneven.der("full") == pytest.approx(14 / 100)
    assert macro_der(made, [ONE, TWO], "full") == pytest.approx((0.14 + 0.5) / 2)


def test_best_first():
    made = board(*(entry(name, *good(d, d, d)) for name, d in (("worse", 5), ("best", 1), ("mid", 2))))
    assert places(made) == [("best", 1), ("mid", 2), ("worse", 3)]


def test_the_rule_that_ranks():
    flat = {"full": ErrorTimes(10, 3, 0, 0), "fair": ErrorTimes(10, 3, 0, 0)}
    steady = entry("steady", Score({"a": flat, "b": flat}, {}, ()), Score({"c": flat}, {}, ()))
    other = entry("other", *good(4, 4, 4))
    assert places(board(steady, other)) == [("steady", 1), ("other", 2)]
    assert places(board(steady, other, rule=FAIR)) == [("other", 1), ("steady", 2)]


def test_equal_ones_share_a_rank_and_the_next_is_skipped():
    made = board(*(entry(name, *good(d, d, d)) for name, d in (("c", 2), ("b", 1), ("a", 2), ("d", 3))))
    assert places(made) == [("b", 1), ("a", 2), ("c", 2), ("d", 4)]


# --- what is missing makes a row unranked, and says why


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ((score({"a": 0, "b": 0}), None), "not run on two"),
        ((None, None), "not run on one; not run on two"),
        ((score({"a": 0}, failures={"b": "out of memory"}), score({"c": 0})), "1 of 2 recordings on one, 1 failed"),
        ((score({"a": 0}, missing=("b",)), score({"c": 0})), "1 of 2 recordings on one"),
        ((score({}, failures={"a": "x", "b": "x"}), score({"c": 0})), "0 of 2 recordings on one, 2 failed"),
        ((score({"a": 0, "b": 0}), score({"c": 0}, scored=0.0)), "no reference speech is scored on two"),
    ],
)
def test_what_lacks_a_recording_has_no_rank(scores, why):
    made = board(entry("perfect-but", *scores), entry("bad", *good(9, 9, 9)))
    assert places(made) == [("bad", 1), ("perfect-but", None)]
    line = made.lines[1]
    assert line.unranked == why
    assert line.macro == {"full": None, "fair": None}
    assert line.delta == {"full": None, "fair": None}
    assert made.lines[0].unranked is None


def test_no_datasets_no_ranks():
    made = board(entry("x"), columns=())
    assert (made.lines[0].rank, made.lines[0].unranked) == (None, "no dataset")


def test_no_entries():
    assert board().lines == ()


def test_unranked_ones_do_not_tie():
    made = board(entry("b", None, None), entry("a", None, None))
    assert places(made) == [("a", None), ("b", None)]


# --- differences to the baseline


def test_delta_is_macro_less_the_baselines():
    made = board(entry("base", *good(2, 2, 2)), entry("small", *good(3, 3, 4), baseline="base"))
    lines = {line.entry.system: line for line in made.lines}
    assert lines["small"].delta["full"] == pytest.approx((0.3 + 0.4) / 2 - 0.2)
    assert lines["small"].delta["fair"] == pytest.approx((0.15 + 0.2) / 2 - 0.1)
    assert lines["base"].delta == {"full": None, "fair": None}


@pytest.mark.parametrize("baseline", ["absent", "small", "incomplete", None])
def test_no_delta_without_a_whole_baseline(baseline):
    made = board(entry("incomplete", None, None), entry("small", *good(3, 3, 4), baseline=baseline))
    assert made.lines[0].delta == {"full": None, "fair": None}


# --- speeds


def test_places_are_those_where_something_was_timed():
    cpu, gpu = Place("box", "cpu", 1), Place("box", "cuda", 1)
    made = board(entry("a", speeds={gpu: Speed(1, 10)}), entry("b", speeds={cpu: Speed(2, 10), gpu: Speed(1, 10)}))
    assert made.places == (cpu, gpu)
    assert (Speed(1, 10) + Speed(3, 10)).rtf == 0.2
    assert (gpu.label, Place("box", "cpu", 4).label) == ("GPU", "CPU, 4 threads")


def test_a_part_of_a_dataset_says_so():
    assert column("d", "a", total=5).label == "d (first 1 of 5)"
    assert column("d", "a").label == "d"


# --- properties

DERS = st.lists(st.tuples(*[st.integers(0, 20)] * 3), max_size=6)


@given(DERS, st.randoms())
def test_the_order_of_entries_does_not_matter(ders, random):
    entries = [entry(f"s{i}", *good(*d)) for i, d in enumerate(ders)]
    shuffled = list(entries)
    random.shuffle(shuffled)
    assert board(*entries) == board(*shuffled)


@given(DERS)
def test_a_rank_is_one_more_than_those_who_are_better(ders):
    made = board(*(entry(f"s{i}", *good(*d)) for i, d in enumerate(ders)))
    for line in made.lines:
        der = line.macro["full"]
        assert der is not None
        assert line.rank == 1 + sum(other.macro["full"] < der for other in made.lines)  # type: ignore[operator]


POINTS = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.tuples(st.integers(0, 6), st.integers(0, 6)))


def beats(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one != other and one[0] <= other[0] and one[1] <= other[1]


@given(POINTS)
def test_the_pareto_front_is_what_nothing_beats(points):
    front = pareto_front(points)
    assert set(front) == {name for name, at in points.items() if not any(beats(p, at) for p in points.values())}
    assert bool(front) == bool(points)
    assert [points[name] for name in front] == sorted(points[name] for name in front)
    # Along the front, what gets worse in one gets better in the other.
    for one, other in itertools.pairwise(front):
        assert points[one] == points[other] or points[one][1] > points[other][1]


@given(POINTS, st.integers(1, 5))
def test_the_front_does_not_depend_on_units(points, factor):
    scaled = {name: (factor * x, factor**3 * y) for name, (x, y) in points.items()}
    assert pareto_front(scaled) == pareto_front(points)


# --- what a limit would rank


def test_beginnings_are_what_a_limit_would_rank():
    three = column("three", "a", "b", "c")
    columns = (three, TWO)

    def of(system: str, missed: dict[str, float], missing: tuple[str, ...], *, failures=None, two=True) -> Entry:
        scores = {"three": score(missed, missing=missing, failures=failures)} | (
            {"two": score({"c": 1})} if two else {}
        )
        return Entry(system, system, None, {}, scores, {}, None)

    made = board(
        of("whole", {"a": 1, "b": 1, "c": 1}, ()),
        of("two-of-three", {"a": 1, "b": 1}, ("c",)),
        of("one-of-three", {"a": 1}, ("b", "c")),
        of("a-gap", {"a": 1, "c": 1}, ("b",)),
        of("failed", {"a": 1}, ("c",), failures={"b": "fell over"}),
        of("none", {}, ("a", "b", "c")),
        of("not-on-two", {"a": 1}, ("b", "c"), two=False),
        columns=columns,
    )
    assert beginnings(made) == {"two-of-three": 2, "one-of-three": 1}
