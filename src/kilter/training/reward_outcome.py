"""An outcome reward model, or verifier: how likely a response is to come out right."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from kilter.engine.asks import Asks
from kilter.engine.batch import Groups
from kilter.engine.loss import Loss
from kilter.engine.values import Values
from kilter.errors import KilterError
from kilter.registry import method
from kilter.training.objective import learns_from


def asks(every_token: bool) -> Asks:
    return Asks(tokens=every_token)


@method(
    "reward-outcome",
    wing="training",
    paper="arXiv:2110.14168",
    survey="S1 §4.4.1, S3 §4.2",
    aliases=("orm", "verifier"),
)
@learns_from("labels", trains="judge", asks=asks)
def reward_outcome(values: Values, group: Groups, *, every_token: bool = False) -> Loss:
    """Outcome reward model from responses labelled right or wrong (Cobbe et al. 2021, Uesato et al. 2022).

    L = - [z log sigma(r) + (1 - z) log sigma(-r)], the mean over the step's responses: r is the number that the model
    says at the response's end, z its label. sigma(r) is P(y is right | x, y). With `every_token` the label is predicted
    at every token of the response, and L is the mean over them: Cobbe et al.'s verifier, a value function whose course
    shows where an answer goes wrong.

    values: ends [R] are r, tokens [P] the numbers before each token; group.labels [R] are z. The result is per
    response [R], weighted by the places at which it is predicted.

    Options:
        every_token: predict the label at every token, not only at the end
    """
    if group.labels is None:
        raise KilterError("Labels are due, and some group has none; give responses labelled right or wrong.")
    labels = group.labels
    loss = binary_cross_entropy_with_logits(values.ends, labels, reduction="none")
    weight = torch.ones_like(loss)
    if every_token:
        assert values.tokens is not None
        each = binary_cross_entropy_with_logits(values.tokens, labels[values.owner], reduction="none")
        loss, weight = loss.index_add(0, values.owner, each), weight + values.lengths
    right = ((values.ends > 0) == (labels > 0.5)).float()
    return Loss(loss, weight, {"accuracy": right, "reward": values.ends})
