"""Scoring rules, and error times that add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diarbench.errors import InputError, did_you_mean
from diarbench.types import Seconds


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
    mapping: Literal["region", "scored"] = "region"

    @property
    def label(self) -> str:
        """How the rule is printed, so that nobody has to guess.

        >>> FAIR.label
        '±250 ms collar, overlap scored'
        """
        collar = "no collar" if self.collar == 0 else f"±{self.collar * 1000:g} ms collar"
        return f"{collar}, overlap {'scored' if self.overlap == 'score' else 'skipped'}"


FULL = ScoringRule("full", 0.0, "score")
FAIR = ScoringRule("fair", 0.25, "score")
FORGIVING = ScoringRule("forgiving", 0.25, "skip")
RULES = {rule.name: rule for rule in (FULL, FAIR, FORGIVING)}


def find_rule(name: str) -> ScoringRule:
    """The rule of that name; raises InputError."""
    if name not in RULES:
        raise InputError(f"no scoring rule {name!r}{did_you_mean(name, RULES)}")
    return RULES[name]


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
