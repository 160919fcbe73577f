"""RTTM, UEM and list files: strict readers whose errors name file and line, and one writer each."""

from __future__ import annotations

import re
import sys
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from diarbench.errors import RttmError, counted
from diarbench.types import MAX_TIME, Seconds, Spans, Turns

Value = TypeVar("Value")

# An id names files and folders, so it may hold nothing that a file system or an RTTM line reads otherwise.
_ID = re.compile(r"(?!\.)[^\s/\\:\x00-\x1f\x7f\ud800-\udfff]+")
_ID_BYTES = 200  # file systems allow 255 for a name with its ending

# float() would also take "1_0", "infinity" and digits of other scripts.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")


def check_id(text: str, path: Path | str, line: int | None = None) -> str:
    """The id, if it is safe as a file name and as an RTTM field; raises RttmError otherwise."""
    if not _ID.fullmatch(text) or len(text.encode()) > _ID_BYTES:
        raise RttmError(
            path,
            line,
            f"the recording id {text[:60]!r} can't be used: ids have 1 to {_ID_BYTES} bytes, don't begin with a dot, "
            "and hold no white space, slash, backslash or colon",
        )
    return text


@dataclass(frozen=True, slots=True)
class TurnFile:
    """What one file of turns says."""

    turns: dict[str, Turns]  # by recording id
    excluded: dict[str, Spans] = field(default_factory=dict)  # time that is marked as not to be scored, likewise
    # Speakers that have turns in several channels of one recording, which are read as one: by recording id.
    across: dict[str, tuple[str, ...]] = field(default_factory=dict)


class Voices:
    """Notes which speakers have turns in several channels of one recording."""

    def __init__(self) -> None:
        self._channels: dict[tuple[str, str], str] = {}
        self._across: defaultdict[str, set[str]] = defaultdict(set)

    def add(self, recording_id: str, speaker: str, channel: str) -> None:
        """One turn."""
        if self._channels.setdefault((recording_id, speaker), channel) != channel:
            self._across[recording_id].add(speaker)

    def across(self) -> dict[str, tuple[str, ...]]:
        """As `TurnFile.across`."""
        return {recording_id: tuple(sorted(speakers)) for recording_id, speakers in self._across.items()}


def read_rttm(path: Path) -> dict[str, Turns]:
    """All SPEAKER lines of an RTTM file, by recording id: the turns of `read_rttm_file`. Raises RttmError."""
    return read_rttm_file(path).turns


def read_rttm_file(path: Path) -> TurnFile:
    """All SPEAKER and NOSCORE lines of an RTTM file.

    Other line types (SPKR-INFO, LEXEME, ...) carry no turns and are passed over; `;;` begins a comment.
    Zero-length turns hold no time and are dropped. An end is the exact decimal sum of start and duration, so that
    turns that touch on paper (0.7 + 0.1 and 0.8) touch here. Raises RttmError for a line that can't be read.
    """
    # In columns of eight bytes each: as tuples, the turns of a thousand hours would take 100 MB while they are read.
    rows: dict[str, tuple[array[float], array[float], list[str]]] = {}
    excluded: dict[str, list[tuple[Seconds, Seconds]]] = {}
    voices = Voices()
    for number, fields in read_lines(path):
        if fields[0] == "NOSCORE":
            if len(fields) < 5:
                raise RttmError(
                    path,
                    number,
                    f"{len(fields)} columns; a NOSCORE line has 5 or more: NOSCORE id channel start duration",
                )
            start, end = _span(fields, path, number)
            excluded.setdefault(check_id(fields[1], path, number), []).append((start, end))
            continue
        if fields[0] != "SPEAKER":
            if fields[0] not in _OTHER_TYPES:
                raise RttmError(path, number, f"{fields[0][:60]!r} is no RTTM line type; SPEAKER was expected")
            continue
        if not 8 <= len(fields) <= 10:
            raise RttmError(
                path,
                number,
                f"{len(fields)} columns; an RTTM line has 10 (or at least 8), and names hold no white space: "
                "SPEAKER id channel start duration <NA> <NA> speaker <NA> <NA>",
            )
        recording_id = fields[1]
        if recording_id not in rows:
            rows[check_id(recording_id, path, number)] = (array("d"), array("d"), [])
        start, end = _span(fields, path, number)
        if end > start:
            starts, ends, speakers = rows[recording_id]
            starts.append(start)
            ends.append(end)
            speakers.append(sys.intern(fields[7]))
            voices.add(recording_id, speakers[-1], fields[2])
    return TurnFile(
        {recording_id: Turns.of(zip(*rows.pop(recording_id), strict=True)) for recording_id in list(rows)},
        {recording_id: spans for recording_id in excluded if (spans := merge_spans(excluded[recording_id]))},
        voices.across(),
    )


