"""One small corpus, written out in any of six layouts, each with its card; mistakes are made in it beforehand."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import soundfile

from diarbench.cards import DatasetCard, read_card
from diarbench.loaders import Dataset, load_dataset

HEAD = 'title = "A corpus"\nlicence = "CC0"\nget = "ask Anna"\n'

LAYOUTS = ("files", "one-file", "kaldi", "pyannote", "lhotse", "huggingface")

Rows = list[tuple[str, str, str]]  # start and duration (s) as they are written, speaker


@dataclass
class Corpus:
    """What is to be written; recordings are those of `listed`, which may differ from what has audio or turns."""

    folder: Path  # where its audio is made
    audio: dict[str, Path] = field(default_factory=dict)
    turns: dict[str, Rows] = field(default_factory=dict)
    regions: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    listed: list[str] = field(default_factory=list)
    raw_name: bytes | None = None  # takes the place of the first id wherever an id is written

    def add(
        self, name: str, turns: Rows, regions: list[tuple[str, str]], *, seconds: float = 4.0, rate: int = 16000,
        channels: int = 1,
    ) -> None:  # fmt: skip
        noise = 0.1 * np.random.default_rng(len(self.listed)).standard_normal((round(seconds * rate), channels))
        self.audio[name] = self.folder / f"{name}.wav"
        self.audio[name].parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(str(self.audio[name]), np.clip(noise, -1, 1), rate)
        self.turns[name], self.regions[name] = turns, regions
        self.listed.append(name)

    def rttm(self, *names: str) -> str:
        return "".join(
            f"SPEAKER {name} 1 {start} {duration} <NA> <NA> {speaker} <NA> <NA>\n"
            for name in names
            for start, duration, speaker in self.turns.get(name, [])
        )

    def uem(self) -> str:
        return "".join(f"{name} 1 {start} {end}\n" for name, spans in self.regions.items() for start, end in spans)

    def ids(self) -> bytes:
        return b"".join(self.raw(name) + b"\n" for name in self.listed)

    def raw(self, name: str) -> bytes:
        return self.raw_name if self.raw_name is not None and name == self.listed[0] else name.encode()


def small_corpus(folder: Path) -> Corpus:
    """Three recordings: times that touch on paper, two speakers at once, a turn beyond its region, more than ASCII."""
    corpus = Corpus(folder)
    corpus.add(
        "alpha",
        [("0.7", "0.1", "A"), ("0.8", "1.25", "A"), ("1.1", "0.333333", "B"), ("3.2", "0.6", "B")],
        [("0", "3.5")],
    )
    corpus.add("beta", [("0.25", "1", "Zoë"), ("0.25", "1", "C")], [("0.1", "1.7"), ("2", "3.999")], seconds=4.321)
    corpus.add("Gamma", [("2.000001", "0.5", "A")], [("0", "4")])
    return corpus


def write(layout: str, corpus: Corpus, root: Path, more: str = "", uem: str | None = None) -> Path:
    """Write the corpus below `root`; gives its card, with `more` at its head."""
    place = root / layout
    place.mkdir(parents=True, exist_ok=True)
    own, table = _WRITERS[layout](corpus, place)
    card = root / f"{layout}.toml"
    card.write_text(f'{HEAD}uem = "{uem or own}"\n{more}\n{table.format(root=layout)}')
    return card


def load(layout: str, corpus: Corpus, root: Path, more: str = "", uem: str | None = None) -> Dataset:
    path = write(layout, corpus, root, more, uem)
    return load_dataset(layout, path, read_card(path, DatasetCard))


def needs(layout: str) -> None:
    """Skip a test whose layout takes a package that is not here."""
    if layout == "huggingface":
        pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    if layout == "pyannote":
        pytest.importorskip("pyannote.database", reason="protocols need pyannote.database")


def _copy_audio(corpus: Corpus, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, path in corpus.audio.items():
        target = bytes(folder) + b"/" + corpus.raw(name) + path.suffix.encode()
        shutil.copyfile(path, target, follow_symlinks=False)


def _files(corpus: Corpus, place: Path) -> tuple[str, str]:
    _copy_audio(corpus, place / "audio")
    (place / "reference").mkdir(exist_ok=True)
    for name in corpus.turns:
        (place / "reference" / f"{name}.rttm").write_text(corpus.rttm(name))
    (place / "all.uem").write_text(corpus.uem())
    (place / "test.lst").write_bytes(corpus.ids())
    return "all.uem", '[folder]\nroot = "{root}"\nlist = "test.lst"\n'


def _one_file(corpus: Corpus, place: Path) -> tuple[str, str]:
    _copy_audio(corpus, place / "audio")
    (place / "all.rttm").write_text(corpus.rttm(*reversed(corpus.turns)))
    (place / "all.uem").write_text(corpus.uem())
    (place / "test.lst").write_bytes(corpus.ids())
    return "all.uem", '[folder]\nroot = "{root}"\nreference = "all.rttm"\nlist = "test.lst"\n'


def _kaldi(corpus: Corpus, place: Path) -> tuple[str, str]:
    _copy_audio(corpus, place / "wav")
    (place / "wav.scp").write_bytes(
        b"".join(b"%s wav/%s.wav\n" % (corpus.raw(name), name.encode()) for name in sorted(corpus.listed))
    )
    (place / "rttm").write_text(corpus.rttm(*sorted(corpus.turns)))
    (place / "all.uem").write_text(corpus.uem())
    return "all.uem", '[kaldi]\nroot = "{root}"\n'


def _pyannote(corpus: Corpus, place: Path) -> tuple[str, str]:
    _copy_audio(corpus, place / "wav")
    (place / "test.lst").write_bytes(corpus.ids())
    (place / "test.rttm").write_text(corpus.rttm(*corpus.turns))
    (place / "test.uem").write_text(corpus.uem())
    (place / "database.yml").write_text(
        "Databases:\n  Mine: wav/{uri}.wav\n"
        "Protocols:\n  Mine:\n    SpeakerDiarization:\n      Small:\n        test:\n"
        "          uri: test.lst\n          annotation: test.rttm\n          annotated: test.uem\n"
    )
    return "layout", '[pyannote]\nroot = "{root}"\nprotocol = "Mine.SpeakerDiarization.Small"\n'


def _lhotse(corpus: Corpus, place: Path) -> tuple[str, str]:
    _copy_audio(corpus, place / "wav")
    with gzip.open(place / "recordings.jsonl.gz", "wb") as file:
        for name in corpus.listed:
            known = corpus.audio.get(name)
            info = soundfile.info(str(known)) if known is not None and known.is_file() else None
            frames, rate = (info.frames, info.samplerate) if info else (64000, 16000)
            line = {
                "id": "@", "sources": [{"type": "file", "channels": [0], "source": f"wav/{name}.wav"}],
                "sampling_rate": rate, "num_samples": frames, "duration": frames / rate, "channel_ids": [0],
            }  # fmt: skip
            file.write(json.dumps(line).encode().replace(b"@", corpus.raw(name)) + b"\n")
    with gzip.open(place / "supervisions.jsonl.gz", "wt", encoding="utf-8") as file:
        for name, rows in corpus.turns.items():
            for number, (start, duration, speaker) in enumerate(rows):
                line = {
                    "id": f"{name}-{number}", "recording_id": name, "start": float(start), "duration": float(duration),
                    "channel": 0, "text": "yes", "language": "English", "speaker": speaker,
                }  # fmt: skip
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    (place / "all.uem").write_text(corpus.uem())
    manifests = 'recordings = "recordings.jsonl.gz"\nsupervisions = "supervisions.jsonl.gz"\n'
    return "all.uem", '[lhotse]\nroot = "{root}"\n' + manifests


def _huggingface(corpus: Corpus, place: Path) -> tuple[str, str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [name for name in corpus.listed if name in corpus.turns]
    paths = [corpus.audio.get(name) for name in names]
    held = [path.read_bytes() if path is not None and path.is_file() else None for path in paths]
    raw = pa.array([corpus.raw(name) + b".wav" for name in names], pa.binary()).view(pa.string())
    ends = [[float(Decimal(start) + Decimal(long)) for start, long, _ in corpus.turns[name]] for name in names]
    table = pa.table(
        {
            "audio": pa.StructArray.from_arrays([pa.array(held, pa.binary()), raw], ["bytes", "path"]),
            "timestamps_start": [[float(start) for start, _, _ in corpus.turns[name]] for name in names],
            "timestamps_end": ends,
            "speakers": [[speaker for *_, speaker in corpus.turns[name]] for name in names],
            "uem_timestamps": [[[float(a), float(b)] for a, b in corpus.regions[name]] for name in names],
        }
    )
    (place / "data").mkdir(exist_ok=True)
    pq.write_table(table, place / "data" / "test-00000-of-00001.parquet", row_group_size=2)
    (place / "test.lst").write_text("".join(f"{name}\n" for name in dict.fromkeys(corpus.listed)))
    return "layout", '[huggingface]\nroot = "{root}"\nfiles = ["data/test-*.parquet"]\nlist = "test.lst"\n'


_WRITERS = {
    "files": _files,
    "one-file": _one_file,
    "kaldi": _kaldi,
    "pyannote": _pyannote,
    "lhotse": _lhotse,
    "huggingface": _huggingface,
}


def write_hours(root: Path, hours: int) -> None:
    """So many hours of silence in sparse files of a minute, with 15 turns each, and cards for three layouts."""
    rate, frames = 16000, 16000 * 60
    head = b"RIFF" + struct.pack("<I", 36 + 2 * frames) + b"WAVEfmt "
    head += struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16) + b"data" + struct.pack("<I", 2 * frames)
    audio = root / "c" / "audio"
    audio.mkdir(parents=True)
    names = [f"r{number:06d}" for number in range(hours * 60)]
    turns = [(f"{4 * place + 0.123:.3f}", f"{2 + place % 3:.3f}", f"s{place % 4}") for place in range(15)]
    files = {name: (root / "c" / name).open("w") for name in ("rttm", "wav.scp", "all.uem", "r.jsonl", "s.jsonl")}
    for name in names:
        with (audio / f"{name}.wav").open("wb") as file:
            file.write(head)
            file.truncate(len(head) + 2 * frames)
        files["wav.scp"].write(f"{name} audio/{name}.wav\n")
        files["all.uem"].write(f"{name} 1 0 60\n")
        source = f'[{{"type": "file", "channels": [0], "source": "audio/{name}.wav"}}]'
        files["r.jsonl"].write(f'{{"id": "{name}", "sources": {source}, "sampling_rate": 16000, "duration": 60.0}}\n')
        for start, long, speaker in turns:
            files["rttm"].write(f"SPEAKER {name} 1 {start} {long} <NA> <NA> {speaker} <NA> <NA>\n")
            times = f'"start": {start}, "duration": {long}'
            files["s.jsonl"].write(f'{{"id": "x", "recording_id": "{name}", {times}, "speaker": "{speaker}"}}\n')
    for file in files.values():
        file.close()
    tables = {
        "folder": 'reference = "rttm"',
        "kaldi": "",
        "lhotse": 'recordings = "r.jsonl"\nsupervisions = "s.jsonl"',
    }
    for table, keys in tables.items():
        (root / f"{table}.toml").write_text(f'{HEAD}uem = "all.uem"\n[{table}]\nroot = "c"\n{keys}\n')
