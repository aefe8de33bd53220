"""Weighted behaviour cloning: imitate every response as much as it was rewarded."""

from __future__ import annotations

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_from


@method("wbc", wing="training", paper="arXiv:2305.14718", aliases=("weighted-behaviour-cloning",))
@learns_from("scores")
def wbc(policy: LogProbs, group: Groups) -> Loss:
    """Weighted behaviour cloning, the first baseline of A-LoL (Baheti et al. 2023).

    L = - r(x, y) log pi(y|x), log-probs summed, the mean over the responses of a step: reward-weighted regression with
    linear weights. Rewards of the paper lie in [0, 1]; one below 0 drives the policy away from a response without an
    end.

    policy: log-probs of R responses; group.scores [R]: rewards. The result is per response [R].
    """
    if group.scores is None:
        raise ValueError("Weighted behaviour cloning learns from rewards; give every group scores.")
    loss = -group.scores * policy.sum()
    return Loss(loss, loss.new_ones(len(loss)), {"reward": group.scores})
