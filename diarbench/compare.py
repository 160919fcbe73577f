"""From a leaderboard to paired differences between systems, and what they allow to conclude; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diarbench.errors import InputError, did_you_mean
from diarbench.leaderboard import Entry, Leaderboard, Line, Score
from diarbench.scoring import ScoringRule
from diarbench.scoring import statistics as stats

# What is compared: both are sums over recordings, of error times by scored time or of Jaccard errors by speakers.
Metric = Literal["der", "jer"]

# A difference that four of five experiments like this one would show: the power of 0.8 that Cohen, "Statistical power
# analysis for the behavioral sciences" (1988), 2.4, proposes where nothing else decides.
POWER = 0.8
# Below this many recordings intervals are too narrow (measured: docs/comparing.md), and the conclusion says so.
FEW = 30
# Below this many recordings with reference speech there is none: draws of two out of two give three different values,
# of which two are the recordings themselves. Nobody's limit but ours; docs/comparing.md measures from three on.
TOO_FEW = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """The error rates of two systems over the same recordings, and the second less the first; all fractions."""

    a: float | None  # None without reference speech, or for a macro DER where a dataset is incomplete
    b: float | None
    interval: stats.Interval | None  # of b - a, without ends where there are too few recordings; None as `a` or `b` is
    p_value: float | None  # paired permutation test, two-sided; None without an interval's ends

    @property
    def b_minus_a(self) -> float | None:
        """Below zero, the second system is better."""
        return self.b - self.a if self.a is not None and self.b is not None else None


@dataclass(frozen=True, slots=True)
class Change:
    """One recording that both systems have."""

    dataset: str
    recording: str
    a: float | None  # DER; None where no reference speech is scored
    b: float | None
    more_errors: float  # errors of the second less those of the first: seconds, or of JER the Jaccard errors

    @property
    def b_minus_a(self) -> float | None:
        """Difference of the DERs."""
        return self.b - self.a if self.a is not None and self.b is not None else None


@dataclass(frozen=True, slots=True)
class DatasetDifference:
    """Two systems on the recordings of one dataset that both have."""

    name: str
    of: int  # recordings of the dataset on the board
    recordings: tuple[Change, ...]
    difference: Difference
    changes: stats.Changes | None  # None where no recording has a DER

    @property
    def without_speech(self) -> int:
        """Recordings that only count by their false alarms: no reference speech is scored in them."""
        return sum(change.b_minus_a is None for change in self.recordings)

    @property
    def with_speech(self) -> int:
        """Recordings that have a DER."""
        return len(self.recordings) - self.without_speech


@dataclass(frozen=True, slots=True)
class Against:
    """One system held against the first."""

    system: str
    datasets: tuple[DatasetDifference, ...]
    macro: Difference
    p_holm: float | None  # the macro p-value, corrected for how many systems are held against the first
    changes: stats.Changes | None  # over the recordings of all datasets
    conclusion: str

    def most_changed(self, count: int) -> list[Change]:
        """Recordings by how far their DERs differ, furthest first; those without a DER are left out."""
        known = [c for dataset in self.datasets for c in dataset.recordings if c.b_minus_a is not None]
        return sorted(known, key=lambda c: (-abs(c.b_minus_a or 0.0), c.dataset, c.recording))[:count]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Systems held against the first, each on the recordings that both have; with all that repeats the digits."""

    first: str
    metric: Metric
    rule: ScoringRule
    level: float
    method: stats.Method
    resamples: int
    seed: int
    others: tuple[Against, ...]


