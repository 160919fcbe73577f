"""Decode audio files: header checks, channel rules, resampling. Everything here is outside the clock."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from diarbench.errors import AudioError
from diarbench.types import MAX_TIME, Audio, Recording, Samples, Seconds

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".w64", ".rf64", ".aiff", ".sph")

# MP3 headers estimate the number of frames (measured: 114246 promised, 114048 decoded), so only a larger gap
# means that audio is missing.
_TOLERANCE = {".mp3": 0.1}  # s

_BLOCK = 1 << 20  # samples of each channel that are decoded at once

_MARGIN = 0.05  # s on both sides of a part that is resampled: longer than the filter

# A header outside of this is damaged: resampling 1 Hz to 16 kHz would fill the memory.
_SAMPLE_RATES = (1000, 1_000_000)  # Hz, lowest and highest

_OGG_PAGE = 65307  # bytes, the longest that an Ogg page can be (RFC 3533, section 6)

# What programs that write a WAV to a pipe put where they don't know its length.
_STREAMED = (range(0x7FFFF000, 0x80000000), range(0xFFFFF000, 0x100000000))  # bytes


@dataclass(frozen=True, slots=True)
class Header:
    """What an audio file says of itself."""

    duration: Seconds
    sample_rate: int  # Hz, in the file
    channels: int


def read_header(path: Path) -> Header:
    """The header of an audio file, without decoding it.

    Raises AudioError where the file is missing, empty, no audio, of unknown length, or shorter than its header
    promises as far as that can be told without decoding (WAV, RF64, W64, AIFF, SPHERE, Ogg; `decode` finds the rest).
    """
    import soundfile

    if not path.is_file():
        link = "; it is a link that leads nowhere, or to itself" if path.is_symlink() else ""
        raise AudioError(f"{path}: no such audio file{link}")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)")
    try:
        _check_length(path)
        info = soundfile.info(str(path))
    except (RuntimeError, OSError) as error:
        raise AudioError(f"{path}: can't be read as audio ({_reason(error)})") from error
    if info.frames <= 0:
        raise AudioError(f"{path}: holds no audio (0 samples)")
    if not _SAMPLE_RATES[0] <= info.samplerate <= _SAMPLE_RATES[1]:
        raise AudioError(f"{path}: its header gives a sample rate of {info.samplerate} Hz; it is damaged, or no speech")
    if info.frames / info.samplerate > MAX_TIME:  # libsndfile's answer for a FLAC that was written to a pipe
        raise AudioError(f"{path}: its header does not say how long it is; write it anew, to a file and not to a pipe")
    return Header(info.frames / info.samplerate, info.samplerate, info.channels)


def check_channels(path: Path, channels: int, rule: str | int | None) -> None:
    """Raises AudioError where `rule` does not say what to do with a file of so many channels."""
    if isinstance(rule, int) and not 0 <= rule < channels:
        raise AudioError(f"{path}: has {channels} channels (0 to {channels - 1}); the card asks for channel {rule}")
    if rule is None and channels > 1:
        raise AudioError(
            f'{path}: has {channels} channels, and the dataset card names no channel rule; add channel = "first", '
            '"mix" (their mean) or a number to the card'
        )


def decode(recording: Recording) -> Audio:
    """The signal of a recording: channel rule applied, resampled (soxr, high quality) to its sample rate.

    Raises AudioError where the file can't be decoded, holds less than its header promises, or samples that are no
    numbers (NaN, infinity: a float WAV may).
    """
    if recording.path is None:
        raise AudioError(
            f"{recording.id}: this dataset has no audio; only systems that replay stored outputs run on it"
        )
    header = read_header(recording.path)
    check_channels(recording.path, header.channels, recording.channel)
    try:
        signal = _read_signal(recording.path, recording.channel)
    except (RuntimeError, OSError) as error:
        raise AudioError(f"{recording.path}: decoding failed ({_reason(error)})") from error
    rate = header.sample_rate
    tolerance = _TOLERANCE.get(recording.path.suffix.lower(), 0.0)
    if signal.shape[1] / rate < header.duration - tolerance - 1 / rate:
        raise AudioError(
            f"{recording.path}: truncated: the header promises {header.duration:.3f} s, "
            f"{signal.shape[1] / rate:.3f} s could be decoded"
        )
    if rate != recording.sample_rate:
        signal = resample(signal, rate, recording.sample_rate)
    if not _finite(signal):
        raise AudioError(f"{recording.path}: holds samples that are no numbers (NaN or infinity)")
    signal.flags.writeable = False
    return Audio(recording, signal)


def _read_signal(path: Path, rule: str | int | None) -> Samples:
    """(1, samples) by the channel rule, block by block: the other channels of a file are never held whole."""
    import soundfile

    with soundfile.SoundFile(str(path)) as file:
        signal = np.empty((1, file.frames), dtype=np.float32)
        found = 0
        while found < file.frames:
            block = file.read(min(_BLOCK, file.frames - found), dtype="float32", always_2d=True)
            if not len(block):
                break
            signal[:, found : found + len(block)] = _select_channels(block.T, rule)
            found += len(block)
    return signal[:, :found]


def _finite(signal: Samples) -> bool:
    """Whether all samples are numbers; their least and greatest say it, without a mask as long as the signal."""
    return signal.size == 0 or bool(np.isfinite([signal.min(), signal.max()]).all())


def decode_part(recording: Recording, start: Seconds, samples: int) -> NDArray[np.float32]:
    """So many samples from `start` on, (samples,): one channel, by the channel rule, at the recording's sample rate.

    Only this part of the file is read, so that windows of long recordings cost no more than those of short ones.
    Raises AudioError where the file can't be decoded or ends before, or where the rule leaves several channels.
    """
    import soundfile

    if recording.path is None:
        raise AudioError(f"{recording.id}: this dataset has no audio to train on")
    target = recording.sample_rate
    try:
        with soundfile.SoundFile(str(recording.path)) as file:
            check_channels(recording.path, file.channels, recording.channel)
            rate = file.samplerate
            margin = 0 if rate == target else round(_MARGIN * rate)
            first = round(start * rate)
            before = min(first, margin)
            file.seek(first - before)
            wanted = math.ceil(samples * rate / target) + before + margin
            part = file.read(wanted, dtype="float32", always_2d=True)
    except (RuntimeError, OSError) as error:
        raise AudioError(f"{recording.path}: decoding from {start:g} s on failed ({_reason(error)})") from error
    signal = _select_channels(part.T, recording.channel)
    found = resample(signal, rate, target)[0, round(before * target / rate) :][:samples]
    if len(found) < samples - 1:
        raise AudioError(f"{recording.path}: ends before {start + samples / target:.3f} s, as its header had promised")
    if not np.isfinite(found).all():
        raise AudioError(f"{recording.path}: holds samples that are no numbers (NaN or infinity)")
    return np.pad(found, (0, samples - len(found)))


def resample(samples: Samples, rate: int, target: int) -> Samples:
    """(channels, samples) at `rate` Hz to `target` Hz, as a contiguous read-only array."""
    if rate != target:
        import soxr

        samples = soxr.resample(samples.T, rate, target, quality="HQ").T
    result: NDArray[np.float32] = np.array(samples, dtype=np.float32, order="C")  # a copy: the caller's stays as it was
    result.flags.writeable = False
    return result


def _select_channels(samples: Samples, rule: str | int | None) -> Samples:
    if rule == "first":
        return samples[:1]
    if rule == "mix":
        return np.asarray(samples.mean(axis=0, keepdims=True, dtype=np.float32))
    if isinstance(rule, int):
        return samples[rule : rule + 1]
    return samples


def _check_length(path: Path) -> None:
    """libsndfile silently shortens files of these formats that end before they should; we refuse them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1024)
        if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
            file.seek(12)
            promised, held = _wav_data(file, size)
        elif head[:4] == b"OggS":
            _check_ogg_end(path, file, size)
            return
        elif head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
            promised, held = struct.unpack(">I", head[4:8])[0], size - 7  # the pad byte at the end may be left out
        elif head[:4] == b"RF64" and head[12:16] == b"ds64" and len(head) >= 28:
            promised, held = struct.unpack("<Q", head[20:28])[0], size - 8
        elif head[:4] == b"riff" and len(head) >= 24:  # Sony Wave64: the length counts its own header
            promised, held = struct.unpack("<Q", head[16:24])[0], size
        elif head[:8] == b"NIST_1A\n":
            promised, held = _sphere_samples(head), size - 1024
        else:
            return
    if promised > held:
        raise AudioError(f"{path}: truncated: the header promises {promised} bytes, the file holds {held}")


