"""Protocols of pyannote.database: a user's database.yml as it is, and what pyannote.database says of a broken one."""

from __future__ import annotations

from pathlib import Path

import pytest

from diarbench.cards import DatasetCard, read_card
from diarbench.errors import InputError, RttmError
from diarbench.loaders import Dataset, load_dataset

pytest.importorskip("pyannote.database", reason="protocols need pyannote.database")

HEAD = 'title = "A corpus"\nlicence = "CC0"\nget = "ask Anna"\n'
DATABASE = """
Databases:
  Mine: ["audio/{uri}.wav", "else/**/{uri}.flac"]
Protocols:
  Mine:
    SpeakerDiarization:
      Small:
        scope: file
        development:
          uri: dev.lst
          annotation: rttm/{uri}.rttm
          annotated: all.uem
        test:
          uri: test.lst
          annotation: test.rttm
  X:
    SpeakerDiarization:
      Both:
        test:
          Mine.SpeakerDiarization.Small: [development, test]
"""


class Lab:
    def __init__(self, folder: Path, write_audio) -> None:
        self.root = folder / "corpus"
        for name in ("a", "b"):
            write_audio(self.root / "audio" / f"{name}.wav", seconds=2.0)
        write_audio(self.root / "else" / "deep" / "er" / "c.flac", seconds=3.0)
        self.write("database.yml", DATABASE)
        self.write("dev.lst", "c\n\n")
        self.write("test.lst", "b\na\n")
        self.write("test.rttm", turn("a") + turn("b"))
        self.write("rttm/c.rttm", turn("c"))
        self.write("all.uem", "c 1 0.75 2\n")

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(exist_ok=True)
        (self.root / name).write_text(text)

    def load(
        self, table: str = "", uem: str = "whole-file", protocol: str = "Mine.SpeakerDiarization.Small"
    ) -> Dataset:
        path = self.root.parent / "mine.toml"
        path.write_text(f'{HEAD}uem = "{uem}"\n[pyannote]\nroot = "corpus"\nprotocol = "{protocol}"\n{table}')
        return load_dataset("mine", path, read_card(path, DatasetCard))

    def refused(self, kind: type[Exception] = InputError, **card: str) -> str:
        with pytest.raises(InputError) as error:
            self.load(**card)
        assert type(error.value) is kind
        assert "\n" not in str(error.value)
        return str(error.value)


def turn(name: str, speaker: str = "A") -> str:
    return f"SPEAKER {name} 1 0.5 1 <NA> <NA> {speaker} <NA> <NA>\n"


@pytest.fixture
def lab(tmp_path, write_audio) -> Lab:
    return Lab(tmp_path, write_audio)


def ids(dataset: Dataset) -> list[str]:
    return [labelled.recording.id for labelled in dataset.recordings]


def test_subsets_templates_and_patterns(lab):
    assert ids(lab.load()) == ["b", "a"]
    dataset = lab.load('subset = "development"', uem="layout")
    assert ids(dataset) == ["c"]
    assert dataset.recordings[0].recording.path.name == "c.flac"
    assert dataset.recordings[0].uem == ((0.75, 2.0),)
    # pyannote.database itself would cut the turn at 0.75 s
    assert list(dataset.recordings[0].reference) == [(0.5, 1.5, "A")]


def test_nothing_is_printed(lab, capfd):
    lab.write("database.yml", DATABASE.replace("        scope: file\n", ""))
    lab.load()
    assert capfd.readouterr() == ("", "")


def test_a_protocol_of_protocols(lab):
    assert ids(lab.load(protocol="X.SpeakerDiarization.Both")) == ["c", "b", "a"]


def test_a_uem_file_of_the_card(lab):
    lab.write("mine.uem", "a 1 0 1\nb 1 0 2\n")
    assert lab.load(uem="mine.uem").recordings[1].uem == ((0.0, 1.0),)


def test_without_audio(lab):
    assert lab.load('subset = "development"\naudio = "none"', uem="layout").recordings[0].recording.path is None


def test_two_files_with_the_same_names_do_not_mix(lab, tmp_path, write_audio):
    other = Lab(tmp_path / "other", write_audio)
    other.write("test.lst", "a\n")
    assert (ids(lab.load()), ids(other.load()), ids(lab.load())) == (["b", "a"], ["a"], ["b", "a"])
    other.write("database.yml", DATABASE.replace("Small", "Other"))
    assert "no protocol 'Mine.SpeakerDiarization.Small'; did you mean Mine.SpeakerDiarization.Other" in other.refused()


def test_what_is_wrong_in_a_line(lab):
    assert "has no 'train'" in lab.refused(table='subset = "train"')
    assert 'uem = "layout", but the protocol has no `annotated`' in lab.refused(uem="layout")
    lab.write("test.lst", "b\na\nb\n")
    assert "the recording id 'b' is there twice" in lab.refused()
    lab.write("test.lst", "b\nx y\n")
    assert "the recording id 'x y' can't be used" in lab.refused(RttmError)
    lab.write("test.lst", "a\n")
    lab.write("test.rttm", turn("a", "NA"))
    assert "reads a speaker's name as nan; names such as NA and nan are none to it" in lab.refused()
    (lab.root / "test.rttm").unlink()
    assert "test.rttm" in lab.refused()
    (lab.root / "test.lst").unlink()
    assert "test.lst" in lab.refused()
    lab.write("database.yml", "Protocols: [")
    assert "database.yml: while parsing" in lab.refused()
    lab.write("database.yml", "- 1\n")
    assert "database.yml: " in lab.refused()
    (lab.root / "database.yml").unlink()
    assert "database.yml: there is no such file" in lab.refused()


def test_audio_that_is_missing_or_there_twice(lab, write_audio):
    (lab.root / "audio" / "a.wav").unlink()
    assert 'Could not find file "a" in any of the following location(s): - ' in lab.refused()
    write_audio(lab.root / "audio" / "a.wav", seconds=2.0)
    write_audio(lab.root / "else" / "deep" / "a.flac", seconds=2.0)
    assert "found more than one (2) matching locations" in lab.refused()
