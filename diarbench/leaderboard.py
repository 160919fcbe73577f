"""Ranked lines from scored runs: pure functions over plain data; knows nothing of files, clocks or pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from diarbench.costs import Measured
from diarbench.scoring.rules import ErrorTimes, JaccardErrors, ScoringRule
from diarbench.types import Complexity, Seconds

# What a system's weights may know of a dataset: they were trained on another part of its corpus; or they were, or may
# have been, trained on these very recordings.
Exposure: TypeAlias = Literal["related", "seen"]

# The stage that holds what no mark of the adapter holds.
REST = "other"


class Place(NamedTuple):
    """Where a speed was measured: speeds of different places never share a column."""

    machine: str
    device: str  # "cpu" or "cuda"
    threads: int

    @property
    def label(self) -> str:
        """How the place is printed when only one machine is on the page.

        >>> Place("box", "cpu", 1).label
        'CPU, 1 thread'
        """
        if self.device != "cpu":
            return "GPU"
        return f"CPU, {self.threads} thread{'s' if self.threads != 1 else ''}"


@dataclass(frozen=True, slots=True)
class Speed:
    """Time inside `diarize`, summed over recordings."""

    wall: Seconds
    audio: Seconds

    @property
    def rtf(self) -> float:
        """Real-time factor: wall time per second of audio; smaller is faster."""
        return self.wall / self.audio

    def __add__(self, other: Speed) -> Speed:
        return Speed(self.wall + other.wall, self.audio + other.audio)


@dataclass(frozen=True, slots=True)
class Column:
    """A dataset as it stands on the board."""

    name: str
    title: str
    digest: str  # of its ids, references, scoring regions and channel rule
    synthetic: bool
    licence: str
    recordings: tuple[str, ...]  # ids that are scored here
    total: int  # recordings of the whole dataset; more than len(recordings) where a limit was set
    audio: Seconds  # of the recordings that are scored here
    corpus: str | None = None  # "ami", as dataset cards name it
    part: str | None = None  # of the corpus: "train", "development" or "test"

    @property
    def label(self) -> str:
        """The name, and how much of the dataset this is where it is not all."""
        if len(self.recordings) == self.total:
            return self.name
        return f"{self.name} (first {len(self.recordings)} of {self.total})"


@dataclass(frozen=True, slots=True)
class Score:
    """One system on one dataset: error times by recording and rule, failures, and what was not run."""

    recordings: Mapping[str, Mapping[str, ErrorTimes]]  # by recording id, then by the rule's name
    failures: Mapping[str, str]  # by recording id: what went wrong, one line
    missing: tuple[str, ...]  # ids that were never run
    # By recording id, then by the rule's name: of the same recordings, or of none where only times were scored.
    jaccard: Mapping[str, Mapping[str, JaccardErrors]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every recording has a result."""
        return not self.failures and not self.missing

    def total(self, rule: str) -> ErrorTimes:
        """Error times pooled over the recordings that have a result."""
        return sum((times[rule] for times in self.recordings.values()), ErrorTimes.zero())

    def der(self, rule: str) -> float | None:
        """Pooled DER, or None unless every recording has a result."""
        return self.total(rule).der if self.complete else None

    def jaccard_total(self, rule: str) -> JaccardErrors:
        """Jaccard errors of all reference speakers of the recordings that have a result."""
        return sum((errors[rule] for errors in self.jaccard.values()), JaccardErrors.zero())

    def jer(self, rule: str) -> float | None:
        """JER, the mean over all reference speakers, or None unless every recording has a result."""
        return self.jaccard_total(rule).jer if self.complete else None


@dataclass(frozen=True, slots=True)
class Entry:
    """All that was measured of one system, before ranking."""

    system: str
    title: str
    baseline: str | None  # the system that differences are taken against
    compression: Mapping[str, Any]  # the card's [compression]: facts about how it was made
    scores: Mapping[str, Score]  # by dataset name
    speeds: Mapping[Place, Speed]  # over all datasets of the board, where all of it was timed
    complexity: Complexity | None
    problems: tuple[str, ...] = ()  # beyond failed recordings: could not load, outputs differ between devices, ...
    provenance: tuple[Mapping[str, Any], ...] = ()  # one per stored run, as in run.json and its sessions
    stages: Mapping[Place, Mapping[str, Seconds]] = field(
        default_factory=dict
    )  # of `speeds`' wall, exclusive; sum to it
    pipeline_macs: float | None = None  # multiply-accumulates per second of audio, over all recordings of the board
    measured: Mapping[Place, Measured] = field(default_factory=dict)  # of measuring sessions, the newest at each place
    notes: tuple[str, ...] = ()  # what is not shown, and why; nothing that went wrong
    timings_left_out: tuple[str, ...] = ()  # places without a speed though it was timed there, and why; likewise
    trained_parts: tuple[str, ...] = ()  # of corpora, as its card names them: "ami/train", or "ami" for some of it
    may_have_seen: tuple[str, ...] = ()  # parts that its weights may have been trained on


