"""What a difference between DERs is worth: bootstrap intervals over recordings, a permutation test, corrections.

A dataset is a stratum: recordings are resampled within it, never across datasets. All systems of a stratum are
resampled together, so differences are paired. The seed is an argument; the same seed gives the same digits.

A recording without reference speech that is scored has no DER, but its false alarms count in the errors of its
dataset, here as everywhere.

Sources: Efron, "Better bootstrap confidence intervals", JASA 82 (1987); Efron & Tibshirani, "An introduction to the
bootstrap" (1993), chapters 6, 13 and 14; Davison & Hinkley, "Bootstrap methods and their application" (1997), 5.3;
Bisani & Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004; Phipson &
Smyth, "Permutation p-values should never be zero", SAGMB 9 (2010); Holm, "A simple sequentially rejective multiple
test procedure", Scandinavian Journal of Statistics 6 (1979).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Method = Literal["bca", "percentile"]
Name = TypeVar("Name", str, tuple[str, str])

RESAMPLES = 10_000
SEED = 0
# Up to so many recordings all 2^n swaps are counted, and the p-value is exact: 2^16 sums of each half, in about 10 ms.
_EXACT_UP_TO = 32
_BLOCK = 512  # resamples at a time, so that memory stays flat
# Sums in another order differ in the last digits; a tie is a tie.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Stratum:
    """The recordings of one dataset under one rule, for systems that all have every one of them."""

    scored: NDArray[np.float64]  # (recordings,), s of reference speech
    errors: NDArray[np.float64]  # (systems, recordings), s of missed + false alarm + confusion

    @property
    def tells_spread(self) -> bool:
        """Whether two recordings or more have reference speech: less has no spread that resampling could show."""
        return bool(np.count_nonzero(self.scored > 0) >= 2)

    @property
    def ders(self) -> NDArray[np.float64]:
        """Pooled DER of each system, (systems,)."""
        return np.asarray(self.errors.sum(axis=1) / self.scored.sum())


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval. `low` and `high` are None where resampling can't tell: a dataset with
    one recording that has reference speech shows no spread over recordings."""

    estimate: float
    low: float | None
    high: float | None
    level: float
    method: Method

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, slots=True)
class Changes:
    """How the DERs of single recordings differ between two systems (the summary of the efficiency paper, 5.2)."""

    recordings: int
    median: float
    quartile_low: float
    quartile_high: float
    percentile_90: float
    maximum: float
    better: int  # recordings on which the second has the smaller DER
    worse: int  # recordings on which it has the larger one


def resampled_ders(strata: Sequence[Stratum], *, resamples: int = RESAMPLES, seed: int = SEED) -> NDArray[np.float64]:
    """Pooled DERs of bootstrap resamples over recordings, (strata, systems, resamples).

    Efron & Tibshirani 1993, chapter 6; a resample's DER is a ratio of its summed seconds (Bisani & Ney 2004 do the
    same for WER). A resample without reference speech repeats the estimate. Raises ValueError for a stratum without
    any.
    """
    if any(stratum.scored.sum() <= 0 for stratum in strata):
        raise ValueError("a stratum without reference speech has no DER")
    generator = np.random.default_rng(seed)
    return np.array([_resample(stratum, resamples, generator) for stratum in strata])


def interval(
    strata: Sequence[Stratum],
    contrast: Sequence[float],
    *,
    level: float = 0.95,
    method: Method = "bca",
    resamples: int = RESAMPLES,
    seed: int = SEED,
    replicates: NDArray[np.float64] | None = None,
) -> Interval:
    """The confidence interval of Σ contrast·macro DER: (1,) for one system, (-1, 1) for the second less the first.

    Percentile, or BCa (Efron 1987; Davison & Hinkley 1997, 5.3.2 for several strata), which corrects bias and
    skew. `replicates` takes what `resampled_ders` gave for the same strata, so that many contrasts share it. Strata of
    fewer than some thirty recordings make intervals too narrow, whichever method (docs/comparing.md has figures).
    """
    weights = np.asarray(contrast, dtype=np.float64)
    estimate = float(np.mean([weights @ stratum.ders for stratum in strata]))
    if not all(stratum.tells_spread for stratum in strata):
        return Interval(estimate, None, None, level, method)
    if replicates is None:
        replicates = resampled_ders(strata, resamples=resamples, seed=seed)
    used = np.flatnonzero(weights)
    values = (weights[used] @ replicates[:, used]).mean(axis=0)  # by stratum first: equal systems differ by exactly 0
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        tails = _bca_tails(tails, values, estimate, _acceleration(strata, weights))
    low, high = np.quantile(values, tails)
    return Interval(estimate, float(low), float(high), level, method)


