"""Rank responses to align with human feedback: better responses are to be likelier, and the best one is imitated."""

from __future__ import annotations

import torch

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import Amount, method
from kilter.training.objective import learns_from
from kilter.training.pairwise import of_pairs
from kilter.training.ranking import best_of, scores_of, shown


@method("rrhf", wing="training", paper="arXiv:2304.05302", survey="S1 §4.3.2, S2 §3.2.1")
@learns_from("pairs")
def rrhf(
    policy: LogProbs,
    group: Groups,
    *,
    rank_weight: Amount = 1.0,
    length_penalty: Amount = 1.0,
) -> Loss:
    """Rank responses to align with human feedback (Yuan et al. 2023).

    p_i = log pi(y_i|x) / |y_i|^a for the responses y_1 ... y_K to a prompt, with rewards r_i, whoever wrote them;

    L = w sum_{r_i < r_j} max(0, p_i - p_j)  -  1/|y*| log pi(y*|x),   y* the response of the highest reward,

    the mean over the step's prompts. There is no margin: pairs in the right order, and ties, teach nothing. a is
    `length_penalty`, w is `rank_weight`. The released code averages the second term over the padded length of the
    batch; here it is over the tokens of y*.

    policy: log-probs of R responses; group.scores [R] are the rewards, group.pairs [N, 2] the rows of all pairs of one
    prompt with r_i < r_j, better first. The result is per response [R], so that a prompt's are in one micro-batch and
    weigh 1 together. The metric hinge is the first sum.

    Options:
        rank_weight: weight of the ranking term; 1 in the authors' script, 100 as the default of their class
        length_penalty: power of the number of tokens that a log-prob is divided by
    """
    scores = scores_of(group, "rrhf")
    p = policy.sum() / policy.lengths.clamp(min=1) ** length_penalty
    better, worse = of_pairs(p, group)
    # Each pair counts where its better response stands, so that all is told by response.
    hinge = torch.zeros_like(p).index_add(0, group.pairs[:, 0], torch.relu(worse - better))
    best = best_of(scores, group.group_of).to(p.dtype)
    loss = rank_weight * hinge - best * policy.mean()
    told = torch.zeros_like(p).index_add(0, group.group_of, hinge)[group.group_of]
    return Loss(loss, best, shown(p, group) | {"hinge": told.detach()})
