"""Sequence likelihood calibration from human feedback: a margin between two responses, beside fine-tuning."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import Amount, method
from kilter.training.objective import learns_from
from kilter.training.pairwise import of_pairs, shown


@method("slic-hf", wing="training", paper="arXiv:2305.10425", survey="S2 §3.2.1")
@learns_from("pairs")
def slic_hf(
    policy: LogProbs,
    group: Groups,
    *,
    delta: Annotated[float, Field(gt=0)] = 1.0,
    sft_weight: Amount = 1.0,
) -> Loss:
    """Sequence likelihood calibration with human feedback (Zhao et al. 2023).

    L = max(0, delta - log pi(y_w|x) + log pi(y_l|x)) - lambda log pi(y_ref|x), the mean over the step's pairs; lambda
    is `sft_weight`, and log-probs are sums over the tokens. y_ref is y_w here, as where people's pairs are learned from
    directly ("direct"); pairs that are sampled from the SFT model and ranked by a reward model ("sample and rank") come
    from `kilter data sampled-preferences` or `kilter score`. delta is 1 in the paper; lambda is a matter of tuning.

    delta times TRL's CPO with `loss_type="hinge"`, beta = 1 / delta and cpo_alpha 0 is the first term. TRL's DPO with
    `loss_type="hinge"` is another loss, that of `dpo-hinge`.

    policy: log-probs of R responses; group.pairs [N, 2]: rows of y_w and y_l. The result is per pair [N].

    Options:
        delta: lead in nats that the better response should have
        sft_weight: weight of the better response's negative log-prob, summed over its tokens
    """
    better, worse = of_pairs(policy.sum(), group)
    loss = torch.relu(delta - better + worse)
    if sft_weight:
        loss = loss - sft_weight * better
    return Loss(loss, loss.new_ones(len(loss)), shown(better, worse))
