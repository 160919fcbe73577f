"""Whether a dataset is the one that its card means: each fact of the card beside what is found."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from diarbench.cards import DatasetCard, Expect
from diarbench.corpora.counting import Summary, summarise
from diarbench.corpora.presence import has_audio
from diarbench.errors import AudioError, InputError
from diarbench.loaders import read_corpus
from diarbench.loaders.corpus import Corpus, OnProgress, labelled
from diarbench.loaders.facts import reference_sha256
from diarbench.rttm import format_uem
from diarbench.types import LabelledRecording, Recording, Turns

# How far a number may be from a stated one. Papers print hours and minutes with one decimal.
_STATED_OFF = 0.05  # h, min
_RELATIVE_OFF = 0.01
_SPEECH_OFF = 0.001  # of what is expected; AMI's two references differ by 0.029
_OVERLAP_OFF = 0.1  # percentage points


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact: what was found, what the card expects, and both in words."""

    key: str  # as in the card's [expect]
    found: Any
    expected: Any  # None: the card says nothing of it
    holds: bool | None  # None: nothing to compare
    words: str


@dataclass(frozen=True)
class Verification:
    """What was found out about a dataset."""

    name: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing is otherwise than the card says."""
        return all(finding.holds is not False for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """As plain data; the keys are in docs/json.md."""
        return {"holds": self.holds, **asdict(self)}


def verify(name: str, path: Path, card: DatasetCard, on_progress: OnProgress | None = None) -> Verification:
    """Count and digest a dataset, and hold it against its card.

    Where its audio is missing or not as promised, that is a finding, and the rest is told from the references. Raises
    MissingRequirementError where the dataset is not here, InputError where its references can't be read.
    """
    recordings, notes, audio, timed = _recordings(name, path, card, on_progress)
    if not recordings:
        raise InputError(f"dataset {name}: no recordings")
    findings = [*_counts(summarise(name, recordings), card.expect, timed), *_digests(recordings, card.expect)]
    order = {key: place for place, key in enumerate(Expect.model_fields)}
    findings.sort(key=lambda finding: order[finding.key])
    return Verification(name, (*findings, audio), notes)


def recordings_of(
    name: str, path: Path, card: DatasetCard, on_progress: OnProgress | None = None
) -> tuple[Sequence[LabelledRecording], tuple[str, ...]]:
    """A dataset's recordings and notes on them, with what is here: without audio, lengths are those of its scoring
    regions, or else as far as somebody speaks, which is said. Raises as `verify`."""
    recordings, notes, audio, timed = _recordings(name, path, card, on_progress)
    if not recordings:
        raise InputError(f"dataset {name}: no recordings")
    if audio.holds is False:
        lengths = "scoring regions" if timed else "references"
        notes = (
            *notes,
            f"{name}: lengths are those of its {lengths}, since its audio is not as it should be: {audio.words}",
        )
    return recordings, notes


def _recordings(
    name: str, path: Path, card: DatasetCard, on_progress: OnProgress | None
) -> tuple[Sequence[LabelledRecording], tuple[str, ...], Finding, bool]:
    """Also what is to be said of the audio, and whether the recordings' lengths are known."""
    folder = path.parent.resolve()
    if not has_audio(card):
        recordings, notes = labelled(read_corpus(name, folder, card, on_progress), card, on_progress)
        return recordings, notes, Finding("audio", None, None, None, "no audio, as the card says"), True
    try:
        recordings, notes = labelled(read_corpus(name, folder, card, on_progress), card, on_progress)
        words = "the headers of all audio files fit"
        return recordings, notes, Finding("audio", True, True, True, words), True
    except AudioError as error:
        said = Finding("audio", False, True, False, str(error))
    corpus = replace(read_corpus(name, folder, _without_audio(card), on_progress), audio=None)
    if corpus.uems is not None:
        recordings, notes = labelled(corpus, card, on_progress)
        return recordings, notes, said, True
    return _by_reference(corpus, card), (), said, False


def _without_audio(card: DatasetCard) -> DatasetCard:
    """The card with audio = "none", where its layout knows that."""
    for name in ("folder", "kaldi", "pyannote"):
        if (layout := getattr(card, name)) is not None:
            return card.model_copy(update={name: layout.model_copy(update={"audio": "none"})})
    return card


def _by_reference(corpus: Corpus, card: DatasetCard) -> list[LabelledRecording]:
    """Recordings as long as somebody speaks in them."""
    ids = sorted(corpus.references) if corpus.ids is None else corpus.ids
    found = []
    for recording_id in ids:
        turns = corpus.references.get(recording_id, Turns.of([]))
        end = float(turns.ends.max(initial=0.0))
        recording = Recording(recording_id, None, end, card.sample_rate)
        found.append(LabelledRecording(recording, turns, ((0.0, end),)))
    return found


