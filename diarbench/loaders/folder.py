"""Plain folders: audio files, RTTM, UEM and a list."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from diarbench.audio import AUDIO_SUFFIXES
from diarbench.cards import DatasetCard, Folder
from diarbench.errors import AudioError, InputError
from diarbench.loaders.corpus import Corpus, Signal
from diarbench.rttm import TurnFile, check_id, read_list, read_rttm_file, read_uem
from diarbench.types import Spans, Turns

_NEARLY_WHOLE = ("whole", "whole-files", "wholefile", "file", "full")  # what people write for "whole-file"


def read_folder(root: Path, card: DatasetCard, folder: Folder) -> Corpus:
    """What lies in the folders. Raises InputError (or its kinds RttmError, AudioError)."""
    references = read_reference_files(root / folder.reference)
    audio = None if folder.audio == "none" else find_audio(root, folder.audio)
    return Corpus(
        where=root,
        references=references.turns,
        files=references.files,
        reference=str(root / folder.reference),
        audio=None if audio is None else {name: Signal(path, card.channel) for name, path in audio.items()},
        uems=read_card_uem(root, card),
        uem=str(root / card.uem),
        ids=read_part(root / folder.list) if folder.list is not None else None,
        list=str(root / (folder.list or "")),
        is_part=folder.list is not None,
        audio_hint=folder.audio if "{id}" in folder.audio else "{id}.wav, .flac, .ogg, ...",
        silent_hint="if nobody speaks in it, add an empty {id}.rttm",
    )


def read_part(path: Path) -> list[str]:
    """The ids of a part list: one per line, or those that a .uem file has regions of. Raises RttmError."""
    return list(read_uem(path)) if path.suffix.lower() == ".uem" else read_list(path)


def read_card_uem(root: Path, card: DatasetCard) -> dict[str, Spans] | None:
    """The scoring regions of the card's UEM file or folder; None for whole files.

    Raises InputError where it asks for regions of the layout, and the layout has none.
    """
    if card.uem == "layout" and not (root / card.uem).exists():
        raise InputError(
            f'{root}: uem = "layout" is for protocols of pyannote.database and for Hugging Face datasets; here, name a '
            'UEM file, or write "whole-file"'
        )
    if card.uem.replace("_", "-").lower() in _NEARLY_WHOLE and not (root / card.uem).exists():
        raise InputError(f'{root}: there is no UEM file {card.uem!r}; to score whole files, write uem = "whole-file"')
    return None if card.uem == "whole-file" else read_uems(root / card.uem)


class References(NamedTuple):
    """What files of references say."""

    turns: dict[str, Turns]  # by recording id
    files: dict[Path, TurnFile]  # those that mark time, or have a speaker in two channels


def read_references(place: Path) -> dict[str, Turns]:
    """The turns of `read_reference_files`, by recording id. Raises InputError."""
    return read_reference_files(place).turns


def read_reference_files(place: Path) -> References:
    """References from an RTTM file or from all .rttm files of a folder.

    A file ID.rttm without turns says that nobody speaks in ID. Raises InputError for an id in two files.
    """
    if not place.is_dir():
        file = read_rttm_file(place)
        return References(file.turns, {place: file} if file.excluded or file.across else {})
    files: dict[Path, TurnFile] = {}
    found: dict[str, Turns] = {}
    origin: dict[str, Path] = {}
    for path in _files(place, ".rttm"):
        file = read_rttm_file(path)
        if file.excluded or file.across:
            files[path] = file
        turns = file.turns or {check_id(path.stem, path): Turns.of([])}
        for recording_id in turns:
            if recording_id in origin:
                raise InputError(f"{path}: the recording id {recording_id!r} is also in {origin[recording_id]}")
            origin[recording_id] = path
        found.update(turns)
    return References(found, files)


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


def find_audio(root: Path, audio: str) -> dict[str, Path]:
    """Audio files by recording id, in a folder below `root`, or of a pattern such as "*/{id}.Array1-01.wav".

    Raises InputError for an id with two files, AudioError where there is no such folder, or nothing of that pattern.
    """
    if "{id}" not in audio:
        return index_audio(root / audio)
    if "**" in audio or audio.startswith("/") or ".." in audio.split("/"):
        raise InputError(f"{root}: audio = {audio!r}: a pattern lies below the root, and `*` stands for part of a name")
    found: dict[str, Path] = {}
    for path, recording_id in _matches(root, audio):
        if recording_id in found:
            raise InputError(f"{path}: the recording id {recording_id!r} has another audio file: {found[recording_id]}")
        found[recording_id] = path
    if not found:
        raise AudioError(f"{root}: no audio file is called {audio}")
    return found


def _matches(root: Path, pattern: str) -> Iterator[tuple[Path, str]]:
    """Files of a pattern, sorted, each with what stands for {id}, the same wherever it is in the pattern."""
    parts = [re.escape(part).replace(r"\*", "[^/]*") for part in pattern.split("{id}")]
    wanted = re.compile(f"{parts[0]}(?P<id>[^/]+?){'(?P=id)'.join(parts[1:])}")
    for path in sorted(root.glob(_no_brackets(pattern).replace("{id}", "*"))):
        _check_name(path.parent, path.name)
        if (match := wanted.fullmatch(path.relative_to(root).as_posix())) and not path.is_dir():
            yield path, match["id"]


def _no_brackets(pattern: str) -> str:
    """A pattern in which [ and ? stand for themselves."""
    return re.sub(r"([\[?])", r"[\1]", pattern)


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
                _check_name(folder, name)
                yield Path(folder, name)


def _check_name(folder: Path | str, name: str) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise InputError(f"{folder}: the name of the file {name!r} is not UTF-8; rename it")
