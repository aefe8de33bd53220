"""R-GOLD: imitation weighted by reward and by how sure the policy is of each token."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.a_lol import sloping
from kilter.training.objective import learns_from


@method("r-gold", wing="training", paper="arXiv:2305.14718", aliases=("gold",))
@learns_from("scores")
def r_gold(policy: LogProbs, group: Groups, *, floor: Annotated[float, Field(gt=0, le=1)] = 0.1) -> Loss:
    """GOLD with rewards, a baseline of A-LoL (Pang and He 2021; Baheti et al. 2023).

    L = - r(x, y) sum_t max(pi(y_t), u) log pi(y_t), u `floor`, the mean over the responses of a step; of the weight
    max(pi, u), the importance of a token where the data's own policy is taken to be even, no gradient is taken.

    policy: log-probs of R responses; group.scores [R]: rewards. The result is per response [R].

    Options:
        floor: least weight of a token
    """
    if group.scores is None:
        raise ValueError("R-GOLD learns from rewards; give every group scores.")
    weight = policy.tokens.detach().exp().clamp(min=floor)
    loss = -group.scores * policy.total(weight * policy.tokens)
    value = -group.scores * policy.total(sloping(policy.tokens, weight))
    return Loss(loss, loss.new_ones(len(loss)), {"reward": group.scores, "weight": weight}, value)
