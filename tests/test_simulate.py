"""Simulated conversations: exact references, the same every time, and as people talk."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from diarbench.audio import decode
from diarbench.errors import AudioError, InputError, MissingRequirementError, StoreError
from diarbench.registry import shipped
from diarbench.rttm import read_rttm, read_uem
from diarbench.simulate import (
    VOICES,
    Acoustics,
    Utterance,
    fit_turn_statistics,
    read_sentences,
    read_turn_statistics,
    shipped_statistics,
    simulate_conversation,
    simulate_dataset,
    speech_islands,
    synthesise_voices,
    write_turn_statistics,
)
from diarbench.simulate.dataset import whole_or_absent
from diarbench.simulate.encode import write_audio
from diarbench.simulate.speech import find_speech
from diarbench.simulate.statistics import draw, merge_own_turns
from diarbench.types import Recording, Turns

RATE = 16000
DRY = Acoustics(noise_snr=None, level_spread=0.0)
STATISTICS = shipped_statistics()


def bursts(*spans: tuple[float, float], length: float, seed: int = 0, level: float = 0.1) -> np.ndarray:
    """Noise in some spans (s) of digital silence."""
    rng = np.random.default_rng(seed)
    signal = np.zeros(round(length * RATE), dtype=np.float32)
    for start, end in spans:
        count = round(end * RATE) - round(start * RATE)
        signal[round(start * RATE) : round(start * RATE) + count] = level * rng.standard_normal(count)
    return signal


def voice(name: str, seed: int, utterances: int = 12) -> list[Utterance]:
    """Utterances of one to four bursts of 0.2 to 3 s, 0.05 to 0.9 s apart."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(utterances):
        at, spans = 0.2, []
        for _ in range(rng.integers(1, 5)):
            spans.append((at, at + rng.uniform(0.2, 3.0)))
            at = spans[-1][1] + rng.uniform(0.05, 0.9)
        made.append(Utterance.of(f"{name}/{number}", bursts(*spans, length=at, seed=seed * 100 + number)))
    return made


SPEAKERS = {name: voice(name, seed) for seed, name in enumerate("ABCD")}


