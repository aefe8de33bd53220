"""R-LoL: A-LoL with the reward in the place of the advantage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.a_lol import weighted
from kilter.training.objective import learns_from
from kilter.training.pairwise import log_ratio


@method("r-lol", wing="training", paper="arXiv:2305.14718")
@learns_from("scores")
def r_lol(
    policy: LogProbs,
    reference: LogProbs,
    group: Groups,
    *,
    variant: Literal["full", "seq"] = "full",
    cliprange: Annotated[float, Field(gt=0)] = 0.9,
) -> Loss:
    """Reward-leftover-lunch RL, a baseline of A-LoL (Baheti et al. 2023).

    L = - r(x, y) w log pi(y|x), w = clip(pi / pi_ref, 1 - e, 1 + e) of the whole response (full) or of each token
    inside the sum (seq), e `cliprange`, the mean over the responses of a step: off-policy policy gradient without a
    baseline, on all of the data. Where nothing is clipped and the data are pi_ref's it is the gradient of E_pi[r].

    policy, reference: log-probs of R responses; group.scores [R]: rewards. The result is per response [R].

    Options:
        variant: the ratio of the whole response (full), or of each token (seq)
        cliprange: how far a ratio may leave 1
    """
    if group.scores is None:
        raise ValueError("R-LoL learns from rewards; give every group scores.")
    found, height, weight = weighted(policy, reference, variant, cliprange)
    loss = -group.scores * found
    metrics = {"reward": group.scores, "weight": weight, "kl": -log_ratio(policy, reference).detach()}
    return Loss(loss, loss.new_ones(len(loss)), metrics, -group.scores * height)