def permutation_p(
    strata: Sequence[Stratum], first: int, second: int, *, resamples: int = RESAMPLES, seed: int = SEED
) -> float:
    """Two-sided p-value that the macro DERs of two systems differ: a paired permutation test over recordings.

    Under the null hypothesis a recording's outputs may be swapped between the systems. All swaps are counted where
    there are few (exact), else random ones, with one added to both counts (Phipson & Smyth 2010).
    """
    shares = np.concatenate(
        [(s.errors[second] - s.errors[first]) / s.scored.sum() / len(strata) for s in strata]
    )  # what each recording adds to the macro difference
    shares = shares[shares != 0]
    if len(shares) == 0:
        return 1.0
    observed = abs(float(shares.sum()))
    threshold = observed - _ROUNDING * float(np.abs(shares).sum())
    if len(shares) <= _EXACT_UP_TO:
        return _exact_p(shares, threshold)
    generator = np.random.default_rng(seed)
    hits = 0
    for size in _blocks(resamples):
        coins = np.frombuffer(generator.bytes(size * (len(shares) // 8 + 1)), dtype=np.uint8).reshape(size, -1)
        swapped = np.unpackbits(coins, axis=1, count=len(shares)).astype(np.float64)
        hits += int(np.count_nonzero(np.abs(shares.sum() - 2 * (swapped @ shares)) >= threshold))
    return (hits + 1) / (resamples + 1)


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """p-values adjusted for how many comparisons were made (Holm 1979): step-down, never below the plain ones.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    adjusted: dict[Name, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: (p_values[name], name))):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


def changes(first: Sequence[float], second: Sequence[float]) -> Changes:
    """The spread of second less first over recordings. Raises ValueError for no recordings."""
    differences = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    if len(differences) == 0:
        raise ValueError("no recordings to compare")
    low, median, high, ninety = np.quantile(differences, [0.25, 0.5, 0.75, 0.9])
    better, worse = (int(np.count_nonzero(sign * differences > 0)) for sign in (-1, 1))
    return Changes(
        len(differences),
        float(median),
        float(low),
        float(high),
        float(ninety),
        float(differences.max()),
        better,
        worse,
    )


def _resample(stratum: Stratum, resamples: int, generator: np.random.Generator) -> NDArray[np.float64]:
    recordings = len(stratum.scored)
    columns = np.vstack([stratum.errors, stratum.scored]).T  # (recordings, systems + 1)
    result = np.empty((len(stratum.errors), resamples))
    done = 0
    for size in _blocks(resamples):
        # How often each recording is drawn: a draw of n out of n, as counts, so that sums are one product.
        drawn = generator.integers(0, recordings, size=(size, recordings))
        drawn += np.arange(size)[:, None] * recordings
        counts = np.bincount(drawn.ravel(), minlength=size * recordings).reshape(size, recordings)
        sums = counts.astype(np.float64) @ columns
        scored = sums[:, -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            ders = sums[:, :-1] / scored[:, None]
        ders[scored <= 0] = stratum.ders
        result[:, done : done + size] = ders.T
        done += size
    return result


def _blocks(total: int) -> Iterator[int]:
    for start in range(0, total, _BLOCK):
        yield min(_BLOCK, total - start)


def _exact_p(shares: NDArray[np.float64], threshold: float) -> float:
    """The part of all 2^n choices of signs with |±share ± share ...| of at least `threshold`.

    Sums of either half are made apart: each sum of the first reaches the threshold with those of the second that are
    large enough, which are counted in sorted order (Horowitz & Sahni, "Computing partitions with applications to the
    knapsack problem", JACM 21, 1974). With a choice its mirror image counts, so that one side is enough.
    """
    if threshold <= 0:
        return 1.0
    half = len(shares) // 2
    first, second = (np.sort(_signed_sums(part)) for part in (shares[:half], shares[half:]))
    reach = len(second) - np.searchsorted(second, threshold - first)
    return int(reach.sum()) * 2.0 ** (1 - len(shares))


def _signed_sums(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sums of all choices of signs, (2^n,)."""
    sums = np.zeros(1)
    for share in shares:
        sums = np.concatenate([sums - share, sums + share])
    return sums


def _acceleration(strata: Sequence[Stratum], weights: NDArray[np.float64]) -> float:
    """Skew of the statistic, from leaving each recording out in turn (jackknife influence values)."""
    cubes = squares = 0.0
    for stratum in strata:
        n = len(stratum.scored)
        errors, scored = weights @ stratum.errors, stratum.scored
        left = scored.sum() - scored
        safe = left > 0
        without = np.where(safe, (errors.sum() - errors) / np.where(safe, left, 1.0), errors.sum() / scored.sum())
        influence = (n - 1) * (without.mean() - without) / len(strata)
        cubes += float((influence**3).sum()) / n**3
        squares += float((influence**2).sum()) / n**2
    return cubes / (6 * squares**1.5) if squares > 0 else 0.0


def _bca_tails(
    tails: NDArray[np.float64], values: NDArray[np.float64], estimate: float, acceleration: float
) -> NDArray[np.float64]:
    """Efron & Tibshirani 1993, equations 14.10 and 14.14; values equal to the estimate count half."""
    from scipy.special import ndtr, ndtri

    tie = _ROUNDING * float(np.abs(values).max(initial=abs(estimate)))
    below = float(np.mean(values < estimate - tie) + np.mean(np.abs(values - estimate) <= tie) / 2)
    if below <= 0 or below >= 1:  # all on one side: nothing to correct by
        return tails
    bias = float(ndtri(below))
    shifted = bias + ndtri(tails)
    room = 1 - acceleration * shifted
    # Where the correction runs past its pole, the tail is the last value on that side.
    adjusted = np.where(room > 0, ndtr(bias + shifted / np.where(room > 0, room, 1.0)), shifted > 0)
    return np.asarray(adjusted, dtype=np.float64)
