"""How sure one may be of a number: intervals, paired differences, many comparisons, several seeds.

A weighted mean m = sum(w x) / sum(w) is treated as the ratio it is: with u_i = w_i (x_i - m) / sum(w) summed inside
each of G clusters, Var(m) = G/(G-1) sum_g u_g^2 (the CR1 sandwich of an intercept), referred to t with G-1 degrees of
freedom. Without weights and clusters that is the textbook s^2/n. Shares stay inside 0..1 by Wilson's score interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kilter.errors import KilterError
from kilter.evaluation.result import DIMENSIONS, Measure, dimension

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """The change from one model to another on the same samples: later minus earlier, interval, two-sided p, n pairs."""

    value: float
    low: float
    high: float
    p: float
    n: int

    @property
    def detectable(self) -> float:
        """The smallest change that this comparison would have found at 5 % with a power of 80 %."""
        return (self.high - self.low) / 2 * (1 + stats.norm.ppf(0.8) / stats.norm.ppf(0.975))


def interval(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    weights: Sequence[float] | None = None,
) -> Measure:
    """Return the (weighted) mean of `values` with its interval.

    Values that are all 0 or 1 are a share: Wilson's interval; with clusters, Wilson's at the effective sample size
    p(1-p)/Var(p). Anything else: t. One cluster alone says nothing of the spread: its interval is infinite.
    Raises KilterError for no values.
    """
    x = _array(values)
    share = bool(np.isin(x, (0.0, 1.0)).all())
    if share and clusters is None and weights is None:
        low, high = wilson(int(x.sum()), len(x), level)
        return Measure(float(x.mean()), low, high, len(x))
    mean, error, freedom = _mean(x, clusters, weights)
    if share and freedom > 0:
        # Where every value is the same the spread is unknown, and only the clusters count as independent.
        size = mean * (1 - mean) / error**2 if error > 0 else freedom + 1.0
        low, high = _score(mean, size, float(stats.t.ppf((1 + level) / 2, freedom)))
        return Measure(mean, low, high, len(x))
    reach = _quantile(level, freedom) * error
    return Measure(mean, mean - reach, mean + reach, len(x))


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion (E. B. Wilson 1927)."""
    return _score(successes / n, n, float(stats.norm.ppf((1 + level) / 2)))