def compare(
    board: Leaderboard,
    first: str,
    others: Sequence[str],
    *,
    metric: Metric = "der",
    level: float = 0.95,
    method: stats.Method = "bca",
    resamples: int = stats.RESAMPLES,
    seed: int = stats.SEED,
) -> Comparison:
    """Each of `others` against `first` under the board's ranking rule, over all its datasets.

    Intervals: bootstrap over recordings, within each dataset. p-values: paired permutation; those of the macro
    differences are corrected by Holm's method over `others`. Raises InputError for a system that is not on the
    board or named twice, for no others, and for a level, seed or number of resamples that can't be. Of a board without
    Jaccard errors, "jer" has nothing to compare.
    """
    lines = {line.entry.system: line for line in board.lines}
    _check([first, *others], lines, level, resamples, seed)
    alike: dict[_Recordings, list[str]] = {}
    for name in others:
        alike.setdefault(_common(board, metric, lines[first].entry, lines[name].entry), []).append(name)
    found: dict[str, Against] = {}
    for recordings, names in alike.items():
        chosen = [lines[name] for name in (first, *names)]
        sample = _Sample.of(board, metric, chosen, recordings, resamples, seed)
        found.update({name: sample.against(i, level, method) for i, name in enumerate(names, start=1)})
    compared = [found[name] for name in others]
    corrected = stats.holm({one.system: one.macro.p_value for one in compared if one.macro.p_value is not None})
    apart = _told_apart(compared, level)
    finished = []
    for one in compared:
        one = replace(one, p_holm=corrected.get(one.system))
        sentence = _conclusion(lines[first], lines[one.system], one, metric, level, len(corrected), apart)
        finished.append(replace(one, conclusion=sentence))
    return Comparison(first, metric, board.rule, level, method, resamples, seed, tuple(finished))


def _check(names: Sequence[str], known: Mapping[str, Line], level: float, resamples: int, seed: int) -> None:
    if len(names) < 2:
        raise InputError("a comparison needs two systems")
    for position, name in enumerate(names):
        if name not in known:
            raise InputError(f"no system {name!r} on the board{did_you_mean(name, known)}")
        if name in names[:position]:
            raise InputError(f"{name} is named twice; name systems that differ")
    if not 0 < level < 1:
        raise InputError(f"the level is {level:g}; it lies between 0 and 1, for example 0.95")
    if resamples < 1:
        raise InputError(f"{resamples} resamples tell nothing; 10000 are usual")
    if seed < 0:
        raise InputError(f"the seed is {seed}; it is 0 or more")


_Recordings = tuple[tuple[str, ...], ...]  # ids by dataset, in the board's order


def _known(score: Score, metric: Metric) -> Set[str]:
    return score.recordings.keys() if metric == "der" else score.jaccard.keys()


@dataclass(frozen=True, slots=True)
class _Errors:
    """What a recording adds to an error rate: to its numerator and to its denominator."""

    errors: float
    scored: float

    @property
    def rate(self) -> float | None:
        return self.errors / self.scored if self.scored > 0 else None


def _errors_of(score: Score, recording: str, metric: Metric, rule: str) -> _Errors:
    if metric == "der":
        times = score.recordings[recording][rule]
        return _Errors(times.errors, times.scored)
    jaccard = score.jaccard[recording][rule]
    return _Errors(jaccard.total, jaccard.speakers)


def _common(board: Leaderboard, metric: Metric, first: Entry, second: Entry) -> _Recordings:
    """The recordings of each dataset that both systems have, in the dataset's order."""
    common = []
    for column in board.columns:
        one, two = (entry.scores.get(column.name) for entry in (first, second))
        have = _known(one, metric) & _known(two, metric) if one and two else set()
        common.append(tuple(name for name in column.recordings if name in have))
    return tuple(common)


