"""Odds ratio preference optimisation: fine-tuning and preferences in one stage, without a reference policy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import Amount, method
from kilter.training.objective import learns_from
from kilter.training.pairwise import of_pairs, shown

# A mean log-prob nearer to 0 than this counts as this: the odds of what is certain are infinite.
NEAREST = 1e-6


@method("orpo", wing="training", paper="arXiv:2403.07691")
@learns_from("pairs")
def orpo(policy: LogProbs, group: Groups, *, beta: Amount = 0.1) -> Loss:
    """Odds ratio preference optimisation (Hong, Lee and Thorne 2024).

    L = - 1/|y_w| log pi(y_w|x) - beta log sigma(log odds(y_w) - log odds(y_l)),  odds(y) = p / (1 - p),
    p = exp(1/|y| log pi(y|x)), the mean over the step's pairs; beta is the paper's lambda. The first term learns the
    better response as fine-tuning does, the second sets it off against the worse one: so it starts from a base model.
    TRL's ORPO has the same second term; its first one counts the prompt's tokens as well.

    policy: log-probs of R responses; group.pairs [N, 2]: rows of y_w and y_l. The result is per pair [N]. The metric
    reward_margin is the difference of the log odds.

    Options:
        beta: weight of the odds ratio beside the negative log-prob of the better response
    """
    mean = policy.mean()
    better, worse = of_pairs(log_odds(mean), group)
    loss = -mean[group.pairs[:, 0]] - beta * logsigmoid(better - worse)
    return Loss(loss, loss.new_ones(len(loss)), shown(better, worse))


def log_odds(log_p: Tensor) -> Tensor:
    """Return log p / (1 - p) of the given log p, of any shape."""
    log_p = log_p.clamp(max=-NEAREST)
    return log_p - torch.log(-torch.expm1(log_p))
