"""Weighted vote: several judges' scores or verdicts as one, each counting as much as it was found to be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, number, read, sample
from kilter.evaluation.statistics import interval
from kilter.registry import method

Rule = Literal["equal", "agreement", "given"]


@method("weightedvote", wing="evaluation", paper="arXiv:2307.02762", survey="S1 §8.4")
def weightedvote(
    *, data: str, weights: Rule = "equal", judges: dict[str, float] | None = None, split: float = 0.5, seed: int = 0
) -> Evaluation:
    """Put several judges' scores of one item together: sum_j w_j score_j / sum_j w_j.

    Equal weights are the mean of the judges; weights from `agreement` are the share of a calibration half on which the
    judge's score equals the gold one, less what chance would give it, never negative; `given` weights are taken as
    they are. score is the mean of the ensemble; where rows have a gold score, accuracy is the share of the items left
    for the test whose rounded ensemble score is the gold one, and accuracy:JUDGE the same of each judge alone.

    Rows: id, scores {judge: number}, perhaps gold. A judge's missing score counts for nobody on that item.

    Options:
        data: file, folder or hub id of scored items
        weights: how the weights are found
        judges: the weights of `given`, as {judge: weight}
        split: share of the items with gold that `agreement` learns from
        seed: seed of that split
    """
    rows, notes = read(data, ("scores",))
    items = [(row, clean(row, left_out)) for left_out in [LeftOut()] for row in rows]
    scored = [(row, found) for row, found in items if found]
    if not scored:
        raise KilterError(f"{data} holds no item with a number among its scores; give scores: {{judge: number}}.")
    names = sorted({name for _, found in scored for name in found})
    golden = [i for i, (row, _) in enumerate(scored) if number(row.get("gold")) is not None]
    learnt: set[int] = set()
    if weights == "agreement":
        if len(golden) < 4:
            raise KilterError("Weights from agreement need at least four items with a gold score; use --weights equal.")
        order = np.random.default_rng(seed).permutation(golden)
        learnt = set(order[: max(1, int(len(golden) * split))].tolist())
        found_weights = from_agreement([scored[i] for i in sorted(learnt)], names)
    elif weights == "given":
        if not judges:
            raise KilterError("Given weights have to be given: --judges '{judge: weight}'.")
        found_weights = {name: float(judges.get(name, 0.0)) for name in names}
    else:
        found_weights = dict.fromkeys(names, 1.0)
    return _measured(scored, found_weights, golden, learnt, notes, len(rows))


def _measured(
    scored: Sequence[tuple[Row, dict[str, float]]],
    weights: dict[str, float],
    golden: Sequence[int],
    learnt: set[int],
    notes: list[str],
    total: int,
) -> Evaluation:
    votes = [vote(found, weights) for _, found in scored]
    known = [v for v in votes if v is not None]
    if not known:
        raise KilterError("No item has a score by a judge of positive weight; check the judges' names.")
    measures = {"score": interval(known)}
    tested = [i for i in golden if i not in learnt]
    gold = {i: number(scored[i][0]["gold"]) for i in tested}
    right = [float(_same(votes[i], gold[i])) for i in tested if votes[i] is not None]
    if right:
        measures["accuracy"] = interval(right)
        for name in weights:
            alone = [float(_same(scored[i][1][name], gold[i])) for i in tested if name in scored[i][1]]
            if alone:
                measures[f"accuracy:{name}"] = interval(alone)
    whole = sum(weights.values())
    for name, weight in weights.items():
        share = weight / whole if whole else 0.0
        measures[f"weight:{name}"] = Measure(share, share, share, len(learnt) or len(scored))
    if missing := total - len(known):
        notes = [*notes, f"{missing:,} of {total:,} items have no score by a judge that counts, and are left out."]
    samples = [
        sample(str(row.get("id", at)), {"score": value})
        for at, ((row, _), value) in enumerate(zip(scored, votes, strict=True))
        if value is not None
    ]
    return Evaluation("", measures, samples, suite="weightedvote", notes=notes)


def clean(row: Row, left_out: LeftOut) -> dict[str, float]:
    """Return the scores of an item that are numbers."""
    given = row.get("scores")
    if not isinstance(given, dict):
        left_out.add("there are no scores", row.get("id", ""))
        return {}
    return {str(name): found for name, value in given.items() if (found := number(value)) is not None}


def vote(scores: Mapping[str, float], weights: Mapping[str, float]) -> float | None:
    """Return the weighted mean, None where no judge of positive weight gave a score."""
    whole = sum(weights.get(name, 0.0) for name in scores)
    return sum(weights.get(name, 0.0) * score for name, score in scores.items()) / whole if whole > 0 else None


def from_agreement(items: Sequence[tuple[Row, dict[str, float]]], names: Sequence[str]) -> dict[str, float]:
    """Return each judge's share of gold scores met, less that of always giving the commonest gold score."""
    gold = [number(row.get("gold")) for row, _ in items]
    chance = max(gold.count(value) for value in gold) / len(gold)
    found = {}
    for name in names:
        met = [_same(scores[name], g) for (_, scores), g in zip(items, gold, strict=True) if name in scores]
        found[name] = max(0.0, sum(met) / len(met) - chance) if met else 0.0
    return found if any(found.values()) else dict.fromkeys(names, 1.0)


def _same(score: float | None, gold: float | None) -> bool:
    return score is not None and gold is not None and round(score) == round(gold)
