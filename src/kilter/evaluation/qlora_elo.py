"""QLoRA's two tournaments from stored reviews: scores as a share of the reference's, and Elo over many orders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from kilter.errors import KilterError, nearest
from kilter.evaluation import battles as fights
from kilter.evaluation.battles import sides
from kilter.evaluation.elo import rate
from kilter.evaluation.kappa import Floats, Ints, over_items
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, number, read
from kilter.evaluation.verdicts import parse
from kilter.registry import method


@method("qlora-elo", wing="evaluation", paper="arXiv:2305.14314", survey="S2 §4.2")
def qlora_elo(
    *,
    data: str,
    reference: str | None = None,
    k: float = 32.0,
    orders: int = 10_000,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Rate models by a judge's reviews of pairs, as QLoRA does (Dettmers et al. 2023).

    relative:MODEL: 100 times the model's summed scores over the `reference`'s, on the same questions, the mean of the
    two orders where both were judged. elo:MODEL: K 32 from 1000, the mean over `orders` orders, the higher score or the
    verdict deciding a battle. A review without a verdict is left out and counted.

    Rows: question_id, model_a and model_b in the order shown, and scores [a, b], or a text with the two scores on its
    first line (or 1, 2 or 3 on its last), or winner.

    Options:
        data: file, folder or hub id of reviews
        reference: the model whose scores the others are measured by; without one no share is computed
        k: most points that one battle moves, K
        orders: orders that are averaged
        resamples: resamples of the intervals
        seed: seed of the orders and resamples
    """
    rows, notes = read(data)
    left_out = LeftOut()
    kept = [(row, found) for row in rows if (found := scored(row, left_out)) is not None]
    if not kept:
        why = " ".join(left_out.notes("reviews", len(rows)))
        raise KilterError(f"{data} holds no review that can be used; {why}")
    names = sorted({name for _, (a, b, _, _) in kept for name in (a, b)})
    if reference is not None and reference not in names:
        raise KilterError(f"The reference '{reference}' is reviewed nowhere in {data}.{nearest(reference, names)}")
    measures = relative(kept, reference, resamples=resamples, seed=seed) if reference else {}
    won = [{"model_a": a, "model_b": b, "winner": a if x > y else b if y > x else "tie"} for _, (a, b, x, y) in kept]
    elo, _ = rate(fights.collect(won), k=k, orders=orders, seed=seed)
    measures |= {f"elo:{name}": measure for name, measure in elo.items()}
    notes = [*notes, *left_out.notes("reviews", len(rows))]
    return Evaluation("", measures, suite="qlora-elo", seed=seed, notes=notes)


Scored = tuple[str, str, float, float]


def scored(row: Row, left_out: LeftOut) -> Scored | None:
    """Return both models and their scores; None, counted, where there are none."""
    pair = sides(row)
    if pair is None or pair[0] == pair[1]:
        left_out.add("the two models are not named", list(row))
        return None
    a, b = str(pair[0]), str(pair[1])
    given = row.get("scores", row.get("score"))
    if not isinstance(given, list) and isinstance(row.get("text"), str):
        given = parse("vicuna-scores", row["text"]).value
    if isinstance(given, list) and len(given) == 2:
        x, y = number(given[0]), number(given[1])
        if x is not None and y is not None and x >= 0 and y >= 0:  # -1 is what official scripts write for no score
            return a, b, x, y
    share = fights.verdict(row)
    if share is None and isinstance(row.get("text"), str):
        share = parse("three-class", row["text"]).value
    if share is None:
        left_out.add("there is no score and no verdict that can be read", str(row.get("text", given)).split("\n")[0])
        return None
    return a, b, share, 1 - share


def relative(
    kept: Sequence[tuple[Row, Scored]], reference: str, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Measure]:
    """Return each model's summed scores in percent of the reference's, the mean over the orders that were judged."""
    tables: dict[str, dict[str, tuple[list[list[float]], list[list[float]]]]] = {}
    for at, (row, (a, b, x, y)) in enumerate(kept):
        if reference not in (a, b):
            continue
        other, mine, theirs = (b, y, x) if a == reference else (a, x, y)
        question = str(row.get("question_id", at))
        first, second = tables.setdefault(other, {}).setdefault(question, ([], []))
        (first if b == reference else second).append([mine, theirs])
    found = {}
    for name, questions in tables.items():
        sums = np.zeros((len(questions), 2, 2))  # question, which of the two was shown first, model and reference
        for q, orders in enumerate(questions.values()):
            for o, pairs in enumerate(orders):
                sums[q, o] = np.sum(pairs, axis=0) if pairs else 0
        found[f"relative:{name}"] = over_items(partial(_share, sums), len(sums), resamples=resamples, seed=seed)
    return dict(sorted(found.items(), key=lambda pair: -pair[1].value))


def _share(sums: Floats, at: Ints) -> float:
    totals = sums[at].sum(0)
    there = totals[:, 1] > 0
    return float(100 * (totals[there, 0] / totals[there, 1]).mean()) if there.any() else float("nan")
