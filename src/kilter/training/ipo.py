"""Identity preference optimisation: the log-ratio of a pair is drawn to a fixed distance, never beyond."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_from
from kilter.training.pairwise import log_ratio, of_pairs, shown


@method("ipo", wing="training", paper="arXiv:2310.12036")
@learns_from("pairs")
def ipo(
    policy: LogProbs,
    reference: LogProbs,
    group: Groups,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    per_token: bool = False,
) -> Loss:
    """Identity preference optimisation (Azar et al. 2023, eq. 17).

    L = (h - 1 / (2 beta))^2,  h = log pi(y_w|x) / pi_ref(y_w|x) - log pi(y_l|x) / pi_ref(y_l|x), the mean over the
    step's pairs; beta is the paper's tau. DPO drives h to infinity where y_w was always preferred; here it stops at
    1 / (2 beta). With preferences p(y > y') over all pairs of a finite set the optimum has log pi / pi_ref =
    mean over y' of (p(y > y') - 1/2) / beta, but for a constant.

    `per_token` divides the log-ratio of each response by its number of tokens, as TRL does; the paper's formula, and
    the default here, does not.

    policy, reference: log-probs of R responses; group.pairs [N, 2]: rows of y_w and y_l. The result is per pair [N],
    1 / (4 beta^2) where policy and reference are equal.

    Options:
        beta: strength of the pull to the reference policy; larger stays closer
        per_token: divide the log-ratio of a response by its number of tokens
    """
    ratio = log_ratio(policy, reference)
    better, worse = of_pairs(ratio / policy.lengths.clamp(min=1) if per_token else ratio, group)
    loss = (better - worse - 1 / (2 * beta)) ** 2
    return Loss(loss, loss.new_ones(len(loss)), shown(beta * better, beta * worse, policy, reference))
