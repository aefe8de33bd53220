"""DPO's reward under a hinge: pairs that lead by the margin teach nothing more."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_from
from kilter.training.pairwise import log_ratio, of_pairs, shown


@method("dpo-hinge", wing="training", paper="arXiv:2309.06657", aliases=("hinge",))
@learns_from("pairs")
def dpo_hinge(
    policy: LogProbs, reference: LogProbs, group: Groups, *, beta: Annotated[float, Field(gt=0)] = 0.1
) -> Loss:
    """Hinge loss on DPO's implicit reward (Liu et al. 2023, RSO, "hinge-norm").

    L = max(0, 1 - (r(y_w) - r(y_l))),  r(y) = beta (log pi(y|x) - log pi_ref(y|x)), the mean over the step's pairs.
    It is the loss of `slic-hf` with log-probs measured against the reference policy, which is its regulariser here.
    TRL's `loss_type="hinge"` is the same.

    policy, reference: log-probs of R responses; group.pairs [N, 2]: rows of y_w and y_l. The result is per pair [N], 1
    where policy and reference are equal.

    Options:
        beta: strength of the pull to the reference policy; the margin in log-ratios is 1 / beta
    """
    better, worse = of_pairs(beta * log_ratio(policy, reference), group)
    loss = torch.relu(1 - (better - worse))
    return Loss(loss, loss.new_ones(len(loss)), shown(better, worse, policy, reference))
