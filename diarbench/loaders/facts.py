"""What a dataset is, counted, and where that is not what its card expects."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diarbench.rttm import format_rttm
from diarbench.types import LabelledRecording, Seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
    """SHA-256 of the references as one RTTM file, sorted by id, times to the microsecond: the same in each layout."""
    digest = hashlib.sha256()
    for labelled in sorted(recordings, key=lambda labelled: labelled.recording.id):
        digest.update(format_rttm(labelled.recording.id, labelled.reference, digits=6).encode())
    return digest.hexdigest()


def digest_of_parts(value: Mapping[str, Any], key: str, parts: Iterable[str]) -> str:
    """`digest_of({**value, key: list(parts)})`, with one part in memory at a time.

    >>> from diarbench.files import digest_of
    >>> digest_of_parts({"a": 1, "z": "é"}, "m", iter(["x", "y"])) == digest_of({"a": 1, "m": ["x", "y"], "z": "é"})
    True
    """
    digest = hashlib.sha256()

    def put(*texts: str) -> None:
        for text in texts:
            digest.update(text.encode("utf-8", "backslashreplace"))

    def dumped(value: Any) -> str:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)

    for number, name in enumerate(sorted([*value, key])):
        put("," if number else "{", dumped(name), ":")
        if name != key:
            put(dumped(value[name]))
            continue
        put("[")
        for place, part in enumerate(parts):
            put("," if place else "", dumped(part))
        put("]")
    put("}")
    return digest.hexdigest()


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
