"""Binary classifier optimisation: good and bad responses told apart by the reward that the policy implies."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from kilter.engine.asks import Asks, Surveyed
from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.labels import labelled, labels_of, signed
from kilter.training.objective import learns_from
from kilter.training.pairwise import log_ratio


def survey(policy: LogProbs, reference: LogProbs, group: Groups) -> Surveyed:
    """Return the log-ratios of good and of bad responses."""
    good, ratio = labels_of(group, "bco").bool(), log_ratio(policy, reference)
    return {"good": (ratio * good, good), "bad": (ratio * ~good, ~good)}


@method("bco", wing="training", paper="arXiv:2404.04656")
@learns_from("scores", becomes="labels", records=labelled, asks=Asks(survey=survey))
def bco(
    policy: LogProbs,
    reference: LogProbs,
    group: Groups,
    survey: dict[str, Tensor],
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
) -> Loss:
    """Binary classifier optimisation (Jung et al. 2024).

    With r(y) = beta (log pi(y|x) - log pi_ref(y|x)), the mean over the step's responses of

        - log sigma(r(y) - d)  for a good y,   - log sigma(d - r(y))  for a bad one,   d = (E[r|good] + E[r|bad]) / 2,

    the logits of a classifier whose threshold is d, without a gradient. The paper keeps d as a moving average over
    steps; here it is the mean over the step itself, worked out before it is learned from, which costs another forward
    pass and needs nothing to be remembered. Good and bad responses need not come in pairs; of pairs, scores and
    rankings the best response of a prompt counts as good and the worst as bad. With d = 0 two responses of a pair have
    the loss that TRL calls `bco_pair`. The paper's weights against a shift between the prompts of good and of bad
    responses are left out.

    policy, reference: log-probs of R responses; group.labels [R]: 1 for a good one, 0 for a bad one; survey: mean
    log-ratios of good and bad ones. The result is per response [R], ln 2 where policy and reference are equal.

    Options:
        beta: strength of the pull to the reference policy; larger stays closer
    """
    good, reward = labels_of(group, "bco").bool(), beta * log_ratio(policy, reference)
    threshold = beta * (survey["good"] + survey["bad"]) / 2
    lead = torch.where(good, reward - threshold, threshold - reward)
    metrics = {
        "signed_reward": signed(reward, good),
        "accuracy": (lead.detach() > 0).float(),
        "kl": -(reward / beta).detach(),
    }
    return Loss(-logsigmoid(lead), torch.ones_like(lead), metrics)
