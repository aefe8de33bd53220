"""Factual consistency as detection: scores against labels, with a threshold that was chosen on other items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation.joint import auc
from kilter.evaluation.kappa import Floats, over_items
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, number, read, sample
from kilter.evaluation.statistics import interval
from kilter.registry import method

Item = tuple[str, str, float, bool]  # data set, split, score, consistent


@method("factual-cons", wing="evaluation", paper="arXiv:2111.09525", survey="S2 §4.2")
def factual_cons(*, data: str, resamples: int = 1000, seed: int = 0) -> Evaluation:
    """Measure a consistency score as a detector (QAGS, FactCC, FRANK, SummEval, BEGIN, DialFact; Laban et al. 2022).

    For each data set, auc: the probability that a consistent item scores above an inconsistent one, and
    balanced_accuracy, the mean of both classes' recalls at the threshold that is best on the items of the split `val`.
    The threshold never sees a test item; where a data set has no `val` items it has no balanced accuracy. The measures
    without a name before them are the means over data sets.

    Rows: score, label (1 consistent), dataset, split (val or test; test where not told).

    Options:
        data: file, folder or hub id of scored items
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    rows, notes = read(data, ("score", "label"))
    left_out = LeftOut()
    items = [found for row in rows if (found := item_of(row, left_out)) is not None]
    tested = [item for item in items if item[1] != "val"]
    if not tested:
        why = " ".join(left_out.notes("items", len(rows)))
        raise KilterError(f"{data} holds no test item with a score and a label; {why}")
    measures: dict[str, Measure] = {}
    for name in sorted({item[0] for item in tested}):
        numbers, said = of_set([item for item in items if item[0] == name], resamples, seed)
        measures |= {f"{name}:{what}": m for what, m in numbers.items()}
        notes += [f"{name or 'The data'} {text}" for text in said]
    notes += left_out.notes("items", len(rows))
    samples = [sample(str(at), {"score": score}, family=name) for at, (name, _, score, _) in enumerate(tested)]
    return Evaluation("", means(measures), samples, suite="factual-cons", seed=seed, notes=notes)


def means(measures: dict[str, Measure]) -> dict[str, Measure]:
    """Return the means over data sets, which count the same, and then those of each; one set's go without a name."""
    sets = {name.partition(":")[0] for name in measures}
    if len(sets) == 1:
        return {name.partition(":")[2]: m for name, m in measures.items()}
    found = {}
    for what in dict.fromkeys(name.rpartition(":")[2] for name in measures):
        part = [m for name, m in measures.items() if name.endswith(f":{what}")]
        reach = float(np.sqrt(sum(((m.high - m.low) / 2) ** 2 for m in part))) / len(part)
        value = sum(m.value for m in part) / len(part)
        found[what] = Measure(value, max(0.0, value - reach), min(1.0, value + reach), sum(m.n for m in part))
    return found | measures


def of_set(items: Sequence[Item], resamples: int = 1000, seed: int = 0) -> tuple[dict[str, Measure], list[str]]:
    """Return auc and balanced accuracy of one data set, and what is missing for them."""
    test, val = ([item for item in items if (item[1] == "val") == chosen] for chosen in (False, True))
    truth = [item[3] for item in test]
    if len(set(truth)) < 2:
        return {}, ["has only one kind of test items, so it has no auc."]
    scores = [item[2] for item in test]
    found = {"auc": area(scores, truth, resamples=resamples, seed=seed)}
    if len({item[3] for item in val}) < 2:
        return found, ["has no validation items of both kinds, so it has no balanced accuracy."]
    cut = threshold([item[2] for item in val], [item[3] for item in val])
    x, y = np.array(scores), np.array(truth)
    balanced = over_items(lambda at: balanced_accuracy(x[at], y[at], cut), len(y), resamples=resamples, seed=seed)
    return found | {"balanced_accuracy": balanced, "consistent": interval([float(t) for t in truth])}, []


def area(scores: Sequence[float], truth: Sequence[bool], *, resamples: int = 1000, seed: int = 0) -> Measure:
    """Return the area under the ROC curve, ties counting half, with its percentile interval over items."""
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    return over_items(lambda at: auc(x[at], y[at]), len(y), resamples=resamples, seed=seed)


def threshold(scores: Sequence[float], truth: Sequence[bool]) -> float:
    """Return the score from which on an item is taken as consistent that has the best balanced accuracy."""
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(truth)
    cuts = [*np.unique(x), np.inf]
    return float(max(cuts, key=lambda cut: balanced_accuracy(x, y, cut)))


def balanced_accuracy(scores: Floats, truth: np.ndarray, cut: float) -> float:
    """Return the mean of both classes' recalls; nan where one is missing."""
    y = truth.astype(bool)
    if y.all() or not y.any():
        return float("nan")
    said = scores >= cut
    return float((said[y].mean() + (~said[~y]).mean()) / 2)


def item_of(row: Row, left_out: LeftOut) -> Item | None:
    """Return a row as an item; None, counted, where score or label is none."""
    score = number(row.get("score"))
    label = number(float(row["label"]) if isinstance(row.get("label"), bool) else row.get("label"))
    if score is None or label not in (0, 1):
        left_out.add("its score is no number or its label not 0 or 1", row.get("id", row.get("score")))
        return None
    split = str(row.get("split") or "test")
    return str(row.get("dataset") or ""), "val" if split.startswith("val") else "test", score, bool(label)
