"""Ranking: evaluators put the answers of several models in order, the best first; equal ranks are ties."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from kilter.errors import KilterError, nearest
from kilter.evaluation import kappa
from kilter.evaluation.kappa import Floats, Ints, over_items
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, number, read
from kilter.evaluation.statistics import interval
from kilter.registry import method

MOST = 10.0  # points of a first rank


@method("ordering", wing="evaluation", paper="arXiv:2304.10453", survey="S1 §8.3, S2 §4.2")
def ordering(*, data: str, reference: str | None = None, resamples: int = 1000, seed: int = 0) -> Evaluation:
    """Score models by the ranks that evaluators gave their answers (Chen et al. 2023, Phoenix).

    points:MODEL is the mean of 10 / rank, rank:MODEL the mean rank. With a `reference`, wins:MODEL is the share of
    questions on which the model is ranked before it (ties half), ratio:MODEL the model's points over its points.
    concordance is Kendall's W, kendall and spearman the mean correlation between two evaluators of one question, where
    several evaluated it.

    Rows: one a question (and evaluator), {question_id, evaluator?, ranks: {model: rank}}, or models and order as lists.

    Options:
        data: file, folder or hub id of rankings
        reference: the model that the others are compared with
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    rows, notes = read(data)
    left_out = LeftOut()
    ranked = [found for row in rows if (found := ranks(row, left_out)) is not None]
    if not ranked:
        reasons = " ".join(left_out.notes("rankings", len(rows)))
        raise KilterError(f"{data} holds no ranking that can be used; {reasons or 'give rows with ranks'}")
    models = sorted({name for _, _, given in ranked for name in given})
    if reference is not None and reference not in models:
        raise KilterError(f"The reference '{reference}' is ranked nowhere in {data}.{nearest(reference, models)}")
    table = np.array([[given.get(name, np.nan) for name in models] for _, _, given in ranked])
    questions = [question for question, _, _ in ranked]
    measures = scored(table, models, questions, reference, resamples=resamples, seed=seed)
    measures |= alike(table, questions, resamples=resamples, seed=seed)
    return Evaluation("", measures, suite="ordering", seed=seed, notes=[*notes, *left_out.notes("rankings", len(rows))])


def ranks(row: Row, left_out: LeftOut) -> tuple[str, str, dict[str, float]] | None:
    """Return the question, the evaluator and the rank of each model; None, counted, where a rank is not a rank."""
    given = row.get("ranks")
    if not isinstance(given, dict):
        names, order = row.get("models"), row.get("order")
        if not isinstance(names, list) or not isinstance(order, list) or len(names) != len(order):
            left_out.add("there are no ranks", list(row))
            return None
        given = dict(zip(names, order, strict=True))
    found: dict[str, float] = {}
    for name, value in given.items():
        rank = number(value)
        if rank is None or rank < 1:  # official scripts write -1 where the judge's text could not be read
            left_out.add("a rank is not a number from 1 up", f"{name}: {value!r}")
            return None
        found[str(name)] = rank
    return str(row.get("question_id", row.get("id", ""))), str(row.get("evaluator", "")), found


def scored(
    table: Floats,
    models: Sequence[str],
    questions: Sequence[str],
    reference: str | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Measure]:
    """Return points, mean ranks and, with a reference, wins and ratios of `table` [rankings, models] of ranks."""
    clusters = list(questions) if len(set(questions)) < len(questions) and any(questions) else None
    points = MOST / table
    found: dict[str, Measure] = {}
    for name, columns in (("points", points), ("rank", table)):
        for place, model in enumerate(models):
            there = np.flatnonzero(np.isfinite(columns[:, place]))
            same = [clusters[i] for i in there] if clusters else None
            found[f"{name}:{model}"] = interval(columns[there, place].tolist(), clusters=same)
    if reference is None:
        return found
    base = models.index(reference)
    for place, model in enumerate(models):
        if place == base:
            continue
        both = np.flatnonzero(np.isfinite(table[:, place]) & np.isfinite(table[:, base]))
        if not len(both):
            continue
        same = [clusters[i] for i in both] if clusters else None
        ahead = np.sign(table[both, base] - table[both, place]) / 2 + 0.5
        found[f"wins:{model}"] = interval(ahead.tolist(), clusters=same)
        ratio = partial(_ratio, points[both, place], points[both, base])
        found[f"ratio:{model}"] = over_items(ratio, len(both), resamples=resamples, seed=seed, clusters=same)
    return found


def alike(table: Floats, questions: Sequence[str], *, resamples: int = 1000, seed: int = 0) -> dict[str, Measure]:
    """Return how alike the rankings of one question are, over the questions that were ranked by several."""
    by_question: dict[str, list[int]] = {}
    for at, question in enumerate(questions):
        by_question.setdefault(question, []).append(at)
    several = [table[np.array(places)] for question, places in by_question.items() if question and len(places) > 1]
    whole = [ranks for ranks in several if np.isfinite(ranks).all()]
    found: dict[str, Measure] = {}
    statistics: dict[str, Any] = {"kendall": kappa.kendall, "spearman": kappa.spearman}
    values: dict[str, list[float]] = {"concordance": [kappa.concordance(ranks) for ranks in whole]}
    for name, statistic in statistics.items():
        values[name] = [
            float(np.nanmean(pairs))
            for ranks in whole
            if np.isfinite(pairs := [statistic(x, y) for i, x in enumerate(ranks) for y in ranks[:i]]).any()
        ]
    for name, numbers in values.items():
        known = np.array([value for value in numbers if np.isfinite(value)])
        if len(known):
            found[name] = over_items(partial(_mean, known), len(known), resamples=resamples, seed=seed)
    return found


def _ratio(mine: Floats, theirs: Floats, at: Ints) -> float:
    return float(mine[at].sum() / theirs[at].sum())


def _mean(values: Floats, at: Ints) -> float:
    return float(values[at].mean())
