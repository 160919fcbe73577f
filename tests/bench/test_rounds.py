"""Who takes a turn when."""

from __future__ import annotations

from diarbench.bench.rounds import calls_per_turn, take_turns


def test_a_turn_without_end_is_the_most_calls():
    assert calls_per_turn(0.1, float("inf")) == calls_per_turn(1e-300, 1e10) == 200


def order_of(**how):
    """The names in the order of their turns."""
    taken = []

    def once(name):
        taken.append(name)
        return float(len(taken))

    times = take_turns(["a", "b", "c"], once, rounds=4, **how)
    return taken, times


def test_every_round_has_each_system_once_in_an_order_drawn_anew():
    taken, times = order_of(seed=0)
    rounds = [taken[first : first + 3] for first in range(0, 12, 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1
    assert all(len(found) == 4 for found in times.values())


def test_the_order_is_the_seeds():
    assert order_of(seed=1) == order_of(seed=1)
    assert order_of(seed=1)[0] != order_of(seed=2)[0]


def test_in_blocks_a_system_takes_all_its_turns_in_a_row():
    assert order_of(seed=0, interleaved=False)[0] == ["a"] * 4 + ["b"] * 4 + ["c"] * 4


def test_one_that_fails_is_out_and_the_rest_goes_on():
    asked = []

    def once(name):
        asked.append(name)
        return None if name == "b" else 1.0

    times = take_turns(["a", "b"], once, rounds=5, seed=0)
    assert times == {"a": [1.0] * 5}
    assert asked.count("b") == 1
