"""DPO for labels that are known to be wrong at some rate: its loss, freed of what the wrong labels add."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch.nn.functional import logsigmoid

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_from
from kilter.training.pairwise import log_ratio, of_pairs, shown


@method("dpo-robust", wing="training", paper="arXiv:2403.00409", aliases=("robust", "rdpo"))
@learns_from("pairs")
def dpo_robust(
    policy: LogProbs,
    reference: LogProbs,
    group: Groups,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.1,
) -> Loss:
    """Robust direct preference optimisation (Ray Chowdhury, Kini and Natarajan 2024).

    L = [-(1 - e) log sigma(z) + e log sigma(-z)] / (1 - 2 e),  z = r(y_w) - r(y_l), r(y) = beta (log pi(y|x) -
    log pi_ref(y|x)), the mean over the step's pairs. Where each label was turned round with probability e, the mean of
    L over the labels as they came is DPO's loss over the labels as they should have been. cDPO (`dpo` with
    label_smoothing) has a plus where this has a minus: it expects wrong labels, but does not undo them. TRL's
    `loss_type="robust"` is the same. L has no lower bound where e > 0: a pair can gain without end.

    policy, reference: log-probs of R responses; group.pairs [N, 2]: rows of y_w and y_l. The result is per pair [N],
    ln 2 where policy and reference are equal.

    Options:
        beta: strength of the pull to the reference policy; larger stays closer
        label_smoothing: share of pairs that are labelled the wrong way round, below 0.5
    """
    better, worse = of_pairs(beta * log_ratio(policy, reference), group)
    margin, e = better - worse, label_smoothing
    loss = (e * logsigmoid(-margin) - (1 - e) * logsigmoid(margin)) / (1 - 2 * e)
    return Loss(loss, loss.new_ones(len(loss)), shown(better, worse, policy, reference))
