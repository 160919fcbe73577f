"""Write a mono signal as FLAC or Ogg Opus, the same bytes every time."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diarbench.simulate.speech import SAMPLE_RATE

AudioFormat: TypeAlias = Literal["flac", "opus"]

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def write_audio(path: Path, samples: NDArray[np.float32], serial: int) -> None:
    """A signal, shape (samples,) at 16 kHz, in the format that the suffix of `path` names: .flac (16 bits) or .opus.

    `serial` numbers the Ogg stream; libsndfile would draw it at random, and no two files would be the same.
    """
    import soundfile

    kind, subtype = ("OGG", "OPUS") if path.suffix == ".opus" else ("FLAC", "PCM_16")
    # In memory first: libsndfile tells nobody when the disk is full.
    encoded = io.BytesIO()
    with soundfile.SoundFile(encoded, "w", SAMPLE_RATE, 1, format=kind, subtype=subtype) as file:
        # libsndfile's Ogg encoders keep a whole write on the stack: minutes in one call end the process.
        for start in range(0, len(samples), SAMPLE_RATE):
            file.write(samples[start : start + SAMPLE_RATE])
    content = encoded.getvalue()
    path.write_bytes(_number_stream(content, serial) if kind == "OGG" else content)


def _number_stream(content: bytes, serial: int) -> bytes:
    """An Ogg stream with `serial` in each page, and the checksums to match (RFC 3533, section 6)."""
    pages: list[bytes] = []
    at = 0
    while at < len(content):
        segments = content[at + 26]
        stop = at + 27 + segments + sum(content[at + 27 : at + 27 + segments])
        page = bytearray(content[at:stop])
        page[14:18] = struct.pack("<I", serial % 2**32)
        page[22:26] = bytes(4)
        page[22:26] = struct.pack("<I", _ogg_checksum(bytes(page)))
        pages.append(bytes(page))
        at = stop
    return b"".join(pages)


def _ogg_checksum(page: bytes) -> int:
    # Ogg's CRC has zlib's polynomial, but takes bits from the other end, and neither begins nor ends inverted.
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
