"""Datasets of simulated rooms: who takes part, at what speed, what is written down, and what cards say of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from diarbench.audio import decode
from diarbench.cards import DatasetCard, read_card
from diarbench.errors import CardError, InputError
from diarbench.loaders import load_dataset
from diarbench.registry import shipped
from diarbench.rttm import read_rttm
from diarbench.simulate import VariedTurns, preset, shipped_statistics, simulate_dataset
from diarbench.simulate.speech import read_utterance
from diarbench.types import Recording

SMALL = {"conversations": 3, "duration": 8.0, "speakers": (1, 2), "seed": 4}


def make(speech, out, **changed):
    given = {**SMALL, "statistics": VariedTurns(), "acoustics": preset("meeting"), **changed}
    return simulate_dataset(speech, out, **given)


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def test_the_same_bytes_each_time_however_many_are_made(speech, tmp_path):
    speed = (0.9, 1.1)
    first, again = (make(speech, tmp_path / name, speed=speed).folder for name in ("first", "again"))
    assert content(first) == content(again)
    more = make(speech, tmp_path / "more", speed=speed, conversations=4).folder
    for name in ("audio/conversation01.flac", "audio/conversation03.flac"):
        assert (more / name).read_bytes() == (first / name).read_bytes()


def test_what_was_drawn_is_written_down(speech, tmp_path):
    made = make(speech, tmp_path / "set", speed=(0.9, 1.1), without=["D"])
    written = json.loads((made.folder / "simulation.json").read_text())
    assert written["statistics"] == {"sha256": VariedTurns().digest, "source": VariedTurns().source}
    assert [scene["name"] for scene in written["acoustics"]["scenes"]] == ["near", "far"]
    assert written["speed"] == [0.9, 1.1]
    assert written["without"] == ["D"]
    assert "only" not in written
    assert set(written["heard"]) == set(made.references) == set(written["recordings"])
    for recording_id, people in written["recordings"].items():
        assert set(written["heard"][recording_id]["distances"]) == set(people)
        assert all(0.9 <= one["speed"] <= 1.1 for one in people.values())
        assert decode(Recording(recording_id, made.folder / "audio" / f"{recording_id}.flac", 8.0, 16000)).samples.any()
    # The file has milliseconds.
    stored = read_rttm(made.folder / "reference.rttm")
    for recording_id, turns in made.references.items():
        np.testing.assert_allclose(stored[recording_id].starts, turns.starts, atol=5e-4)


def test_plain_conversations_say_nothing_new(speech, tmp_path):
    made = make(speech, tmp_path / "set", statistics=shipped_statistics(), acoustics=None, speakers=(2, 2))
    written = json.loads((made.folder / "simulation.json").read_text())
    assert not {"heard", "only", "without", "speed"} & set(written)
    assert all("speed" not in one for people in written["recordings"].values() for one in people.values())


def test_only_those_named_take_part(speech, tmp_path):
    def heard(name, **who):
        made = make(speech, tmp_path / name, conversations=6, speakers=(1, 1), **who)
        return {label for turns in made.references.values() for label in turns.labels}

    assert heard("some", only=["A", "C"]) == {"A", "C"}
    assert heard("others", without=["A", "C"]) == {"B", "D"}
    assert heard("both", only=["A", "B"], without=["D"]) == {"A", "B"}


def test_the_background_is_of_those_who_may_take_part(speech, tmp_path, monkeypatch):
    from dataclasses import replace

    import diarbench.simulate.dataset as module

    read = []
    monkeypatch.setattr(module, "read_utterance", lambda p, *rest: (read.append(p), read_utterance(p, *rest))[1])
    crowded = replace(preset("far"), babble=1.0)
    make(speech, tmp_path / "set", conversations=4, speakers=(1, 1), only=["A", "B", "C"], acoustics=crowded)
    assert {path.parent.name for path in read} == {"A", "B", "C"}
    assert len(read) > 4  # some are heard from far away


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"only": ["A", "Z"]}, "there is no speaker 'Z', who is named to take part or to be left out"),
        ({"without": ["Z"]}, "there is no speaker 'Z'"),
        ({"only": ["A"], "without": ["A"]}, "the speaker 'A' is named both to take part and to be left out"),
        ({"only": ["A"]}, "holds 1 speakers (A); 2 were asked for"),
        ({"speed": (1.1, 0.9)}, "speech can't be from 1.1 to 0.9 times as fast; give for example 0.9 to 1.1"),
        ({"speed": (0.1, 1.0)}, "speech can't be from 0.1 to 1 times as fast"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(speech, tmp_path, given, said):
    with pytest.raises(InputError) as caught:
        make(speech, tmp_path / "set", **given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_faster_is_shorter_and_higher(speech):
    path = speech / "A" / "0.flac"
    normal, fast = read_utterance(path, speech), read_utterance(path, speech, 1.1)
    assert len(fast.samples) == pytest.approx(len(normal.samples) / 1.1, abs=2)
    assert fast.speech == pytest.approx(normal.speech / 1.1, rel=0.02)
    assert fast.id == normal.id


# Cards

CARD = """title = "Rooms"
licence = "none"
get = "make it"
uem = "whole-file"
synthetic = true
[simulate]
speech = "{speech}"
conversations = 2
duration = 8.0
speakers = [1, 2]
seed = 0
"""


def load(tmp_path, speech, more=""):
    path = tmp_path / "rooms.toml"
    path.write_text(CARD.format(speech=speech.as_posix()) + more)
    return load_dataset("rooms", path, read_card(path, DatasetCard))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIARBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "simulated"


def test_each_key_of_a_card_is_in_digest_and_cache(tmp_path, speech, cache):
    variants = ["", 'preset = "near"', 'preset = "far"', 'turns = "varied"', 'without = ["A"]', "speed = [0.9, 1.1]"]
    digests = [load(tmp_path, speech, more).digest for more in variants]
    assert len(set(digests)) == len(variants) == len(list(cache.iterdir()))
    # Rooms are not in the references, but in the digest they are.
    near, far = (load(tmp_path, speech, more) for more in variants[1:3])
    assert [r.reference for r in near.recordings] == [r.reference for r in far.recordings]


def test_what_is_said_and_is_the_default_changes_nothing(tmp_path, speech, cache):
    unsaid, said = load(tmp_path, speech), load(tmp_path, speech, 'preset = "dry"\nturns = "ami"\nonly = []\n')
    assert unsaid.digest == said.digest
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('preset = "hall"', "'simulate.preset'"),
        ('turns = "odd"', "'simulate.turns'"),
        ("only = [1]", "'simulate.only.0'"),
        ("speed = [1.0]", "'simulate.speed.1'"),
        ("rooms = 3", "rooms"),
    ],
)
def test_cards_are_read_strictly(tmp_path, speech, cache, line, said):
    with pytest.raises(CardError) as caught:
        load(tmp_path, speech, line + "\n")
    assert said in str(caught.value)
    assert ", line 12" in str(caught.value)


def test_shipped_cards_keep_their_speakers_apart():
    cards = {
        part: read_card(shipped() / "datasets" / f"librispeech-simulated-{part}.toml", DatasetCard).simulate
        for part in ("train", "development", "test")
    }
    assert len(set(cards["development"].only)) == 25
    assert set(cards["train"].without) == set(cards["development"].only)
    assert cards["train"].speech == cards["development"].speech != cards["test"].speech
    assert {card.preset for card in cards.values()} == {"meeting"}
    assert [cards[part].turns for part in ("train", "development", "test")] == ["varied", "varied", "ami"]
    headset = read_card(shipped() / "datasets" / "librispeech-simulated-headset.toml", DatasetCard).simulate
    assert headset.without == cards["train"].without
    assert headset.preset == "headset"
    assert len({card.seed for card in (*cards.values(), headset)}) == 4
