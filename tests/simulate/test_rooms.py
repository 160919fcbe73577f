"""Rooms: what a microphone hears of a source follows from size, reverberation and distance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diarbench.simulate import Room
from diarbench.simulate.rooms import direct_to_reverberant, distance_to, draw_room, impulse_response, place

RATE = 16000
ROOM = Room(size=(6.0, 5.0, 2.7), reverberation=(0.5, 0.5, 0.5), microphone=(3.2, 2.3, 1.0))


def decay_time(response: np.ndarray) -> float:
    """60 dB, from the slope between -5 and -25 dB of the energy that is still to come (M. R. Schroeder, 1965)."""
    left = np.cumsum(response[::-1].astype(float) ** 2)[::-1]
    level = 10 * np.log10(left / left[0])
    first, last = np.argmax(level < -5), np.argmax(level < -25)
    return 60 / 20 * (last - first) / RATE


def reflected(response: np.ndarray) -> float:
    """Energy of all but the direct sound."""
    return float(np.sum(response[1:].astype(float) ** 2))


def test_the_direct_sound_comes_first_and_is_one():
    response = impulse_response(ROOM, (1.5, 1.2, 1.4), np.random.default_rng(0))
    # The band filters' rise, some thousandths, reaches back to it.
    assert response[0] == pytest.approx(1.0, abs=0.03)
    assert len(response) == 8000
    assert np.all(np.isfinite(response))


@pytest.mark.parametrize("time", [0.25, 0.5, 0.8])
def test_it_dies_away_in_the_reverberation_time(time):
    room = replace(ROOM, reverberation=(time,) * 3)
    times = [decay_time(impulse_response(room, (1.5, 1.2, 1.4), np.random.default_rng(s))[1:]) for s in range(8)]
    assert np.mean(times) == pytest.approx(time, rel=0.12)


def test_high_frequencies_die_away_sooner():
    room = replace(ROOM, reverberation=(0.6, 0.6, 0.2))
    spectrum = np.abs(np.fft.rfft(impulse_response(room, (1.5, 1.2, 1.4), np.random.default_rng(0))[3200:6400])) ** 2
    frequencies = np.fft.rfftfreq(3200, 1 / RATE)
    low, high = (spectrum[(frequencies > a) & (frequencies < b)].mean() for a, b in ((1000, 2000), (5000, 7500)))
    assert high < low / 1000


def test_the_critical_distance_is_that_of_the_textbook():
    assert ROOM.critical_distance == pytest.approx(0.057 * np.sqrt(81 / 0.5), rel=0.01)


def test_at_the_critical_distance_direct_and_reflected_sound_are_about_equal():
    rng = np.random.default_rng(3)
    ratios = [
        10 * np.log10(reflected(impulse_response(ROOM, place(ROOM, ROOM.critical_distance, rng), rng)))
        for _ in range(30)
    ]
    assert np.mean(ratios) == pytest.approx(0.0, abs=1.5)


def test_twice_as_far_is_six_decibels_more_reverberant():
    rng = np.random.default_rng(4)
    near, far = (
        np.mean([10 * np.log10(reflected(impulse_response(ROOM, place(ROOM, d, rng), rng))) for _ in range(30)])
        for d in (0.8, 1.6)
    )
    assert far - near == pytest.approx(6.0, abs=1.0)


def test_who_faces_the_microphone_is_less_reverberant():
    around, facing = (
        impulse_response(ROOM, (1.5, 1.2, 1.4), np.random.default_rng(0), directivity=d) for d in (1.0, 4.0)
    )
    np.testing.assert_allclose(facing[1:], around[1:] / 2, atol=1e-6)
    assert direct_to_reverberant(facing) > direct_to_reverberant(around) + 3


def test_early_reflections_are_where_images_are():
    # The floor's image of a source as high as the microphone, 1 m above the floor: the square root of 2² + 2² m.
    room = Room((8.0, 8.0, 3.0), (0.5, 0.5, 0.5), (3.0, 4.0, 1.0))
    later = (np.sqrt(8.0) - 2.0) / 343.0 * RATE
    hits = [
        np.max(
            np.abs(impulse_response(room, (5.0, 4.0, 1.0), np.random.default_rng(s))[int(later) - 5 : int(later) + 7])
        )
        for s in range(5)
    ]
    assert min(hits) > 0.3


@pytest.mark.parametrize("distance", [0.1, 0.5, 1.0, 2.0])
def test_people_sit_at_their_distance_inside_of_the_walls(distance):
    rng = np.random.default_rng(0)
    for _ in range(20):
        room = draw_room(rng, floor=(5.0, 9.0), reverberation=(0.2, 0.7))
        spot = place(room, distance, rng)
        assert 0.05 <= distance_to(room, spot) <= distance + 1e-9
        assert all(0.4 - 1e-9 <= at <= side - 0.4 + 1e-9 for at, side in zip(spot[:2], room.size, strict=False))
        assert 0.6 <= spot[2] < room.size[2]
        if distance <= 1.0:
            assert distance_to(room, spot) == pytest.approx(distance, abs=0.02)


def test_drawn_rooms_keep_to_their_ranges():
    rng = np.random.default_rng(0)
    for _ in range(50):
        room = draw_room(rng, floor=(3.5, 9.0), reverberation=(0.2, 0.7))
        length, width, height = room.size
        assert 3.5 <= length <= 9.0
        assert 0.67 * length <= width <= length
        assert 2.4 <= height <= 3.2
        low, middle, high = room.reverberation
        assert 0.2 <= middle <= 0.7
        assert high < middle < low * 1.2


def test_the_same_generator_gives_the_same_response():
    one, again, other = (impulse_response(ROOM, (1.5, 1.2, 1.4), np.random.default_rng(s)) for s in (1, 1, 2))
    assert one.tobytes() == again.tobytes() != other.tobytes()
