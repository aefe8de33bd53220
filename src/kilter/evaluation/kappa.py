"""How far raters agree beyond chance: Cohen, Fleiss, Krippendorff; and how far they order alike: Kendall, Spearman.

Each is a function of codes or counts alone. Where chance agreement is complete, because only one category was ever
used, a coefficient says nothing and is nan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from scipy import stats

from kilter.errors import KilterError
from kilter.evaluation.result import Measure
from kilter.feedback.agreement import Floats, Ints, Level, Weights, cohen, fleiss, krippendorff

__all__ = [
    "Floats", "Ints", "Level", "Weights", "cohen", "concordance", "fleiss", "kendall", "krippendorff",
    "many_over_items", "over_items", "pearson", "spearman",
]  # fmt: skip


def kendall(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Kendall's tau-b; nan where one side orders nothing."""
    return _correlation(stats.kendalltau, a, b)


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Spearman's rank correlation; nan where one side orders nothing."""
    return _correlation(stats.spearmanr, a, b)


def pearson(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Pearson's correlation; nan where one side does not vary."""
    return _correlation(stats.pearsonr, a, b)


def _correlation(statistic: Callable[..., tuple[float, float]], a: Sequence[float], b: Sequence[float]) -> float:
    if len(a) < 2 or len(set(a)) < 2 or len(set(b)) < 2:
        return math.nan
    return float(statistic(a, b)[0])


def concordance(ranks: Floats) -> float:
    """Return Kendall's W of `ranks` [raters, objects], corrected for ties: 0 no agreement, 1 complete."""
    m, n = ranks.shape
    ranked = np.apply_along_axis(stats.rankdata, 1, ranks)
    spread = float(((ranked.sum(0) - ranked.sum(0).mean()) ** 2).sum())
    ties = sum(float((t**3 - t).sum()) for t in (np.unique(row, return_counts=True)[1] for row in ranked))
    most = m * m * (n**3 - n) - m * ties
    return 12 * spread / most if most > 0 else math.nan


def over_items(
    statistic: Callable[[Ints], float],
    n: int,
    *,
    resamples: int = 1000,
    seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Measure:
    """Return statistic(all n items) with its percentile bootstrap interval over items (or whole clusters of them).

    Resamples in which it has no value are left out of the interval; where it has none at all the value is nan.
    """
    [found] = many_over_items(
        lambda at: np.array([statistic(at)]), n, resamples=resamples, seed=seed, clusters=clusters, level=level
    )
    return found


def many_over_items(
    statistic: Callable[[Ints], Floats],
    n: int,
    *,
    resamples: int = 1000,
    seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> list[Measure]:
    """Return the measures of several statistics computed together; see `over_items`."""
    if n == 0:
        raise KilterError("There is no item to compute this of; check the names of the columns.")
    places: dict[Hashable, list[int]] = {}
    for i in range(n):
        places.setdefault(i if clusters is None else clusters[i], []).append(i)
    members = [np.array(found) for found in places.values()]
    values = statistic(np.arange(n))
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples if len(members) > 1 else 0):
        pick = rng.integers(len(members), size=len(members))
        drawn.append(statistic(pick if clusters is None else np.concatenate([members[g] for g in pick])))
    found = []
    for place, value in enumerate(values.tolist()):
        known = [x for x in (float(row[place]) for row in drawn) if math.isfinite(x)]
        if not known or not math.isfinite(value):
            found.append(Measure(value, -math.inf, math.inf, n))
            continue
        low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
        found.append(Measure(value, float(min(low, value)), float(max(high, value)), n))
    return found
