"""Data directories of Kaldi, and the programs that wav.scp may name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from diarbench.audio import decode
from diarbench.cards import DatasetCard, read_card
from diarbench.errors import AudioError, InputError, MissingRequirementError, RttmError
from diarbench.files import sha256_of
from diarbench.loaders import Dataset, load_dataset
from diarbench.loaders.pipes import audio_of_command, parse_command

HEAD = 'title = "A corpus"\nlicence = "CC0"\nget = "ask Anna"\n'


class Directory:
    """A data directory with recordings a and b of two seconds, beside its card."""

    def __init__(self, folder: Path, write_audio) -> None:
        self.root = folder / "data"
        for name in ("a", "b"):
            write_audio(self.root / f"{name}.wav", seconds=2.0, seed=ord(name))
        self.write("wav.scp", "a a.wav\nb\tb.wav\n")
        self.write(
            "rttm",
            "SPEAKER a 1 0.5 1 <NA> <NA> A <NA> <NA>\nSPEAKER b 1 0.25 0.5 <NA> <NA> A <NA> <NA>\n"
            "SPEAKER b 1 0.5 1.5 <NA> <NA> B <NA> <NA>\n",
        )

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def load(self, table: str = "", head: str = "", uem: str = "whole-file") -> Dataset:
        path = self.root.parent / "mine.toml"
        path.write_text(f'{HEAD}uem = "{uem}"\n{head}\n[kaldi]\nroot = "data"\n{table}')
        return load_dataset("mine", path, read_card(path, DatasetCard))

    def refused(self, kind: type[Exception], **card: str) -> str:
        with pytest.raises(InputError) as error:
            self.load(**card)
        assert type(error.value) is kind
        assert "\n" not in str(error.value)
        return str(error.value)


@pytest.fixture
def directory(tmp_path, write_audio, own_cache) -> Directory:
    return Directory(tmp_path, write_audio)


def script(folder: Path, name: str, text: str) -> str:
    """A program of that name in a folder that $PATH is given."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport sys\n{text}\n")
    path.chmod(0o755)
    return str(folder)


def test_segments_and_utt2spk_are_references(directory):
    before = directory.load().digest
    directory.write("segments", "b-1 b 0.25 0.75\na-1 a 0.5 1.5\nb-2 b 0.5 2.0\n")
    directory.write("utt2spk", "a-1 A\nb-1 A\nb-2 B\n")
    assert directory.load('reference = "segments"').digest == before
    (directory.root / "rttm").unlink()
    assert 'write reference = "segments" under [kaldi]' in directory.refused(InputError)
    assert directory.load('reference = "segments"').digest == before


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("segments", "u a 0 1\nu a 1 2\n", "segments, line 2: the utterance 'u' is there twice (first on line 1)"),
        ("segments", "u a 1 1\n", "segments, line 1: no segment goes from 1 s to 1 s"),
        ("segments", "u a -1 1\n", "segments, line 1: no segment goes from -1 s to 1 s"),
        ("segments", "u a 0 x\n", "segments, line 1: the end 'x' is no number of seconds"),
        ("segments", "u a 0\n", "segments, line 1: 3 columns"),
        ("segments", "v a 0 1\n", "segments, line 1: the utterance 'v' has no speaker in"),
        ("segments", "u ../a 0 1\n", "segments, line 1: the recording id '../a' can't be used"),
        ("utt2spk", "u A\nv A\n", "utt2spk: the utterance 'v' is not in"),
        ("utt2spk", "u A B\n", "utt2spk, line 1: 3 columns"),
        ("utt2spk", "u A\nu B\n", "utt2spk, line 2: the utterance 'u' is there twice"),
    ],
)
def test_segments_that_can_not_be(directory, name, text, says):
    directory.write("segments", "u a 0 1\n")
    directory.write("utt2spk", "u A\n")
    directory.write(name, text)
    assert says in directory.refused(RttmError, table='reference = "segments"')


def test_reco2dur_is_a_promise(directory):
    directory.write("reco2dur", "a 2.00\nb 2.05\n")
    assert len(directory.load().recordings) == 2
    directory.write("reco2dur", "a 2.00\nb 7.5\n")
    assert "b.wav: 2.000 s long, where 7.500 s are promised" in directory.refused(AudioError)
    directory.write("reco2dur", "a\n")
    assert "reco2dur, line 1: 1 columns" in directory.refused(RttmError)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\n", "wav.scp, line 1: no path"),
        ("a a.wav\na b.wav\n", "wav.scp, line 2: the recording id 'a' is there twice (first on line 1)"),
        ("a raw.ark:1234\n", "wav.scp, line 1: 'raw.ark:1234' is no audio file: archives are not read"),
        ("a -\n", "wav.scp, line 1: '-' is no audio file"),
    ],
)
def test_lines_of_wav_scp_that_can_not_be(directory, text, says):
    directory.write("wav.scp", text)
    assert says in directory.refused(RttmError)


