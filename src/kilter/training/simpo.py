"""Simple preference optimisation: the mean log-prob is the reward, and no reference policy is due."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch.nn.functional import logsigmoid

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import Amount, method
from kilter.training.objective import learns_from
from kilter.training.pairwise import of_pairs, shown


@method("simpo", wing="training", paper="arXiv:2405.14734")
@learns_from("pairs")
def simpo(
    policy: LogProbs,
    group: Groups,
    *,
    beta: Annotated[float, Field(gt=0)] = 2.0,
    gamma: Amount = 1.0,
) -> Loss:
    """Simple preference optimisation (Meng, Xia and Chen 2024).

    L = - log sigma(r(y_w) - r(y_l) - gamma),  r(y) = beta / |y| log pi(y|x), the mean over the step's pairs. The
    reward is what decoding ranks by, the mean log-prob of a token, so that length gains nothing; gamma is the lead that
    is wanted. Without a reference policy only small learning rates keep the policy near where it started.
    TRL's CPO with `loss_type="simpo"` is the same where its `cpo_alpha` is 0; its defaults are beta 0.1 and gamma 0.5.

    policy: log-probs of R responses; group.pairs [N, 2]: rows of y_w and y_l. The result is per pair [N].

    Options:
        beta: scale of the reward
        gamma: by how much the reward of the better response should lead
    """
    better, worse = of_pairs(beta * policy.mean(), group)
    loss = -logsigmoid(better - worse - gamma)
    return Loss(loss, loss.new_ones(len(loss)), shown(better, worse))
