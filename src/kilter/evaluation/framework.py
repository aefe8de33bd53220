"""Is a leaderboard scalable, incremental and consistent? The three things that survey S1 asks of an evaluation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy import stats

from kilter.errors import KilterError
from kilter.evaluation import battles as fights
from kilter.evaluation import bradley_terry as bt
from kilter.evaluation.battles import Battles, Floats
from kilter.evaluation.kappa import kendall, over_items
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.statistics import interval
from kilter.registry import method


@method("framework", wing="evaluation", survey="S1 §8.5")
def framework(*, data: str, bootstraps: int = 100, anchors: int = 5, seed: int = 0) -> Evaluation:
    """Measure how far a leaderboard of battles can be trusted as it grows (survey S1, section 8.5).

    Scalable: battles_a_model is what each model has cost. Incremental: each model in turn is taken out and rated again
    from its battles with the `anchors` models it met most, all other ratings being held; incremental_error is how far
    (points) that is from the full fit, incremental_battles the battles it took. Consistent: stability is the mean
    Kendall tau between two bootstrap leaderboards, cycles the share of triples of models, all of whom met, in which A
    beats B, B beats C and C beats A.

    Rows: battles, as of `bradley-terry`.

    Options:
        data: file, folder or hub id of battles
        bootstraps: resampled leaderboards
        anchors: models that a new one is compared with
        seed: seed of the resamples
    """
    battles = fights.read(data)
    cells = bt.gather(battles)
    theta = bt.fit(cells)
    rated = np.flatnonzero(np.isfinite(theta))
    if len(rated) < 3:
        raise KilterError(f"{data} rates {len(rated)} models; a leaderboard has three or more.")
    drawn = bt.resampled(cells, theta, times=bootstraps, seed=seed)
    fought = battles.fought()[rated].astype(float)
    measures = {
        "battles_a_model": Measure(float(fought.mean()), float(fought.min()), float(fought.max()), len(rated)),
        "stability": stability(drawn[:, rated]),
    }
    share = cycles(battles)
    if share is not None:
        measures["cycles"] = share
    again = [(m, *added(battles, theta, int(m), anchors)) for m in rated]
    known = [(abs(400 / bt.LOG10 * (beta - theta[m])), n) for m, beta, n in again if np.isfinite(beta)]
    if known:
        errors = np.array([error for error, _ in known])
        measures["incremental_error"] = over_items(lambda at: float(errors[at].mean()), len(errors), seed=seed)
        counts = np.array([n for _, n in known], dtype=float)
        ends = float(counts.mean()), float(counts.min()), float(counts.max())
        measures["incremental_battles"] = Measure(*ends, len(counts))
    unrated = [name for name, beta in zip(battles.models, theta, strict=True) if not np.isfinite(beta)]
    notes = [*battles.notes, *bt.unrated(unrated)]
    if len(known) < len(rated):
        lost = len(rated) - len(known)
        notes.append(f"{lost} models won or lost everything against their anchors and are not in incremental_error.")
    return Evaluation("", measures, suite="framework", seed=seed, notes=notes)


def stability(drawn: Floats) -> Measure:
    """Return the mean Kendall tau between bootstrap leaderboards [resamples, models], taken two by two."""
    filled = np.nan_to_num(drawn, nan=0.0, posinf=1e6, neginf=-1e6)
    taus = [kendall(filled[i].tolist(), filled[i + 1].tolist()) for i in range(0, len(filled) - 1, 2)]
    known = np.array([tau for tau in taus if np.isfinite(tau)])
    if not len(known):
        raise KilterError("Stability needs two resampled leaderboards or more; raise --bootstraps.")
    return over_items(lambda at: float(known[at].mean()), len(known))


def cycles(battles: Battles) -> Measure | None:
    """Return the share of triples in which each beats one of the others; None where no three models all met."""
    n = len(battles.models)
    won = np.zeros((n, n))
    np.add.at(won, (battles.a, battles.b), battles.outcome)
    np.add.at(won, (battles.b, battles.a), 1 - battles.outcome)
    lead = np.sign(won - won.T)
    met = (won + won.T) > 0
    triples = [t for t in combinations(range(n), 3) if met[t[0], t[1]] and met[t[1], t[2]] and met[t[0], t[2]]]
    if not triples:
        return None
    return interval([float(abs(lead[i, j] + lead[j, k] + lead[k, i]) == 3) for i, j, k in triples])


def added(battles: Battles, theta: Floats, model: int, anchors: int) -> tuple[float, int]:
    """Return the beta of `model` from its battles with the models it met most, theirs being held, and their number.

    One parameter: sum (y - sigmoid(beta - beta_anchor)) = 0, found by bisection; nan where all were won or all lost.
    """
    mine = (battles.a == model) | (battles.b == model)
    other = np.where(battles.a == model, battles.b, battles.a)[mine]
    share = np.where(battles.a == model, battles.outcome, 1 - battles.outcome)[mine]
    finite = np.isfinite(theta[other])
    other, share = other[finite], share[finite]
    met = np.bincount(other, minlength=len(theta))
    chosen = np.isin(other, np.argsort(-met, kind="stable")[:anchors])
    held, y = theta[other[chosen]], share[chosen]
    if not len(y) or y.sum() in (0, len(y)):
        return float("nan"), len(y)
    low, high = held.min() - 40, held.max() + 40
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if (y - stats.logistic.cdf(middle - held)).sum() > 0 else (low, middle)
    return float(middle), len(y)