def _span(fields: list[str], path: Path, line: int) -> tuple[Seconds, Seconds]:
    """Start and end of an RTTM line (s)."""
    start = read_seconds(fields[3], "start", path, line)
    duration = read_seconds(fields[4], "duration", path, line)
    if duration < 0:
        raise RttmError(path, line, f"the duration is negative ({fields[4]})")
    if start < 0:
        raise RttmError(path, line, f"the start is negative ({fields[3]})")
    return start, float(Decimal(fields[3]) + Decimal(fields[4])) if duration > 0 else start


def excluded_of(files: Iterable[TurnFile]) -> dict[str, Spans]:
    """What files mark as not to be scored, by recording id; marks may lie apart from the turns."""
    found: dict[str, Spans] = {}
    for file in files:
        for recording_id, spans in file.excluded.items():
            found[recording_id] = merge_spans((*found.get(recording_id, ()), *spans))
    return found


def remarks_on(
    files: Mapping[Path, TurnFile], *, reference: bool, only: Collection[str] | None = None
) -> tuple[str, ...]:
    """What a user of these files should be told, in sentences: time that is not scored, speakers of two channels.

    Only a reference can say what is not to be scored (md-eval). With `only`, other recordings don't matter.
    """
    remarks = []
    if marked := {path: found for path, file in files.items() if (found := _of(file.excluded, only))}:
        spans = [span for excluded in marked.values() for regions in excluded.values() for span in regions]
        recordings = len({recording_id for excluded in marked.values() for recording_id in excluded})
        regions = counted(len(spans), "region", "regions")
        of = counted(recordings, "recording", "recordings")
        seconds = sum(end - start for start, end in spans)
        counts = "left out of scoring" if reference else "scored all the same, since only a reference's marks count"
        remarks.append(
            f"{_first(marked)}: marked as not to be scored, and {counts}: {seconds:.6g} s in {regions} of {of}"
        )
    if across := {path: voices for path, file in files.items() if (voices := _of(file.across, only))}:
        recording_id, speakers = next(iter(next(iter(across.values())).items()))
        remarks.append(
            f"{_first(across)}: the recording {recording_id!r} has turns of {_some(speakers)} in more than one "
            "channel; channels are scored together, and one name is one speaker; to score them apart, give them ids of "
            "their own"
        )
    return tuple(remarks)


def _of(values: Mapping[str, Value], only: Collection[str] | None) -> dict[str, Value]:
    return {name: value for name, value in values.items() if only is None or name in only}


def _first(files: Mapping[Path, object]) -> str:
    more = len(files) - 1
    return str(next(iter(files))) + (f" and {counted(more, 'other file', 'other files')}" if more else "")


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def read_uem(path: Path) -> dict[str, Spans]:
    """The scored spans of a UEM file, by recording id, sorted and merged. Raises RttmError."""
    rows: dict[str, list[tuple[Seconds, Seconds]]] = {}
    for number, fields in read_lines(path):
        if len(fields) != 4:
            raise RttmError(path, number, f"{len(fields)} columns; a UEM line has 4: id channel start end")
        recording_id = check_id(fields[0], path, number)
        start = read_seconds(fields[2], "start", path, number)
        end = read_seconds(fields[3], "end", path, number)
        if start < 0:
            raise RttmError(path, number, f"the start is negative ({fields[2]})")
        if end <= start:
            raise RttmError(path, number, f"the span ends ({fields[3]}) no later than it starts ({fields[2]})")
        rows.setdefault(recording_id, []).append((start, end))
    return {recording_id: merge_spans(spans) for recording_id, spans in rows.items()}