def test_paths_in_wav_scp(directory, tmp_path, write_audio):
    (tmp_path / "with blanks").mkdir()
    (directory.root / "a.wav").rename(tmp_path / "with blanks" / "a a.wav")
    directory.write("wav.scp", f"a {tmp_path}/with blanks/a a.wav\nb b.wav\n")
    assert directory.load().recordings[0].recording.path.name == "a a.wav"
    directory.write("wav.scp", "a with blanks/a a.wav\nb data/b.wav\n")
    (tmp_path / "base").mkdir()
    assert directory.load(f'base = "{tmp_path}"').recordings[1].recording.path == directory.root / "b.wav"
    with pytest.raises(MissingRequirementError, match="no folder 'nowhere'"):
        directory.load('base = "nowhere"')


def test_without_audio(directory):
    directory.write("all.uem", "a 1 0 2\nb 1 0 2\n")
    dataset = directory.load('audio = "none"', uem="all.uem")
    assert [r.recording.path for r in dataset.recordings] == [None, None]


# --- programs


def test_a_program_runs_only_where_the_card_lists_it(directory, own_cache):
    directory.write("wav.scp", "a cat a.wav | cat |\nb b.wav\n")
    said = directory.refused(InputError)
    assert "wav.scp, line 1: the audio is what a program writes ('cat a.wav | cat')" in said
    assert 'pipes = ["sox"]' in said
    said = directory.refused(InputError, table='pipes = ["sox"]')
    assert "the program 'cat' is none of those that the card lets run (pipes = ['sox'])" in said
    assert not own_cache.exists()
    dataset = directory.load('pipes = ["cat"]')
    made = dataset.recordings[0].recording.path
    assert sha256_of(made) == sha256_of(directory.root / "a.wav")
    assert made.is_relative_to(own_cache)
    assert [path.name for path in made.parent.iterdir()] == [made.name]
    assert decode(dataset.recordings[0].recording).duration == 2.0


def test_a_command_runs_again_when_its_file_has_changed(directory, write_audio):
    directory.write("wav.scp", "a cat a.wav |\nb b.wav\n")
    first = directory.load('pipes = ["cat"]').recordings[0].recording.path
    stamp = first.stat().st_mtime_ns
    assert directory.load('pipes = ["cat"]').recordings[0].recording.path.stat().st_mtime_ns == stamp
    write_audio(directory.root / "a.wav", seconds=1.5)
    assert directory.load('pipes = ["cat"]').recordings[0].recording.duration == 1.5


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("cat a.wav > b", "'>' is for a shell"),
        ("cat a.wav; rm b", "';' is for a shell"),
        ("cat $HOME/a.wav", "'$' is for a shell"),
        ("cat `ls`", "'`' is for a shell"),
        ("cat a.wav & rm b", "'&' is for a shell"),
        ("cat '|rm b'", "no word may begin with '|'"),
        ("cat a.wav |rm b", "no word may begin with '|'"),
        ("cat a.wav || cat b", "no word may begin with '|'"),
        ("cat a.wav | rm b", "the program 'rm' is none of those"),
        ("/bin/cat a.wav", "the program '/bin/cat' is none of those"),
        ("cat 'a.wav", "the command can't be read (No closing quotation)"),
        ("| cat", "a program is missing before or after '|'"),
        ("", "a program is missing before or after '|'"),
    ],
)
def test_commands_that_may_not_run(command, says):
    with pytest.raises(InputError) as error:
        parse_command(command, ["cat"], "wav.scp, line 1")
    assert says in str(error.value)
    assert str(error.value).startswith("wav.scp, line 1: ")


def test_programs_that_fail(directory, tmp_path, monkeypatch):
    folder = script(tmp_path / "bin", "breaks", "print('one', file=sys.stderr)\nsys.exit('no such codec')")
    script(tmp_path / "bin", "mute", "pass")
    script(tmp_path / "bin", "noise", "print('no audio')")
    monkeypatch.setenv("PATH", folder + os.pathsep + os.environ["PATH"])
    programs = ["breaks", "mute", "noise", "cat", "absent-program"]

    def said(command: str) -> str:
        with pytest.raises((AudioError, MissingRequirementError)) as error:
            audio_of_command(command, programs, directory.root, "wav.scp, line 1")
        return str(error.value)

    assert said("breaks a.wav") == "wav.scp, line 1: breaks failed with exit code 1: no such codec"
    assert said("breaks | cat") == "wav.scp, line 1: breaks failed with exit code 1: no such codec"
    assert said("cat a.wav | breaks") == "wav.scp, line 1: breaks failed with exit code 1: no such codec"
    assert said("mute") == "wav.scp, line 1: mute wrote nothing"
    assert said("absent-program x") == "wav.scp, line 1: the program 'absent-program' is not installed, or not in $PATH"
    directory.write("wav.scp", "a noise |\nb b.wav\n")
    assert "can't be read as audio" in directory.refused(AudioError, table='pipes = ["noise"]')


def test_a_program_that_does_not_end(directory, tmp_path, monkeypatch):
    folder = script(tmp_path / "bin", "sleeps", "import time\ntime.sleep(60)")
    monkeypatch.setenv("PATH", folder + os.pathsep + os.environ["PATH"])
    monkeypatch.setattr("diarbench.loaders.pipes._TIME_LIMIT", 0.2)
    with pytest.raises(AudioError, match="sleeps ran for more than"):
        audio_of_command("sleeps", ["sleeps"], directory.root, "here")
