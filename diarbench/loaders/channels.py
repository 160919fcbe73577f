"""Channels that lie in several files, put into one file of the cache, sample for sample."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from diarbench.audio import read_header
from diarbench.errors import AudioError, StoreError
from diarbench.fetch import cache_folder
from diarbench.files import digest_of

_BLOCK = 1 << 18  # samples per channel that are held at a time
_WAV_LIMIT = 4_000_000_000  # bytes: a WAV counts them in 32 bits
_BYTES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4}


class Part(NamedTuple):
    """One channel: a file, and which of its channels, from 0."""

    path: Path
    channel: int


def combined(parts: Sequence[Part]) -> Path:
    """A file with these channels in their order, made when it is not in the cache yet.

    PCM stays what it is, other coding becomes 32-bit float. Raises AudioError where the files differ in rate or length;
    StoreError where the cache can't be written.
    """
    headers = [read_header(part.path) for part in parts]
    for part, header in zip(parts, headers, strict=True):
        if (header.sample_rate, header.duration) != (headers[0].sample_rate, headers[0].duration):
            raise AudioError(
                f"{part.path}: {header.duration:.4f} s at {header.sample_rate} Hz, but {parts[0].path}, of the same "
                f"recording, {headers[0].duration:.4f} s at {headers[0].sample_rate} Hz"
            )
        if part.channel >= header.channels:
            raise AudioError(f"{part.path}: has {header.channels} channels; number {part.channel} is asked for")
    status = [part.path.stat() for part in parts]
    identity = [
        [str(part.path.resolve()), part.channel, one.st_size, one.st_mtime_ns]
        for part, one in zip(parts, status, strict=True)
    ]
    target = cache_folder() / "combined" / f"{digest_of(identity)[:32]}.wav"
    if not target.is_file():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".writing-", dir=target.parent)
            os.close(handle)
            try:
                _write(parts, Path(name))
                os.replace(name, target)
            finally:
                Path(name).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{target}: can't be written ({error.strerror or error})") from error
    return target


def _write(parts: Sequence[Part], target: Path) -> None:
    import numpy as np
    import soundfile

    with ExitStack() as stack:
        opened: list[Any] = []
        try:
            opened += [stack.enter_context(soundfile.SoundFile(str(part.path))) for part in parts]
        except RuntimeError as error:
            raise AudioError(f"{parts[len(opened)].path}: can't be read as audio") from error
        subtypes = {file.subtype for file in opened}
        subtype = subtypes.pop() if len(subtypes) == 1 and subtypes <= set(_BYTES) else "FLOAT"
        kind = "float32" if subtype == "FLOAT" else "int32"
        size = opened[0].frames * len(parts) * _BYTES[subtype]
        container = "WAV" if size < _WAV_LIMIT else "RF64"
        rate = opened[0].samplerate
        output = stack.enter_context(soundfile.SoundFile(str(target), "w", rate, len(parts), subtype, format=container))
        left = opened[0].frames
        while left > 0:
            blocks = [file.read(min(_BLOCK, left), dtype=kind, always_2d=True) for file in opened]
            if any(len(block) != min(_BLOCK, left) for block in blocks):
                raise AudioError(f"{parts[0].path}: truncated, or another file of the same recording is")
            columns = [block[:, part.channel] for block, part in zip(blocks, parts, strict=True)]
            output.write(np.stack(columns, axis=1))
            left -= len(columns[0])