def read_list(path: Path) -> list[str]:
    """The ids of a list file, one per line, in its order. Raises RttmError for a bad or repeated id."""
    ids: dict[str, int] = {}
    for number, fields in read_lines(path):
        if len(fields) != 1:
            raise RttmError(path, number, f"one recording id per line was expected, found {len(fields)} words")
        recording_id = check_id(fields[0], path, number)
        if recording_id in ids:
            raise RttmError(
                path, number, f"the recording id {recording_id!r} is there twice (first on line {ids[recording_id]})"
            )
        ids[recording_id] = number
    return list(ids)


def format_rttm(recording_id: str, turns: Turns, digits: int = 3) -> str:
    """Turns as RTTM lines, times rounded to `digits` decimals; turns that round to nothing are left out."""
    lines = []
    for turn in turns:
        start = round(turn.start, digits)
        duration = round(round(turn.end, digits) - start, digits)
        if duration > 0:
            lines.append(
                f"SPEAKER {recording_id} 1 {start:.{digits}f} {duration:.{digits}f} "
                f"<NA> <NA> {turn.speaker} <NA> <NA>\n"
            )
    return "".join(lines)


def format_uem(uems: Mapping[str, Spans], digits: int = 6) -> str:
    """Scoring regions as UEM lines."""
    return "".join(
        f"{recording_id} 1 {start:.{digits}f} {end:.{digits}f}\n"
        for recording_id, spans in uems.items()
        for start, end in spans
    )


def merge_spans(spans: Iterable[tuple[Seconds, Seconds]]) -> Spans:
    """Spans sorted, those that touch or overlap joined, empty ones dropped.

    >>> merge_spans([(2, 3), (0, 1), (1, 2), (5, 5)])
    ((0, 3),)
    """
    merged: list[tuple[Seconds, Seconds]] = []
    for start, end in sorted(spans):
        if end <= start:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return tuple(merged)


def without_spans(spans: Spans, excluded: Spans) -> Spans:
    """What is left of spans outside others; both sorted, as `merge_spans` gives them.

    >>> without_spans(((0, 10), (20, 30)), ((2, 3), (8, 22)))
    ((0, 2), (3, 8), (22, 30))
    """
    left = []
    for start, end in spans:
        for low, high in excluded:
            if high <= start or end <= low:
                continue
            if start < low:
                left.append((start, low))
            start = high
        if start < end:
            left.append((start, end))
    return tuple(left)


# NIST RT-09 evaluation plan, appendix A: the line types an RTTM file may hold beside SPEAKER and NOSCORE.
_OTHER_TYPES = {
    "SEGMENT", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH", "FILLER", "EDIT", "SU", "IP",
    "CB", "A/P", "SPKR-INFO",
}  # fmt: skip


def read_lines(path: Path, *, whole: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Line numbers, from 1, and words of lines that are neither empty nor a comment (`;;` or `#`).

    With `whole`, a line is one word, less the white space around it. Raises RttmError for what is no readable text.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:  # a line at a time, whichever way it ends
            for number, line in enumerate(file, start=1):
                fields = [line.strip()] if whole and line.strip() else line.split()
                if fields and not fields[0].startswith((";;", "#")):
                    yield number, fields
    except UnicodeDecodeError as error:
        raise RttmError(path, None, f"not a UTF-8 text file (byte {_first_bad_byte(path)})") from error
    except OSError as error:
        raise RttmError(path, None, f"can't be read: {error.strerror}") from error


def _first_bad_byte(path: Path) -> int:
    """Where in the file UTF-8 ends; the decoder only knows the place in its block."""
    try:
        path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return error.start
    return 0  # it has changed meanwhile


def read_seconds(text: str, what: str, path: Path | str, line: int | None) -> Seconds:
    """The number of seconds, or an RttmError that says `what` is none."""
    if not _NUMBER.fullmatch(text):
        raise RttmError(path, line, f"the {what} {text[:60]!r} is no number of seconds")
    value = float(text)
    if abs(value) > MAX_TIME:
        raise RttmError(path, line, f"the {what} {text[:60]!r} is longer than any recording")
    return value
