"""Corpora on this machine: presence, verification, counts."""

from __future__ import annotations

import csv
import io
import json
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarbench.cards import DatasetCard, read_card
from diarbench.corpora import tables
from diarbench.corpora.counting import speakers_at_once, summarise
from diarbench.corpora.plotting import figure, plot
from diarbench.corpora.presence import presence, present
from diarbench.corpora.verifying import recordings_of, verify
from diarbench.errors import InputError, MissingRequirementError
from diarbench.types import LabelledRecording, Recording, Turns

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

import thousand_hours

HEAD = 'title = "A corpus"\nlicence = "CC0"\nget = "ask Anna"\ncorpus = "annas"\npart = "test"\n'


class Lab:
    """A folder corpus `c` of three recordings of 10 s, and cards of it."""

    def __init__(self, root: Path, write_audio) -> None:
        self.root = root
        (root / "c" / "audio").mkdir(parents=True)
        for number, name in enumerate(("r1", "r2", "r3")):
            write_audio(root / "c" / "audio" / f"{name}.wav", seconds=10.0, seed=number)
        rows = [("r1", 0, 4, "A"), ("r1", 3, 2, "B"), ("r2", 1, 5, "A"), ("r3", 2, 2, "A"), ("r3", 2, 2, "C")]
        self.rttm(rows)
        (root / "c" / "all.uem").write_text("".join(f"{name} 1 0 10\n" for name in ("r1", "r2", "r3")))

    def rttm(self, rows) -> None:
        lines = [f"SPEAKER {name} 1 {start} {long} <NA> <NA> {who} <NA> <NA>\n" for name, start, long, who in rows]
        (self.root / "c" / "rttm").write_text("".join(lines))

    def card(self, expect: str = "", table: str = '[folder]\nroot = "c"\nreference = "rttm"', uem: str = "all.uem"):
        path = self.root / "lab.toml"
        path.write_text(f'{HEAD}uem = "{uem}"\n{table}\n[expect]\n{expect}')
        return path, read_card(path, DatasetCard)

    def verify(self, expect: str = "", **how):
        return verify("lab", *self.card(expect, **how))

    def failed(self, expect: str = "", **how) -> dict[str, str]:
        found = self.verify(expect, **how)
        assert found.holds == (not any(finding.holds is False for finding in found.findings))
        return {finding.key: finding.words for finding in found.findings if finding.holds is False}


@pytest.fixture
def lab(tmp_path, write_audio) -> Lab:
    return Lab(tmp_path, write_audio)


# --- counting


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.sampled_from("ABC")), max_size=12))
def test_speakers_at_once_is_what_a_grid_says(rows):
    turns = Turns.of((start, start + long, who) for start, long, who in rows)
    grid = np.zeros((3, 80), dtype=bool)
    for start, long, who in rows:
        grid["ABC".index(who), start : start + long] = True
    counts = np.bincount(grid.sum(axis=0), minlength=4)[1:]
    found = speakers_at_once(turns)
    assert np.array_equal(np.pad(found, (0, 4 - len(found)))[1:], counts)
    assert found[0] == 0
    assert len(found) == 1 or found[-1] > 0


def test_a_dataset_in_numbers(lab):
    recordings, _ = recordings_of("lab", *lab.card())
    found = summarise("lab", recordings)
    assert (found.recordings, found.speakers, found.turns) == (3, 3, 5)
    assert found.hours == pytest.approx(30 / 3600)
    assert (found.minutes.least, found.minutes.most) == (pytest.approx(1 / 6), pytest.approx(1 / 6))
    assert (found.speakers_each.least, found.speakers_each.mean, found.speakers_each.most) == (
        1,
        pytest.approx(5 / 3),
        2,
    )
    assert found.speech == pytest.approx(15)
    assert found.at_once == pytest.approx((18, 9, 3))
    assert found.spoken == pytest.approx(12)
    assert found.overlap == pytest.approx(25)
    assert found.speech_share == pytest.approx(40)
    assert found.turn_lengths == pytest.approx((2, 2, 2, 4, 4.8))
    plain = found.as_json()
    assert json.loads(json.dumps(plain, allow_nan=False))["turn_lengths"].keys() == {"5", "25", "50", "75", "95"}


