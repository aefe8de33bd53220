"""Kahneman-Tversky optimisation: good and bad responses, each judged against what the policy does elsewhere."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kilter.engine.asks import Asks, Surveyed
from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import Amount, method
from kilter.training.labels import labelled, labels_of, signed, with_asides
from kilter.training.objective import learns_from
from kilter.training.pairwise import log_ratio


def survey(policy: LogProbs, reference: LogProbs, group: Groups) -> Surveyed:
    """Return the log-ratio of responses that belong to other prompts: their mean estimates KL(pi || pi_ref)."""
    ratio = log_ratio(policy, reference)
    return {"kl": (ratio, torch.ones_like(ratio))}


@method("kto", wing="training", paper="arXiv:2402.01306")
@learns_from("scores", becomes="labels", records=labelled, trees=with_asides, asks=Asks(survey=survey))
def kto(
    policy: LogProbs,
    reference: LogProbs,
    group: Groups,
    survey: dict[str, Tensor],
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    desirable_weight: Amount = 1.0,
    undesirable_weight: Amount = 1.0,
) -> Loss:
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024).

    With r(y) = log pi(y|x) - log pi_ref(y|x), the mean over the step's responses of

        l_D (1 - sigma(beta (r(y) - z)))  for a good y,   l_U (1 - sigma(beta (z - r(y))))  for a bad one,

    z = max(0, mean of r(y') over pairs of a prompt and a response y' that belongs to another prompt), without a
    gradient: an estimate of KL(pi || pi_ref), the point that gain and loss are counted from. It is taken over all
    prompts of the step, however that is cut into micro-batches. No pairs are needed; of pairs, scores and rankings the
    best response of a prompt counts as good and the worst as bad. The paper advises weights with l_D n_D / (l_U n_U)
    between 1 and 4/3, n being how many there are of each. TRL's loss is the same.

    policy, reference: log-probs of R responses; group.labels [R]: 1 for a good one, 0 for a bad one; survey["kl"]: the
    mean before it is held at 0. The result is per response [R], half its weight where policy and reference are equal.

    Options:
        beta: strength of the pull to the reference policy; larger stays closer
        desirable_weight: l_D, the weight of good responses
        undesirable_weight: l_U, the weight of bad ones
    """
    good = labels_of(group, "kto").bool()
    ratio, z = log_ratio(policy, reference), survey["kl"].clamp(min=0)
    lead = torch.where(good, ratio - z, z - ratio)
    loss = torch.where(good, desirable_weight, undesirable_weight) * torch.sigmoid(-beta * lead)
    metrics = {
        "signed_reward": signed(beta * ratio, good),
        "accuracy": (lead.detach() > 0).float(),
        "kl": z.expand(len(loss)),
    }
    return Loss(loss, torch.ones_like(loss), metrics)
