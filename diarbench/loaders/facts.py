"""What a dataset is, counted, and where that is not what its card expects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diarbench.files import digest_of
from diarbench.rttm import format_rttm
from diarbench.types import LabelledRecording, Seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from diarbench.cards import Expect

# Hours and seconds of speech are stated rounded; counts are exact.
_HOURS_OFF = 0.01  # of what is expected
_SPEECH_OFF = 0.001  # of what is expected; AMI's two references differ by 0.029


@dataclass(frozen=True, slots=True)
class Facts:
    """What can be counted without decoding."""

    recordings: int
    hours: float
    speakers: int
    speech: Seconds  # turns added up


def facts_of(recordings: Sequence[LabelledRecording]) -> Facts:
    """Counts over a dataset's recordings."""
    return Facts(
        recordings=len(recordings),
        hours=sum(labelled.recording.duration for labelled in recordings) / 3600,
        speakers=len({label for labelled in recordings for label in labelled.reference.labels}),
        speech=sum(float((labelled.reference.ends - labelled.reference.starts).sum()) for labelled in recordings),
    )


def reference_sha256(recordings: Iterable[LabelledRecording]) -> str:
    """SHA-256 of the references, sorted by id, times to the microsecond: the same in each layout."""
    ordered = sorted(recordings, key=lambda labelled: labelled.recording.id)
    return digest_of([[one.recording.id, format_rttm(one.recording.id, one.reference, digits=6)] for one in ordered])


def mismatches(recordings: Sequence[LabelledRecording], expect: Expect) -> list[str]:
    """Where the counts are not what is expected, each in words; empty where all is well.

    The rate of the files is checked as they are found; it is none of these.
    """
    facts = facts_of(recordings)
    said = []
    for key in ("recordings", "speakers"):
        found, expected = getattr(facts, key), getattr(expect, key)
        if expected is not None and found != expected:
            said.append(f"{found} {key}, the card expects {expected}")
    if expect.hours is not None and abs(facts.hours - expect.hours) > _HOURS_OFF * expect.hours:
        said.append(f"{facts.hours:g} hours, the card expects {expect.hours:g}")
    if expect.speech is not None and abs(facts.speech - expect.speech) > _SPEECH_OFF * expect.speech:
        said.append(
            f"{facts.speech:,.1f} s of speech, the card expects {expect.speech:,.1f}: another version of the references"
        )
    if (wanted := expect.reference_sha256) is not None and (found := reference_sha256(recordings)) != wanted:
        said.append(f"references of the SHA-256 {found[:12]}..., the card expects {wanted[:12]}...: another version")
    return said
