"""Safe RLHF: reward is raised while a cost is held below a limit, by a multiplier that learns along."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import Amount, Count, method
from kilter.training import ppo
from kilter.training.objective import learns_online
from kilter.training.rollouts import Rollout


def lagrange(
    rollout: Rollout,
    *,
    cost_limit: float = 0.0,
    multiplier: Annotated[float, Field(gt=0)] = 1.0,
    multiplier_rate: Amount = 0.1,
    multiplier_most: Annotated[float, Field(gt=0)] = 5.0,
    cost_window: Count = 128,
    kl_coef: Amount = 0.01,
    gamma: Annotated[float, Field(ge=0, le=1)] = 1.0,
    lam: Annotated[float, Field(ge=0, le=1)] = 0.95,
    whiten: bool = True,
) -> None:
    """Put "advantages" and "returns" of (r - lambda c) / (1 + lambda) into a rollout that has rewards and costs."""
    costs: list[float] = rollout.memory.setdefault("costs", [])
    costs += rollout.flat("cost").tolist()
    del costs[:-cost_window]
    found = sum(costs) / len(costs)
    factor = moved(rollout.state.get("multiplier", multiplier), found - cost_limit, multiplier_rate, multiplier_most)
    rewards = [tree.info["rewards"] for tree in rollout.trees]
    for tree in rollout.trees:
        pairs = zip(tree.info["rewards"], tree.info["cost"], strict=True)
        tree.info["rewards"] = [(r - factor * c) / (1 + factor) for r, c in pairs]
    ppo.shape(rollout, kl_coef=kl_coef, gamma=gamma, lam=lam, whiten=whiten)
    for tree, own in zip(rollout.trees, rewards, strict=True):
        tree.info["rewards"] = own
    unsafe = float(np.mean(rollout.flat("cost") > cost_limit))
    rollout.state |= {"multiplier": factor, "cost_mean": found, "over_limit": unsafe}


def moved(multiplier: float, excess: float, rate: float, most: float) -> float:
    """Return the next multiplier: a step up ln lambda of lambda (J_C - d), at most `most` (Dai et al. 2023, eq. 31)."""
    return min(most, multiplier * math.exp(min(700.0, rate * multiplier * excess)))


@method("safe-rlhf", wing="training", paper="arXiv:2310.12773", aliases=("ppo-lag",))
@learns_online(reference="kl_coef", critic=True, shape=lagrange, judges=("cost",), samples=1)
def safe_rlhf(
    policy: LogProbs,
    group: Groups,
    *,
    cliprange: Annotated[float, Field(gt=0)] = 0.2,
    cliprange_value: Annotated[float, Field(gt=0)] = 5.0,
    vf_coef: Amount = 1.0,
) -> Loss:
    """Safe RLHF, PPO under a constraint (Dai et al. 2023).

    max_pi E[r(x, y)] such that E[c(x, y)] <= d: what is helpful and what is harmful are judged apart, by the feedback
    and by another, `cost`, such as a cost model (`kilter train cost-model`), whose numbers are above 0 where a response
    is harmful. The constrained problem is min over lambda >= 0 of max over pi of E[r] - lambda (E[c] - d). The policy
    takes PPO's steps on (r - lambda c) / (1 + lambda), kept near the reference as in `rlhf-ppo`; before each rollout is
    learned from ln lambda <- ln lambda + alpha lambda (J_C - d), J_C being the mean cost of the last `cost_window`
    responses: while they cost too much, harmlessness weighs more, and then helpfulness again.

    The paper's code has a critic for rewards and one for costs, and divides its KL penalty between them. Advantages are
    linear in what is rewarded, so that one critic of the combined reward says the same as long as lambda stands still,
    which it does within a rollout; half of the paper's penalty (0.02) stays on the combination, the default here. The
    pretraining gradient of the paper's code is left out.

    policy: log-probs of R responses, with values; group: behaviour, advantages, returns, values [P]. The result is per
    response [R], weighted by its tokens. The metric cost_mean is J_C, over_limit the share of responses in a rollout
    that cost more than the limit.

    Options:
        cost: feedback whose numbers are costs, higher for what is more harmful: a cost model, or {rule: weight}
        cost_limit: the mean cost that is allowed (the paper's -d)
        multiplier: lambda at the start
        multiplier_rate: alpha, the step of ln lambda; 0 holds lambda (reward shaping)
        multiplier_most: highest lambda
        cost_window: responses over which the mean cost is taken
        kl_coef: what a nat away from the reference policy costs at each token
        gamma: discount of rewards, a token
        lam: of generalised advantage estimates
        whiten: give the advantages of a rollout mean 0 and variance 1
        cliprange: how far the ratio may leave 1 before the clip holds the gradient back
        cliprange_value: how far a value may leave what the critic said at the rollout before its loss is clipped
        vf_coef: weight of the critic's loss
    """
    return ppo.ppo(policy, group, cliprange=cliprange, cliprange_value=cliprange_value, vf_coef=vf_coef)