def of(count: int) -> dict[str, list[Utterance]]:
    return {name: SPEAKERS[name] for name in list(SPEAKERS)[:count]}


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Single-speaker files: four speakers, six utterances each, in sub-folders."""
    folder = tmp_path_factory.mktemp("speech")
    for name, utterances in SPEAKERS.items():
        (folder / name).mkdir()
        for utterance in utterances[:6]:
            soundfile.write(folder / f"{utterance.id}.flac", utterance.samples, RATE)
    return folder


# Turn statistics


def test_statistics_of_a_conversation_worked_out_by_hand():
    # A ██████████      one backchannel (B 2-3), one overlap of 1 s (B from 9), one pause of 2 s, one gap of 0.5 s
    # B   █      ███  ██
    #                    A ██
    reference = Turns.of([(0, 10, "A"), (2, 3, "B"), (9, 12, "B"), (14, 16, "B"), (16.5, 18.5, "A")])
    fitted = fit_turn_statistics([reference, reference])
    assert (fitted.recordings, fitted.turns) == (2, 10)
    assert fitted.same_speaker == pytest.approx(1 / 3, abs=1e-4)
    assert fitted.backchannels_per_second == pytest.approx(1 / 17, abs=1e-4)
    assert set(fitted.pauses) == {2.0}
    assert set(fitted.backchannel_lengths) == {1.0}
    assert (fitted.gaps[0], fitted.gaps[-1]) == (-1.0, 0.5)
    assert (fitted.turn_lengths[0], fitted.turn_lengths[-1]) == (2.0, 10.0)
    assert (fitted.shares[0], fitted.shares[-1]) == pytest.approx((2 * 6 / 18, 2 * 12 / 18), abs=1e-3)


def test_own_turns_that_touch_are_one():
    rows = merge_own_turns(Turns.of([(0, 1, "A"), (0.5, 2, "B"), (1, 3, "A"), (3.2, 4, "A")]))
    assert rows == [(0, 3, "A"), (0.5, 2, "B"), (3.2, 4, "A")]
    assert len(merge_own_turns(Turns.of([(0, 1, "A"), (1.2, 2, "A")]), within=0.3)) == 1


def test_references_without_overlap_can_not_be_fitted():
    with pytest.raises(InputError, match="0 backchannels; at least one of each"):
        fit_turn_statistics([Turns.of([(0, 1, "A"), (2, 3, "A"), (4, 5, "B")])])


def test_statistics_are_read_as_written(tmp_path: Path):
    write_turn_statistics(STATISTICS, tmp_path / "s.json")
    assert read_turn_statistics(tmp_path / "s.json") == STATISTICS
    assert read_turn_statistics(tmp_path / "s.json").digest == STATISTICS.digest
    assert dataclasses.replace(STATISTICS, same_speaker=0.3).digest != STATISTICS.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "no turn statistics of format 1"),
        ({"gaps": [1.0] * 98}, "'gaps' must be 99 rising numbers"),
        ({"gaps": [2.0, *[1.0] * 98]}, "'gaps' must be 99 rising numbers"),
        ({"gaps": [None] * 99}, "'gaps' must be 99 rising numbers"),
        ({"turn_lengths": [-1.0, *[1.0] * 98]}, "'turn_lengths' holds a value below 0"),
        ({"same_speaker": 1.5}, "'same_speaker' is 1.5"),
        ({"backchannels_per_second": "x"}, "'backchannels_per_second' is 'x'"),
        ({"pauses": ...}, "the key 'pauses' is missing"),
    ],
)
def test_wrong_statistics_are_refused(tmp_path: Path, change: dict, message: str):
    path = tmp_path / "s.json"
    write_turn_statistics(STATISTICS, path)
    content = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
    with pytest.raises(InputError, match=message):
        read_turn_statistics(path)


def test_a_file_that_is_no_statistics_is_refused(tmp_path: Path):
    (tmp_path / "s.json").write_text("SPEAKER")
    with pytest.raises(InputError, match="not a JSON file"):
        read_turn_statistics(tmp_path / "s.json")
    with pytest.raises(InputError, match="can't be read"):
        read_turn_statistics(tmp_path / "none.json")


def test_draws_follow_the_table():
    rng = np.random.default_rng(0)
    values = [draw(STATISTICS.gaps, rng) for _ in range(20000)]
    assert STATISTICS.gaps[0] <= min(values) <= max(values) <= STATISTICS.gaps[-1]
    assert np.median(values) == pytest.approx(STATISTICS.gaps[49], abs=0.03)


# Where speech is


def test_islands_are_where_the_bursts_are():
    signal = bursts((0.5, 1.0), (1.1, 1.5), (2.0, 3.0), length=4.0)
    islands = np.ravel(speech_islands(signal)) / RATE
    # With 25 ms of margin; frames of 25 ms see a little more.
    assert islands == pytest.approx([0.475, 1.025, 1.075, 1.525, 1.975, 3.025], abs=0.015)
    # Phrases bridge 0.1 s, but not 0.5 s.
    assert np.ravel(Utterance.of("x", signal).phrases) / RATE == pytest.approx(islands[[0, 3, 4, 5]])


@given(start=st.floats(0.3, 2.0), length=st.floats(0.2, 3.0), decibels=st.floats(-40, 0), snr=st.floats(25, 60))
@settings(max_examples=40, deadline=None)
def test_an_island_is_found_at_any_level_and_in_noise(start: float, length: float, decibels: float, snr: float):
    level = 0.3 * 10 ** (decibels / 20)
    signal = bursts((start, start + length), length=start + length + 1.0, level=level)
    signal += level * 10 ** (-snr / 20) * np.random.default_rng(1).standard_normal(len(signal)).astype(np.float32)
    [(first, stop)] = speech_islands(signal)
    assert (first / RATE, stop / RATE) == pytest.approx((start - 0.025, start + length + 0.025), abs=0.02)


@pytest.mark.parametrize("signal", [np.zeros(0), np.zeros(RATE), np.full(100, 0.1), np.full(RATE, 1e-6)])
def test_silence_and_scraps_hold_no_speech(signal: np.ndarray):
    assert speech_islands(signal.astype(np.float32)) == []
    assert Utterance.of("x", signal.astype(np.float32)).speech == 0


def test_speakers_are_sub_folders_or_first_parts_of_names(tmp_path: Path):
    for name in ("7-a-1.flac", "7-a-2.flac", "12/x/12-b.wav", "12/y.ogg", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = {name: [path.name for path in paths] for name, paths in find_speech(tmp_path).items()}
    assert found == {"12": ["12-b.wav", "y.ogg"], "7": ["7-a-1.flac", "7-a-2.flac"]}


# One conversation


@given(seed=st.integers(0, 2**32), count=st.integers(1, 4), duration=st.floats(30, 90))
@settings(max_examples=25, deadline=None)
def test_the_reference_is_exact(seed: int, count: int, duration: float):
    made = simulate_conversation(of(count), duration, STATISTICS, np.random.default_rng(seed), acoustics=DRY)
    assert len(made.samples) == round(duration * RATE)
    assert set(made.stems) == set(of(count)) == set(made.reference.labels)
    for name, stem in made.stems.items():
        turns = [turn for turn in made.reference if turn.speaker == name]
        spans = [(round(turn.start * RATE), round(turn.end * RATE)) for turn in turns]
        # Exact to the sample: nothing sounds outside a turn, and nothing inside is silent for long. Between
        # the edge of a turn and what sounds lie a margin of 25 ms, half a frame (12 ms) and a rise of 5 ms.
        inside = np.zeros(len(stem), dtype=bool)
        for start, stop in spans:
            inside[start:stop] = True
            sounding = np.flatnonzero(np.abs(stem[start:stop]) > 1e-4)
            assert sounding[0] <= 0.05 * RATE
            assert stop - start - sounding[-1] <= 0.05 * RATE
            # Bridged: less than 0.3 s, and the margins at both sides of it.
            assert np.diff(sounding).max() < (0.3 + 0.09) * RATE
        assert not stem[~inside].any()
        # Nobody overlaps himself, and what is less than 0.3 s apart is one turn.
        assert all(later[0] - earlier[1] >= 0.3 * RATE for earlier, later in itertools.pairwise(spans))
        assert sum(turn.end - turn.start for turn in turns) >= 1.4
    assert made.reference.starts[0] >= 0
    assert made.reference.ends.max() <= duration
    np.testing.assert_allclose(sum(made.stems.values()), made.samples, atol=1e-6)


def test_what_is_heard_is_what_was_said():
    # Each utterance is one long ramp, so that a sample tells where in its utterance it comes from.
    ramp = np.linspace(0.1, 0.2, 20 * RATE, dtype=np.float32)
    speech = {name: [Utterance.of(name, np.where(np.arange(len(ramp)) % 2, ramp, -ramp))] for name in "AB"}
    made = simulate_conversation(speech, 30.0, STATISTICS, np.random.default_rng(3), acoustics=DRY)
    scale = float(np.float32(speech["A"][0].gain))
    for turn in made.reference:
        start, stop = round(turn.start * RATE) + 80, round(turn.end * RATE) - 80
        position = np.abs(made.stems[turn.speaker][start:stop]) / scale
        steps = np.diff(position[position > 0.05])
        # One sample further from one to the next, but where a piece ends (and another begins within 0.3 s).
        assert np.median(steps) == pytest.approx(0.1 / len(ramp), rel=0.2)


def test_speech_is_used_once_and_repeats_are_counted():
    short = {name: voice(name, seed, utterances=1) for seed, name in enumerate("AB")}
    made = simulate_conversation(short, 60.0, STATISTICS, np.random.default_rng(0), acoustics=DRY)
    assert min(made.repeats.values()) >= 1
    rich = {name: voice(name, seed, utterances=60) for seed, name in enumerate("AB")}
    made = simulate_conversation(rich, 60.0, STATISTICS, np.random.default_rng(0), acoustics=DRY)
    assert set(made.repeats.values()) == {0}
    for name, stem in made.stems.items():
        # Noise correlates with itself only: a stretch heard twice would show as a second peak.
        spectrum = np.fft.rfft(stem, 1 << 21)
        lags = np.fft.irfft(np.abs(spectrum) ** 2)[: len(stem)] / np.sum(stem.astype(np.float64) ** 2)
        assert np.abs(lags[100:]).max() < 0.02, name
        assert set(made.sources[name]) <= {utterance.id for utterance in rich[name]}


def test_the_same_seed_makes_the_same_conversation():
    def make(seed: int):
        return simulate_conversation(of(3), 30.0, STATISTICS, np.random.default_rng(seed))

    one, again, other = make(5), make(5), make(6)
    np.testing.assert_array_equal(one.samples, again.samples)
    assert one.reference == again.reference != other.reference


def test_nobody_is_left_out_and_impossible_requests_are_refused():
    with pytest.raises(InputError, match=r"in 2 s, 4 speakers can't all be heard"):
        simulate_conversation(of(4), 2.0, STATISTICS, np.random.default_rng(0))
    with pytest.raises(InputError, match="speaker Z: no speech"):
        simulate_conversation(of(1) | {"Z": []}, 30.0, STATISTICS, np.random.default_rng(0))
    with pytest.raises(InputError, match="at least one speaker"):
        simulate_conversation({}, 30.0, STATISTICS, np.random.default_rng(0))


def test_noise_and_levels_are_as_asked():
    made = simulate_conversation(
        of(2), 60.0, STATISTICS, np.random.default_rng(1), acoustics=Acoustics(level_spread=0.0, noise_snr=(20.0, 20.0))
    )
    speech = sum(made.stems.values())
    noise = made.samples - speech
    measured = 10 * np.log10(np.mean(speech[speech != 0] ** 2) / np.mean(noise**2))
    assert measured == pytest.approx(20.0, abs=0.1)
    assert np.abs(made.samples).max() <= 0.951
    # Pink: as much power from 100 to 200 Hz as from 1000 to 2000 Hz.
    power = np.abs(np.fft.rfft(noise)) ** 2
    low, high = (power[round(f * 60) : round(2 * f * 60)].sum() for f in (100, 1000))
    assert low / high == pytest.approx(1.0, abs=0.2)


def test_a_room_adds_a_tail_and_leaves_the_reference():
    def make(acoustics: Acoustics):
        return simulate_conversation(of(2), 40.0, STATISTICS, np.random.default_rng(1), acoustics=acoustics)

    dry, wet = make(DRY), make(dataclasses.replace(DRY, reverberation=(0.4, 0.4), direct_to_reverberant=5.0))
    assert wet.reference == dry.reference
    tail = wet.samples - sum(wet.stems.values())
    ratio = 10 * np.log10(np.sum(np.square(sum(wet.stems.values()))) / np.sum(tail**2))
    assert ratio == pytest.approx(5.0, abs=1.0)
    # It dies away by 60 dB in 0.4 s after the last turn.
    last = round(wet.reference.ends.max() * RATE)
    assert np.abs(tail[last + round(0.45 * RATE) :]).max(initial=0.0) < 1e-3 * np.abs(tail).max()


def test_people_talk_as_in_the_meetings_the_figures_come_from():
    references = [
        simulate_conversation(of(4), 120.0, STATISTICS, np.random.default_rng(seed), acoustics=DRY).reference
        for seed in range(30)
    ]
    # AMI's references hardly part a speaker's speech at pauses below 0.7 s, ours do at 0.3 s.
    made = fit_turn_statistics([Turns.of(merge_own_turns(reference, within=0.7)) for reference in references])
    assert made.gaps[49] == pytest.approx(STATISTICS.gaps[49], abs=0.25)
    assert made.gaps[9] == pytest.approx(STATISTICS.gaps[9], abs=0.7)
    assert made.backchannel_lengths[49] == pytest.approx(STATISTICS.backchannel_lengths[49], abs=0.3)
    assert made.same_speaker == pytest.approx(STATISTICS.same_speaker, abs=0.08)
    assert made.turn_lengths[49] == pytest.approx(STATISTICS.turn_lengths[49], rel=0.5)


# A dataset


def make_dataset(speech: Path, out: Path, **changes: object):
    options: dict = {
        "conversations": 3, "duration": 25.0, "speakers": (2, 3), "seed": 0, "statistics": STATISTICS,
    }  # fmt: skip
    return simulate_dataset(speech, out, **(options | changes))


def test_a_dataset_is_what_it_says(speech: Path, tmp_path: Path):
    calls = []
    made = make_dataset(speech, tmp_path / "new" / "set", on_progress=lambda done, total: calls.append((done, total)))
    folder = tmp_path / "new" / "set"
    assert calls == [(1, 3), (2, 3), (3, 3)]
    ids = ["conversation01", "conversation02", "conversation03"]
    assert sorted(path.name for path in (folder / "audio").iterdir()) == [f"{name}.flac" for name in ids]
    references = read_rttm(folder / "reference.rttm")
    assert list(references) == ids
    assert [len(turns.labels) for turns in references.values()] == [2, 3, 2]
    assert read_uem(folder / "evaluation.uem") == dict.fromkeys(ids, ((0.0, 25.0),))
    for name in ids:
        assert soundfile.info(folder / "audio" / f"{name}.flac").duration == 25.0
        np.testing.assert_allclose(references[name].starts, made.references[name].starts, atol=0.0005 + 1e-9)
    assert 0 < made.overlap < made.speech < 75
    description = json.loads((folder / "simulation.json").read_text())
    assert (description["format"], description["seed"], description["speakers"]) == (1, 0, [2, 3])
    assert description["statistics"]["sha256"] == STATISTICS.digest
    heard = {
        path for recording in description["recordings"].values() for s in recording.values() for path in s["sources"]
    }
    assert heard == set(description["sources"])
    assert all((speech / path).is_file() for path in heard)
    assert list(folder.parent.iterdir()) == [folder]


def test_a_dataset_made_again_is_the_same_bytes(speech: Path, tmp_path: Path):
    for name, conversations in (("one", 3), ("again", 3), ("fewer", 2)):
        make_dataset(speech, tmp_path / name, conversations=conversations)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 6
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "again" / path).read_bytes()
    for path in sorted((tmp_path / "fewer" / "audio").iterdir()):
        assert path.read_bytes() == (tmp_path / "one" / "audio" / path.name).read_bytes()


def test_opus_made_again_is_the_same_bytes(speech: Path, tmp_path: Path):
    for name in ("one", "again"):
        make_dataset(speech, tmp_path / name, conversations=1, duration=15.0, audio_format="opus")
    one, again = (tmp_path / name / "audio" / "conversation01.opus" for name in ("one", "again"))
    assert one.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speakers": (2, 5)}, r"holds 4 speakers \(A, B, C, D\); 5 were asked for"),
        ({"speakers": (3, 2)}, "no conversation has from 3 to 2 speakers"),
        ({"speakers": (0, 2)}, "no conversation has from 0 to 2 speakers"),
        ({"conversations": 0}, "0 conversations can't be made"),
        ({"duration": 0.0}, "can't last 0 s"),
        ({"duration": float("nan")}, "can't last nan s"),
        ({"seed": -1}, "the seed -1 is negative"),
        ({"prefix": "../x"}, "recording id '../x01' can't be used"),
        ({"duration": 1.0}, "can't all be heard"),
    ],
)
def test_impossible_datasets_are_refused_and_leave_nothing(speech: Path, tmp_path: Path, changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        make_dataset(speech, tmp_path / "set", **changes)
    assert list(tmp_path.iterdir()) == []


def test_wrong_folders_of_speech_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no such folder of speech"):
        make_dataset(tmp_path / "none", tmp_path / "set")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no audio"):
        make_dataset(tmp_path / "empty", tmp_path / "set")
    (tmp_path / "silent").mkdir()
    for name in "AB":
        soundfile.write(tmp_path / "silent" / f"{name}-1.flac", np.zeros(RATE), RATE)
    with pytest.raises(InputError, match="speaker A: no speech was found"):
        make_dataset(tmp_path / "silent", tmp_path / "set", speakers=(2, 2))
    (tmp_path / "empty" / "A-1.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError, match=r"A-1\.wav: can't be read as audio"):
        make_dataset(tmp_path / "empty", tmp_path / "set", speakers=(1, 1))
    assert not (tmp_path / "set").exists()


def test_what_exists_is_not_touched(speech: Path, tmp_path: Path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="exists already; name a new folder"):
        make_dataset(speech, tmp_path / "set")
    assert (tmp_path / "set" / "mine.txt").read_text() == "keep"


def test_a_full_disk_leaves_nothing(tmp_path: Path):
    def fill():
        with whole_or_absent(tmp_path / "set") as folder:
            (folder / "half.txt").write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left on device; nothing was kept"):
        fill()
    assert list(tmp_path.iterdir()) == []


# Encoding


def test_opus_neither_shifts_nor_shortens(tmp_path: Path):
    signal = bursts((1.0, 3.0), (5.5, 6.0), (60.0, 69.0), length=70.25)
    signal = np.convolve(signal, np.hanning(9) / 4.5, mode="same").astype(np.float32)
    write_audio(tmp_path / "x.opus", signal, serial=7)
    heard = decode(Recording("x", tmp_path / "x.opus", 0.0, RATE)).mono()
    assert len(heard) == len(signal)
    lags = np.fft.irfft(np.fft.rfft(heard, 1 << 21) * np.conj(np.fft.rfft(signal, 1 << 21)))
    assert int(lags.argmax()) == 0


def test_an_opus_file_has_the_serial_it_was_given(tmp_path: Path):
    signal = bursts((0.0, 2.0), length=2.0)
    contents = []
    for name, serial in (("a", 7), ("b", 7), ("c", 8)):
        write_audio(tmp_path / f"{name}.opus", signal, serial=serial)
        contents.append((tmp_path / f"{name}.opus").read_bytes())
    assert contents[0] == contents[1] != contents[2]
    assert contents[0][14:18] == b"\x07\0\0\0"
    # Ogg readers drop pages whose checksum is wrong, so all that was written must come back.
    for name in "abc":
        assert len(soundfile.read(tmp_path / f"{name}.opus")[0]) == len(signal)


def test_flac_keeps_16_bits(tmp_path: Path):
    signal = bursts((0.5, 3.0), length=4.0)
    write_audio(tmp_path / "x.flac", signal, serial=0)
    np.testing.assert_allclose(soundfile.read(tmp_path / "x.flac")[0], signal, atol=1.01 / 32768)


# Voices


def test_without_espeak_the_way_to_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingRequirementError, match="apt install espeak-ng"):
        synthesise_voices(tmp_path / "out", sentences=["Yes."], seed=0, per_voice=1)
    assert list(tmp_path.iterdir()) == []


def stand_in(folder: Path, script: str) -> None:
    program = folder / "espeak-ng"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_an_espeak_without_our_voices_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stand_in(tmp_path, "echo ' 5  variant --/F  female1  !v/f1'")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(MissingRequirementError, match="has no voice variant quincy, anika"):
        synthesise_voices(tmp_path / "out", sentences=["Yes."], seed=0, per_voice=1)


def test_an_espeak_that_fails_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stand_in(
        tmp_path,
        'case "$1" in --voices*) echo "!v/f1" ;; --version) echo "1.51" ;; *) echo "no sound" >&2; exit 1 ;; esac',
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(MissingRequirementError, match=r"espeak-ng failed for voice en-us\+f1: no sound"):
        synthesise_voices(tmp_path / "out", sentences=["Yes."], seed=0, per_voice=1, voices=VOICES[:1])
    assert not (tmp_path / "out").exists()


def test_voices_speak_and_are_the_same_again(tmp_path: Path):
    import shutil

    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    sentences = read_sentences(shipped() / "datasets" / "voices" / "sentences.txt")
    for name in ("one", "again"):
        origin = synthesise_voices(tmp_path / name, sentences=sentences, seed=1, per_voice=3, voices=VOICES[:2])
    assert "eSpeak NG" in origin
    assert "2 voices, 3 utterances each out of 100 sentences" in origin
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.flac"))
    assert len(files) == 6
    assert {path.parts[0] for path in files} == {"f1", "quincy"}
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "again" / path).read_bytes()
        samples, rate = soundfile.read(tmp_path / "one" / path, dtype="float32")
        assert rate == RATE
        assert Utterance.of("x", samples).speech > 0.2 * RATE


# What ships


def test_the_shipped_conversations_are_whole_and_exact():
    folder = shipped() / "datasets" / "voices"
    references, uem = read_rttm(folder / "reference.rttm"), read_uem(folder / "evaluation.uem")
    description = json.loads((folder / "simulation.json").read_text())
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 8_000_000
    assert list(references) == list(uem) == list(description["recordings"])
    assert [len(turns.labels) for turns in references.values()] == [2, 3, 4] * 4
    assert description["statistics"]["sha256"] == STATISTICS.digest
    assert description["origin"].startswith("synthetic: eSpeak NG")
    for name, turns in references.items():
        signal = decode(Recording(name, folder / "audio" / f"{name}.opus", 0.0, RATE)).mono()
        assert len(signal) == 120 * RATE
        speaking = np.zeros(len(signal), dtype=bool)
        for turn in turns:
            speaking[round(turn.start * RATE) : round(turn.end * RATE)] = True
        # Outside turns there is only the noise floor, 25 dB or more below the speech, and no digital silence.
        outside, inside = np.mean(signal[~speaking] ** 2), np.mean(signal[speaking] ** 2)
        assert 1e-9 < outside < inside * 10 ** (-24 / 10), name


def test_the_sentences_are_many_and_of_all_lengths():
    sentences = read_sentences(shipped() / "datasets" / "voices" / "sentences.txt")
    words = [len(sentence.split()) for sentence in sentences]
    assert len(set(sentences)) == len(sentences) >= 80
    assert sum(count <= 3 for count in words) >= 12
    assert sum(count >= 18 for count in words) >= 12
