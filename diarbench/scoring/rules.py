"""Scoring rules, and errors that add up: seconds, and Jaccard errors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from diarbench.errors import InputError, did_you_mean
from diarbench.types import Seconds

Mapped = Literal["region", "scored"]

# Longer than any collar in use (0.25 s, 0.5 s): who writes more means milliseconds.
_MAX_COLLAR: Seconds = 10.0


@dataclass(frozen=True, slots=True)
class ScoringRule:
    """What is scored.

    `collar` is the no-score zone on EACH side of every reference boundary, as in md-eval, dscore and NeMo
    (pyannote.metrics means the total width: our 0.25 is its 0.5):

        reference        |=========|
        not scored     <--->     <--->        collar to the left and collar to the right of each boundary

    `overlap` "skip" leaves out the time in which the reference has two or more speakers.

    `mapping` says over what time hypothesis speakers are mapped to reference speakers: "region", the whole scoring
    region, before collars and overlap are left out (md-eval, and so dscore and the tables made with them), or "scored",
    only what the rule scores (pyannote.metrics). Without a collar and with overlap scored they are the same. With
    one, speakers who hardly speak outside collars can be mapped otherwise:

        reference        A |==| B |==============|
        hypothesis       x |==| x                y |=====|     x and A share 2 s, 0.5 s of it outside the collars
    """

    name: str
    collar: Seconds
    overlap: Literal["score", "skip"]
    mapping: Mapped = "region"

    @property
    def label(self) -> str:
        """How the rule is printed, so that nobody has to guess; its mapping where that matters and isn't md-eval's.

        >>> FAIR.label
        '±250 ms collar, overlap scored'
        >>> parse_rule("fair", "scored").label
        '±250 ms collar, overlap scored, speakers mapped over what is scored'
        """
        collar = "no collar" if self.collar == 0 else f"±{self.collar * 1000:g} ms collar"
        matters = self.mapping == "scored" and (self.collar > 0 or self.overlap == "skip")
        mapping = ", speakers mapped over what is scored" if matters else ""
        return f"{collar}, overlap {'scored' if self.overlap == 'score' else 'skipped'}{mapping}"


FULL = ScoringRule("full", 0.0, "score")
FAIR = ScoringRule("fair", 0.25, "score")
FORGIVING = ScoringRule("forgiving", 0.25, "skip")
RULES = {rule.name: rule for rule in (FULL, FAIR, FORGIVING)}


_RULE_KEYS: dict[str, tuple[str, ...]] = {
    "collar": (),
    "overlap": ("score", "skip"),
    "mapping": get_args(Mapped),
}


def parse_rule(text: str, mapping: Mapped | None = None) -> ScoringRule:
    """The rule of that name, or the one that `collar=SECONDS,overlap=score|skip,mapping=region|scored` says.

    What is not said is as in `full`. A `mapping` given apart takes the place of the rule's. Raises InputError.

    >>> parse_rule("collar=0.10,overlap=skip")
    ScoringRule(name='collar=0.1,overlap=skip', collar=0.1, overlap='skip', mapping='region')
    """
    if "=" not in text:
        if text not in RULES:
            raise InputError(
                f"no scoring rule {text!r}{did_you_mean(text, RULES)} (any other is written as collar=0.1,overlap=skip)"
            )
        return replace(RULES[text], mapping=mapping or RULES[text].mapping)
    said: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in _RULE_KEYS or not equals:
            raise InputError(f"the scoring rule {text!r} has no key {key!r}{did_you_mean(key, _RULE_KEYS)}")
        if key in said:
            raise InputError(f"the scoring rule {text!r} says {key} twice")
        known = _RULE_KEYS[key]
        if known and value not in known:
            raise InputError(f"the scoring rule {text!r}: {key} can't be {value!r}{did_you_mean(value, known)}")
        said[key] = value
    collar = _collar(said.get("collar", "0"), text)
    if mapping is not None:
        said["mapping"] = mapping
    parts = [f"collar={collar:.15g}" if collar else "", "overlap=skip" if said.get("overlap") == "skip" else ""]
    parts.append("mapping=scored" if said.get("mapping") == "scored" else "")
    name = ",".join(part for part in parts if part) or "collar=0"
    return ScoringRule(
        name,
        collar,
        cast(Literal["score", "skip"], said.get("overlap", "score")),
        cast(Mapped, said.get("mapping", "region")),
    )


def _collar(text: str, rule: str) -> Seconds:
    try:
        collar = float(text)
    except ValueError:
        collar = math.nan
    if not 0 <= collar <= _MAX_COLLAR:
        raise InputError(
            f"the scoring rule {rule!r}: collar is in seconds on each side, from 0 to {_MAX_COLLAR:g}, such as 0.25"
        )
    return collar


@dataclass(frozen=True, slots=True)
class ErrorTimes:
    """Seconds of reference speech scored, and of the three errors. They add; the rate is a property of the sum.

    >>> one, two = ErrorTimes(10, 1, 0, 0), ErrorTimes(30, 1, 1, 1)
    >>> (one + two).der
    0.1
    >>> ErrorTimes.zero().der is None
    True
    """

    scored: Seconds
    missed: Seconds
    false_alarm: Seconds
    confusion: Seconds

    @classmethod
    def zero(cls) -> ErrorTimes:
        """No time at all: the start of a sum."""
        return cls(0.0, 0.0, 0.0, 0.0)

    def __add__(self, other: ErrorTimes) -> ErrorTimes:
        return ErrorTimes(
            self.scored + other.scored,
            self.missed + other.missed,
            self.false_alarm + other.false_alarm,
            self.confusion + other.confusion,
        )

    @property
    def errors(self) -> Seconds:
        """Missed, false alarm and confusion together (s)."""
        return self.missed + self.false_alarm + self.confusion

    @property
    def der(self) -> float | None:
        """Diarization error rate as a fraction; None where no reference speech was scored."""
        return self.errors / self.scored if self.scored > 0 else None

    def as_json(self) -> dict[str, float | None]:
        """As plain data, the rate among it: the keys are documented in docs/json.md and docs/scoring.md."""
        return {
            "der": self.der,
            "missed": self.missed,
            "false_alarm": self.false_alarm,
            "confusion": self.confusion,
            "scored": self.scored,
        }


@dataclass(frozen=True, slots=True)
class JaccardErrors:
    """Jaccard errors of reference speakers, summed. They add; a dataset's JER weighs every speaker alike (dscore).

    >>> (JaccardErrors(0.5, 1) + JaccardErrors(0.7, 3)).jer
    0.3
    """

    total: float
    speakers: int

    @classmethod
    def zero(cls) -> JaccardErrors:
        """Nobody: the start of a sum."""
        return cls(0.0, 0)

    def __add__(self, other: JaccardErrors) -> JaccardErrors:
        return JaccardErrors(self.total + other.total, self.speakers + other.speakers)

    @property
    def jer(self) -> float | None:
        """Jaccard error rate as a fraction; None where no reference speaker is scored."""
        return self.total / self.speakers if self.speakers else None
