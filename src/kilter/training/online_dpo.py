"""Online DPO: pairs of the policy's own responses, judged as it goes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import relu
from torch.nn.functional import logsigmoid

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training import pairwise
from kilter.training.objective import learns_online
from kilter.training.pairwise import log_ratio, of_pairs
from kilter.training.policy_gradient import shown
from kilter.training.rollouts import Rollout


def pair(rollout: Rollout) -> None:
    """Keep of each prompt the best and the worst response as a pair; prompts whose responses are alike go."""
    chosen = []
    for tree in rollout.trees:
        rewards = tree.info["rewards"]
        learned = [k for k, mask in enumerate(tree.masks) if any(mask)]
        best = max(learned, key=rewards.__getitem__, default=0)
        worst = min(learned, key=rewards.__getitem__, default=0)
        chosen.append([best, worst] if rewards[best] > rewards[worst] else [])
    rollout.state = {"pairs": float(sum(map(bool, chosen)))}
    rollout.keep(chosen)
    for tree in rollout.trees:
        tree.info["pairs"] = [(0, 1)] if len(tree.responses) == 2 else []


@method("online-dpo", wing="training", paper="arXiv:2402.04792", aliases=("oaif",))
@learns_online(reference="beta", shape=pair, at_least=2, samples=2)
def online_dpo(
    policy: LogProbs,
    reference: LogProbs,
    group: Groups,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    loss: Literal["sigmoid", "ipo", "hinge"] = "sigmoid",
) -> Loss:
    """Online direct preference optimisation, with feedback in the place of a reward model (Guo et al. 2024, OAIF).

    Each phase two responses to every prompt are sampled from the policy as it is by then, feedback says which is the
    better, y_w, and the policy learns from that pair: offline DPO learns from what another model once wrote, and the
    pairs say less and less of what the policy itself writes. With z = log pi(y_w)/pi_ref(y_w) - log pi(y_l)/pi_ref(y_l)

        sigmoid  - log sigma(beta z)           DPO (Rafailov et al. 2023)
        ipo      (z - 1 / (2 beta))^2          IPO (Azar et al. 2023), log-probs summed
        hinge    max(0, 1 - beta z)            SLiC, with the reference in it

    the mean over the step's pairs; sampling itself is given no gradient. With more than two `samples` the best and the
    worst are the pair. Prompts all of whose responses are rewarded alike teach nothing and are left out; the metric
    pairs counts the rest of a rollout.

    policy, reference: log-probs of R responses; group.pairs [N, 2]: rows of y_w and y_l. The result is per pair [N].

    Options:
        beta: strength of the pull to the reference policy; larger stays closer
        loss: what is learned from a pair
    """
    better, worse = of_pairs(log_ratio(policy, reference), group)
    lead = better - worse
    if loss == "sigmoid":
        found = -logsigmoid(beta * lead)
    else:
        found = (lead - 1 / (2 * beta)) ** 2 if loss == "ipo" else relu(1 - beta * lead)
    metrics = shown(policy, group, found.detach()[:0]) | pairwise.shown(beta * better, beta * worse)
    metrics["kl"] = log_ratio(policy, reference).detach()
    return Loss(found, found.new_ones(len(found)), metrics)
