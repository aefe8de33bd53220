"""Beside the intervals of statistics.py: permutation tests, ranks, many comparisons, how many items it takes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kilter.errors import KilterError

Floats = NDArray[np.float64]
EXACT = 14  # up to so many differences all signs are tried


def permutation(
    before: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> float:
    """Return the two-sided p-value of the paired permutation test of the mean difference.

    Under the hypothesis that the models are the same each item's two outcomes may be exchanged: the signs of the
    differences (summed within clusters, which change sign together) are flipped at random, or in all ways where there
    are few. The observed arrangement counts as one, so that p is never 0.
    """
    if len(before) != len(after) or not before:
        raise KilterError(f"A paired test needs as many values before as after, not {len(before)} and {len(after)}.")
    change = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    if clusters is not None:
        _, place = np.unique([str(c) for c in clusters], return_inverse=True)
        change = np.asarray(np.bincount(place, weights=change), dtype=np.float64)
    change = change[change != 0]  # a difference of nothing has no sign
    if not len(change):
        return 1.0
    observed = abs(float(change.sum())) * (1 - 1e-12)
    if len(change) <= EXACT:
        signs = 1 - 2 * ((np.arange(2 ** len(change))[:, None] >> np.arange(len(change))) & 1)
        return float((np.abs(signs @ change) >= observed).mean())
    rng = np.random.default_rng(seed)
    hits = 0
    for done in range(0, resamples, 1000):
        flips = rng.integers(0, 2, size=(min(1000, resamples - done), len(change)), dtype=np.int8) * 2.0 - 1
        hits += int((np.abs(flips @ change) >= observed).sum())
    return (hits + 1) / (resamples + 1)


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Return U / (n1 n2), the probability that a value of the first is the larger (ties half), and its two-sided p."""
    if not len(first) or not len(second):
        raise KilterError(f"The Mann-Whitney test needs values on both sides, not {len(first)} and {len(second)}.")
    found = stats.mannwhitneyu(first, second, alternative="two-sided")
    return float(found.statistic) / (len(first) * len(second)), float(found.pvalue)


def benjamini_hochberg(ps: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the false discovery rate (Benjamini and Hochberg 1995), in the order given.

    Holm's (statistics.holm) keep the chance of any false finding; these the share of false ones among the findings.
    """
    order = np.argsort(ps, kind="stable")
    m = len(order)
    adjusted = np.empty(m)
    running = 1.0
    for rank in range(m, 0, -1):
        running = min(running, float(ps[order[rank - 1]]) * m / rank)
        adjusted[order[rank - 1]] = running
    return [float(p) for p in adjusted]


def items_needed(difference: float, sd: float, *, level: float = 0.95, power: float = 0.8) -> int:
    """Return how many paired items find a mean `difference` with `power`, the items' differences spreading by `sd`.

    n = ((z_level + z_power) sd / difference)^2, rounded up.
    """
    if difference == 0:
        raise KilterError("No number of items finds a difference of 0; say how large a difference matters.")
    z = float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))
    return math.ceil((z * sd / difference) ** 2)


def power(difference: float, sd: float, n: int, *, level: float = 0.95) -> float:
    """Return the chance that `n` paired items find a mean `difference` of items that spread by `sd`."""
    shift = abs(difference) * math.sqrt(n) / sd
    edge = float(stats.norm.ppf((1 + level) / 2))
    return float(stats.norm.sf(edge - shift) + stats.norm.cdf(-edge - shift))


def sd_of_shares(before: float, after: float, agreement: float | None = None) -> float:
    """Return the spread of the differences of two shares on the same items, for `items_needed`.

    `agreement` is the share of items on which both models have the same outcome; where it is not known the two are
    taken to be independent. Var = P(one right, the other wrong) - (after - before)^2.
    """
    apart = before * (1 - after) + after * (1 - before) if agreement is None else 1 - agreement
    variance = apart - (after - before) ** 2
    if variance < -1e-12:
        raise KilterError(
            f"Shares of {before} and {after} cannot agree on {agreement} of the items; check the numbers."
        )
    return math.sqrt(max(variance, 0.0))


def design_effect(values: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """Return how many times larger the variance of a mean is because items come in clusters; at least 1.

    deff = 1 + (m - 1) ICC with the ANOVA estimate of the intraclass correlation, m the mean size of the clusters
    weighted by their size. The items are worth n / deff independent ones.
    """
    x = np.asarray(values, dtype=np.float64)
    _, place = np.unique([str(c) for c in clusters], return_inverse=True)
    sizes = np.bincount(place).astype(float)
    groups, n = len(sizes), len(x)
    if groups < 2 or groups == n:
        return 1.0
    means = np.bincount(place, weights=x) / sizes
    between = float((sizes * (means - x.mean()) ** 2).sum()) / (groups - 1)
    within = float(((x - means[place]) ** 2).sum()) / (n - groups)
    usual = (n - float((sizes**2).sum()) / n) / (groups - 1)
    spread = between + (usual - 1) * within
    icc = (between - within) / spread if spread > 0 else 0.0
    return max(1.0, 1 + (float((sizes**2).sum()) / n - 1) * icc)
