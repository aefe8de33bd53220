"""Win rates: the share of its battles that a model wins, ties being half a win."""

from __future__ import annotations

import numpy as np

from kilter.errors import KilterError, nearest
from kilter.evaluation import battles as fights
from kilter.evaluation.battles import Battles
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.statistics import interval
from kilter.registry import method


@method("win-rate", wing="evaluation", paper="arXiv:2306.05685", survey="S2 §4.2")
def win_rate(*, data: str, against: str | None = None) -> Evaluation:
    """Measure the share of battles that each model wins, a tie being half a win (Zheng et al. 2023).

    A model that met stronger opponents has a lower win rate than it deserves; `bradley-terry` takes that out. Battles
    over the same question are one cluster of the interval.

    Rows: model_a, model_b, winner (model_a, model_b, tie ...), or another form of the same (see `bradley-terry`).

    Options:
        data: file, folder or hub id of battles
        against: count only the battles with this model
    """
    battles = fights.read(data, questions=True)
    if against is not None and against not in battles.models:
        raise KilterError(f"The model '{against}' fights no battle in {data}.{nearest(against, battles.models)}")
    measures = shares(battles, against)
    ranked = dict(sorted(measures.items(), key=lambda pair: -pair[1].value))
    return Evaluation("", ranked, suite="win-rate", notes=battles.notes)


def shares(battles: Battles, against: str | None = None) -> dict[str, Measure]:
    """Return each model's share of wins with its interval."""
    other = battles.models.index(against) if against is not None else None
    found = {}
    for place, name in enumerate(battles.models):
        mine = (battles.a == place) | (battles.b == place)
        if other is not None:
            mine &= (battles.a == other) | (battles.b == other)
        if place == other or not mine.any():
            continue
        share = np.where(battles.a == place, battles.outcome, 1 - battles.outcome)[mine]
        questions = battles.questions
        clusters = [questions[i] for i in np.flatnonzero(mine)] if questions else None
        if clusters is not None and len(set(clusters)) == len(clusters):
            clusters = None
        found[name] = interval(share.tolist(), clusters=clusters)
    return found
