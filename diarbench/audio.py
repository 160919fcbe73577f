"""Decode audio files: header checks, channel rules, resampling. Everything here is outside the clock."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diarbench.errors import AudioError
from diarbench.types import Audio, Recording, Samples, Seconds

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".w64", ".rf64", ".aiff", ".sph")

# MP3 headers estimate the number of frames (measured: 114246 promised, 114048 decoded), so only a larger gap
# means that audio is missing.
_TOLERANCE = {".mp3": 0.1}  # s


@dataclass(frozen=True, slots=True)
class Header:
    """What an audio file says of itself."""

    duration: Seconds
    sample_rate: int  # Hz, in the file
    channels: int


def read_header(path: Path) -> Header:
    """The header of an audio file, without decoding it.

    Raises AudioError where the file is missing, empty, no audio, or (WAV) shorter than its header promises.
    """
    import soundfile

    if not path.is_file():
        raise AudioError(f"{path}: no such audio file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)")
    _check_wav_length(path)
    try:
        info = soundfile.info(str(path))
    except (RuntimeError, OSError) as error:
        raise AudioError(f"{path}: can't be read as audio ({_reason(error)})") from error
    if info.frames <= 0:
        raise AudioError(f"{path}: holds no audio (0 samples)")
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

    Raises AudioError where the file can't be decoded, or holds less than its header promises.
    """
    import soundfile

    if recording.path is None:
        raise AudioError(
            f"{recording.id}: this dataset has no audio; only systems that replay stored outputs run on it"
        )
    header = read_header(recording.path)
    check_channels(recording.path, header.channels, recording.channel)
    try:
        samples, rate = soundfile.read(str(recording.path), dtype="float32", always_2d=True)
    except (RuntimeError, OSError) as error:
        raise AudioError(f"{recording.path}: decoding failed ({_reason(error)})") from error
    tolerance = _TOLERANCE.get(recording.path.suffix.lower(), 0.0)
    if len(samples) / rate < header.duration - tolerance - 1 / rate:
        raise AudioError(
            f"{recording.path}: truncated: the header promises {header.duration:.3f} s, "
            f"{len(samples) / rate:.3f} s could be decoded"
        )
    signal = _select_channels(samples.T, recording.channel)
    return Audio(recording, resample(signal, rate, recording.sample_rate))


def resample(samples: Samples, rate: int, target: int) -> Samples:
    """(channels, samples) at `rate` Hz to `target` Hz, as a contiguous read-only array."""
    if rate != target:
        import soxr

        samples = soxr.resample(samples.T, rate, target, quality="HQ").T
    result: NDArray[np.float32] = np.ascontiguousarray(samples, dtype=np.float32)
    if result is samples and not result.flags.owndata:
        result = result.copy()
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


def _check_wav_length(path: Path) -> None:
    """libsndfile silently shortens a WAV whose data chunk runs past the end of the file; we refuse it."""
    with path.open("rb") as file:
        head = file.read(12)
        if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return
        size = path.stat().st_size
        while len(chunk := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", chunk)
            if name == b"data":
                # 0 and 0xFFFFFFFF are written by programs that stream to a pipe: the length is not known.
                held = size - file.tell()
                if length not in (0, 0xFFFFFFFF) and length > held:
                    raise AudioError(
                        f"{path}: truncated: the header promises {length} bytes of samples, the file holds {held}"
                    )
                return
            file.seek(length + length % 2, 1)


def _reason(error: Exception) -> str:
    # soundfile repeats the path in its message; ours names it already.
    return str(error).rsplit(": ", 1)[-1].strip().rstrip(".")