@dataclass(frozen=True, slots=True)
class Line:
    """An entry with its place on the board."""

    entry: Entry
    rank: int | None  # None: not ranked, and `unranked` says why
    unranked: str | None
    macro: Mapping[str, float | None]  # by rule: unweighted mean of the datasets' DERs; None where one lacks
    delta: Mapping[str, float | None]  # by rule: macro less the baseline's; None without a baseline here
    macro_jer: Mapping[str, float | None]  # by rule: unweighted mean of the datasets' JERs; None where one lacks


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Everything that a page, a table or a JSON file shows."""

    title: str
    rule: ScoringRule  # the one that ranks
    rules: tuple[ScoringRule, ...]
    columns: tuple[Column, ...]
    places: tuple[Place, ...]  # where any speed was measured, by running or in a measuring session
    lines: tuple[Line, ...]  # ranked ones first, best first
    machines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # fingerprints by machine name
    version: str = ""  # of diarbench


def rank(
    entries: Iterable[Entry],
    *,
    title: str,
    columns: Sequence[Column],
    rules: Sequence[ScoringRule],
    rule: ScoringRule,
    machines: Mapping[str, Mapping[str, Any]],
    version: str,
) -> Leaderboard:
    """The board: entries ordered by macro DER under `rule`; equal ones share a rank.

    An entry that lacks a recording of any column has no macro DER and no rank: averaging over what survived
    would flatter it.
    """
    entries = list(entries)
    macros = {entry.system: {r.name: macro_der(entry, columns, r.name) for r in rules} for entry in entries}

    def sort_key(entry: Entry) -> tuple[bool, float, str]:
        der = macros[entry.system][rule.name]
        return (der is None, der if der is not None else 0.0, entry.system)

    lines: list[Line] = []
    for position, entry in enumerate(sorted(entries, key=sort_key), start=1):
        macro = macros[entry.system]
        tied = bool(lines) and lines[-1].macro[rule.name] == macro[rule.name]
        place = lines[-1].rank if tied else position
        base = macros.get(entry.baseline) if entry.baseline and entry.baseline != entry.system else None
        lines.append(
            Line(
                entry=entry,
                rank=place if macro[rule.name] is not None else None,
                unranked=_why_unranked(entry, columns, rule.name) if macro[rule.name] is None else None,
                macro=macro,
                delta={r.name: _difference(macro[r.name], base[r.name] if base else None) for r in rules},
                macro_jer={r.name: macro_jer(entry, columns, r.name) for r in rules},
            )
        )
    places = sorted({place for entry in entries for place in (*entry.speeds, *entry.measured)})
    return Leaderboard(
        title=title,
        rule=rule,
        rules=tuple(rules),
        columns=tuple(columns),
        places=tuple(places),
        lines=tuple(lines),
        machines=machines,
        version=version,
    )


def macro_der(entry: Entry, columns: Sequence[Column], rule: str) -> float | None:
    """Unweighted mean over the columns of the pooled DERs; None where any of them has none."""
    return _mean([entry.scores[column.name].der(rule) if column.name in entry.scores else None for column in columns])


def macro_jer(entry: Entry, columns: Sequence[Column], rule: str) -> float | None:
    """Unweighted mean over the columns of their JERs; None where any of them has none."""
    return _mean([entry.scores[column.name].jer(rule) if column.name in entry.scores else None for column in columns])


def beginnings(board: Leaderboard) -> dict[str, int]:
    """Systems that have run on the beginnings of the datasets only, and on how many recordings of each: a limit of so
    many would rank them. Those with failures, other gaps, or no run on a dataset are not among them."""
    found = {}
    for line in board.lines:
        started = []
        for column in board.columns:
            score = line.entry.scores.get(column.name)
            done = len(column.recordings) - len(score.missing) if score is not None else 0
            if score is None or score.failures or not done or set(score.missing) != set(column.recordings[done:]):
                break
            if score.missing:
                started.append(done)
        else:
            if started:
                found[line.entry.system] = min(started)
    return found


def exposure(entry: Entry, column: Column) -> Exposure | None:
    """What the system's weights may know of the dataset, for all that its card says; it never changes a rank.

    A corpus that is named without a part may be all of it: what nobody says is not taken for good.
    """
    if column.corpus is None:
        return None
    named = {name for name in (*entry.trained_parts, *entry.may_have_seen) if name.split("/")[0] == column.corpus}
    if not named:
        return None
    return "seen" if column.part is None or named & {column.corpus, f"{column.corpus}/{column.part}"} else "related"


def pareto_front(points: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """Names of the points that no other beats: none is as small in both values and smaller in one. Sorted by the first.

    >>> pareto_front({"a": (1, 5), "b": (2, 3), "c": (3, 4), "d": (2, 3)})
    ('a', 'b', 'd')
    """
    front = [
        name
        for name, (x, y) in points.items()
        if not any((u <= x and v <= y) and (u < x or v < y) for u, v in points.values())
    ]
    return tuple(sorted(front, key=lambda name: (points[name], name)))


def _mean(rates: Sequence[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return sum(known) / len(known) if known and len(known) == len(rates) else None


def _difference(value: float | None, base: float | None) -> float | None:
    return value - base if value is not None and base is not None else None


def _why_unranked(entry: Entry, columns: Sequence[Column], rule: str) -> str:
    reasons = []
    for column in columns:
        score = entry.scores.get(column.name)
        if score is None:
            reasons.append(f"not run on {column.name}")
        elif not score.complete:
            done, count = len(score.recordings), len(column.recordings)
            failed = f", {len(score.failures)} failed" if score.failures else ""
            reasons.append(f"{done} of {count} recordings on {column.name}{failed}")
        elif score.der(rule) is None:
            reasons.append(f"no reference speech is scored on {column.name}")
    return "; ".join(reasons) or "no dataset"