def silent(name: str) -> LabelledRecording:
    return LabelledRecording(Recording(name, None, 60.0, 16000), Turns.of([]), ((0.0, 60.0),))


def test_a_dataset_in_which_nobody_speaks():
    found = summarise("silence", [silent("a"), silent("b")])
    assert (found.speech, found.overlap, found.speech_share, found.turn_lengths) == (0, 0, 0, ())
    assert found.at_once == (120.0,)
    assert tables.cells(found)[9] == "–"
    assert len(next(csv.reader(io.StringIO(tables.comma_separated([found]).splitlines()[1])))) == 25
    assert figure([found])["hconcat"][1]["data"]["values"] == []


def test_tables_say_the_same(lab):
    recordings, _ = recordings_of("lab", *lab.card())
    found = summarise("lab", recordings)
    cells = dict(zip(tables.heads(), tables.cells(found), strict=True))
    assert cells["dataset"] == "lab"
    assert (cells["in each"], cells["hours"], cells["min each"]) == ("1 – 1.7 – 2", "0.01", "0.2")
    assert (cells["speech %"], cells["overlap %"], cells["0 at once %"]) == ("40.0", "25.0", "60.0")
    (row,) = csv.DictReader(io.StringIO(tables.comma_separated([found])))
    assert float(row["overlap"]) == pytest.approx(25)
    assert float(row["turn_p50"]) == 2
    assert float(row["at_once_2"]) == pytest.approx(10)
    lines = tables.markdown([found, found]).splitlines()
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert lines[2].startswith("| lab | 3 | 3 | 1 – 1.7 – 2 |")


@pytest.mark.parametrize(("name", "begins"), [("p.svg", b"<svg"), ("p.PNG", b"\x89PNG"), ("p.pdf", b"%PDF")])
def test_pictures(lab, tmp_path, name, begins):
    recordings, _ = recordings_of("lab", *lab.card())
    plot([summarise("lab", recordings)], tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)
    with pytest.raises(InputError, match=r"--plot .*p\.gif: name a file that ends with \.svg"):
        plot([], tmp_path / "p.gif")


# --- verifying


def test_a_dataset_that_is_the_right_one(lab):
    found = lab.verify(
        "recordings = 3\nspeakers = 3\nspeakers_each = [1, 2]\nspeech = 15.0\noverlap = 25.0\nhours = 0.01"
    )
    assert found.holds
    words = {finding.key: finding.words for finding in found.findings}
    assert words["recordings"] == "3 recordings, as expected"
    assert words["speakers_each"] == "1 to 2 speakers in a recording, as expected"
    assert words["overlap"] == "25.0 % of the speech overlapped, as expected"
    digests = {finding.key: finding.found for finding in found.findings if finding.key.endswith("sha256")}
    assert not lab.failed("".join(f'{key} = "{digest}"\n' for key, digest in digests.items()))
    assert list(lab.failed("".join(f'{key} = "{"0" * 64}"\n' for key in digests))) == list(digests)


def test_each_mismatch_is_named_with_what_was_expected(lab):
    said = lab.failed(
        "recordings = 4\nspeakers = 7\nspeakers_each = [2, 3]\nspeech = 16.0\noverlap = 30.0\n"
        "hours = 2.0\nminutes = 9.0"
    )
    assert said == {
        "recordings": "3 recordings, 4 expected",
        "hours": "0.01 hours, 2 expected",
        "minutes": "0.17 minutes each, 9 expected",
        "speakers": "3 speakers, 7 expected",
        "speakers_each": "1 to 2 speakers in a recording, 2 to 3 expected",
        "speech": "15.0 s of speech, 16.0 s expected: another version of the references, which the card does not know",
        "overlap": "25.0 % of the speech overlapped, 30 expected",
    }


