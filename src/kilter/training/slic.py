"""Sequence likelihood calibration: likelihoods of candidates are to agree with how good the candidates are."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from kilter.engine.asks import Asks
from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import Amount, method
from kilter.training.objective import learns_from
from kilter.training.pairwise import of_pairs
from kilter.training.ranking import best_of, scores_of, shown

Calibration = Literal["rank", "margin", "list-rank", "expected"]
Regulariser = Literal["kl", "ce", "none"]


def asks(regulariser: Regulariser) -> Asks:
    return Asks(divergence=regulariser == "kl")


@method("slic", wing="training", paper="arXiv:2210.00045", survey="S2 §3.2.1")
@learns_from("pairs", asks=asks)
def slic(
    policy: LogProbs,
    group: Groups,
    *,
    calibration: Calibration = "rank",
    regulariser: Regulariser = "kl",
    beta: Annotated[float, Field(gt=0)] = 1.0,
    weight: Amount = 1.0,
) -> Loss:
    """Sequence likelihood calibration (Zhao et al. 2022).

    For the candidates y_1 ... y_m to a prompt, with scores s_i and P(y) = pi(y|x), log-probs being sums over tokens,
    L = L_cal + lambda L_reg, the mean over the step's prompts. Of pairs with s+ > s- the mean is taken, which is what
    the paper samples; ties teach nothing. L_cal is one of

        rank       max(0, beta - log P(y+) + log P(y-))
        margin     max(0, beta (s+ - s-) - log P(y+) + log P(y-))
        list-rank  sum_{i<j} max(0, beta (j - i) - log P(y_i) + log P(y_j)),  y_1 the best
        expected   - sum_i s_i P(y_i) / sum_j P(y_j)

    and L_reg, on the best candidate y*, which is the target sequence where that is among the candidates, one of

        kl         sum_t KL(pi_ft(. | x, y*_<t) || pi(. | x, y*_<t)), pi_ft the policy that training starts from
        ce         - log P(y*)

    The paper found rank with kl best; it scores candidates by the similarity of their decoder states to the target's,
    here the scores are the data's. It tunes beta and lambda (`weight`) for each task. kl needs a second copy of the
    model and the whole distribution of both at every token.

    policy: log-probs of R responses; group.scores [R]; group.pairs [N, 2]. The result is per response [R].

    Options:
        calibration: the loss over candidates: rank, margin, list-rank or expected
        regulariser: what keeps the policy near the fine-tuned one: kl, ce (imitating the best candidate) or none
        beta: margin in nats: of a pair, of a unit of score (margin), or of a place in the ranking (list-rank)
        weight: weight of the regulariser
    """
    scores, total = scores_of(group, "slic"), policy.sum()
    best = best_of(scores, group.group_of).to(total.dtype)
    loss = _calibration(calibration, total, scores, group, beta)
    metrics = shown(total, group) | {"calibration": loss.detach()}
    if regulariser == "ce":
        loss = loss - weight * best * total
    elif regulariser == "kl":
        if policy.divergence is None:
            raise ValueError("regulariser='kl' needs policy.divergence, which the loop gives where it is asked for.")
        off = policy.total(policy.divergence)
        loss, metrics["kl"] = loss + weight * best * off, off.detach()
    return Loss(loss, best, metrics)


def _calibration(kind: Calibration, total: Tensor, scores: Tensor, group: Groups, beta: float) -> Tensor:
    """Return [R]: each response's part in its prompt's loss."""
    empty, rows = torch.zeros_like(total), group.group_of
    if kind == "expected":
        top = torch.full_like(total, -torch.inf).scatter_reduce(0, rows, total.detach(), "amax")
        mass = (total - top[rows]).exp()
        return -scores.to(total.dtype) * mass / empty.index_add(0, rows, mass)[rows]
    better, worse = of_pairs(total, group)
    high, low = of_pairs(scores.to(total.dtype), group)
    places = torch.ones_like(high)
    if kind == "list-rank":
        # How many responses to the same prompt are better: the place in the ranking, from 0.
        ahead = (rows[:, None] == rows) & (scores > scores[:, None])
        first, last = of_pairs(ahead.sum(dim=1), group)
        places = (last - first).to(total.dtype)
    lead = beta * (high - low if kind == "margin" else places)
    hinge = torch.relu(lead - better + worse)
    found = empty.index_add(0, group.pairs[:, 0], hinge)
    if kind == "list-rank":
        return found
    pairs = empty.index_add(0, rows[group.pairs[:, 0]], torch.ones_like(hinge))
    return found / pairs[rows].clamp(min=1)
