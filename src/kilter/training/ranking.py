"""What the objectives over whole rankings share: each prompt's best response, scores that are due, pairs' accuracy."""

from __future__ import annotations

import torch
from torch import Tensor

from kilter.engine.batch import Groups
from kilter.errors import KilterError
from kilter.training.pairwise import of_pairs


def scores_of(group: Groups, method: str) -> Tensor:
    """Return the scores [R], higher for better; raise KilterError where some group has none."""
    if group.scores is None:
        raise KilterError(
            f"'{method}' ranks responses, and some group has no scores; give scores, a ranking or labels."
        )
    return group.scores


def best_of(scores: Tensor, group_of: Tensor) -> Tensor:
    """Return [R]: whether a response is the best of its prompt; of several the first one."""
    # There are no more groups than responses; asking how many there are would wait for the device.
    count = len(scores)
    top = scores.new_full((count,), -torch.inf).scatter_reduce(0, group_of, scores, "amax")
    number = torch.arange(count, device=scores.device)
    first = torch.full_like(number, count).scatter_reduce(
        0, group_of, torch.where(scores == top[group_of], number, count), "amin"
    )
    return number == first[group_of]


def plackett_luce(values: Tensor, scores: Tensor, group_of: Tensor) -> tuple[Tensor, Tensor]:
    """Return [R] and [R]: -log of the chance that each response is chosen from those not better, and its weight.

    The weights of a prompt's responses sum to 1. Equal responses stand in each other's sums (Breslow's rule).
    """
    together = group_of[:, None] == group_of
    rest = together & (scores <= scores[:, None])
    left = values.expand(len(values), -1).masked_fill(~rest, -torch.inf)
    return left.logsumexp(dim=1) - values, 1 / together.sum(dim=1).to(values.dtype)


def shown(values: Tensor, group: Groups) -> dict[str, Tensor]:
    """Return the metrics of what a policy ranks by, `values` [R]: lead and accuracy over the pairs; a tie is half."""
    better, worse = of_pairs(values.detach(), group)
    lead = better - worse
    return {"reward_margin": lead, "accuracy": (lead > 0).float() + 0.5 * (lead == 0).float()}