def _wav_data(file: BinaryIO, size: int) -> tuple[int, int]:
    """Bytes of samples that a WAV's data chunk promises, and that are there; the file stands at its first chunk."""
    while len(chunk := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", chunk)
        if name == b"data":
            held = size - file.tell()
            return (0 if any(length in lengths for lengths in _STREAMED) else length), held
        file.seek(length + length % 2, 1)
    return 0, 0  # libsndfile says that there is no data chunk


def _sphere_samples(head: bytes) -> int:
    """Bytes of samples that the header of a NIST SPHERE file promises; 0 where it doesn't say."""
    fields = {name: int(value) for name, value in re.findall(rb"^(\w+) -i (\d+)\s*$", head, re.MULTILINE)}
    return fields.get(b"sample_count", 0) * fields.get(b"channel_count", 1) * fields.get(b"sample_n_bytes", 0)


def _check_ogg_end(path: Path, file: BinaryIO, size: int) -> None:
    """Raises AudioError unless the last page ends the stream (RFC 3533, section 6) and is there as a whole."""
    file.seek(max(0, size - 2 * _OGG_PAGE))
    tail = file.read()
    start = tail.rfind(b"OggS")
    page = tail[start:]
    segments = page[27 : 27 + page[26]] if start >= 0 and len(page) > 26 else b""
    whole = len(page) > 26 and len(segments) == page[26] and len(page) >= 27 + len(segments) + sum(segments)
    if not (whole and page[5] & 4):
        raise AudioError(f"{path}: truncated: the Ogg stream breaks off before its end; copy or encode it anew")


def _reason(error: Exception) -> str:
    # soundfile repeats the path in its message; ours names it already.
    return str(error).rsplit(": ", 1)[-1].strip().rstrip(".")
