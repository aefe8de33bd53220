"""CRINGE: the tokens of bad responses are set off against likely others of the model's own."""

from __future__ import annotations

import torch
from torch.nn.functional import softplus

from kilter.engine.asks import Asks
from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import Amount, Count, method
from kilter.training.labels import labelled, labels_of, signed
from kilter.training.objective import learns_from


def asks(k: int) -> Asks:
    return Asks(rivals=k)


@method("cringe", wing="training", paper="arXiv:2211.05826", survey="S1 §4.3.2")
@learns_from("scores", becomes="labels", records=labelled, asks=asks)
def cringe(policy: LogProbs, group: Groups, *, alpha: Amount = 1.0, k: Count = 1) -> Loss:
    """ContRastive Iterative Negative GEneration: the CRINGE loss (Adolphs et al. 2022).

    - log pi(y_t | x, y_<t) at each token of a good response, and at each token of a bad one

        - alpha log( e^{s+} / (e^{s+} + e^{s-}) ),

    s- the token's logit and s+ that of another token, drawn from softmax over the k largest logits but s-: what the
    model might have said instead. The mean over all tokens of the step. With k = 1, as in the released code, s+ is the
    largest of the others. The gradient on s- is alpha sigma(s- - s+), on s+ minus that: where the other is far more
    likely already nothing changes, and no third token is touched, unlike with `unlikelihood`.

    The paper iterates: the trained model answers, a classifier that was trained on the human labels labels the
    answers, and both sets are trained on again; a recipe can chain the stages. Of pairs, scores and rankings the best
    response of a prompt counts as good and the worst as bad.

    policy: log-probs of R responses, with `rivals` [P]; group.labels [R]: 1 for a good one, 0 for a bad one. The result
    is per response [R], weighted by its number of tokens.

    Options:
        alpha: weight of the tokens of bad responses beside those of good ones
        k: from how many of the likeliest other tokens the rival is drawn
    """
    if policy.rivals is None:
        raise ValueError("This objective needs policy.rivals, which the loop gives to one that asks for them.")
    good = labels_of(group, "cringe").bool()
    # The normaliser of the softmax is the same in both log-probs: their difference is that of the logits.
    contrast = policy.total(softplus(policy.tokens - policy.rivals))
    loss = torch.where(good, -policy.sum(), alpha * contrast)
    return Loss(loss, policy.lengths, {"signed_log_prob": signed(policy.mean(), good)})
