"""Labels against labels: accuracy, precision, recall and F1, each class by itself and together, with intervals.

A prediction that could not be read is None. It is wrong, it is counted, and it never becomes a class of its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kilter.errors import KilterError
from kilter.evaluation.kappa import Ints, cohen, many_over_items
from kilter.evaluation.result import Measure
from kilter.evaluation.statistics import interval

Floats = NDArray[np.float64]
SUMMARY = ("macro_precision", "macro_recall", "macro_f1", "weighted_f1", "kappa")


def scores(
    gold: Sequence[Hashable],
    predicted: Sequence[Hashable | None],
    labels: Sequence[Hashable] | None = None,
    *,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 500,
    seed: int = 0,
    each: bool = True,
) -> dict[str, Measure]:
    """Return accuracy, the means over classes, Cohen's kappa and, with `each`, precision:C, recall:C and f1:C.

    `macro` counts each class the same, `weighted` by its size; a class that is never predicted has a precision of 0.
    Intervals are percentile ones over items or `clusters`, that of the accuracy Wilson's. Raises KilterError where
    there is no item, or gold is missing.
    """
    if len(gold) != len(predicted) or not gold:
        raise KilterError(f"There are {len(gold)} gold labels and {len(predicted)} predictions; give one each.")
    if any(label is None or label == "" for label in gold):
        missing = sum(label is None or label == "" for label in gold)
        raise KilterError(f"{missing} of {len(gold)} items have no gold label; take them out or give them one.")
    names = list(labels) if labels is not None else sorted(set(gold), key=str)
    place = {name: at for at, name in enumerate(names)}
    unknown = next((label for label in gold if label not in place), None)
    if unknown is not None:
        raise KilterError(f"The gold label {unknown!r} is none of {', '.join(map(str, names))}; mend the file.")
    truth = np.array([place[label] for label in gold])
    said = np.array([place.get(label, len(names)) for label in predicted])  # the last place: no class at all
    found = {"accuracy": interval((truth == said).astype(float).tolist(), clusters=_grouped(clusters))}
    parsed = [float(label is not None) for label in predicted]
    if not all(parsed):
        found["parsed"] = interval(parsed, clusters=_grouped(clusters))
    keys = [*SUMMARY, *(f"{what}:{name}" for what in ("precision", "recall", "f1") for name in names if each)]
    whole = partial(_of, truth, said, len(names), each)
    measures = many_over_items(whole, len(truth), resamples=resamples, seed=seed, clusters=clusters)
    return found | dict(zip(keys, measures, strict=True))


def confusion(truth: Ints, said: Ints, k: int) -> Floats:
    """Return the counts [k gold, k + 1 predicted]; the last column is of predictions that are no class."""
    return np.bincount(truth * (k + 1) + said, minlength=k * (k + 1)).reshape(k, k + 1).astype(np.float64)


def precision_recall(table: Floats) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall and F1 of each class from its confusion table; 0 where a ratio has no denominator."""
    k = len(table)
    hit = np.diag(table[:, :k])
    precision = np.divide(hit, table[:, :k].sum(0), out=np.zeros(k), where=table[:, :k].sum(0) > 0)
    recall = np.divide(hit, table.sum(1), out=np.zeros(k), where=table.sum(1) > 0)
    total = precision + recall
    return precision, recall, np.divide(2 * precision * recall, total, out=np.zeros(k), where=total > 0)


def _of(truth: Ints, said: Ints, k: int, each: bool, at: Ints) -> Floats:
    table = confusion(truth[at], said[at], k)
    precision, recall, f1 = precision_recall(table)
    size = table.sum(1)
    # Classes that a resample lost altogether are not averaged in as zeros.
    there = (size > 0) | (table[:, :k].sum(0) > 0)
    known = said[at] < k
    agreed = cohen(truth[at][known], said[at][known], k) if known.any() else np.nan
    means = [float(x[there].mean()) for x in (precision, recall, f1)]
    return np.array([*means, float(f1 @ size / size.sum()), agreed, *([*precision, *recall, *f1] if each else [])])


def _grouped(clusters: Sequence[Hashable] | None) -> Sequence[Hashable] | None:
    return clusters if clusters is not None and len(set(clusters)) < len(clusters) else None
