"""Scenes: recordings sound as drawn, and references stay exact in them."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from diarbench.errors import InputError
from diarbench.simulate import (
    PRESETS,
    Acoustics,
    Mixture,
    Scene,
    VariedTurns,
    preset,
    shipped_statistics,
    simulate_conversation,
)

RATE = 16000
QUIET = {"events": (0.0, 0.0), "babble": 0.0, "telephone": 0.0, "mute": 0.0, "hum": 0.0}
CLEAN = replace(PRESETS["far"], **QUIET, snr=(120.0, 120.0), level=(-30.0, -30.0))


def conversation(people, seed=0, acoustics=CLEAN, count=3, duration=12.0, statistics=None, voices=None):
    chosen = {name: people[name] for name in list(people)[:count]}
    rng = np.random.default_rng(seed)
    turns = statistics or VariedTurns()
    return simulate_conversation(chosen, duration, turns, rng, acoustics=acoustics, voices=voices)


def decibels(samples):
    return 10 * np.log10(np.mean(samples.astype(float) ** 2) + 1e-30)


def speaking(made):
    return np.any([stem != 0 for stem in made.stems.values()], axis=0)


@pytest.mark.parametrize("name", PRESETS)
def test_the_same_seed_gives_the_same_recording(people, name):
    one, again, other = (
        conversation(people, seed, PRESETS[name], voices=lambda n, rng: [people["D"][0].samples] * n)
        for seed in (1, 1, 2)
    )
    assert one.samples.tobytes() == again.samples.tobytes()
    assert one.reference == again.reference
    assert one.heard == again.heard
    assert one.samples.tobytes() != other.samples.tobytes()


def test_dry_is_what_nothing_said_means(people):
    statistics = shipped_statistics()
    said, unsaid = (conversation(people, 3, a, duration=30.0, statistics=statistics) for a in (preset("dry"), None))
    assert said.samples.tobytes() == unsaid.samples.tobytes()
    assert said.heard is None
    assert preset("dry") == Acoustics()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["near", "far"])
def test_the_direct_sound_is_where_the_reference_says(people, name, seed):
    scene = replace(PRESETS[name], **QUIET, snr=(120.0, 120.0))
    made = conversation(people, seed, scene)
    size = 2**19
    cross = np.fft.rfft(made.samples, size) * np.conj(np.fft.rfft(sum(made.stems.values()), size))
    # Whitened, the correlation is a peak per reflection; the direct sound's is at no delay.
    correlation = np.fft.irfft(cross / (np.abs(cross) + 1e-12), size)
    assert np.argmax(np.abs(correlation)) == 0


def test_nothing_is_heard_before_somebody_speaks_and_tails_are_not_labelled(people):
    for seed in range(4):
        made = conversation(people, seed)
        spoken = speaking(made)
        first, last = np.flatnonzero(spoken)[[0, -1]]
        # The microphone's response has no phase: what it does to the lowest frequencies reaches back a little.
        if first > 1600:
            assert decibels(made.samples[: first - 800]) < -75
        # Speech has margins of 25 ms, and here digital silence in them.
        assert 0 <= first - round(min(made.reference.starts) * RATE) <= 800
        assert 0 <= round(max(made.reference.ends) * RATE) - last <= 800
        if last + 1600 < len(made.samples):
            assert decibels(made.samples[last + 160 : last + 1600]) > -90


def test_stems_are_silent_outside_of_the_reference(people):
    made = conversation(people, 5)
    for name, stem in made.stems.items():
        inside = np.zeros(len(stem), dtype=bool)
        for start, end, speaker in made.reference:
            if speaker == name:
                inside[round(start * RATE) : round(end * RATE)] = True
        assert not stem[~inside].any()
        assert stem[inside].any()


@pytest.mark.parametrize("level", [-45.0, -25.0])
def test_speech_has_its_level(people, level):
    made = conversation(people, 1, replace(CLEAN, level=(level, level)))
    # Tails fall outside of what is speech, and are part of its energy.
    assert decibels(made.samples[speaking(made)]) == pytest.approx(level, abs=1.0)
    assert made.heard.level == level


@pytest.mark.parametrize("snr", [0.0, 20.0])
def test_noise_is_as_far_below_speech_as_drawn(people, snr):
    noisy = replace(CLEAN, snr=(snr, snr))
    with_noise, without = conversation(people, 2, noisy), conversation(people, 2)
    noise = with_noise.samples - without.samples
    speech = without.samples[speaking(without)]
    assert decibels(speech) - decibels(noise) == pytest.approx(snr, abs=1.0)
    assert abs(decibels(noise[: len(noise) // 2]) - decibels(noise[len(noise) // 2 :])) < 1.5  # it goes on throughout


def test_the_further_the_weaker_and_the_more_reverberant(people):
    scene = replace(CLEAN, effort=0.0, facing=(0.0, 0.0), reverberation=(0.4, 0.4), floor=(8.0, 8.0))
    ratios, strengths = [], []
    for seed in range(12):
        made = conversation(people, seed, scene)
        near, far = sorted(made.heard.distances, key=made.heard.distances.__getitem__)[:: len(made.stems) - 1]
        if made.heard.distances[far] < 1.5 * made.heard.distances[near]:
            continue
        ratios.append(made.heard.direct_to_reverberant[near] - made.heard.direct_to_reverberant[far])
        loud = [decibels(made.stems[name][made.stems[name] != 0]) for name in (near, far)]
        expected = 20 * np.log10(made.heard.distances[far] / made.heard.distances[near])
        strengths.append(loud[0] - loud[1] - expected)
    assert len(ratios) >= 4
    assert np.mean(ratios) > 3
    assert np.max(np.abs(strengths)) < 2.0  # what utterances' own levels differ by


@pytest.mark.parametrize("name", ["near", "far"])
def test_ranges_are_kept(people, name):
    scene = PRESETS[name]
    for seed in range(12):
        heard = conversation(people, seed, scene, duration=10.0).heard
        assert heard.scene == name
        for value, (least, most) in (
            (heard.room.reverberation[1], scene.reverberation),
            (heard.room.size[0], scene.floor),
            (heard.snr, scene.snr),
            (heard.slope, scene.slope),
            (heard.events, scene.events),
        ):
            assert least <= value <= most
        assert heard.level <= scene.level[1]
        assert all(0.05 <= at <= scene.distance[1] + 1e-9 for at in heard.distances.values())
        assert not heard.babble  # nobody was there to talk


def test_far_is_more_reverberant_than_near(people):
    ratios = {
        name: np.median(
            [r for s in range(6) for r in conversation(people, s, PRESETS[name]).heard.direct_to_reverberant.values()]
        )
        for name in ("near", "far")
    }
    assert ratios["near"] > 5 > 0 > ratios["far"]


def test_meeting_draws_near_and_far(people):
    scenes = [conversation(people, seed, preset("meeting"), duration=8.0).heard.scene for seed in range(24)]
    assert 1 <= scenes.count("near") <= 12
    assert set(scenes) == {"near", "far"}


def test_a_telephone_line_has_no_high_frequencies(people):
    plain, line = (conversation(people, 1, replace(CLEAN, telephone=p, high_cut=(8000.0, 8000.0))) for p in (0.0, 1.0))
    assert line.heard.telephone
    frequencies = np.fft.rfftfreq(len(line.samples), 1 / RATE)
    power = [np.abs(np.fft.rfft(made.samples)) ** 2 for made in (plain, line)]
    high = [p[frequencies > 4200].sum() / p[(frequencies > 500) & (frequencies < 3000)].sum() for p in power]
    assert high[1] < high[0] / 1000
    assert len(line.samples) == len(plain.samples)


def test_muted_silences_are_digital_zeros_and_nothing_else_is(people):
    silent = VariedTurns(silence=(0.3, 0.3), mostly_silent=0.0, one_silence=1.0)
    for seed in range(4):
        muted = conversation(people, seed, replace(CLEAN, mute=1.0, snr=(20.0, 20.0)), statistics=silent)
        heard = conversation(people, seed, replace(CLEAN, mute=0.0, snr=(20.0, 20.0)), statistics=silent)
        zeros = muted.samples == 0
        # 0.3 s of the silence are left for the reverberation.
        assert 0.2 * len(zeros) < zeros.sum() <= 0.3 * len(zeros)
        assert not (zeros & speaking(muted)).any()
        np.testing.assert_array_equal(muted.samples[~zeros], heard.samples[~zeros])
        assert muted.heard.muted
        assert not heard.heard.muted


def test_babble_is_heard_and_not_labelled(people):
    asked = []

    def voices(count, rng):
        asked.append(count)
        return [utterance.samples for utterance in people["D"][:count]]

    scene = replace(CLEAN, babble=1.0, babble_level=(-20.0, -20.0))
    made, without = conversation(people, 1, scene, voices=voices), conversation(people, 1, scene)
    assert 3 <= asked[0] <= 6
    assert made.heard.babble
    assert not without.heard.babble
    assert made.reference == without.reference
    assert decibels(made.samples) > decibels(without.samples) - 0.5
    quiet = ~speaking(made)
    assert decibels(made.samples[quiet]) > decibels(without.samples[quiet]) - 3


def test_recordings_fit_into_full_scale_and_are_numbers(people):
    loud = replace(PRESETS["near"], level=(0.0, 0.0), event_level=(20.0, 20.0), events=(30.0, 30.0), telephone=0.0)
    made = conversation(people, 1, loud)
    assert np.abs(made.samples).max() == pytest.approx(0.95, abs=1e-3)
    assert made.heard.level < 0.0
    for seed in range(16):
        samples = conversation(people, seed, preset("meeting"), count=1 + seed % 4, duration=8.0).samples
        assert np.all(np.isfinite(samples))
        assert np.abs(samples).max() <= 1.0
        assert samples.dtype == np.float32


def test_what_was_drawn_can_be_written_down(people):
    drawn = asdict(conversation(people, 1, preset("far")).heard)
    assert drawn["scene"] == "far"
    assert set(drawn["distances"]) == {"A", "B", "C"}


def test_names_and_weights_that_cannot_be():
    with pytest.raises(InputError, match=r"^there is no preset 'hall'; there are dry, headset, near, far, meeting$"):
        preset("hall")
    for weights in ((), (1.0,), (1.0, 0.0), (1.0, -1.0)):
        with pytest.raises(InputError, match=r"^2 scenes need as many weights above 0"):
            Mixture((Scene(), Scene()), weights)
