"""Datasets of the Hugging Face hub, as parquet files with the audio inside; read by pyarrow, without `datasets`.

Columns (as those of diarizers-community and of OpenBench): `audio` (bytes and path of an encoded file), one list each
of `timestamps_start`, `timestamps_end` (s) and `speakers`, and maybe `uem_timestamps` (pairs, s). Listing reads no
audio; the bytes are written to the cache as they are, so that a recording has the digest of the file it was made from.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from diarbench.audio import AUDIO_SUFFIXES
from diarbench.cards import DatasetCard, HuggingFace
from diarbench.errors import AudioError, InputError, MissingRequirementError
from diarbench.fetch import cache_folder
from diarbench.files import digest_of, write_whole
from diarbench.hub import fetch_snapshot, files_in
from diarbench.loaders.corpus import Corpus, Signal, Source, exact_time
from diarbench.loaders.folder import read_card_uem, read_part
from diarbench.rttm import check_id, merge_spans
from diarbench.types import Spans, Turns

_TURNS = ("timestamps_start", "timestamps_end", "speakers")
_UEM = "uem_timestamps"
_ROWS = 4  # held at a time while audio is written out; an hour of 16 kHz takes 115 MB

# How encoded audio begins, where no name says what it is.
_MAGIC = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3", b"\xff\xf3": ".mp3"}


@dataclass(frozen=True, slots=True)
class _Row:
    """Where a recording's audio is: a row of a row group of a file."""

    file: Path
    group: int
    row: int  # within the group
    name: str | None  # of the audio, as it was before it was put in


def read_huggingface(root: Path, card: DatasetCard, dataset: HuggingFace) -> Corpus:
    """What the parquet files say. Raises InputError, with file and row; MissingRequirementError without pyarrow."""
    references: dict[str, Turns] = {}
    audio: dict[str, Source] = {}
    uems: dict[str, Spans] | None = {} if card.uem == "layout" else read_card_uem(root, card)
    for path in (root / name for name in files_in(root, dataset.files)):
        for where, row, item, coarse in _rows(path, dataset, card.uem == "layout"):
            recording_id = check_id(_id(item, row, dataset), where)
            if recording_id in references:
                raise InputError(f"{where}: the recording id {recording_id!r} is there twice")
            references[recording_id] = _turns(item, where, 3 if coarse else None)
            if card.uem == "layout" and uems is not None:
                uems[recording_id] = _spans(item[_UEM], where)
            audio[recording_id] = partial(_signal, row, root, card.channel, where)
    part = read_part(root / dataset.list) if dataset.list is not None else None
    named = str(root / dataset.files[0])
    return Corpus(
        where=root,
        references=references,
        reference=named,
        audio=audio,
        uems=uems,
        uem=named if card.uem == "layout" else str(root / card.uem),
        ids=part,
        list=str(root / (dataset.list or "")),
        is_part=part is not None,
    )


def fetch_dataset(dataset: HuggingFace) -> Path:
    """The folder in the hub's cache with the parquet files, fetched if need be. Raises as `hub.fetch_snapshot`."""
    assert dataset.hub is not None
    assert dataset.revision is not None
    return fetch_snapshot(dataset.hub, dataset.revision, dataset.files, gated=dataset.gated, kind="dataset").folder


