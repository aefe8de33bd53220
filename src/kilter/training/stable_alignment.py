"""Stable Alignment: imitate the best-rated response, and keep the others less likely by as much as they are worse."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import Amount, method
from kilter.training.objective import learns_from
from kilter.training.ranking import best_of, scores_of


@method("stable-alignment", wing="training", paper="arXiv:2305.16960", survey="S1 §4.3.3, S2 §3.2.2", aliases=("cpo",))
@learns_from("scores", learning_rate=2e-5, epochs=7, batch_size=8)
def stable_alignment(
    policy: LogProbs,
    group: Groups,
    *,
    ratio: Amount = 0.2,
    margin: Amount = 10.0,
    rating_scale: Annotated[float, Field(gt=0)] = 7.0,
    over: Literal["mean", "max"] = "mean",
    repo_margins: bool = False,
) -> Loss:
    """Stable Alignment by contrastive policy optimisation (Liu et al. 2023, §3.3).

    With c(y) = -log pi(y|x) / |y|, the mean over the scored tokens of y, and R(y) the rating of y:
    L = c(y_b) + ratio max(0, mean_j d_j),  d_j = c(y_b) - c(y_j) + margin (R(y_b) - R(y_j)) / rating_scale,
    where y_b is the response to x that is rated best (the first of equals) and j runs over the others: each should be
    less likely a token than the best by as much as it is rated worse. L is the mean over the step's prompts. No reward
    model stands between the ratings and the policy, which there would be to exploit. A prompt with a single response
    has the first term alone.

    The published code takes the mean of the d_j before it clamps them at 0, or with `over` = max the largest of them;
    so does this. For the rating of y_j that code looks up place j among the ratings sorted from the best; the paper's
    formula above is what is meant, and `repo_margins` repeats the code's slip, for comparisons with it.

    policy: log-probs of R responses; group.scores [R]: their ratings, 1 to 7 in the paper (a rank counts as a point).
    The result is per response [R], all of a prompt's at its best one. The metric hinge is the second term before its
    weight, accuracy the share of the others that are less likely a token than the best.

    Options:
        ratio: weight of the second term
        margin: nats a token that the best should lead by over one rated a whole scale below
        rating_scale: highest rating
        over: whether the mean of the terms counts, or the largest
        repo_margins: repeat the published code's slip in which rating is looked up
    """
    scores, group_of = scores_of(group, "stable-alignment"), group.group_of
    is_best = best_of(scores, group_of)
    cost = -policy.mean()
    number = torch.arange(len(scores), device=scores.device)
    best = torch.zeros_like(number).index_add(0, group_of, torch.where(is_best, number, 0))[group_of]
    told = _sorted_within(scores, group_of) if repo_margins else scores
    terms = cost[best] - cost + margin * (scores[best] - told) / rating_scale
    hinge = torch.where(is_best, _over(terms, ~is_best, group_of, over).clamp(min=0), 0.0)
    loss = torch.where(is_best, cost, 0.0) + ratio * hinge
    weight = is_best.to(loss.dtype)
    metrics = {
        "sft": cost[best],
        "hinge": hinge[best],
        "accuracy": _share((cost > cost[best]).float(), ~is_best, group_of),
    }
    return Loss(loss, weight, metrics)


def _over(terms: Tensor, others: Tensor, group_of: Tensor, over: str) -> Tensor:
    """Return [R]: of each response's group the mean or the largest of `terms` [R] of the `others`; 0 without any."""
    if over == "mean":
        return _share(terms, others, group_of)
    low = torch.where(others, terms, -torch.inf)
    top = torch.full_like(terms, -torch.inf).scatter_reduce(0, group_of, low, "amax")[group_of]
    return torch.where(top > -torch.inf, top, 0.0)


def _share(numbers: Tensor, others: Tensor, group_of: Tensor) -> Tensor:
    """Return [R]: the mean of `numbers` [R] over the `others` that are in a response's group; 0 without any."""
    counted = others.to(numbers.dtype)
    empty = torch.zeros_like(counted)
    found = empty.index_add(0, group_of, numbers * counted)
    return (found / empty.index_add(0, group_of, counted).clamp(min=1))[group_of]


def _sorted_within(scores: Tensor, group_of: Tensor) -> Tensor:
    """Return the scores [R], those of each group sorted from the best; a group's responses stand together."""
    order = torch.argsort(-scores, stable=True)
    return scores[order[torch.argsort(group_of[order], stable=True)]]
