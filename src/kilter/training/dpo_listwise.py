"""DPO from whole rankings: the implicit reward explains which response is best, then the best of the rest."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_from
from kilter.training.pairwise import log_ratio
from kilter.training.ranking import plackett_luce, scores_of, shown


@method("dpo-listwise", wing="training", paper="arXiv:2305.18290", survey="S2 §3.2.1", aliases=("dpo-pl",))
@learns_from("pairs")
def dpo_listwise(
    policy: LogProbs, reference: LogProbs, group: Groups, *, beta: Annotated[float, Field(gt=0)] = 0.1
) -> Loss:
    """Direct preference optimisation from rankings (Rafailov et al. 2023, appendix).

    L = - sum_k log [ exp r(y_k) / sum_{j >= k} exp r(y_j) ],  r(y) = beta (log pi(y|x) - log pi_ref(y|x)), for each
    prompt with its responses from y_1, the best, to y_K, the worst; the mean over the step's prompts. It is the
    likelihood of the ranking by Plackett and Luce, for K = 2 the loss of `dpo`, which for more takes every pair as an
    example of its own. Responses that are ranked equal stand in each other's sums (Breslow's rule).

    policy, reference: log-probs of R responses; group.scores [R] give the order within each prompt. The result is per
    response [R], the weights of a prompt's summing to 1; log K! for each prompt where policy and reference are equal.

    Options:
        beta: strength of the pull to the reference policy; larger stays closer
    """
    reward = beta * log_ratio(policy, reference)
    loss, share = plackett_luce(reward, scores_of(group, "dpo-listwise"), group.group_of)
    return Loss(loss, share, shown(reward, group) | {"kl": -(reward / beta).detach()})