def test_known_versions_are_called_by_their_names(lab):
    digest = next(one.found for one in lab.verify().findings if one.key == "reference_sha256")
    other = f'[expect.versions.words]\nspeech = 15.0\nreference_sha256 = "{digest}"\n'
    said = lab.failed(f'version = "sounds"\nspeech = 16.0\nreference_sha256 = "{"0" * 64}"\n{other}')
    assert said == {
        "speech": "15.0 s of speech: this is words, the card wants sounds (16.0 s)",
        "reference_sha256": "references are words, by their SHA-256; the card wants sounds",
    }
    good = lab.verify(f'version = "words"\nspeech = 15.0\nreference_sha256 = "{digest}"')
    assert [one.words for one in good.findings if one.key == "speech"] == ["15.0 s of speech, as expected of words"]


def test_numbers_of_papers_are_rounded(lab):
    assert not lab.failed("hours = 0.0\nminutes = 0.2\noverlap = 24.95\nspeech = 15.01")


def test_audio_that_is_not_there_is_a_finding_and_the_rest_is_told(lab):
    (lab.root / "c" / "audio" / "r2.wav").unlink()
    assert list(lab.failed("recordings = 3\nspeech = 15.0\nhours = 0.01")) == ["audio"]
    assert "no audio file for the recording 'r2'" in lab.failed()["audio"]
    for path in (lab.root / "c" / "audio").iterdir():
        path.unlink()
    (lab.root / "c" / "audio").rmdir()
    assert "no such folder of audio files" in lab.failed("recordings = 3")["audio"]
    found = lab.verify("recordings = 3\nhours = 0.01", uem="whole-file")
    words = {finding.key: (finding.holds, finding.words) for finding in found.findings}
    assert words["recordings"] == (True, "3 recordings, as expected")
    assert words["hours"] == (None, "hours are not known without audio or scoring regions")
    _, notes = recordings_of("lab", *lab.card(uem="whole-file"))
    assert notes[-1].startswith("lab: lengths are those of its references, since its audio is not as it should be: ")


def test_audio_of_another_rate_is_a_finding(lab):
    assert "16000 Hz, where the card expects files of 8000 Hz" in lab.failed("sample_rate = 8000")["audio"]


def test_what_can_not_be_verified_is_an_error(lab):
    with pytest.raises(MissingRequirementError, match="no folder 'd'"):
        lab.verify(table='[folder]\nroot = "d"\nreference = "rttm"')
    (lab.root / "c" / "rttm").write_text("SPEAKER r1 1 x\n")
    with pytest.raises(InputError, match="rttm, line 1"):
        lab.verify()


def test_published_references_are_verified(shared_data, tmp_path):
    """AMI's references as they were published with outputs: those of words alone."""
    place = shared_data / "published" / "ami-headset"
    path = tmp_path / "ami.toml"
    versions = 'version = "word_and_vocalsounds"\nspeech = 31607.6\n[expect.versions.only_words]\nspeech = 30713.9\n'
    path.write_text(
        f'{HEAD}uem = "uem"\n[folder]\nroot = "{place}"\naudio = "none"\nreference = "reference"\n'
        f"[expect]\nrecordings = 16\nhours = 9.1\n{versions}"
    )
    found = verify("ami", path, read_card(path, DatasetCard))
    assert {one.key: one.words for one in found.findings if one.holds is False} == {
        "speech": "30,713.9 s of speech: this is only_words, the card wants word_and_vocalsounds (31,607.6 s)"
    }
    assert next(one.words for one in found.findings if one.key == "recordings") == "16 recordings, as expected"


# --- presence


def test_what_is_here(lab):
    here = presence("lab", *lab.card("recordings = 3"))
    assert (here.state, here.found, here.expected, here.reason) == ("here", 3, 3, None)
    assert (here.corpus, here.part, here.audio) == ("annas", "test", True)
    without = presence("lab", *lab.card(table='[folder]\nroot = "c"\nreference = "rttm"\naudio = "none"'))
    assert (without.state, without.audio) == ("here", False)


