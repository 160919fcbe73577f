"""Turn-taking of all sorts: wide, within its ranges, with silences where nobody speaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diarbench.errors import InputError
from diarbench.simulate import VariedTurns, simulate_conversation

RATE = 16000


def timeline(made, duration: float) -> np.ndarray:
    """How many speak, each 10 ms."""
    count = np.zeros(round(duration * 100), dtype=int)
    for start, end, _ in made.reference:
        count[round(start * 100) : round(end * 100)] += 1
    return count


def make(people, seed: int, varied: VariedTurns, duration: float = 20.0, count: int = 3):
    chosen = {name: people[name] for name in list(people)[:count]}
    return simulate_conversation(chosen, duration, varied, np.random.default_rng(seed))


def overlap(people, varied: VariedTurns) -> float:
    lines = [timeline(make(people, seed, varied), 20.0) for seed in range(8)]
    return sum(np.sum(line > 1) for line in lines) / sum(np.sum(line > 0) for line in lines)


def test_habits_are_within_their_ranges_and_differ():
    varied = VariedTurns()
    rng = np.random.default_rng(0)
    drawn = [varied.draw(rng) for _ in range(200)]
    medians = [habits.turn_lengths[49] for habits, _ in drawn]
    assert varied.turn_length[0] <= min(medians) < 1.2
    assert 4.5 < max(medians) <= varied.turn_length[1]
    overlapping = [np.mean(np.array(habits.gaps) < 0) for habits, _ in drawn]
    assert min(overlapping) < 0.1
    assert max(overlapping) > 0.9
    for habits, silences in drawn:
        for table in (habits.turn_lengths, habits.pauses, habits.gaps, habits.backchannel_lengths, habits.shares):
            assert len(table) == 99
            assert list(table) == sorted(table)
            assert np.all(np.isfinite(table))
        assert min(habits.pauses) >= 0.3
        assert 1 <= len(silences) <= 4
        assert 0 <= sum(silences) <= 0.85
    assert np.mean([sum(silences) > 0.4 for _, silences in drawn]) == pytest.approx(varied.mostly_silent, abs=0.05)


@pytest.mark.parametrize("part", [0.0, 0.2, 0.35])
def test_as_much_silence_as_drawn(people, part):
    varied = VariedTurns(silence=(part, part), mostly_silent=0.0, gap_length=(0.01, 0.01), overlapping=(0.5, 0.5))
    lines = [timeline(make(people, seed, varied), 20.0) for seed in range(8)]
    assert all(np.mean(line == 0) >= part - 0.002 for line in lines)
    assert np.mean([np.mean(line == 0) for line in lines]) < part + 0.25  # pauses and the end come on top


def test_one_silence_is_in_one_piece(people):
    varied = VariedTurns(silence=(0.3, 0.3), mostly_silent=0.0, one_silence=1.0)
    for seed in range(6):
        silent = np.concatenate([[0], timeline(make(people, seed, varied), 20.0) == 0, [0]]).astype(int)
        edges = np.flatnonzero(np.diff(silent))
        assert (edges[1::2] - edges[::2]).max() >= 598


def test_whole_windows_may_be_silent(people):
    line = timeline(make(people, 0, VariedTurns(mostly_silent=1.0, one_silence=1.0), count=1), 20.0)
    assert np.convolve(line == 0, np.ones(800), "valid").max() == 800


def test_overlap_goes_from_none_to_much(people):
    wide = VariedTurns(silence=(0.0, 0.0), mostly_silent=0.0)
    none = replace(wide, overlapping=(0.0, 0.0), backchannels=(0.0, 0.0))
    much = replace(wide, overlapping=(0.9, 0.9), overlap_length=(3.0, 3.0), turn_length=(4.0, 4.0))
    assert overlap(people, none) == 0.0
    assert overlap(people, much) > 0.2


def test_everybody_is_heard_in_short_conversations(people):
    for seed in range(10):
        made = make(people, seed, VariedTurns(), duration=12.0, count=4)
        assert set(made.reference.labels) == set("ABCD")


def test_a_duration_too_short_is_refused(people):
    with pytest.raises(InputError, match=r"3 speakers can't all be heard for 1\.5 s"):
        make(people, 0, VariedTurns(), duration=2.0)


def test_ranges_have_a_digest():
    assert VariedTurns().digest == VariedTurns().digest != VariedTurns(silence=(0.0, 0.1)).digest
    assert "fitted on no corpus" in VariedTurns().source