def _counts(summary: Summary, expect: Expect, timed: bool) -> list[Finding]:
    each = summary.speakers_each
    found = [
        _exact("recordings", summary.recordings, expect.recordings, _many(summary.recordings, "recording")),
        _exact("speakers", summary.speakers, expect.speakers, _many(summary.speakers, "speaker")),
        _exact(
            "speakers_each",
            (int(each.least), int(each.most)),
            expect.speakers_each,
            f"{_range((each.least, each.most))} speakers in a recording",
            lambda expected: _range(expected),
        ),
        _speech(summary.speech, expect),
        _near("overlap", summary.overlap, expect.overlap, "{:.1f} % of the speech overlapped", _OVERLAP_OFF),
    ]
    if timed:
        found += [
            _near("hours", summary.hours, expect.hours, "{:,.2f} hours", _STATED_OFF, _RELATIVE_OFF),
            _near("minutes", summary.minutes.mean, expect.minutes, "{:,.2f} minutes each", _STATED_OFF, _RELATIVE_OFF),
        ]
    else:
        for key in ("hours", "minutes"):
            expected = getattr(expect, key)
            found.append(Finding(key, None, expected, None, f"{key} are not known without audio or scoring regions"))
    return found


def _digests(recordings: Sequence[LabelledRecording], expect: Expect) -> list[Finding]:
    uem = format_uem({one.recording.id: one.uem for one in recordings})
    ids = "".join(f"{recording_id}\n" for recording_id in sorted(one.recording.id for one in recordings))
    reference = reference_sha256(recordings)
    return [
        _reference(reference, expect),
        _digest("uem_sha256", _sha256(uem), expect.uem_sha256, "scoring regions"),
        _digest("list_sha256", _sha256(ids), expect.list_sha256, "list of recordings"),
    ]


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _exact(key: str, found: Any, expected: Any, words: str, show: Any = "{:,}".format) -> Finding:
    if expected is None:
        return Finding(key, found, None, None, words)
    holds = found == expected
    return Finding(key, found, expected, holds, f"{words}, {'as expected' if holds else f'{show(expected)} expected'}")


def _near(key: str, found: float, expected: float | None, form: str, off: float, relative: float = 0.0) -> Finding:
    words = form.format(found)
    if expected is None:
        return Finding(key, found, None, None, words)
    holds = abs(found - expected) <= max(off, relative * expected)
    return Finding(key, found, expected, holds, f"{words}, {'as expected' if holds else f'{expected:g} expected'}")


def _speech(found: float, expect: Expect) -> Finding:
    words = f"{found:,.1f} s of speech"
    if expect.speech is None:
        return Finding("speech", found, None, None, words)
    if _same_speech(found, expect.speech):
        return Finding("speech", found, expect.speech, True, f"{words}, as expected{_of_version(expect)}")
    other = next((name for name, one in expect.versions.items() if _same_speech(found, one.speech)), None)
    wanted = f"{expect.speech:,.1f} s"
    if other is None:
        tail = f"{wanted} expected: another version of the references, which the card does not know"
        return Finding("speech", found, expect.speech, False, f"{words}, {tail}")
    tail = f"this is {other}, the card wants {expect.version or 'another'} ({wanted})"
    return Finding("speech", found, expect.speech, False, f"{words}: {tail}")


def _same_speech(found: float, expected: float | None) -> bool:
    return expected is not None and abs(found - expected) <= _SPEECH_OFF * expected


def _of_version(expect: Expect) -> str:
    return f" of {expect.version}" if expect.version else ""


def _reference(found: str, expect: Expect) -> Finding:
    finding = _digest("reference_sha256", found, expect.reference_sha256, "references")
    other = next((name for name, one in expect.versions.items() if one.reference_sha256 == found), None)
    if finding.holds is False and other is not None:
        words = f"references are {other}, by their SHA-256; the card wants {expect.version or 'another version'}"
        return replace(finding, words=words)
    return finding


def _digest(key: str, found: str, expected: str | None, what: str) -> Finding:
    if expected is None:
        return Finding(key, found, None, None, f"{what}: SHA-256 {found[:12]}...")
    if found == expected:
        return Finding(key, found, expected, True, f"{what}: SHA-256 {found[:12]}..., as expected")
    return Finding(key, found, expected, False, f"{what}: SHA-256 {found[:12]}..., {expected[:12]}... expected")


def _range(ends: Sequence[float]) -> str:
    least, most = ends
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"
