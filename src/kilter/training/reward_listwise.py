"""A reward model from whole rankings: the likelihood of choosing the best, then the best of the rest, and so on."""

from __future__ import annotations

import torch

from kilter.engine.batch import Groups
from kilter.engine.loss import Loss
from kilter.engine.values import Values
from kilter.errors import KilterError
from kilter.registry import method
from kilter.training.objective import learns_from


@method("reward-listwise", wing="training", paper="arXiv:2301.11270", survey="S1 §4.3.1", aliases=("rm-pl",))
@learns_from("pairs", trains="judge")
def reward_listwise(values: Values, group: Groups) -> Loss:
    """Plackett-Luce reward model from K-wise rankings (Zhu, Jiao and Jordan 2023).

    L = - sum_k [r(y_k) - log sum_{j >= k} exp r(y_j)] for each prompt, y_1 the best of its K responses and y_K the
    worst; the mean over the step's prompts. For K = 2 it is the loss of `rm-bt`; for more it is the likelihood of the
    ranking itself, which the sum over all pairs is not, and statistically the more efficient of the two. Responses that
    are ranked equal stand in each other's sums (Breslow's rule), as neither was chosen before the other.

    values: ends [R] are r; group.scores [R] give the order in each prompt. The result is per response [R], the prompt's
    weights summing to 1. The metric accuracy is the share of a step's pairs that r orders as the ranking does.
    """
    if group.scores is None:
        raise KilterError("A ranking is due, and some group has none; give groups with scores or a ranking.")
    rewards = values.ends
    together = group.group_of[:, None] == group.group_of
    rest = together & (group.scores <= group.scores[:, None])
    left = rewards.expand(len(rewards), -1).masked_fill(~rest, -torch.inf)
    loss = left.logsumexp(dim=1) - rewards
    share = 1 / together.sum(dim=1).to(loss.dtype)
    lead = rewards[group.pairs[:, 0]] - rewards[group.pairs[:, 1]]
    metrics = {"reward_margin": lead, "accuracy": (lead > 0).float() + 0.5 * (lead == 0).float()}
    return Loss(loss, share, metrics)
