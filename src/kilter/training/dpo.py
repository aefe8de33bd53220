"""Direct preference optimisation: learn from pairs, with the reward model left implicit."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch.nn.functional import logsigmoid

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import Amount, method
from kilter.training.objective import learns_from
from kilter.training.pairwise import log_ratio, of_pairs, shown


@method("dpo", wing="training", paper="arXiv:2305.18290", survey="S1 §4.3, S2 §3.2.1")
@learns_from("pairs")
def dpo(
    policy: LogProbs,
    reference: LogProbs,
    group: Groups,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0,
    sft_weight: Amount = 0.0,
) -> Loss:
    """Direct preference optimisation (Rafailov et al. 2023).

    L = - log sigma(z),  z = r(y_w) - r(y_l),  r(y) = beta (log pi(y|x) - log pi_ref(y|x)), the mean over the step's
    pairs. log pi(y|x) is the sum over the scored tokens of y; r is the reward that pi is optimal for. The gradient of a
    pair is weighted by beta sigma(-z): pairs that are ordered right already count for little.
    With `label_smoothing` e the labels are taken to be wrong at that rate (cDPO): L = -(1-e) log sigma(z) - e log
    sigma(-z). With `sft_weight` a, a times the mean negative log-prob a token of y_w is added (the RPO recipe).

    policy, reference: log-probs of R responses; group.pairs [N, 2]: rows of y_w and y_l. The result is per pair [N].
    Where policy and reference are equal it is ln 2. The metric kl, log pi_ref - log pi of a response, estimates
    KL(pi_ref || pi) where the reference policy wrote the responses.

    Options:
        beta: strength of the pull to the reference policy; larger stays closer
        label_smoothing: share of pairs taken to be labelled the wrong way round, below 0.5
        sft_weight: weight of the chosen response's negative log-prob per token
    """
    better, worse = of_pairs(beta * log_ratio(policy, reference), group)
    margin = better - worse
    loss = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
    if sft_weight:
        loss = loss - sft_weight * policy.mean()[group.pairs[:, 0]]
    return Loss(loss, loss.new_ones(len(loss)), shown(better, worse, policy, reference))
