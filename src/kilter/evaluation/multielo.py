"""Multi-Elo: one rating for each thing that a judge was asked about, instead of one that mixes them."""

from __future__ import annotations

from kilter.errors import KilterError
from kilter.evaluation import battles as fights
from kilter.evaluation.elo import rate
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, stream
from kilter.registry import method


@method("multielo", wing="evaluation", paper="arXiv:2307.03025", survey="S1 §8.4")
def multielo(*, data: str, k: float = 4.0, orders: int = 1000, seed: int = 0) -> Evaluation:
    """Rate models by Elo's system in each dimension that was judged apart (Wu and Aji 2023).

    A judge asked for one verdict prefers an answer that is long and wrong to one that is short and right; asked for
    accuracy, helpfulness and language apart it does not. The measures are `DIMENSION:MODEL`; where rows also have one
    overall `winner`, `overall:MODEL` is what that alone would say.

    Rows: model_a, model_b, verdicts {dimension: model_a, model_b or tie}, and perhaps winner.

    Options:
        data: file, folder or hub id of battles
        k: most points that one battle moves, K
        orders: orders that are averaged, and resamples of the interval
        seed: seed of the orders and resamples
    """
    rows = list(stream(data, LeftOut()))
    judged = [row["verdicts"] for row in rows if isinstance(row.get("verdicts"), dict)]
    names = list(dict.fromkeys(name for verdicts in judged for name in verdicts))
    if not names:
        raise KilterError(f"{data} has no verdicts by dimension; give rows with verdicts: {{dimension: winner}}.")
    measures: dict[str, Measure] = {}
    notes: list[str] = []
    whole: list[str | None] = [*names, *([None] if any("winner" in row for row in rows) else [])]
    for name in whole:
        battles = fights.collect(rows, dimension=name)
        label = name or "overall"
        notes += [f"{label}: {note}" for note in battles.notes]
        if len(battles):
            found, _ = rate(battles, k=k, orders=orders, seed=seed)
            measures |= {f"{label}:{model}": m for model, m in found.items()}
    return Evaluation("", measures, suite="multielo", seed=seed, notes=notes)