def test_what_is_partly_here(lab):
    (lab.root / "c" / "audio" / "r2.wav").unlink()
    some = presence("lab", *lab.card("recordings = 3"))
    assert (some.state, some.found) == ("partly", 2)
    assert some.reason == f"no audio of r2 in {lab.root / 'c'}"
    table = '[folder]\nroot = "c"\nreference = "rttm"\naudio = "none"'
    few = presence("lab", *lab.card("recordings = 9", table=table))
    assert (few.state, few.found) == ("partly", 3)
    assert few.reason.endswith("the card expects 9")
    many = presence(
        "lab", *lab.card("recordings = 1", table='[folder]\nroot = "c"\nreference = "rttm"\naudio = "none"')
    )
    assert many.state == "wrong"
    (lab.root / "c" / "all.uem").write_text("r1 1 0 10\n")
    assert presence("lab", *lab.card()).reason.startswith("no scoring region of r2 in ")
    (lab.root / "c" / "rttm").unlink()
    broken = presence("lab", *lab.card())
    assert (broken.state, broken.found) == ("partly", 0)


def test_what_is_not_here(lab, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("DIARBENCH_DATA", str(tmp_path / "nowhere"))
    for table, says in (
        ('[folder]\nroot = "d"', "no folder 'd' beside its card or in "),
        ('[huggingface]\nhub = "o/c"\nrevision = "main"', "o/c is not in the hub's cache ("),
        ('[simulate]\nspeech = "s"\nconversations = 1\nduration = 9.0\nspeakers = [2, 2]\nseed = 0', "no folder 's'"),
    ):
        away = presence("lab", *lab.card(table=table, uem="whole-file"))
        assert (away.state, away.found) == ("missing", 0)
        assert away.reason.startswith(says)
        assert away.get == "ask Anna"


def test_speech_to_simulate_from_is_all_that_is_needed(lab, own_cache):
    (lab.root / "s").mkdir()
    table = '[simulate]\nspeech = "s"\nconversations = 7\nduration = 9.0\nspeakers = [2, 2]\nseed = 0'
    here = presence("lab", *lab.card(table=table, uem="whole-file"))
    assert (here.state, here.found) == ("here", 7)
    assert not own_cache.exists()  # nothing was made


def test_a_broken_card_hides_no_other(lab, tmp_path):
    path, _ = lab.card()
    (tmp_path / "bad.toml").write_text("title = 1\n")
    bad, good = present({"bad": tmp_path / "bad.toml", "lab": path})
    assert (bad.state, good.state) == ("wrong", "here")
    assert "bad.toml" in bad.reason


# --- many hours


@pytest.mark.parametrize("layout", ["folder", "kaldi"])
def test_memory_goes_by_the_turns_alone(layout, tmp_path):
    """900 turns an hour are 22 kB in three columns; a tuple for each would be 100 kB."""
    hours = 10
    thousand_hours.write_corpus(tmp_path, 12 * hours)
    path = tmp_path / f"{layout}.toml"
    card = read_card(path, DatasetCard)
    tracemalloc.start()
    try:
        for act in (presence, verify):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            act("made", path, card)
            _, peak = tracemalloc.get_traced_memory()
            assert (peak - before) / hours < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_a_thousand_hours(tmp_path):
    thousand_hours.write_corpus(tmp_path / "whole", 12_000)
    thousand_hours.write_corpus(tmp_path / "one", 1)
    for step in thousand_hours.STEPS:
        seconds, peak = thousand_hours.measured(step, tmp_path / "whole" / "folder.toml")
        _, base = thousand_hours.measured(step, tmp_path / "one" / "folder.toml")
        print(f"{step}: {seconds:.1f} s of processor time, {(peak - base) / 1e6:.0f} MB")
        assert seconds < 30
        assert peak - base < 120e6
