"""Peer rank: models judge one another, and the word of a model that does well counts for more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation.battles import sides, verdict
from kilter.evaluation.kappa import Floats, Ints, many_over_items
from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import LeftOut, Row, read
from kilter.registry import method

ROUNDS = 5


@method("prd", wing="evaluation", paper="arXiv:2307.02762", survey="S1 §8.4")
def prd(*, data: str, rounds: int = ROUNDS, resamples: int = 200, seed: int = 0) -> Evaluation:
    """Rank models by what they say of one another, each reviewer weighing what it is itself worth (Li et al. 2023).

    score_m = sum_r w_r wins_rm / battles_m, the weights having mean 1; from the scores w = minmax(score) over the
    reviewers, normalised; `rounds` times, beginning with equal weights. The measures are score:MODEL and
    weight:REVIEWER (the weights sum to 1), with percentile intervals over questions. A reviewer that is not among the
    models has the mean weight.

    Rows: reviewer, model_a, model_b, winner (model_a, model_b, tie), question_id. An unparsed verdict is no verdict.

    Options:
        data: file, folder or hub id of reviews
        rounds: how often scores and weights are computed from one another
        resamples: resamples of the bootstrap over questions
        seed: seed of the resamples
    """
    rows, notes = read(data, ("reviewer",))
    reviews = collect(rows)

    def both(at: Ints) -> Floats:
        return np.concatenate(peer_rank(reviews.wins[at].sum(0), reviews.met[at].sum(0), reviews, rounds))

    measures = many_over_items(both, len(reviews.wins), resamples=resamples, seed=seed)
    names = [f"score:{model}" for model in reviews.models] + [f"weight:{who}" for who in reviews.reviewers]
    ranked = sorted(zip(names, measures, strict=True), key=lambda pair: (pair[0].split(":")[0], -pair[1].value))
    notes += reviews.left_out.notes("reviews", len(rows))
    return Evaluation("", dict(ranked), suite="prd", seed=seed, notes=notes)


class Reviews:
    """wins [questions, reviewers, models]: wins (ties half) of each model; met: its battles."""

    def __init__(self, models: list[str], reviewers: list[str], wins: Floats, met: Floats, left_out: LeftOut) -> None:
        self.models, self.reviewers, self.wins, self.met, self.left_out = models, reviewers, wins, met, left_out


def collect(rows: Sequence[Row]) -> Reviews:
    """Return reviews as counts; raise KilterError where none can be used."""
    left_out = LeftOut()
    kept: list[tuple[str, str, str, str, float]] = []
    for row in rows:
        pair, share = sides(row), verdict(row)
        if pair is None or not row.get("reviewer"):
            left_out.add("the models or the reviewer are not named", list(row))
        elif share is None:
            left_out.add("there is no verdict that can be read", row.get("winner"))
        else:
            question = str(row.get("question_id", len(kept)))
            kept.append((question, str(row["reviewer"]), str(pair[0]), str(pair[1]), share))
    if not kept:
        raise KilterError("There is no review that can be used; a review has reviewer, model_a, model_b and winner.")
    questions, reviewers = sorted({x[0] for x in kept}), sorted({x[1] for x in kept})
    models = sorted({name for x in kept for name in x[2:4]})
    places = [{name: i for i, name in enumerate(names)} for names in (questions, reviewers, models)]
    wins, met = (np.zeros((len(questions), len(reviewers), len(models))) for _ in range(2))
    for question, reviewer, a, b, share in kept:
        q, r = places[0][question], places[1][reviewer]
        for name, won in ((a, share), (b, 1 - share)):
            wins[q, r, places[2][name]] += won
            met[q, r, places[2][name]] += 1
    return Reviews(models, reviewers, wins, met, left_out)


def peer_rank(wins: Floats, met: Floats, reviews: Reviews, rounds: int = ROUNDS) -> tuple[Floats, Floats]:
    """Return the models' scores and the reviewers' weights from `wins` and `met` [reviewers, models]."""
    weight = np.full(len(reviews.reviewers), 1 / len(reviews.reviewers))
    score = np.zeros(len(reviews.models))
    for _ in range(rounds):
        score = (weight / weight.mean()) @ wins / np.maximum(met.sum(0), 1)
        weight = minmax([dict(zip(reviews.models, score.tolist(), strict=True)).get(who) for who in reviews.reviewers])
    return score, weight


def minmax(scores: Sequence[float | None]) -> Floats:
    """Return weights that sum to 1, nothing for the lowest score; who has no score gets the mean of the others."""
    known = [score for score in scores if score is not None]
    if not known or max(known) == min(known):
        return np.full(len(scores), 1 / len(scores))
    mean = sum(known) / len(known)
    filled = np.array([mean if score is None else score for score in scores])
    spread = (filled - filled.min()) / (filled.max() - filled.min())
    return np.asarray(spread / spread.sum(), dtype=np.float64)


def weighted_vote(
    verdicts: Mapping[str, float], weights: Mapping[str, float] | None = None, margin: float = 0.01
) -> float:
    """Return the share of the first model (1, 0, or 1/2 for a tie) that reviewers' shares vote for.

    A mean within `margin` of even, on the scale from -1 to 1, is a tie.
    """
    w = np.array([1.0 if weights is None else weights.get(who, 0.0) for who in verdicts])
    if not w.sum() > 0:
        raise KilterError("The reviewers' weights add up to nothing; give at least one of them a positive weight.")
    lean = float(w @ (2 * np.array(list(verdicts.values())) - 1) / w.sum())
    return 1.0 if lean > margin else 0.0 if lean < -margin else 0.5
