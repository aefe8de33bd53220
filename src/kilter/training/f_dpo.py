"""DPO under other divergences than the reverse KL: how the policy may leave the reference is a choice."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_from
from kilter.training.pairwise import log_ratio, of_pairs, shown

Divergence = Literal["reverse-kl", "forward-kl", "js", "alpha"]
# The gradient of more than exp of this leaves fp32 when it is squared; a ratio that far away has no say any more.
HIGHEST = 40.0


@method("f-dpo", wing="training", paper="arXiv:2309.16240", aliases=("f-divergence-dpo",))
@learns_from("pairs")
def f_dpo(
    policy: LogProbs,
    reference: LogProbs,
    group: Groups,
    *,
    divergence: Divergence = "js",
    beta: Annotated[float, Field(gt=0)] = 0.1,
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.5,
) -> Loss:
    """Direct preference optimisation under an f-divergence (Wang et al. 2023, Beyond Reverse KL).

    L = - log sigma(r(y_w) - r(y_l)),  r(y) = beta f'(u),  u = pi(y|x) / pi_ref(y|x), the mean over the step's pairs:
    the optimum is that of E[r] - beta D_f(pi || pi_ref). f'(u), but for a constant, which the difference drops:

        reverse-kl   log u                  DPO itself: seeks the mode
        forward-kl   1 - 1 / u              covers the reference's mass, diversity stays
        js           log 2u / (1 + u)       between the two
        alpha        (1 - u^-a) / a         from reverse-kl (a to 0) to forward-kl (a to 1); a is `alpha`

    TRL has the same as `f_divergence_type`; its coefficient for alpha is 1 - a.

    policy, reference: log-probs of R responses; group.pairs [N, 2]: rows of y_w and y_l. The result is per pair [N],
    ln 2 where policy and reference are equal. Where 1 / u (or its power) is over e^40 it counts as e^40.

    Options:
        divergence: what holds the policy to the reference: reverse-kl, forward-kl, js or alpha
        beta: strength of the pull to the reference policy; larger stays closer
        alpha: which one of the alpha divergences, between 0 and 1
    """
    better, worse = of_pairs(beta * slope(log_ratio(policy, reference), divergence, alpha), group)
    loss = -logsigmoid(better - worse)
    return Loss(loss, loss.new_ones(len(loss)), shown(better, worse, policy, reference))


def slope(log_u: Tensor, divergence: Divergence, alpha: float) -> Tensor:
    """Return f'(u) of the given log u, of any shape."""
    if divergence == "reverse-kl":
        return log_u
    if divergence == "js":
        return math.log(2) + logsigmoid(log_u)
    power = 1.0 if divergence == "forward-kl" else alpha
    return (1 - torch.exp((-power * log_u).clamp(max=HIGHEST))) / power