def _parquet(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingRequirementError(f"{path}: parquet files need pyarrow: pip install 'diarbench[data]'") from error
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: can't be read as parquet ({_first_line(error)})") from error


def _rows(path: Path, dataset: HuggingFace, with_uem: bool) -> Iterable[tuple[str, _Row, dict[str, Any], bool]]:
    """Each row without its audio's bytes: where it is, in words and in numbers; whether its times are of 32 bits."""
    file = _parquet(path)
    import pyarrow as pa

    schema = file.schema_arrow
    wanted = [*_TURNS, *([_UEM] if with_uem else []), *([dataset.id] if dataset.id not in ("audio", "row") else [])]
    for column in ("audio", *wanted):
        if column not in schema.names:
            raise InputError(f"{path}: no column {column!r}; it has {', '.join(schema.names[:20])}")
    kind = schema.field("audio").type
    if not pa.types.is_struct(kind) or {field.name for field in kind} < {"bytes", "path"}:
        raise InputError(f"{path}: the column 'audio' should hold `bytes` and `path` of encoded files; it holds {kind}")
    coarse = any(_is_float32(schema.field(column).type) for column in _TURNS[:2])
    count = 0
    try:
        for group in range(file.num_row_groups):
            inside = 0
            for batch in file.iter_batches(256, row_groups=[group], columns=["audio.path", *wanted]):
                for item in batch.to_pylist():
                    where = f"{path}, row {count + 1}"
                    name = (item["audio"] or {}).get("path")
                    yield where, _Row(path, group, inside, name), item, coarse
                    inside, count = inside + 1, count + 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read after row {count} ({_first_line(error)})") from error


def _is_float32(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_float32(getattr(kind, "value_type", kind)))


def _id(item: dict[str, Any], row: _Row, dataset: HuggingFace) -> str:
    if dataset.id == "row":
        return f"{row.file.stem}-{row.group:03d}-{row.row:05d}"
    if dataset.id == "audio":
        if not row.name:
            raise InputError(
                f'{row.file}: audio without a name; write id = "row", or the name of a column with ids, under '
                "[huggingface]"
            )
        return PurePosixPath(row.name).stem
    return str(item[dataset.id])


def _turns(item: dict[str, Any], where: str, digits: int | None) -> Turns:
    starts, ends, speakers = (item[column] for column in _TURNS)
    if starts is None or ends is None or speakers is None or not len(starts) == len(ends) == len(speakers):
        sizes = [len(column) if column is not None else "none" for column in (starts, ends, speakers)]
        raise InputError(f"{where}: {', '.join(_TURNS)} have {sizes[0]}, {sizes[1]} and {sizes[2]} values")
    for start, end, speaker in zip(starts, ends, speakers, strict=True):
        if start is None or end is None or not 0 <= start <= end:
            raise InputError(f"{where}: no turn goes from {start} s to {end} s")
        if str(speaker).split() != [str(speaker)] or speaker is None:
            raise InputError(f"{where}: the speaker name {str(speaker)[:60]!r} is empty or holds white space")
    # Floats of 32 bits tell milliseconds apart, microseconds not: 3600.1 is 3600.10009765625.
    exact = exact_time if digits is None else partial(round, ndigits=digits)
    return Turns.of(
        (exact(start), exact(end), speaker) for start, end, speaker in zip(starts, ends, speakers, strict=True)
    )


def _spans(pairs: Sequence[Any] | None, where: str) -> Spans:
    spans = []
    for pair in pairs or ():
        values = list(pair.values()) if isinstance(pair, dict) else list(pair)
        if len(values) != 2 or None in values or not 0 <= values[0] < values[1]:
            raise InputError(f"{where}: {values} is no scoring region; two times (s) were expected")
        spans.append((exact_time(values[0]), exact_time(values[1])))
    if not spans:
        raise InputError(f"{where}: no scoring region ({_UEM})")
    return merge_spans(spans)


def _signal(row: _Row, root: Path, channel: str | int | None, where: str) -> Signal:
    """The audio in the cache; the first of a row group that is asked for has all of them written out."""
    status = row.file.stat()
    key = digest_of([str(row.file.resolve()), status.st_size, status.st_mtime_ns])[:32]
    folder = cache_folder() / "huggingface" / key / f"{row.group:04d}"
    if not (folder / "whole").is_file():
        _write_out(row.file, row.group, folder)
    for path in folder.glob(f"{row.row:06d}.*"):
        return Signal(path, channel)
    if row.name and (beside := root / row.name).is_file():  # a dataset that names its audio and does not hold it
        return Signal(beside, channel)
    raise AudioError(f"{where}: holds no audio")


def _write_out(file: Path, group: int, folder: Path) -> None:
    import pyarrow as pa

    number = 0
    try:
        for batch in _parquet(file).iter_batches(_ROWS, row_groups=[group], columns=["audio.bytes", "audio.path"]):
            for item in batch.column(0):
                data, name = item["bytes"].as_py(), item["path"].as_py()
                if data:
                    write_whole(folder / f"{number:06d}{_suffix(data, name)}", data)
                number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: the audio of row group {group} can't be read ({_first_line(error)})") from error
    write_whole(folder / "whole", f"{number}\n")


def _suffix(data: bytes, name: str | None) -> str:
    """What the bytes are: their beginning says it better than a name, which may be of another coding."""
    found = next((suffix for magic, suffix in _MAGIC.items() if data.startswith(magic)), None)
    named = os.path.splitext(name or "")[1].lower()
    return found or (named if named in AUDIO_SUFFIXES else ".wav")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip()[:200].rstrip(".")