def bootstrap(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    *,
    statistic: Callable[[Floats], float] = np.mean,
    resamples: int = 2000,
    seed: int = 0,
) -> Measure:
    """Return `statistic(values)` with its percentile bootstrap interval, whole clusters being drawn together."""
    x = _array(values)
    members = _members(clusters, len(x))
    rng = np.random.default_rng(seed)
    drawn = [
        statistic(x[np.concatenate([members[g] for g in rng.integers(len(members), size=len(members))])])
        for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Measure(float(statistic(x)), float(low), float(high), len(x))


def paired(
    before: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    weights: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Difference:
    """Return mean(after) - mean(before) over the same samples.

    Two columns of 0 and 1: McNemar's exact test and the square-and-add Wilson interval (Newcombe 1998, method 10).
    Otherwise, or with clusters or weights (one column each): paired t on the influence of each sample.
    """
    a, b = _array(before), _array(after)
    if len(a) != len(b):
        raise KilterError(f"A paired comparison needs as many values before as after, not {len(a)} and {len(b)}.")
    if clusters is None and weights is None and np.isin(np.concatenate([a, b]), (0.0, 1.0)).all():
        return _paired_shares(a, b, level)
    if weights is None:
        mean, error, freedom = _mean(b - a, clusters, None)
        if clusters is not None and error == 0 and np.isin(np.concatenate([a, b]), (0.0, 1.0)).all():
            # Nothing changed, or everything did: one sample a cluster keeps the interval from shrinking to a point.
            first = [members[0] for members in _members(clusters, len(a))]
            return replace(_paired_shares(a[first], b[first], level), n=len(a))
    else:
        (mean_a, _, _), (mean_b, _, _) = _mean(a, clusters, weights[0]), _mean(b, clusters, weights[1])
        mean = mean_b - mean_a
        wa, wb = _array(weights[0]), _array(weights[1])
        influence = wb * (b - mean_b) / wb.sum() - wa * (a - mean_a) / wa.sum()
        error, freedom = _sandwich(influence, clusters)
    return _difference(mean, error, freedom, len(a), level)


def unpaired(before: Measure, after: Measure) -> Difference:
    """Return the change between two measures of different samples, from their 95 % intervals alone (square and add)."""
    value = after.value - before.value
    low = value - math.hypot(after.value - after.low, before.high - before.value)
    high = value + math.hypot(after.high - after.value, before.value - before.low)
    error = (high - low) / 2 / float(stats.norm.ppf(0.975))
    p = 2 * float(stats.norm.sf(abs(value) / error)) if error > 0 else float(value == 0)
    return Difference(value, low, high, p, min(before.n, after.n))


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number (Holm 1979), in the order given."""
    adjusted = [0.0] * len(ps)
    running = 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        running = max(running, min(1.0, (len(ps) - place) * ps[index]))
        adjusted[index] = running
    return adjusted


def detectable(sd: float, n: int, *, level: float = 0.95, power: float = 0.8) -> float:
    """Return the smallest mean difference that `n` pairs find with `power`, their differences spreading by `sd`."""
    return float((stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power)) * sd / math.sqrt(n))


def over_seeds(measures: Sequence[Measure], level: float = 0.95, *, shared: bool = True) -> Measure:
    """Return the mean of one measure over runs with different seeds; `n` is that of one run.

    Where the runs were measured on `shared` samples the interval adds, in squares and for each side apart (Zou and
    Donner 2008), what varies between seeds (t over the runs' values) and the mean uncertainty inside a run, which more
    seeds do not lessen. Samples drawn anew for each seed are already part of what varies between seeds; then the
    interval is that of the seeds, but no narrower than that of all samples together.
    """
    k = len(measures)
    if k == 1:
        return measures[0]
    value = float(np.mean([m.value for m in measures]))
    between = _quantile(level, k - 1) * float(np.std([m.value for m in measures], ddof=1)) / math.sqrt(k)
    below = math.sqrt(np.mean([(m.value - m.low) ** 2 for m in measures]))
    above = math.sqrt(np.mean([(m.high - m.value) ** 2 for m in measures]))
    if shared:
        below, above = math.hypot(between, below), math.hypot(between, above)
    else:
        below, above = max(between, below / math.sqrt(k)), max(between, above / math.sqrt(k))
    return Measure(value, value - below, value + above, measures[0].n)


def differences_over_seeds(
    differences: Sequence[Difference], level: float = 0.95, *, shared: bool = True
) -> Difference:
    """Return the mean change over runs with different seeds; the two sources of variance as in `over_seeds`.

    The degrees of freedom are Welch and Satterthwaite's where the two are added.
    """
    k, n = len(differences), differences[0].n
    if k == 1:
        return differences[0]
    value = float(np.mean([d.value for d in differences]))
    if n < 2:
        return _difference(value, math.inf, 0, n, level)
    between = float(np.var([d.value for d in differences], ddof=1)) / k
    reach = _quantile(0.95, n - 1)
    within = float(np.mean([((d.high - d.low) / 2 / reach) ** 2 for d in differences]))
    if not shared:
        pooled = within / k > between
        return _difference(value, math.sqrt(max(between, within / k)), k * (n - 1) if pooled else k - 1, n, level)
    spread = between**2 / (k - 1) + within**2 / (n - 1)
    freedom = (between + within) ** 2 / spread if spread > 0 else k - 1
    return _difference(value, math.sqrt(between + within), freedom, n, level)


def summarize(samples: Sequence[dict[str, Any]]) -> dict[str, Measure]:
    """Return one measure for each dimension that occurs in the samples' outcomes, known dimensions in their order."""
    found = dict.fromkeys(name for sample in samples for name in sample["outcomes"])
    names = [name for name in DIMENSIONS if name in found] + [name for name in found if name not in DIMENSIONS]
    return {name: measure([sample for sample in samples if name in sample["outcomes"]], name) for name in names}


def measure(samples: Sequence[dict[str, Any]], name: str) -> Measure:
    """Return the measure of the dimension `name` over samples that all have an outcome in it.

    A gap of outcomes +1, -1 and 0 is the share of the first less that of the second, as of one column less another.
    """
    values = [sample["outcomes"][name] for sample in samples]
    clusters, weights = clusters_of(samples), weights_of(samples, name)
    simple = clusters is None and weights is None and set(values) <= {-1.0, 0.0, 1.0}
    if dimension(name).unit == "gap" and simple:
        gap = paired([float(v < 0) for v in values], [float(v > 0) for v in values])
        return Measure(gap.value, gap.low, gap.high, gap.n)
    return interval(values, clusters=clusters, weights=weights)


def clusters_of(samples: Sequence[dict[str, Any]]) -> list[Hashable] | None:
    """Return each sample's cluster (its id where it has none), or None where no two samples share one."""
    clusters: list[Hashable] = [sample.get("cluster", sample["id"]) for sample in samples]
    return clusters if len(set(clusters)) < len(clusters) else None


def weights_of(samples: Sequence[dict[str, Any]], name: str) -> list[float] | None:
    """Return each sample's weight in the dimension `name`, or None where all weigh the same."""
    weights = [float(sample.get("weights", {}).get(name, 1.0)) for sample in samples]
    return weights if len(set(weights)) > 1 else None


def _array(values: Sequence[float]) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        raise KilterError("There are no values to take a mean of; check that the evaluation has samples.")
    return x


def _members(clusters: Sequence[Hashable] | None, n: int) -> list[NDArray[np.int64]]:
    if clusters is None:
        return [np.array([i]) for i in range(n)]
    places: dict[Hashable, list[int]] = {}
    for i, cluster in enumerate(clusters):
        places.setdefault(cluster, []).append(i)
    return [np.array(members) for members in places.values()]


def _mean(x: Floats, clusters: Sequence[Hashable] | None, weights: Sequence[float] | None) -> tuple[float, float, int]:
    """Return the mean, its standard error and the degrees of freedom."""
    w = np.ones_like(x) if weights is None else _array(weights)
    if not w.sum() > 0:
        raise KilterError("The weights of a mean add up to nothing; give at least one sample a positive weight.")
    mean = float((w * x).sum() / w.sum())
    error, freedom = _sandwich(w * (x - mean) / w.sum(), clusters)
    return mean, error, freedom


def _sandwich(influence: Floats, clusters: Sequence[Hashable] | None) -> tuple[float, int]:
    if clusters is not None:
        _, codes = np.unique([str(c) for c in clusters], return_inverse=True)
        influence = np.asarray(np.bincount(codes, weights=influence), dtype=np.float64)
    g = len(influence)
    return (math.sqrt(g / (g - 1) * float((influence**2).sum())), g - 1) if g > 1 else (math.inf, 0)


def _quantile(level: float, freedom: float) -> float:
    return float(stats.t.ppf((1 + level) / 2, freedom)) if freedom > 0 else math.inf


def _score(p: float, n: float, z: float) -> tuple[float, float]:
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At 0 and 1 the formula gives the end itself, up to rounding.
    return (0.0 if p == 0 else max(0.0, centre - reach)), (1.0 if p == 1 else min(1.0, centre + reach))


def _paired_shares(a: Floats, b: Floats, level: float) -> Difference:
    n = len(a)
    both, neither = int((a * b).sum()), int(((1 - a) * (1 - b)).sum())
    gained, lost = int(((1 - a) * b).sum()), int((a * (1 - b)).sum())
    pb, pa = (both + gained) / n, (both + lost) / n
    (low_b, high_b), (low_a, high_a) = wilson(both + gained, n, level), wilson(both + lost, n, level)
    product = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    # Newcombe's phi: the correlation of the two columns, with his continuity correction where it is positive.
    cross = both * neither - gained * lost
    corrected = max(cross - n / 2, 0.0) if cross > 0 else float(cross)
    phi = corrected / math.sqrt(product) if product else 0.0
    down_b, up_b, down_a, up_a = pb - low_b, high_b - pb, pa - low_a, high_a - pa
    low = pb - pa - math.sqrt(max(down_b**2 - 2 * phi * down_b * up_a + up_a**2, 0.0))
    high = pb - pa + math.sqrt(max(up_b**2 - 2 * phi * up_b * down_a + down_a**2, 0.0))
    discordant = gained + lost
    p = float(stats.binomtest(gained, discordant, 0.5).pvalue) if discordant else 1.0
    return Difference(pb - pa, low, high, p, n)


def _difference(mean: float, error: float, freedom: float, n: int, level: float) -> Difference:
    if error == 0:
        # No spread at all: nothing changed anywhere (p = 1), or everything changed by the same amount.
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0, n)
    reach = _quantile(level, freedom) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom)) if freedom > 0 else 1.0
    return Difference(mean, mean - reach, mean + reach, p, n)
