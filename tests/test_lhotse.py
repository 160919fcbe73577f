"""Manifests of Lhotse: channels in several files, cuts, commands, and what is wrong with a line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diarbench.audio import decode
from diarbench.cards import DatasetCard, read_card
from diarbench.errors import AudioError, CardError, InputError, RttmError
from diarbench.loaders import Dataset, load_dataset
from diarbench.loaders.channels import Part, combined

HEAD = 'title = "A corpus"\nlicence = "CC0"\nget = "ask Anna"\nuem = "whole-file"\n'


def recording(name: str = "a", **other: Any) -> dict[str, Any]:
    source = {"type": "file", "channels": [0], "source": f"{name}.wav"}
    return {"id": name, "sources": [source], "sampling_rate": 16000, "num_samples": 32000, "duration": 2.0} | other


def supervision(name: str = "a", **other: Any) -> dict[str, Any]:
    return {
        "id": f"{name}-1", "recording_id": name, "start": 0.7, "duration": 0.1, "channel": 0, "speaker": "A",
    } | other  # fmt: skip


def cut(name: str = "a", **other: Any) -> dict[str, Any]:
    return {
        "id": f"{name}-cut", "start": 0, "duration": 2.0, "channel": 0, "recording": recording(name),
        "supervisions": [supervision(name)], "type": "MonoCut",
    } | other  # fmt: skip


class Lab:
    def __init__(self, folder: Path, write_audio) -> None:
        self.root, self.write_audio = folder / "data", write_audio
        self.samples = write_audio(self.root / "a.wav", seconds=2.0)

    def write(self, name: str, *lines: Any) -> None:
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        (self.root / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())

    def load(self, table: str = 'recordings = "r.jsonl"\nsupervisions = "s.jsonl"', head: str = "") -> Dataset:
        path = self.root.parent / "mine.toml"
        path.write_text(f'{HEAD}{head}\n[lhotse]\nroot = "data"\n{table}\n')
        return load_dataset("mine", path, read_card(path, DatasetCard))

    def refused(self, kind: type[Exception], *how: str, **other: str) -> str:
        with pytest.raises(InputError) as error:
            self.load(*how, **other)
        assert type(error.value) is kind
        assert "\n" not in str(error.value)
        return str(error.value)


@pytest.fixture
def lab(tmp_path, write_audio, own_cache) -> Lab:
    lab = Lab(tmp_path, write_audio)
    lab.write("r.jsonl", recording())
    lab.write("s.jsonl", supervision(), supervision(start=0.8, duration=1))
    return lab


def test_the_kinds_of_manifests_are_the_same_dataset(lab):
    plain = lab.load()
    assert list(plain.recordings[0].reference) == [(0.7, 0.8, "A"), (0.8, 1.8, "A")]
    lab.write("c.jsonl.gz", cut(supervisions=[supervision(), supervision(start=0.8, duration=1)]))
    assert lab.load('cuts = "c.jsonl.gz"').digest == plain.digest
    (lab.root / "r.json").write_text(json.dumps([recording()]))
    (lab.root / "s.json").write_text(json.dumps([supervision(), supervision(start=0.8, duration=1)]))
    assert lab.load('recordings = "r.json"\nsupervisions = "s.json"').digest == plain.digest


@pytest.fixture
def array(lab) -> tuple[Lab, list[np.ndarray]]:
    """Channels 0 to 2: one alone in a file, two in another."""
    one = lab.write_audio(lab.root / "one.wav", seconds=2.0, seed=1)
    two = lab.write_audio(lab.root / "two.flac", seconds=2.0, seed=2, channels=2)
    sources = [
        {"type": "file", "channels": [0], "source": "one.wav"},
        {"type": "file", "channels": [2, 1], "source": "two.flac"},
    ]
    lab.write("r.jsonl", recording(sources=sources))
    return lab, [one, two[:, 1], two[:, 0]]


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_one_channel_of_several_files(array, channel):
    lab, channels = array
    one = lab.load(head=f"channel = {channel}").recordings[0].recording
    assert np.abs(decode(one).samples - channels[channel]).max() < 1e-4


def test_the_first_and_the_mean_of_several_files(array, own_cache):
    lab, channels = array
    first = lab.load(head='channel = "first"').recordings[0].recording
    assert first.path.name == "one.wav"
    assert np.abs(decode(first).samples - channels[0]).max() < 1e-4
    mixed = lab.load(head='channel = "mix"').recordings[0].recording
    assert mixed.path.is_relative_to(own_cache)
    assert np.abs(decode(mixed).samples - np.mean(channels, axis=0)).max() < 1e-4
    stamp = mixed.path.stat().st_mtime_ns
    assert lab.load(head='channel = "mix"').recordings[0].recording.path.stat().st_mtime_ns == stamp
    lab.write_audio(lab.root / "one.wav", seconds=2.0, seed=7)
    assert lab.load(head='channel = "mix"').recordings[0].recording.path != mixed.path


def test_channels_that_no_rule_explains(array):
    lab, _ = array
    assert "has 3 channels, and the dataset card names no channel rule" in lab.refused(AudioError)
    assert "has the channels [0, 1, 2]; 7 is asked for" in lab.refused(AudioError, head="channel = 7")


def test_files_of_one_recording_have_one_length(array):
    lab, _ = array
    lab.write_audio(lab.root / "one.wav", seconds=1.9)
    said = lab.refused(AudioError, head='channel = "mix"')
    assert "two.flac: 2.0000 s at 16000 Hz, but" in said
    assert "of the same recording, 1.9000 s" in said


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_combining_changes_no_sample(tmp_path, write_audio, own_cache, subtype):
    import soundfile

    parts = []
    for number in range(2):
        write_audio(tmp_path / f"{number}.wav", seconds=20.0, seed=number, subtype=subtype)
        parts.append(Part(tmp_path / f"{number}.wav", 0))
    made, _ = soundfile.read(str(combined(parts)), dtype="float64", always_2d=True)
    assert soundfile.info(str(combined(parts))).subtype == subtype
    for number, part in enumerate(parts):
        assert np.array_equal(made[:, number], soundfile.read(str(part.path), dtype="float64")[0])
    with pytest.raises(AudioError, match="has 1 channels; number 3 is asked for"):
        combined([Part(parts[0].path, 3)])


def test_a_cut_of_one_channel(lab):
    lab.write_audio(lab.root / "a.wav", seconds=2.0, channels=2)
    two = recording(sources=[{"type": "file", "channels": [0, 1], "source": "a.wav"}])
    lab.write("c.jsonl", cut(channel=1, recording=two))
    assert lab.load('cuts = "c.jsonl"').recordings[0].recording.channel == 1
    assert lab.load('cuts = "c.jsonl"', 'channel = "mix"').recordings[0].recording.channel == "mix"


def test_audio_that_a_command_writes(lab):
    source = {"type": "command", "channels": [0], "source": "cat a.wav | cat"}
    lab.write("r.jsonl", recording(sources=[source]))
    assert "the audio is what a program writes" in lab.refused(InputError)
    dataset = lab.load('recordings = "r.jsonl"\nsupervisions = "s.jsonl"\npipes = ["cat"]')
    assert dataset.recordings[0].recording.path.read_bytes() == (lab.root / "a.wav").read_bytes()


@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        (recording(sampling_rate=8000), AudioError, "16000 Hz, where its manifest promises 8000 Hz"),
        (recording(duration=1.5), AudioError, "2.000 s long, where 1.500 s are promised"),
        (recording(sources=[]), RttmError, "line 1: the recording has no `sources`"),
        (recording(sources="a.wav"), RttmError, "line 1: the key 'sources' is no list"),
        (recording(sources=[{"type": "url", "channels": [0], "source": "x"}]), RttmError, "audio of the type 'url'"),
        (recording(sources=[{"type": "file", "channels": [0, 0], "source": "x"}]), RttmError, "the channel 0 is there"),
        (recording(transforms=[{"name": "Speed"}]), RttmError, "the recording has `transforms`"),
        (recording(duration="2"), RttmError, "the key 'duration' is no number of seconds"),
        ({"ID": "a"}, RttmError, "r.jsonl, line 1: the key 'id' is missing"),
        ([1], RttmError, "r.jsonl, line 1: no JSON object"),
        ("{", RttmError, "r.jsonl, line 1: no JSON"),
    ],
)
def test_recordings_that_can_not_be(lab, line, kind, says):
    lab.write("r.jsonl", line)
    assert says in lab.refused(kind)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (supervision(speaker=None), "s.jsonl, line 1: the key 'speaker' is no text"),
        (supervision(speaker="A B"), "the speaker name 'A B' is empty or holds white space"),
        (supervision(start=-1), "no segment starts at -1 s"),
        (supervision(duration=-0.5), "and is -0.5 s long"),
        (supervision(start=float("nan")), "the key 'start' is no number of seconds"),
        (supervision(start=1e300), "the key 'start' is no number of seconds"),
        (supervision("../a"), "the recording id '../a' can't be used"),
    ],
)
def test_supervisions_that_can_not_be(lab, line, says):
    lab.write("s.jsonl", line)
    assert says in lab.refused(RttmError)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([cut(type="MixedCut")], "a MixedCut is no recording"),
        ([cut(duration=1.0)], "only cuts of whole recordings are read"),
        ([cut(start=0.5, duration=1.5)], "the cut goes from 0.5 s to 2.0 s"),
        ([cut(), cut(channel=1)], "c.jsonl, line 2: there is another cut of the recording 'a'"),
        ([cut(channel="a")], "the key 'channel' is no whole number"),
        (['{"type": 1' + "0" * 5000 + "}"], "c.jsonl, line 1: no manifest of Lhotse"),
        ([cut(recording=None)], "the key 'recording' is no object"),
    ],
)
def test_cuts_that_can_not_be(lab, lines, says):
    lab.write("c.jsonl", *lines)
    assert says in lab.refused(RttmError, 'cuts = "c.jsonl"')


def test_manifests_that_can_not_be_read(lab):
    (lab.root / "r.jsonl.gz").write_bytes(gzip.compress(b'{"id": "a"}\n' * 1000)[:-10])
    table = 'recordings = "{}"\nsupervisions = "s.jsonl"'
    assert "r.jsonl.gz" in lab.refused(RttmError, table.format("r.jsonl.gz"))
    (lab.root / "t.jsonl.gz").write_text("no gzip")
    assert "t.jsonl.gz: can't be read" in lab.refused(RttmError, table.format("t.jsonl.gz"))
    assert "YAML manifests are not read" in lab.refused(RttmError, table.format("r.yaml"))
    assert "gone.jsonl: can't be read: No such file" in lab.refused(RttmError, table.format("gone.jsonl"))
    (lab.root / "n.json").write_text("3")
    assert "n.json" in lab.refused(RttmError, table.format("n.json"))
    (lab.root / "deep.jsonl").write_text("[" * 100000)
    assert "deep.jsonl" in lab.refused(RttmError, table.format("deep.jsonl"))


@pytest.mark.parametrize("table", ["", 'recordings = "r.jsonl"', 'cuts = "c"\nsupervisions = "s"'])
def test_which_manifests(lab, table):
    with pytest.raises(CardError, match="either `recordings` and `supervisions`, or `cuts`"):
        lab.load(table)
