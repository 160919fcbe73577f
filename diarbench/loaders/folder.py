"""Plain folders: audio files, RTTM, UEM and a list."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from diarbench.audio import AUDIO_SUFFIXES, Header, check_channels, read_header
from diarbench.cards import DatasetCard, Folder
from diarbench.errors import AudioError, InputError, RttmError
from diarbench.rttm import check_id, read_list, read_rttm, read_uem
from diarbench.types import LabelledRecording, Recording, Spans, Turns

# A scoring region may end a little after the audio: annotation tools round up.
_END_TOLERANCE = 0.1  # s


def load_folder(root: Path, card: DatasetCard, folder: Folder) -> tuple[list[LabelledRecording], tuple[str, ...]]:
    """Recordings with references and scoring regions, and notes on what was passed over.

    Raises InputError (or its kinds RttmError, AudioError) for the first thing that doesn't hold together.
    """
    references = read_references(root / folder.reference)
    uems = None if card.uem == "whole-file" else read_uems(root / card.uem)
    audio = index_audio(root / folder.audio) if folder.audio != "none" else None
    ids = read_list(root / folder.list) if folder.list is not None else sorted(references)
    recordings, late = [], []
    for recording_id in ids:
        if recording_id not in references:
            raise InputError(
                f"{root / (folder.list or '')}: the recording {recording_id!r} is in the list, but not in the "
                f"references ({root / folder.reference}); if nobody speaks in it, add an empty {recording_id}.rttm"
            )
        if uems is not None and recording_id not in uems:
            raise InputError(f"{root / card.uem}: no scoring region for the recording {recording_id!r}")
        uem = uems[recording_id] if uems is not None else None
        recording = _recording(recording_id, card, audio, root, references[recording_id], uem)
        recordings.append(recording)
        if uems is None and recording.reference.ends.max(initial=0.0) > recording.uem[-1][1] + _END_TOLERANCE:
            late.append(recording_id)
    notes = []
    if late:
        notes.append(f"{root}: {len(late)} references go on after their audio ends, which is not scored ({late[0]})")
    # A list or a UEM that names the recordings says by itself that the rest is not meant.
    named = folder.list is not None or (uems is not None and set(uems) == set(ids))
    if not named:
        notes += _left_out(root, audio or {}, references, uems or {})
    return recordings, tuple(notes)


def read_references(place: Path) -> dict[str, Turns]:
    """References by recording id, from an RTTM file or from all .rttm files of a folder.

    A file ID.rttm without turns says that nobody speaks in ID. Raises InputError for an id in two files.
    """
    if not place.is_dir():
        return read_rttm(place)
    found: dict[str, Turns] = {}
    origin: dict[str, Path] = {}
    for path in _files(place, ".rttm"):
        turns = read_rttm(path) or {check_id(path.stem, path): Turns.of([])}
        for recording_id in turns:
            if recording_id in origin:
                raise InputError(f"{path}: the recording id {recording_id!r} is also in {origin[recording_id]}")
            origin[recording_id] = path
        found.update(turns)
    return found


def read_uems(place: Path) -> dict[str, Spans]:
    """Scoring regions by recording id, from a UEM file or from all .uem files of a folder."""
    if not place.is_dir():
        return read_uem(place)
    found: dict[str, Spans] = {}
    for path in _files(place, ".uem"):
        for recording_id, spans in read_uem(path).items():
            if recording_id in found:
                raise InputError(f"{path}: the recording id {recording_id!r} is in another UEM file too")
            found[recording_id] = spans
    return found


def index_audio(place: Path) -> dict[str, Path]:
    """Audio files by recording id (the name without its ending), sub-folders included; links to folders are not
    followed. Raises InputError for an id with two files, AudioError where the folder is missing."""
    if not place.is_dir():
        raise AudioError(f"{place}: no such folder of audio files")
    found: dict[str, Path] = {}
    for path in _files(place, *AUDIO_SUFFIXES):
        if path.stem in found:
            raise InputError(f"{path}: the recording id {path.stem!r} has another audio file: {found[path.stem]}")
        found[path.stem] = path
    return found


def _files(place: Path, *suffixes: str) -> Iterable[Path]:
    for folder, folders, names in os.walk(place):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(suffixes) and not name.startswith("."):
                yield Path(folder, name)


def _recording(
    recording_id: str,
    card: DatasetCard,
    audio: dict[str, Path] | None,
    root: Path,
    reference: Turns,
    uem: Spans | None,
) -> LabelledRecording:
    if audio is None:
        duration = max((end for _, end in uem), default=0.0) if uem else 0.0
        if uem is None:
            raise InputError(
                f'{root}: without audio the length of {recording_id!r} is not known, so uem = "whole-file" can\'t '
                "hold; name a UEM file"
            )
        return LabelledRecording(Recording(recording_id, None, duration, card.sample_rate), reference, uem)
    if recording_id not in audio:
        raise AudioError(
            f"{root}: no audio file for the recording {recording_id!r} ({recording_id}.wav, .flac, .ogg, ...)"
        )
    path = audio[recording_id]
    header: Header = read_header(path)
    check_channels(path, header.channels, card.channel)
    if uem is not None and uem[-1][1] > header.duration + _END_TOLERANCE:
        raise RttmError(
            root / card.uem,
            None,
            f"the scoring region of {recording_id!r} ends at {uem[-1][1]:g} s, its audio at {header.duration:g} s",
        )
    recording = Recording(recording_id, path, header.duration, card.sample_rate, card.channel)
    return LabelledRecording(recording, reference, uem if uem is not None else ((0.0, header.duration),))


def _left_out(root: Path, audio: Iterable[str], references: Iterable[str], uems: Iterable[str]) -> list[str]:
    """What has no reference, where no list says which recordings are meant."""
    notes = []
    for what, ids in (("audio files", audio), ("scoring regions", uems)):
        if unlabelled := sorted(set(ids) - set(references)):
            notes.append(f"{root}: {len(unlabelled)} {what} have no reference and are left out ({unlabelled[0]}, ...)")
    return notes
