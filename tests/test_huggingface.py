"""Parquet files of Hugging Face datasets: columns, ids, times, audio in the cache, and what can't be read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from diarbench.cards import CardError, DatasetCard, read_card
from diarbench.errors import AudioError, InputError, MissingRequirementError
from diarbench.loaders import Dataset, load_dataset

pa = pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
import pyarrow.parquet as pq  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))  # hub_server.py

from hub_server import serve  # noqa: E402

HEAD = 'title = "A corpus"\nlicence = "CC0"\nget = "ask Anna"\n'
AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


class Lab:
    def __init__(self, folder: Path, write_audio) -> None:
        self.root = folder / "data"
        self.wavs = []
        for number in range(5):
            write_audio(folder / f"{number}.wav", seconds=2.0 + number, seed=number)
            self.wavs.append((folder / f"{number}.wav").read_bytes())
        self.root.mkdir()

    def row(self, number: int, **other: Any) -> dict[str, Any]:
        return {
            "audio": {"bytes": self.wavs[number], "path": f"a/b/rec{number}.wav"},
            "timestamps_start": [0.7, 0.8], "timestamps_end": [0.8, 1.25], "speakers": ["A", "B"],
            "uem_timestamps": [[0.0, 1.5]], "name": f"n{number}",
        } | other  # fmt: skip

    def write(self, *rows: dict[str, Any], name: str = "test.parquet", size: int = 2, **kinds: Any) -> None:
        fields = {name: pa.array([row[name] for row in rows], kinds.get(name)) for name in rows[0] if name != "audio"}
        audio = pa.array([row["audio"] for row in rows], kinds.get("audio", AUDIO))
        pq.write_table(pa.table({"audio": audio, **fields}), self.root / name, row_group_size=size)

    def load(self, table: str = "", head: str = "", uem: str = "whole-file") -> Dataset:
        path = self.root.parent / "mine.toml"
        path.write_text(f'{HEAD}uem = "{uem}"\n{head}\n[huggingface]\nroot = "data"\n{table}')
        return load_dataset("mine", path, read_card(path, DatasetCard))

    def refused(self, kind: type[Exception], **card: str) -> str:
        with pytest.raises((InputError, MissingRequirementError)) as error:
            self.load(**card)
        assert type(error.value) is kind
        assert "\n" not in str(error.value)
        return str(error.value)


@pytest.fixture
def lab(tmp_path, write_audio, own_cache) -> Lab:
    return Lab(tmp_path, write_audio)


def ids(dataset: Dataset) -> list[str]:
    return [labelled.recording.id for labelled in dataset.recordings]


def test_each_row_has_its_own_audio_and_bytes_stay_what_they_are(lab):
    lab.write(*(lab.row(number) for number in range(3)), name="test-0.parquet")
    lab.write(*(lab.row(number) for number in (3, 4)), name="test-1.parquet")
    dataset = lab.load()
    assert ids(dataset) == [f"rec{number}" for number in range(5)]
    for number, labelled in enumerate(dataset.recordings):
        assert labelled.recording.path.read_bytes() == lab.wavs[number]
        assert labelled.recording.duration == 2.0 + number
    assert ids(lab.load('files = ["test-1.parquet"]')) == ["rec3", "rec4"]


def test_only_row_groups_that_are_asked_for_are_written_out(lab, own_cache):
    lab.write(*(lab.row(number) for number in range(5)))
    lab.load(head="select.recordings = 2")
    assert len(list(own_cache.rglob("*.wav"))) == 2
    lab.load(head="select.recordings = 3")
    assert len(list(own_cache.rglob("*.wav"))) == 4


def test_a_file_that_has_changed_is_written_out_anew(lab):
    lab.write(lab.row(0))
    assert lab.load().duration == 2.0
    lab.write(lab.row(4, audio={"bytes": lab.wavs[4], "path": "rec0.wav"}))
    assert lab.load().duration == 6.0


def test_ids(lab):
    lab.write(lab.row(0), lab.row(1))
    assert ids(lab.load('id = "name"')) == ["n0", "n1"]
    assert ids(lab.load('id = "row"')) == ["test-000-00000", "test-000-00001"]
    lab.write(lab.row(0, audio={"bytes": lab.wavs[0], "path": None}))
    assert 'audio without a name; write id = "row"' in lab.refused(InputError)
    assert ids(lab.load('id = "row"')) == ["test-000-00000"]
    assert "no column 'nme'; it has audio, timestamps_start" in lab.refused(InputError, table='id = "nme"')


def test_times_of_32_bits_are_milliseconds(lab):
    row = lab.row(0, timestamps_start=[0.1], timestamps_end=[1.7], speakers=["A"])
    lab.write(row, timestamps_start=pa.list_(pa.float32()), timestamps_end=pa.list_(pa.float32()))
    assert list(lab.load().recordings[0].reference) == [(0.1, 1.7, "A")]


def test_regions_of_the_layout(lab):
    lab.write(lab.row(0, uem_timestamps=[[0.5, 1.0], [0.0, 0.25]]))
    assert lab.load(uem="layout").recordings[0].uem == ((0.0, 0.25), (0.5, 1.0))
    for wrong in ([[1.0, 0.5]], [[1.0]], [[-1.0, 1.0]]):
        lab.write(lab.row(0, uem_timestamps=wrong))
        assert "row 1: [" in lab.refused(InputError, uem="layout")
    lab.write(lab.row(0, uem_timestamps=[]), uem_timestamps=pa.list_(pa.list_(pa.float64())))
    assert "row 1: no scoring region" in lab.refused(InputError, uem="layout")
    row = lab.row(0)
    del row["uem_timestamps"]
    lab.write(row)
    assert "no column 'uem_timestamps'" in lab.refused(InputError, uem="layout")


def test_speakers_may_be_numbers(lab):
    lab.write(lab.row(0, speakers=[1, 0]))
    assert lab.load().recordings[0].reference.labels == ("0", "1")


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"speakers": ["A"]}, "row 1: timestamps_start, timestamps_end, speakers have 2, 2 and 1 values"),
        ({"timestamps_end": [0.6, 1.0]}, "row 1: no turn goes from 0.7 s to 0.6 s"),
        ({"timestamps_start": [-0.5, 1.0]}, "row 1: no turn goes from -0.5 s"),
        ({"timestamps_end": [float("nan"), 1.0]}, "row 1: no turn goes from 0.7 s to nan s"),
        ({"timestamps_end": [None, 1.0]}, "row 1: no turn goes from 0.7 s to None s"),
        ({"speakers": ["A", "B C"]}, "row 1: the speaker name 'B C' is empty or holds white space"),
        ({"speakers": ["A", None]}, "row 1: the speaker name"),
    ],
)
def test_rows_that_can_not_be(lab, other, says):
    lab.write(lab.row(0, **other))
    assert says in lab.refused(InputError)


def test_audio_that_is_not_inside(lab):
    lab.write(lab.row(0, audio={"bytes": None, "path": "rec0.wav"}))
    assert "row 1: holds no audio" in lab.refused(AudioError)
    (lab.root / "rec0.wav").write_bytes(lab.wavs[0])
    assert lab.load().recordings[0].recording.path == lab.root / "rec0.wav"
    lab.write(lab.row(0, audio=[0.5, 0.25]), audio=pa.list_(pa.float64()))
    assert "should hold `bytes` and `path` of encoded files; it holds list<" in lab.refused(InputError)
    lab.write(lab.row(0, audio={"bytes": b"RIFF no audio", "path": "rec0.wav"}))
    assert "can't be read as audio" in lab.refused(AudioError)


def test_the_bytes_say_what_they_are(lab, tmp_path, write_audio):
    write_audio(tmp_path / "x.flac", seconds=1.0)
    lab.write(lab.row(0, audio={"bytes": (tmp_path / "x.flac").read_bytes(), "path": "rec0.wav"}))
    assert lab.load().recordings[0].recording.path.suffix == ".flac"


def test_files_that_are_no_parquet(lab):
    assert "holds no *.parquet, which the card names" in lab.refused(MissingRequirementError)
    (lab.root / "x.parquet").write_bytes(b"PAR1 and nothing more")
    assert "x.parquet: can't be read as parquet" in lab.refused(InputError)


def test_a_dataset_of_the_hub_that_is_not_here(lab, tmp_path, monkeypatch):
    monkeypatch.setenv("DIARBENCH_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    said = lab.refused(MissingRequirementError, table='hub = "someone/corpus"\nrevision = "main"')
    assert said.startswith("someone/corpus (main) is not on this machine (")
    assert "DIARBENCH_OFFLINE is set; unset it, or fetch it elsewhere (`hf download --repo-type dataset" in said
    with pytest.raises(CardError, match="belong together"):
        lab.load('hub = "someone/corpus"')


def test_a_dataset_of_the_hub_is_fetched_by_its_library(lab, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub", reason="fetching needs huggingface_hub")
    lab.write(lab.row(0))
    (file,) = lab.root.glob("*.parquet")
    for name in ("DIARBENCH_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with serve() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.add("someone/corpus", {"test/0.parquet": file.read_bytes(), "other.parquet": b"x"}, kind="dataset")
        table = 'hub = "someone/corpus"\nrevision = "main"\nfiles = ["test/*"]'
        assert ids(lab.load(table)) == ["rec0"]
        assert not any("other.parquet" in line for line in hub.seen)
        said = lab.refused(InputError, table=table.replace("main", "gone"))
        assert "someone/corpus has no revision 'gone': see " in said
        assert "/datasets/someone/corpus/commits/main, and correct the card" in said
