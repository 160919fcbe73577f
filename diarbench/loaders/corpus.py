"""From what a layout says to labelled recordings: those that are meant, with audio, references and regions, checked.

Each layout's loader gives a `Corpus`; what is common to all of them is here, so that one corpus is the same dataset in
whatever layout it lies. Knows no layout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from diarbench.audio import Header, check_channels, read_header
from diarbench.cards import DatasetCard, Select
from diarbench.errors import AudioError, InputError, RttmError, counted
from diarbench.rttm import TurnFile, excluded_of, remarks_on, without_spans
from diarbench.types import LabelledRecording, Recording, Seconds, Spans, Turns

# A scoring region may end a little after the audio: annotation tools round up.
_END_TOLERANCE = 0.1  # s

# What is promised of a file's length may be rounded (reco2dur), or estimated (MP3).
_LENGTH_TOLERANCE = 0.1  # s


@dataclass(frozen=True, slots=True)
class Signal:
    """An audio file of a recording, and what its layout promises of it."""

    path: Path
    channel: str | int | None  # of the file: as the card says, unless the layout has channels of its own
    sample_rate: int | None = None  # Hz
    duration: Seconds | None = None


Source: TypeAlias = Signal | Callable[[], Signal]  # a function where a file has to be made first

OnProgress: TypeAlias = Callable[[int, int], None]  # so many of so many are done


@dataclass(frozen=True)
class Corpus:
    """What a layout says, before any audio was looked at. Texts name files, for errors."""

    where: Path
    references: Mapping[str, Turns]
    reference: str
    audio: Mapping[str, Source] | None  # None: it has none
    uems: Mapping[str, Spans] | None  # None: whole files
    uem: str
    ids: Sequence[str] | None = None  # in their order; None: those with a reference, sorted
    list: str = ""  # what the ids are from
    is_part: bool = False  # the ids are a part list: what they leave out is not meant
    audio_hint: str = ""
    files: Mapping[Path, TurnFile] = field(
        default_factory=dict
    )  # of references, where they can mark time as not scored
    silent_hint: str = 'if nobody speaks in it, name it in the card: silent = ["{id}"]'


def labelled(
    corpus: Corpus, card: DatasetCard, on_progress: OnProgress | None = None
) -> tuple[list[LabelledRecording], tuple[str, ...]]:
    """The recordings that the card means, and notes on what was passed over.

    Raises InputError (or its kinds RttmError, AudioError) for the first thing that doesn't hold together.
    """
    references = _with_silent(corpus, card)
    ids = _checked(corpus, references)
    candidates = ids_by_digest(ids) if card.select.random else ids
    if card.select.recordings is not None and card.select.hours is None:
        candidates = candidates[: card.select.recordings]
    excluded = excluded_of(corpus.files.values())
    chosen: dict[str, LabelledRecording] = {}
    seconds, lowest, late = 0.0, [], []
    for recording_id in candidates:
        recording, header = _recording(corpus, card, recording_id, references[recording_id])
        if not _fits(card.select, len(chosen), seconds + recording.recording.duration):
            break
        chosen[recording_id] = recording
        seconds += recording.recording.duration
        if header is not None and header.sample_rate < card.sample_rate:
            lowest.append((recording_id, header.sample_rate))
        if corpus.uems is None and recording.reference.ends.max(initial=0.0) > recording.uem[-1][1] + _END_TOLERANCE:
            late.append(recording_id)
        if recording_id in excluded:
            chosen[recording_id] = _less(recording, excluded[recording_id], corpus.reference)
        if on_progress is not None:
            on_progress(len(chosen), len(candidates))
    if candidates and not chosen:
        raise InputError(
            f"{corpus.where}: [select] hours = {card.select.hours:g} is less than the recording {candidates[0]!r} takes"
        )
    notes = [*remarks_on(corpus.files, reference=True, only=chosen), *_notes(corpus, card, lowest, late)]
    meant = card.expect.recordings == len(ids) or (corpus.uems is not None and set(corpus.uems) == set(ids))
    if not corpus.is_part and not meant:
        notes += _left_out(corpus, references)
    return [chosen[recording_id] for recording_id in ids if recording_id in chosen], tuple(notes)


def ids_by_digest(ids: Iterable[str]) -> list[str]:
    """The ids in a shuffled order that depends on nothing but themselves: by their SHA-256.

    So a subset is the same on each machine and in each layout, and of two sizes the smaller is within the larger.
    """
    return sorted(ids, key=lambda recording_id: hashlib.sha256(recording_id.encode()).digest())


def exact_time(value: float) -> Seconds:
    """A time as it was written: sums of decimals are off by a hair (0.7 + 0.1), nanoseconds are not."""
    return round(value, 9)


def _fits(select: Select, recordings: int, seconds: Seconds) -> bool:
    """Whether one more recording, with which there are so many seconds, is within the limits."""
    if select.recordings is not None and recordings >= select.recordings:
        return False
    return select.hours is None or seconds <= select.hours * 3600


def _with_silent(corpus: Corpus, card: DatasetCard) -> Mapping[str, Turns]:
    if not card.silent:
        return corpus.references
    known = set(corpus.ids or ()) | set(corpus.audio or ()) | set(corpus.references)
    for recording_id in card.silent:
        if recording_id not in known:
            raise InputError(f"{corpus.where}: there is no recording {recording_id!r}, which the card names as silent")
        if len(corpus.references.get(recording_id, ())):
            raise InputError(
                f"{corpus.reference}: the recording {recording_id!r} has turns, and the card names it as silent"
            )
    return {**corpus.references, **{recording_id: Turns.of([]) for recording_id in card.silent}}


def _checked(corpus: Corpus, references: Mapping[str, Turns]) -> list[str]:
    """The ids that are meant, each with a reference and a scoring region."""
    ids = sorted(references) if corpus.ids is None else list(corpus.ids)
    for recording_id in ids:
        if recording_id not in references:
            raise InputError(
                f"{corpus.list}: the recording {recording_id!r} is in the list, but not in the references "
                f"({corpus.reference}); {corpus.silent_hint.format(id=recording_id)}"
            )
    if corpus.ids is not None and not corpus.is_part and (more := sorted(set(references) - set(ids))):
        raise InputError(
            f"{corpus.reference}: the recording {more[0]!r} has a reference, but is not in {corpus.list}; if it is not "
            "meant, name a part list in the card (`list`)"
        )
    for recording_id in ids:
        if corpus.uems is not None and recording_id not in corpus.uems:
            raise InputError(f"{corpus.uem}: no scoring region for the recording {recording_id!r}")
    return ids


def _recording(
    corpus: Corpus, card: DatasetCard, recording_id: str, reference: Turns
) -> tuple[LabelledRecording, Header | None]:
    uem = corpus.uems[recording_id] if corpus.uems is not None else None
    if corpus.audio is None:
        if uem is None:
            raise InputError(
                f'{corpus.where}: without audio the length of {recording_id!r} is not known, so uem = "whole-file" '
                "can't hold; name a UEM file"
            )
        return LabelledRecording(Recording(recording_id, None, uem[-1][1], card.sample_rate), reference, uem), None
    if recording_id not in corpus.audio:
        hint = f" ({corpus.audio_hint.format(id=recording_id)})" if corpus.audio_hint else ""
        raise AudioError(f"{corpus.where}: no audio file for the recording {recording_id!r}{hint}")
    source = corpus.audio[recording_id]
    signal = source if isinstance(source, Signal) else source()
    header = read_header(signal.path)
    check_channels(signal.path, header.channels, signal.channel)
    _check_promises(signal, header, card)
    if uem is not None and uem[-1][1] > header.duration + _END_TOLERANCE:
        raise RttmError(
            corpus.uem,
            None,
            f"the scoring region of {recording_id!r} ends at {uem[-1][1]:g} s, its audio at {header.duration:g} s",
        )
    recording = Recording(recording_id, signal.path, header.duration, card.sample_rate, signal.channel)
    return LabelledRecording(recording, reference, uem if uem is not None else ((0.0, header.duration),)), header


def _less(recording: LabelledRecording, excluded: Spans, reference: str) -> LabelledRecording:
    """The recording, without what its reference marks as not to be scored."""
    if not (left := without_spans(recording.uem, excluded)):
        raise InputError(
            f"{reference}: all of the scoring region of {recording.recording.id!r} is marked as not to be scored; "
            "leave the recording out of the list (`list`)"
        )
    return replace(recording, uem=left)


def _check_promises(signal: Signal, header: Header, card: DatasetCard) -> None:
    promises = (("the card expects files of", card.expect.sample_rate), ("its manifest promises", signal.sample_rate))
    for who, rate in promises:
        if rate is not None and header.sample_rate != rate:
            raise AudioError(f"{signal.path}: {header.sample_rate} Hz, where {who} {rate} Hz; is it another version?")
    if signal.duration is not None and abs(header.duration - signal.duration) > _LENGTH_TOLERANCE:
        raise AudioError(
            f"{signal.path}: {header.duration:.3f} s long, where {signal.duration:.3f} s are promised; is it cut, or "
            "another version?"
        )


def _notes(corpus: Corpus, card: DatasetCard, lowest: Sequence[tuple[str, int]], late: Sequence[str]) -> list[str]:
    notes = []
    if late:
        said = counted(len(late), "reference goes on after its", "references go on after their")
        notes.append(f"{corpus.where}: {said} audio ends, which is not scored ({late[0]})")
    if lowest and card.expect.sample_rate is None:
        said = counted(len(lowest), "recording has", "recordings have")
        notes.append(
            f"{corpus.where}: {said} fewer samples per second than the {card.sample_rate} Hz that systems are handed "
            f"({lowest[0][0]}: {lowest[0][1]} Hz)"
        )
    return notes


def _left_out(corpus: Corpus, references: Mapping[str, Turns]) -> list[str]:
    """What has no reference, where no list says which recordings are meant."""
    notes = []
    for what, ids in (("audio file", corpus.audio or {}), ("scoring region", corpus.uems or {})):
        if unlabelled := sorted(set(ids) - set(references)):
            more = ", ..." if len(unlabelled) > 1 else ""
            said = counted(len(unlabelled), f"{what} has no reference and is", f"{what}s have no reference and are")
            notes.append(f"{corpus.where}: {said} left out ({unlabelled[0]}{more})")
    return notes