@dataclass(frozen=True, slots=True)
class _Sample:
    """Systems that share their recordings with the first of them, so that all share one bootstrap."""

    board: Leaderboard
    metric: Metric
    lines: Sequence[Line]
    recordings: _Recordings
    errors: Sequence[Sequence[Sequence[_Errors]]]  # by dataset, system, recording
    strata: Sequence[stats.Stratum]
    replicates: Mapping[int, NDArray[np.float64]]  # by dataset that shows a spread: (1, systems, resamples)
    resamples: int
    seed: int

    @classmethod
    def of(
        cls,
        board: Leaderboard,
        metric: Metric,
        lines: Sequence[Line],
        recordings: _Recordings,
        resamples: int,
        seed: int,
    ) -> _Sample:
        """Draw the resamples."""
        rule = board.rule.name
        errors = [
            [[_errors_of(line.entry.scores[column.name], name, metric, rule) for name in names] for line in lines]
            for column, names in zip(board.columns, recordings, strict=True)
        ]
        strata = [
            stats.Stratum(np.array([e.scored for e in rows[0]]), np.array([[e.errors for e in row] for row in rows]))
            for rows in errors
        ]
        spread = [place for place, stratum in enumerate(strata) if np.count_nonzero(stratum.scored > 0) >= TOO_FEW]
        drawn = stats.resampled_ders([strata[place] for place in spread], resamples=resamples, seed=seed)
        replicates = {place: drawn[i : i + 1] for i, place in enumerate(spread)}
        return cls(board, metric, lines, recordings, errors, strata, replicates, resamples, seed)

    def against(self, position: int, level: float, method: stats.Method) -> Against:
        """The system at that position held against the first; without Holm's correction and the sentence."""
        datasets = []
        for place, (column, names) in enumerate(zip(self.board.columns, self.recordings, strict=True)):
            first, second = self.errors[place][0], self.errors[place][position]
            totals = [_Errors(sum(e.errors for e in row), sum(e.scored for e in row)).rate for row in (first, second)]
            difference = self._difference(totals[0], totals[1], [place], position, level, method)
            changed = tuple(
                Change(column.name, name, a.rate, b.rate, b.errors - a.errors)
                for name, a, b in zip(names, first, second, strict=True)
            )
            datasets.append(
                DatasetDifference(column.name, len(column.recordings), changed, difference, _changes(changed))
            )
        macros = [self._macro(self.lines[i]) for i in (0, position)]
        macro = self._difference(macros[0], macros[1], range(len(self.strata)), position, level, method)
        everything = _changes([change for dataset in datasets for change in dataset.recordings])
        return Against(self.lines[position].entry.system, tuple(datasets), macro, None, everything, "")

    def _macro(self, line: Line) -> float | None:
        return (line.macro if self.metric == "der" else line.macro_jer)[self.board.rule.name]

    def _difference(
        self,
        a: float | None,
        b: float | None,
        places: Sequence[int],
        position: int,
        level: float,
        method: stats.Method,
    ) -> Difference:
        if a is None or b is None:
            return Difference(a, b, None, None)
        strata = [self.strata[place] for place in places]
        if not all(place in self.replicates for place in places):
            return Difference(a, b, stats.Interval(b - a, None, None, level, method), None)
        contrast = np.zeros(len(self.lines))
        contrast[[0, position]] = -1, 1
        replicates = np.concatenate([self.replicates[place] for place in places])
        interval = stats.interval(strata, contrast.tolist(), level=level, method=method, replicates=replicates)
        p = stats.permutation_p(strata, 0, position, resamples=self.resamples, seed=self.seed)
        return Difference(a, b, interval, p)


def _changes(recordings: Sequence[Change]) -> stats.Changes | None:
    known = [(change.a, change.b) for change in recordings if change.a is not None and change.b is not None]
    return stats.changes([a for a, _ in known], [b for _, b in known]) if known else None


# --- in words


def _told_apart(compared: Sequence[Against], level: float) -> set[tuple[str, str]]:
    """(system, dataset) whose difference is clear by interval and test, corrected for all of these looked at."""
    differences = {(one.system, dataset.name): dataset.difference for one in compared for dataset in one.datasets}
    p_values = {key: d.p_value for key, d in differences.items() if d.p_value is not None}
    return {key for key, p in stats.holm(p_values).items() if _is_clear(differences[key], p, level)}


def _is_clear(difference: Difference, p: float, level: float) -> bool:
    return difference.interval is not None and difference.interval.excludes_zero and p <= 1 - level


