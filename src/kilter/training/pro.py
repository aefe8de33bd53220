"""Preference ranking optimisation: the best against all others, then the second against the rest, and so on."""

from __future__ import annotations

from typing import Literal

import torch

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import Amount, method
from kilter.training.objective import learns_from
from kilter.training.ranking import best_of, scores_of, shown


@method("pro", wing="training", paper="arXiv:2306.17492", survey="S2 §3.2.1")
@learns_from("pairs")
def pro(
    policy: LogProbs,
    group: Groups,
    *,
    temperature: Literal["reward", "none"] = "reward",
    sft_weight: Amount = 0.05,
) -> Loss:
    """Preference ranking optimisation (Song et al. 2023).

    For a ranking y_1 > ... > y_n with rewards r_1 >= ... >= r_n, and s_i = 1/|y_i| log pi(y_i|x),

    L = - sum_{k=1}^{n-1} log [ exp(s_k / T_k^k) / sum_{i>=k} exp(s_i / T_k^i) ]  -  b log pi(y_1|x),

    T_k^i = 1 / (r_k - r_i) for i > k, T_k^k = min_{i>k} T_k^i, the mean over the step's prompts. The further apart two
    rewards are, the more it counts that the policy tells the two responses apart. temperature=none sets every T to 1:
    that is the negative log-likelihood of the ranking by Plackett and Luce, for n = 2 -log sigma(s_1 - s_2). Of
    responses that are rewarded alike neither is pushed against the other: with temperature=reward their exponents are
    0; with none they stand in each other's sums. b is `sft_weight` times (n - 1)^2, as in the released code, and its
    term is a sum over the tokens.

    policy: log-probs of R responses; group.scores [R]: rewards, finite. The result is per response [R]: the part of the
    sum in which it is y_k, with weights that make 1 of a prompt.

    Options:
        temperature: reward sharpens each comparison by the distance of the rewards, none takes all as equal
        sft_weight: weight of the best response's negative log-prob; times the square of one less than the responses
    """
    scores, s = scores_of(group, "pro"), policy.mean()
    count = len(s)
    together = group.group_of[:, None] == group.group_of
    # Who comes after response k: those of lower reward, and of the same where they stand behind it.
    number = torch.arange(count, device=s.device)
    gap = (scores[:, None] - scores).to(s.dtype)
    after = together & ((gap > 0) | ((gap == 0) & (number[:, None] < number)))
    if temperature == "reward":
        inverse = torch.where(after, gap, 0.0)
        inverse = inverse + torch.diag(inverse.amax(dim=1))
        exponents = s * inverse
    else:
        after = after | (together & (gap == 0))
        exponents = s.expand(count, count)
    itself = torch.eye(count, dtype=torch.bool, device=s.device)
    rest = exponents.masked_fill(~(after | itself), -torch.inf).logsumexp(dim=1)
    best = best_of(scores, group.group_of).to(s.dtype)
    others = together.sum(dim=1) - 1
    loss = rest - exponents.diagonal() - best * sft_weight * others**2 * policy.sum()
    return Loss(loss, 1 / together.sum(dim=1).to(s.dtype), shown(s, group))
