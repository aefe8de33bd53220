"""Elo ratings: one battle at a time, the winner takes points from the loser.

R_a <- R_a + K (S - E),  E = 1 / (1 + 10^((R_b - R_a) / 400)),  R_b the other way round, so that the sum stays.
The result depends on the order of the battles, which says nothing of the models: here the rating is the mean over many
orders, and all orders are walked at once.
"""

from __future__ import annotations

import numpy as np

from kilter.evaluation import battles as fights
from kilter.evaluation.battles import Battles, Floats, Ints
from kilter.evaluation.result import Evaluation, Measure
from kilter.registry import method

AT_ONCE = 2**24  # places in orders that are held at a time


@method("elo", wing="evaluation", paper="arXiv:2306.05685", survey="S1 §8.4, S2 §4.2")
def elo(
    *,
    data: str,
    k: float = 4.0,
    initial: float = 1000.0,
    scale: float = 400.0,
    orders: int = 1000,
    dimension: str | None = None,
    seed: int = 0,
) -> Evaluation:
    """Rate models by Elo's system, averaged over the order of their battles (Zheng et al. 2023; Elo 1978).

    The value is the mean over `orders` shufflings of the battles; the interval holds 95 % of the ratings of as many
    bootstrap resamples (drawn with replacement, in random order), so that it has both sources of chance. K is 4 in
    Chatbot Arena, 32 in QLoRA and PRD. For models that do not change the order-free `bradley-terry` is to be preferred.

    Rows: model_a, model_b, winner (model_a, model_b, tie ...), or another form of the same (see `bradley-terry`).

    Options:
        data: file, folder or hub id of battles
        k: most points that one battle moves, K
        initial: rating at the start, and the mean of all ratings
        scale: points that stand for odds of ten to one
        orders: orders that are averaged, and resamples of the interval
        dimension: judge by this entry of each row's `verdicts`
        seed: seed of the orders and resamples
    """
    battles = fights.read(data, dimension=dimension)
    measures, moved = rate(battles, k=k, initial=initial, scale=scale, orders=orders, seed=seed)
    note = f"The order of the battles alone moves a rating by a standard deviation of up to {moved:.1f} points."
    return Evaluation("", measures, suite="elo", seed=seed, notes=[*battles.notes, note])


def rate(
    battles: Battles, *, k: float, initial: float = 1000.0, scale: float = 400.0, orders: int = 1000, seed: int = 0
) -> tuple[dict[str, Measure], float]:
    """Return the models' ratings, best first, and the largest standard deviation that the order alone causes."""
    rng = np.random.default_rng(seed)
    count = len(battles)
    # So many orders at a time as fit into some hundred megabytes.
    parts = [min(AT_ONCE // count or 1, orders - done) for done in range(0, orders, AT_ONCE // count or 1)]
    shuffles = (rng.permuted(np.tile(np.arange(count), (part, 1)), axis=1) for part in parts)
    shuffled = np.concatenate([walk(battles, order, k=k, scale=scale) for order in shuffles])
    draws = (rng.integers(count, size=(part, count)) for part in parts)
    drawn = np.concatenate([walk(battles, order, k=k, scale=scale) for order in draws])
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    value, fought = shuffled.mean(0), battles.fought()
    # The percentiles are those of resamples, whose middle need not be exactly the mean over orders.
    low, high = np.minimum(low, value), np.maximum(high, value)
    place = np.argsort(-value, kind="stable")
    value, low, high = initial + value, initial + low, initial + high
    measures = {
        battles.models[m]: Measure(float(value[m]), float(low[m]), float(high[m]), int(fought[m])) for m in place
    }
    return measures, float(shuffled.std(0).max())


def walk(battles: Battles, order: Ints, *, k: float, scale: float = 400.0) -> Floats:
    """Return the ratings [P, models] after the battles in each of P orders [P, N], every model having begun at 0."""
    ratings = np.zeros((len(order), len(battles.models)))
    rows = np.arange(len(order))
    for step in order.T:
        a, b, share = battles.a[step], battles.b[step], battles.outcome[step]
        lead = ratings[rows, a] - ratings[rows, b]
        points = k * (share - 1 / (1 + 10 ** (-lead / scale)))
        ratings[rows, a] += points
        ratings[rows, b] -= points
    return ratings