def _conclusion(
    first: Line,
    second: Line,
    one: Against,
    metric: Metric,
    level: float,
    comparisons: int,
    apart: set[tuple[str, str]],
) -> str:
    """One sentence: what can be concluded, or what stands in the way."""
    a, b = first.entry.system, second.entry.system
    value, interval, p = one.macro.b_minus_a, one.macro.interval, one.p_holm
    rate = f"macro {metric.upper()}"
    if not any(dataset.recordings for dataset in one.datasets):
        return f"Nothing can be compared: {a} and {b} have no recording in common."
    if all(change.more_errors == 0 for dataset in one.datasets for change in dataset.recordings):
        return f"No difference: {a} and {b} have the same errors on {_shared(one)}{_no_interval(one)}{_caution(one)}."
    if value is None or interval is None:
        why = "; ".join(f"{line.entry.system}: {line.unranked}" for line in (first, second) if line.unranked)
        return (
            f"No macro difference between {a} and {b}, as a dataset is incomplete ({why}){_alone(one, apart)}"
            f"{_no_interval(one)}{_caution(one)}."
        )
    if interval.low is None or interval.high is None or p is None:
        return (
            f"It can't be told whether the difference of {_points(value)} points {rate} between {a} and {b} holds "
            f"beyond these recordings{_no_interval(one)}{_alone(one, apart)}{_caution(one)}."
        )
    test = _p(p) + (f" (Holm, {comparisons} comparisons)" if comparisons > 1 else "")
    ends = f"[{_points(interval.low)}, {_points(interval.high)}]"
    found = f"{_points(value)} points {rate}, {100 * level:.6g} % interval {ends}"
    if _is_clear(one.macro, p, level):
        return f"{b} is {'worse' if value > 0 else 'better'} than {a}: {found}, {test}{_caution(one)}."
    if interval.excludes_zero:
        return (
            f"Not settled whether {a} and {b} differ: {found}, leaves zero out, but the permutation test can't rule "
            f"out chance, {test}{_caution(one)}."
        )
    return (
        f"No difference can be told between {a} and {b}: {found}, holds zero, {test}; a true difference of about "
        f"{100 * _detectable(interval, level):.2f} points would show in four of five such comparisons{_caution(one)}."
    )


def _alone(one: Against, apart: set[tuple[str, str]]) -> str:
    """What holds on single datasets where nothing can be said over all."""
    said = ""
    for word, sign in (("worse", 1), ("better", -1)):
        clear = [d for d in one.datasets if (one.system, d.name) in apart and sign * (d.difference.b_minus_a or 0) > 0]
        if clear:
            said += f"; on {' and '.join(d.name for d in clear)} alone, {one.system} is {word}"
    return said


def _shared(one: Against) -> str:
    """The recordings that both have, and how many lack a result."""
    both, of = (sum(counts) for counts in zip(*((len(d.recordings), d.of) for d in one.datasets), strict=True))
    said = f"each of the {both} recordings that both have" if both > 1 else "the one recording that both have"
    return said + (f", while {of - both} of {of} lack a result" if both < of else "")


def _no_interval(one: Against) -> str:
    """Where there are recordings, but too few for an interval."""
    few = [d for d in one.datasets if d.recordings and d.with_speech < TOO_FEW]
    counts = [f"{d.with_speech} on {d.name}" for d in few]
    return f"; too few recordings with reference speech for an interval: {', '.join(counts)}" if few else ""


def _caution(one: Against) -> str:
    """Where the fewest recordings make an interval that is too narrow."""
    small = min((d for d in one.datasets if d.with_speech >= TOO_FEW), key=lambda d: d.with_speech, default=None)
    if small is None or small.with_speech >= FEW:
        return ""
    return f"; with {small.with_speech} recordings on {small.name} the interval is too narrow"


def _detectable(interval: stats.Interval, level: float) -> float:
    """The true difference whose test would have POWER, were the bootstrap distribution normal."""
    from scipy.special import ndtri

    assert interval.low is not None
    assert interval.high is not None
    tail = float(ndtri((1 + level) / 2))
    return (interval.high - interval.low) / 2 * (tail + float(ndtri(POWER))) / tail


def _points(value: float) -> str:
    return f"{100 * value:+.2f}"


def _p(value: float) -> str:
    return f"p = {value:.4f}" if value >= 0.0001 else "p < 0.0001"
