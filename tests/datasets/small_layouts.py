"""A small corpus written where a card says that its corpus lies: two recordings, and what the card passes over."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import soundfile

from diarbench.cards import DatasetCard

IDS = ("r1", "r2")
SECONDS = 2.0
REGION = (0.0, 1.75)  # s, where a layout has regions


def lay_out(card: DatasetCard, data: Path) -> Path:
    """Write it below the data folder `data`; gives the card's root there."""
    if card.folder is not None:
        return _folder(card, data)
    if card.kaldi is not None:
        return _kaldi(card, data)
    return _lhotse(card, data) if card.lhotse is not None else _huggingface(card, data)


def turns(recording: str) -> list[tuple[float, float, str]]:
    """Start, duration (s) and speaker: one alone, then two at once."""
    return [(0.25, 0.5, f"{recording}-a"), (1.0, 0.5, f"{recording}-a"), (1.25, 0.5, f"{recording}-b")]


def _rttm(*names: str) -> str:
    return "".join(
        f"SPEAKER {name} 1 {start} {duration} <NA> <NA> {speaker} <NA> <NA>\n"
        for name in names
        for start, duration, speaker in turns(name)
    )


def _uem(*names: str) -> str:
    return "".join(f"{name} 1 {REGION[0]} {REGION[1]}\n" for name in names)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _audio(path: Path, card: DatasetCard, channels: int) -> None:
    """Each channel has a level of its own: 0.25, 0.5, ..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = card.expect.sample_rate or 16000
    samples = np.tile(0.25 * np.arange(1, channels + 1), (round(SECONDS * rate), 1))
    soundfile.write(str(path), samples, rate, "PCM_16")


def _place(pattern: str, name: str, suffix: str) -> str:
    """A file of a pattern such as "train_*/wav/{id}.*"."""
    path = pattern.replace("{id}", name)
    path = f"{path[:-2]}{suffix}" if path.endswith(".*") else path
    return path.replace("*", "S")


def _folder(card: DatasetCard, data: Path) -> Path:
    folder = card.folder
    assert folder is not None
    root = data / folder.root
    listed = IDS if folder.list is None else (*IDS, "not-listed")
    pattern = folder.audio if "{id}" in folder.audio else f"{folder.audio}/{{id}}.*"
    for name in (*listed, "without-reference"):
        _audio(root / _place(pattern, name, ".flac"), card, 2 if card.channel is not None else 1)
    if folder.reference.endswith(".rttm"):
        _write(root / folder.reference, _rttm(*listed))
    else:
        for name in listed:
            _write(root / folder.reference / f"{name}.rttm", _rttm(name))
            _write(root / folder.reference / f"{name}.TextGrid", "not read")
    if folder.list is not None:
        _write(root / folder.list, _uem(*IDS) if folder.list.endswith(".uem") else "".join(f"{i}\n" for i in IDS))
    if card.uem.endswith(".uem"):
        _write(root / card.uem, _uem(*IDS))
    elif card.uem != "whole-file":
        for name in listed:
            _write(root / card.uem / f"{name}.uem", _uem(name))
    return root


def _kaldi(card: DatasetCard, data: Path) -> Path:
    """With a program, a line of wav.scp runs it; the test has one of that name that gives its last argument but two."""
    kaldi = card.kaldi
    assert kaldi is not None
    root = data / kaldi.root
    base = data / (kaldi.base or kaldi.root)
    for name in IDS:
        _audio(base / "audio" / f"{name}.wav", card, 1)
    program = f"{kaldi.pipes[0]} -m audio/{{0}}.wav -t wav - |" if kaldi.pipes else "audio/{0}.wav"
    _write(root / kaldi.audio, "".join(f"{name} {program.format(name)}\n" for name in IDS))
    _write(root / kaldi.reference, _rttm(*IDS))
    if card.uem != "whole-file":
        _write(root / card.uem, _uem(*IDS))
    return root


def _lhotse(card: DatasetCard, data: Path) -> Path:
    """As `lhotse prepare` writes a corpus of several arrays: a file for each microphone, absolute paths."""
    lhotse = card.lhotse
    assert lhotse is not None
    assert lhotse.recordings is not None
    assert lhotse.supervisions is not None
    root = data / lhotse.root
    recordings, supervisions = [], []
    for name in IDS:
        paths = [data / "audio" / f"{name}_U0{number}.CH1.wav" for number in (1, 2)]
        for path in paths:
            _audio(path, card, 1)
        recordings.append(
            {
                "id": name,
                "sources": [{"type": "file", "channels": [i], "source": str(path)} for i, path in enumerate(paths)],
                "sampling_rate": 16000,
                "num_samples": round(SECONDS * 16000),
                "duration": SECONDS,
                "channel_ids": [0, 1],
            }
        )
        for number, (start, duration, speaker) in enumerate(turns(name)):
            line = {"id": f"{name}-{number}", "recording_id": name, "start": start, "duration": duration}
            supervisions.append({**line, "channel": [0, 1], "text": "YES", "speaker": speaker})
    root.mkdir(parents=True)
    for file, lines in ((lhotse.recordings, recordings), (lhotse.supervisions, supervisions)):
        with gzip.open(root / file, "wt", encoding="utf-8") as output:
            output.writelines(json.dumps(line) + "\n" for line in lines)
    return root


def _huggingface(card: DatasetCard, data: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    dataset = card.huggingface
    assert dataset is not None
    root = data / "hub"
    for name in IDS:
        _audio(data / f"{name}.wav", card, 1)
    table = pa.table(
        {
            "audio": [{"bytes": (data / f"{name}.wav").read_bytes(), "path": None} for name in IDS],
            "timestamps_start": [[start for start, _, _ in turns(name)] for name in IDS],
            "timestamps_end": [[start + duration for start, duration, _ in turns(name)] for name in IDS],
            "speakers": [[speaker for *_, speaker in turns(name)] for name in IDS],
        }
    )
    path = root / dataset.files[0].replace("*", "00000-of-00001")
    path.parent.mkdir(parents=True)
    pq.write_table(table, path)
    return root
