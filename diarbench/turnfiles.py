"""Turns from files of any format that is read (RTTM, SegLST, STM): one file, a folder, or a list of paths.

Strict, like rttm.py: an error names the file, and the line or the object. Knows nothing of scores.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from diarbench.errors import InputError, RttmError, did_you_mean
from diarbench.rttm import (
    TurnFile,
    Voices,
    check_id,
    excluded_of,
    merge_spans,
    read_lines,
    read_rttm_file,
    read_seconds,
    read_uem,
    remarks_on,
)
from diarbench.types import Spans, Turn, Turns

Value = TypeVar("Value")

# NIST's sclite documentation (infmts): such lines say where nobody speaks, or what not to score.
_STM_GAP, _STM_EXCLUDED = "inter_segment_gap", "excluded_region"
_STM_IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"
_STM_LABELS = re.compile(r"<[^<>\s]*>")

_SEGLST_KEYS = ("session_id", "speaker", "start_time", "end_time")


def read_seglst(path: Path) -> TurnFile:
    """Turns of a SegLST file (MeetEval, CHiME-7 and later).

    A JSON list of objects with `session_id`, `speaker`, `start_time` and `end_time` (s, as numbers or as text); other
    keys, such as `words`, carry no turns. Zero-length segments hold no time and are dropped. Raises RttmError, which
    counts objects from 1.
    """
    rows: dict[str, list[Turn]] = {}
    for number, segment in enumerate(_json_list(path), start=1):
        where = f"{path}, object {number}"
        if not isinstance(segment, dict):
            raise RttmError(where, None, "no JSON object; a SegLST file is a list of them")
        for key in _SEGLST_KEYS:
            if not isinstance(segment.get(key), str) or not segment[key]:
                shown = [other for other in segment if other.isprintable() and len(other) < 40]
                known = did_you_mean(key, shown) if key not in segment else ""
                problem = "is missing" if key not in segment else "is no text or number"
                raise RttmError(where, None, f"the key {key!r} {problem}{known}")
        session, speaker, start_text, end_text = (segment[key] for key in _SEGLST_KEYS)
        if not speaker.isprintable() or speaker != speaker.strip():
            raise RttmError(where, None, f"the speaker name {speaker[:60]!r} has characters that can't be shown")
        recording_id = check_id(session, where)
        _add(rows, recording_id, start_text, end_text, speaker, where, None)
    return TurnFile({recording_id: Turns.of(turns) for recording_id, turns in rows.items()})


def read_stm(path: Path) -> TurnFile:
    """Turns of an STM file (NIST sclite).

    A line is `recording channel speaker start end`, then maybe `<labels>` and words, which carry no turns. Lines for
    gaps between segments (`inter_segment_gap`) are passed over; an `excluded_region`, and a segment whose only word is
    IGNORE_TIME_SEGMENT_IN_SCORING, say what is not to be scored. Raises RttmError.
    """
    rows: dict[str, list[Turn]] = {}
    excluded: dict[str, list[Turn]] = {}
    voices = Voices()
    for number, fields in read_lines(path):
        if len(fields) < 5:
            raise RttmError(
                path,
                number,
                f"{len(fields)} columns; an STM line has 5 or more: recording channel speaker start end <labels> words",
            )
        recording_id = check_id(fields[0], path, number)
        words = fields[6:] if len(fields) > 5 and _STM_LABELS.fullmatch(fields[5]) else fields[5:]
        if fields[2].lower() == _STM_GAP:
            continue
        scored = fields[2].lower() != _STM_EXCLUDED and words != [_STM_IGNORED]
        _add(rows if scored else excluded, recording_id, fields[3], fields[4], fields[2], path, number)
        if scored:
            voices.add(recording_id, fields[2], fields[1])
    return TurnFile(
        {recording_id: Turns.of(turns) for recording_id, turns in rows.items()},
        {
            recording_id: merge_spans((turn.start, turn.end) for turn in turns)
            for recording_id, turns in excluded.items()
            if turns
        },
        voices.across(),
    )


FORMATS: Mapping[str, Callable[[Path], TurnFile]] = {
    "rttm": read_rttm_file,
    "seglst": read_seglst,
    "stm": read_stm,
}
_ENDINGS = {".rttm": "rttm", ".json": "seglst", ".stm": "stm"}


@dataclass(frozen=True, slots=True)
class Side:
    """What the files of one side say: references, or hypotheses of one system."""

    turns: dict[str, Turns]  # by recording id
    excluded: dict[str, Spans] = field(default_factory=dict)  # what references mark as not to be scored, likewise
    remarks: tuple[str, ...] = ()  # what a user should be told of the files, in sentences


def read_turns(places: Sequence[Path | str], format: str | None = None) -> dict[str, Turns]:
    """Turns by recording id: those of `read_side`. Raises InputError."""
    return read_side(places, format).turns


def read_side(places: Sequence[Path | str], format: str | None = None, *, reference: bool = True) -> Side:
    """What is said in files, folders of them (sub-folders included), and lists of paths (`@FILE`).

    A format of FORMATS, or None: by the ending .rttm, .json (SegLST) or .stm; RTTM where a file has another. A folder
    that holds RTTM is read as RTTM. A file ID.rttm without turns says that nobody speaks in ID. Only a reference can
    mark time as not to be scored (as in md-eval). Raises InputError for an id in two files.
    """
    if format is not None and format not in FORMATS:
        raise InputError(f"no format {format!r} of turns{did_you_mean(format, FORMATS)}")
    listed: list[tuple[Path, str]] = []
    for place in _listed(places):
        listed += _folder(place, format) if os.path.isdir(place) else [(place, format or _format(place))]
    files = [(path, FORMATS[kind](path)) for path, kind in listed]
    turns = _merged((path, file.turns or {check_id(path.stem, path): Turns.of([])}) for path, file in files)
    return Side(
        turns,
        excluded_of(file for _, file in files) if reference else {},
        remarks_on(dict(files), reference=reference),
    )


def read_regions(places: Sequence[Path | str]) -> dict[str, Spans]:
    """Scoring regions by recording id, from UEM files, folders of them, and lists of paths (`@FILE`).

    Raises InputError for an id in two files.
    """
    files: list[Path] = []
    for place in _listed(places):
        found = list(_files(place, (".uem",))) if os.path.isdir(place) else [place]
        if not found:
            raise InputError(f"{place}: no .uem file in this folder")
        files += found
    return _merged((path, read_uem(path)) for path in files)


def read_paths(path: Path) -> list[Path]:
    """The paths in a list file, one per line (blanks within are kept); `#` begins a comment. Raises RttmError."""
    paths = []
    for number, line in read_lines(path, whole=True):
        if not line[0].isprintable():
            raise RttmError(path, number, f"{line[0][:60]!r} is no path: one path per line was expected")
        paths.append(Path(line[0]))
    if not paths:
        raise RttmError(path, None, "no path in this list; one path per line was expected")
    return paths


def _listed(places: Sequence[Path | str]) -> Iterable[Path]:
    for place in places:
        if str(place).startswith("@"):
            yield from read_paths(Path(str(place)[1:]))
        else:
            yield Path(place)


def _format(path: Path) -> str:
    return _ENDINGS.get(path.suffix.lower(), "rttm")


def _folder(place: Path, format: str | None) -> list[tuple[Path, str]]:
    """The files of a folder that are of one format, and this format."""
    endings = tuple(ending for ending, kind in _ENDINGS.items() if format in (None, kind))
    files = [(path, _format(path)) for path in _files(place, endings)]
    kinds = {kind for _, kind in files}
    if not files:
        raise InputError(f"{place}: no {' or '.join(endings)} file in this folder")
    if "rttm" in kinds:
        return [file for file in files if file[1] == "rttm"]
    if len(kinds) > 1:
        raise InputError(f"{place}: files of the formats {' and '.join(sorted(kinds))}; say which are meant")
    return files


def _files(place: Path, endings: tuple[str, ...]) -> Iterable[Path]:
    for folder, folders, names in os.walk(place):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(endings) and not name.startswith("."):
                yield Path(folder, name)


def _merged(files: Iterable[tuple[Path, dict[str, Value]]]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    origin: dict[str, Path] = {}
    for path, values in files:
        for recording_id in values:
            if recording_id in origin:
                raise InputError(f"{path}: the recording id {recording_id!r} is also in {origin[recording_id]}")
            origin[recording_id] = path
        found.update(values)
    return found


def _add(
    rows: dict[str, list[Turn]],
    recording_id: str,
    start_text: str,
    end_text: str,
    speaker: str,
    path: Path | str,
    line: int | None,
) -> None:
    start = read_seconds(start_text, "start", path, line)
    end = read_seconds(end_text, "end", path, line)
    if start < 0:
        raise RttmError(path, line, f"the start is negative ({start_text})")
    if end < start:
        raise RttmError(path, line, f"it ends ({end_text}) before it starts ({start_text})")
    turns = rows.setdefault(recording_id, [])
    if end > start:
        turns.append(Turn(start, end, speaker))


def _json_list(path: Path) -> list[Any]:
    """The items of a JSON list; numbers are kept as text, as they were written."""
    try:
        items = json.loads(path.read_bytes().decode("utf-8-sig"), parse_float=str, parse_int=str, parse_constant=str)
    except UnicodeDecodeError as error:
        raise RttmError(path, None, f"not a UTF-8 text file (byte {error.start})") from error
    except OSError as error:
        raise RttmError(path, None, f"can't be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise RttmError(path, error.lineno, f"no JSON: {error.msg} (column {error.colno})") from error
    except RecursionError as error:
        raise RttmError(path, None, "no SegLST: lists within lists within lists") from error
    if not isinstance(items, list):
        raise RttmError(path, None, "no JSON list; a SegLST file is a list of objects with " + ", ".join(_SEGLST_KEYS))
    return items
