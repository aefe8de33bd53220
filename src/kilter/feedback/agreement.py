"""How far raters agree beyond chance: Cohen, Fleiss, Krippendorff.

Each is a function of codes or counts alone. Where chance agreement is complete, because only one category was ever
used, a coefficient says nothing and is nan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kilter.errors import KilterError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Level = Literal["nominal", "ordinal", "interval", "ratio"]
Weights = Literal["none", "linear", "quadratic"]


def cohen(a: Sequence[int] | Ints, b: Sequence[int] | Ints, k: int, weights: Weights = "none") -> float:
    """Return Cohen's kappa of two raters' codes in 0 .. k-1: 1 - sum(w O) / sum(w E), O and E being [k, k] shares.

    The disagreement w is 0 or 1, |i - j|, or (i - j)^2 (Cohen 1960, 1968).
    """
    x, y = np.asarray(a), np.asarray(b)
    if len(x) != len(y) or not len(x):
        raise KilterError(f"Kappa needs two raters' labels of the same items, not {len(x)} and {len(y)}.")
    observed = np.bincount(x * k + y, minlength=k * k).reshape(k, k) / len(x)
    expected = np.outer(observed.sum(1), observed.sum(0))
    apart = np.abs(np.subtract.outer(np.arange(k), np.arange(k))).astype(np.float64)
    w = {"none": (apart > 0).astype(np.float64), "linear": apart, "quadratic": apart**2}[weights]
    chance = float((w * expected).sum())
    return 1 - float((w * observed).sum()) / chance if chance > 0 else math.nan


def fleiss(counts: Floats | Sequence[Sequence[float]]) -> float:
    """Return Fleiss' kappa of `counts` [items, categories], every item rated by the same number of people (1971)."""
    table = np.asarray(counts, dtype=np.float64)
    raters = table.sum(1)
    if not len(table) or not (raters == raters[0]).all() or raters[0] < 2:
        raise KilterError("Fleiss' kappa needs the same number of ratings, two or more, of every item.")
    n = raters[0]
    observed = float(((table**2).sum(1) - n).mean() / (n * (n - 1)))
    chance = float(((table.sum(0) / table.sum()) ** 2).sum())
    return (observed - chance) / (1 - chance) if chance < 1 else math.nan


def krippendorff(
    counts: Floats, values: Sequence[float] | Floats, level: Level = "nominal", weight: Floats | None = None
) -> float:
    """Return Krippendorff's alpha = 1 - D_o / D_e of `counts` [units, values]: how often each value was given to each.

    Units with fewer than two ratings say nothing. `values` are the numbers that the columns stand for (of which the
    ordinal level reads the order only); `weight` [units] counts a unit several times, for resampling.
    """
    table, v = np.asarray(counts, dtype=np.float64), np.asarray(values, dtype=np.float64)
    rated = table.sum(1)
    kept = rated >= 2
    w = np.ones(len(table)) if weight is None else weight
    table, rated, w = table[kept], rated[kept], w[kept]
    each = w / (rated - 1)
    joint = table.T @ (each[:, None] * table) - np.diag(each @ table)
    margin = w @ table
    n = float(margin.sum())
    if n < 2:
        return math.nan
    if level == "nominal":
        apart = 1 - np.eye(len(v))
    elif level == "ordinal":
        middle = np.cumsum(margin) - margin / 2
        apart = np.subtract.outer(middle, middle) ** 2
    else:
        apart = np.subtract.outer(v, v) ** 2
        if level == "ratio":
            total = np.add.outer(v, v) ** 2
            apart = np.divide(apart, total, out=np.zeros_like(apart), where=total > 0)
    observed = float((joint * apart).sum()) / n
    chance = float((np.outer(margin, margin) * apart).sum()) / (n * (n - 1))
    return 1 - observed / chance if chance > 0 else math.nan
