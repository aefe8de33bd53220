"""Unlikelihood training: good responses are learned, the tokens of bad ones are made unlikely."""

from __future__ import annotations

import torch
from torch import Tensor

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import Amount, method
from kilter.training.labels import labelled, labels_of, signed
from kilter.training.objective import learns_from

# A log-prob nearer to 0 than this counts as this: what is certain would have an infinite loss.
NEAREST = 1e-6


@method("unlikelihood", wing="training", paper="arXiv:1908.04319", survey="S1 §4.3.2")
@learns_from("scores", becomes="labels", records=labelled)
def unlikelihood(policy: LogProbs, group: Groups, *, alpha: Amount = 1.0) -> Loss:
    """Unlikelihood training on labelled responses (Welleck et al. 2019).

    - log pi(y_t | x, y_<t) at each token of a good response, - alpha log(1 - pi(y_t | x, y_<t)) at each of a bad one,
    the mean over all tokens of the step. It is what `cringe` is compared with: where cringe sets a bad token off
    against one likely other, this takes its probability away to wherever the rest of the distribution is. Of pairs,
    scores and rankings the best response of a prompt counts as good and the worst as bad.

    policy: log-probs of R responses; group.labels [R]: 1 for a good one, 0 for a bad one. The result is per response
    [R], weighted by its number of tokens. The gradient with respect to a bad token's logit is alpha times its
    probability.

    Options:
        alpha: weight of the tokens of bad responses beside those of good ones
    """
    good = labels_of(group, "unlikelihood").bool()
    loss = torch.where(good, -policy.sum(), alpha * policy.total(-log_not(policy.tokens)))
    return Loss(loss, policy.lengths, {"signed_log_prob": signed(policy.mean(), good)})


def log_not(log_p: Tensor) -> Tensor:
    """Return log(1 - p) of the given log p, of any shape."""
    return torch.log(-torch.expm1(log_p.clamp(max=-NEAREST)))
