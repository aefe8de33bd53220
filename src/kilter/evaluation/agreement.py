"""Agreement among raters, people or models: pairwise kappa, Fleiss' kappa, Krippendorff's alpha, with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import combinations

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation import kappa
from kilter.evaluation.kappa import Ints, Level, Weights, over_items
from kilter.evaluation.ratings_table import Table, table
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import read
from kilter.registry import method

PAIRS = 10  # more pairs of raters than these are summarised by their mean only


@method("agreement", wing="evaluation", paper="10.1177/001316446002000104", survey="S1 §8.4, S2 §4.2")
def agreement(
    *,
    data: str,
    level: Level = "nominal",
    item: str = "item",
    rater: str = "rater",
    label: str = "label",
    columns: str | None = None,
    order: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Measure how far raters agree (Cohen 1960; Fleiss 1971; Krippendorff 2011).

    agreement: share of pairs of ratings of one item that are the same. cohen: mean kappa over pairs of raters, each on
    the items that both rated; quadratic weights where the labels have an order. fleiss: where every item has the same
    number of ratings. krippendorff: alpha for the level of the labels, for any number of ratings an item. All with
    percentile bootstrap intervals over items.

    Rows: one a rating (item, rater, label), or one an item with a column a rater (`columns`).

    Options:
        data: file, folder or hub id of ratings
        level: what the labels are, names, an order, numbers, or numbers with a zero
        item: name of the item's column
        rater: name of the rater's column
        label: name of the label's column
        columns: the raters' columns, with commas, where a row is an item
        order: the labels from low to high, with commas; else by size or alphabet
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    rows, notes = read(data)
    ratings = table(
        rows, item=item, rater=rater, label=label, columns=split(columns), order=split(order), where=str(data)
    )
    measures, more = measured(ratings, level, resamples=resamples, seed=seed)
    return Evaluation("", measures, suite="agreement", seed=seed, notes=[*notes, *ratings.notes, *more])


def split(names: str | None) -> tuple[str, ...]:
    """Return the names of a list with commas."""
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())


def measured(
    ratings: Table, level: Level = "nominal", *, resamples: int = 1000, seed: int = 0
) -> tuple[dict[str, Measure], list[str]]:
    """Return every coefficient that the table allows, and notes on those that it does not."""
    if len(ratings.raters) < 2 or not ((ratings.codes >= 0).sum(1) > 1).any():
        raise KilterError("No item has two ratings, so there is nothing to agree on; check the item and rater columns.")
    over = partial(over_items, resamples=resamples, seed=seed)
    weights: Weights = "none" if level == "nominal" else "quadratic"
    notes: list[str] = []
    counts, several = ratings.counts(), np.flatnonzero((ratings.codes >= 0).sum(1) > 1)
    found = {"agreement": over(lambda at: _observed(counts[several[at]]), len(several))}
    pairs = list(combinations(range(len(ratings.raters)), 2))
    found["cohen"] = over(lambda at: _mean_kappa(ratings, pairs, at, weights), len(ratings.items))
    if 1 < len(pairs) <= PAIRS:
        for first, second in pairs:
            a, b, _ = ratings.both(first, second)
            if len(a):
                name = f"cohen:{ratings.raters[first]} {ratings.raters[second]}"
                found[name] = over(_kappa(a, b, len(ratings.labels), weights), len(a))
    given = (ratings.codes >= 0).sum(1)
    if (given == given[0]).all():
        found["fleiss"] = over(lambda at: kappa.fleiss(counts[at]), len(counts))
    else:
        notes.append("Not every item has the same number of ratings, so there is no Fleiss' kappa; see krippendorff.")
    values = ratings.values
    found["krippendorff"] = over(lambda at: kappa.krippendorff(counts[at], values, level), len(counts))
    if any(math.isnan(m.value) for m in found.values()):
        notes.append("All ratings are of one label, so agreement beyond chance has no value.")
    return found, notes


def _kappa(a: Ints, b: Ints, k: int, weights: Weights) -> Callable[[Ints], float]:
    return lambda at: kappa.cohen(a[at], b[at], k, weights)


def _observed(counts: np.ndarray) -> float:
    n = counts.sum(1)
    return float(((counts**2).sum(1) - n).sum() / (n * (n - 1)).sum())


def _mean_kappa(ratings: Table, pairs: list[tuple[int, int]], at: Ints, weights: Weights) -> float:
    codes = ratings.codes[at]
    found = []
    for first, second in pairs:
        a, b = codes[:, first], codes[:, second]
        shared = (a >= 0) & (b >= 0)
        if shared.any():
            found.append(kappa.cohen(a[shared], b[shared], len(ratings.labels), weights))
    known = [value for value in found if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan
