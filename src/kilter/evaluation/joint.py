"""Joint evaluation by models and people: each item goes to the cheaper rater that is good enough for it.

A judge model that was asked several times, in both orders, shows by its own disagreement where it is not to be trusted:
the entropy of its verdicts (balanced position diversity entropy, BPDE, of FairEval) decides who rates the item.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kilter.errors import KilterError
from kilter.evaluation.kappa import cohen, over_items
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, read, sample
from kilter.evaluation.statistics import interval
from kilter.registry import method

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Item:
    """One item: the judge's verdicts, a person's label, the right one (the person's where no other is given)."""

    id: str
    verdicts: tuple[Hashable, ...]
    human: Hashable
    gold: Hashable

    @property
    def judged(self) -> Hashable:
        """What the judge says most often; the first said where two are as often."""
        return Counter(self.verdicts).most_common(1)[0][0]

    @property
    def entropy(self) -> float:
        return entropy(self.verdicts)


@method("joint", wing="evaluation", paper="arXiv:2305.17926", survey="S2 §6")
def joint(
    *,
    data: str,
    target: float = 0.95,
    threshold: float | None = None,
    human_cost: float = 1.0,
    model_cost: float = 0.01,
    split: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Send each item to the judge model or to a person (after Wang et al. 2023, human-in-the-loop calibration).

    An item goes to a person where the entropy of the judge's verdicts (nats) is at least the threshold: 0 sends all to
    people, infinity none. The threshold is the highest at which, on a calibration share of the items, accuracy reaches
    `target`, or it is given. Measured on the other items: accuracy and kappa of the joint labels against the right
    ones, model_accuracy that of the judge alone, human_share, cost an item (the judge is asked about all), and auc, how
    well the entropy tells the judge's errors from the rest. The notes tell accuracy against cost along the way.

    Rows: id, verdicts (the judge's, one a time asked), human (a person's label), perhaps gold; without gold the person
    is right.

    Options:
        data: file, folder or hub id of items
        target: accuracy that is good enough
        threshold: send items of this entropy or more to people, instead of choosing the threshold
        human_cost: cost of one person's label
        model_cost: cost of the judge's verdicts on one item
        split: share of the items that the threshold is chosen on
        resamples: resamples of the bootstrap
        seed: seed of the split and the resamples
    """
    rows, notes = read(data, ("verdicts", "human"))
    left_out = LeftOut()
    items = [found for at, row in enumerate(rows) if (found := usable(row, at, left_out)) is not None]
    if len(items) < 2:
        raise KilterError(f"{data} holds {len(items)} usable items; {' '.join(left_out.notes('items', len(rows)))}")
    if threshold is None:
        order = np.random.default_rng(seed).permutation(len(items))
        cut = max(1, min(len(items) - 1, int(len(items) * split)))
        calibration, tested = [items[i] for i in order[:cut]], [items[i] for i in sorted(order[cut:])]
        threshold = choose(calibration, target)
        reached = f"chosen on {cut:,} items"
    else:
        tested, reached = items, "given"
    sent = np.array([item.entropy >= threshold for item in tested])
    measures = _measured(tested, sent, human_cost, model_cost, resamples, seed)
    told = "none" if math.isinf(threshold) else f"{threshold:.4g} nats"
    notes.insert(0, f"Entropy from which an item goes to a person: {told} ({reached}).")
    samples = [_sample(item, bool(human)) for item, human in zip(tested, sent, strict=True)]
    evaluation = Evaluation("", measures, samples, suite="joint", seed=seed)
    evaluation.notes = [*notes, *left_out.notes("items", len(rows)), *curve_notes(tested, human_cost, model_cost)]
    return evaluation


def entropy(verdicts: Sequence[Hashable]) -> float:
    """Return -sum p log p (nats) over what was said: 0 where all say the same."""
    shares = np.array(list(Counter(verdicts).values())) / len(verdicts)
    return abs(float(-(shares * np.log(shares)).sum()))


def choose(items: Sequence[Item], target: float) -> float:
    """Return the highest threshold at which the joint labels reach `target` on `items`; 0 where none does."""
    for threshold in [math.inf, *sorted({item.entropy for item in items}, reverse=True)]:
        labels = [item.human if item.entropy >= threshold else item.judged for item in items]
        if sum(label == item.gold for label, item in zip(labels, items, strict=True)) >= target * len(items):
            return threshold
    return 0.0


def curve(items: Sequence[Item], human_cost: float, model_cost: float) -> list[tuple[float, float, float, float]]:
    """Return (threshold, share sent to people, cost an item, accuracy), from no item to all of them."""
    found = []
    for threshold in [math.inf, *sorted({item.entropy for item in items} | {0.0}, reverse=True)]:
        sent = [item.entropy >= threshold for item in items]
        right = [(i.human if human else i.judged) == i.gold for i, human in zip(items, sent, strict=True)]
        share = sum(sent) / len(items)
        found.append((threshold, share, model_cost + share * human_cost, sum(right) / len(items)))
    return found


def curve_notes(items: Sequence[Item], human_cost: float, model_cost: float) -> list[str]:
    """Return the curve as one sentence, at most nine points of it."""
    points = curve(items, human_cost, model_cost)
    kept = points if len(points) <= 9 else [points[round(i * (len(points) - 1) / 8)] for i in range(9)]
    told = "; ".join(f"{share:.0%} to people: accuracy {right:.3f}, cost {cost:.3g}" for _, share, cost, right in kept)
    return [f"Accuracy against cost: {told}."]


def usable(row: Row, at: int, left_out: LeftOut) -> Item | None:
    """Return the row as an item; None, counted, where the judge or the person said nothing."""
    given = row.get("verdicts")
    said = tuple(v for v in given if v is not None and v != "") if isinstance(given, list) else ()
    name = str(row.get("id", at))
    if not said:
        left_out.add("the judge gave no verdict that could be read", name)
    elif row.get("human") in (None, ""):
        left_out.add("there is no person's label", name)
    else:
        gold = row.get("gold")
        return Item(name, said, row["human"], row["human"] if gold in (None, "") else gold)
    return None


def _measured(
    items: Sequence[Item], sent: NDArray[np.bool_], human_cost: float, model_cost: float, resamples: int, seed: int
) -> dict[str, Measure]:
    labels = [item.human if human else item.judged for item, human in zip(items, sent, strict=True)]
    right = [float(label == item.gold) for label, item in zip(labels, items, strict=True)]
    alone = [float(item.judged == item.gold) for item in items]
    names = sorted({str(x) for item, label in zip(items, labels, strict=True) for x in (label, item.gold)})
    place = {name: at for at, name in enumerate(names)}
    a, b = np.array([place[str(x)] for x in labels]), np.array([place[str(item.gold)] for item in items])
    doubt, wrong = np.array([item.entropy for item in items]), 1 - np.array(alone)
    return {
        "accuracy": interval(right),
        "kappa": over_items(lambda at: cohen(a[at], b[at], len(names)), len(items), resamples=resamples, seed=seed),
        "model_accuracy": interval(alone),
        "human_share": interval(sent.astype(float).tolist()),
        "cost": interval((model_cost + sent * human_cost).tolist()),
        "auc": over_items(lambda at: auc(doubt[at], wrong[at]), len(items), resamples=resamples, seed=seed),
    }


def auc(scores: Floats, truth: Floats) -> float:
    """Return the probability that a positive scores above a negative, ties counting half; nan without both."""
    from scipy.stats import rankdata

    positive = int(truth.sum())
    negative = len(truth) - positive
    if not positive or not negative:
        return math.nan
    ranks = rankdata(scores)
    return float((ranks[truth == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _sample(item: Item, human: bool) -> Row:
    label = item.human if human else item.judged
    outcomes = {"accuracy": float(label == item.gold), "model_accuracy": float(item.judged == item.gold)}
    return sample(item.id, outcomes, family="human" if human else "model", label=label, entropy=item.entropy)
