"""Plain folders: audio files, RTTM, UEM and a list."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from diarbench.audio import AUDIO_SUFFIXES
from diarbench.cards import DatasetCard, Folder
from diarbench.errors import AudioError, InputError
from diarbench.loaders.corpus import Corpus, Signal
from diarbench.rttm import check_id, read_list, read_rttm, read_uem
from diarbench.types import Spans, Turns


def read_folder(root: Path, card: DatasetCard, folder: Folder) -> Corpus:
    """What lies in the folders. Raises InputError (or its kinds RttmError, AudioError)."""
    references = read_references(root / folder.reference)
    audio = index_audio(root / folder.audio) if folder.audio != "none" else None
    return Corpus(
        where=root,
        references=references,
        reference=str(root / folder.reference),
        audio=None if audio is None else {name: Signal(path, card.channel) for name, path in audio.items()},
        uems=read_card_uem(root, card),
        uem=str(root / card.uem),
        ids=read_list(root / folder.list) if folder.list is not None else None,
        list=str(root / (folder.list or "")),
        is_part=folder.list is not None,
        audio_hint="{id}.wav, .flac, .ogg, ...",
        silent_hint="if nobody speaks in it, add an empty {id}.rttm",
    )


def read_card_uem(root: Path, card: DatasetCard) -> dict[str, Spans] | None:
    """The scoring regions of the card's UEM file or folder; None for whole files.

    Raises InputError where it asks for regions of the layout, and the layout has none.
    """
    if card.uem == "layout" and not (root / card.uem).exists():
        raise InputError(
            f'{root}: uem = "layout" is for protocols of pyannote.database and for Hugging Face datasets; here, name a '
            'UEM file, or write "whole-file"'
        )
    return None if card.uem == "whole-file" else read_uems(root / card.uem)


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
                if any("\ud800" <= letter <= "\udfff" for letter in name):
                    raise InputError(f"{folder}: the name of the file {name!r} is not UTF-8; rename it")
                yield Path(folder, name)
