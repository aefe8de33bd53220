"""Reinforcement learning from human feedback: PPO against a reward, kept near a reference policy."""

from __future__ import annotations

from typing import Literal

import torch

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_online
from kilter.training.policy_gradient import gae, k1, k3, sampled, shown, surrogate, whitened
from kilter.training.rollouts import Rollout

# Ziegler et al. 2019, §2.2: the share by which the coefficient moves for an error, and the largest error that counts.
GAIN, MOST = 0.1, 0.2


def adapted(coefficient: float, kl: float, target: float) -> float:
    """Return the KL coefficient of the next rollout (Ziegler et al. 2019, eq. 4).

    coefficient (1 + 0.1 e), e = clip(kl / target - 1, -0.2, 0.2); `kl` and `target` in nats a response.
    """
    return coefficient * (1 + GAIN * min(MOST, max(-MOST, kl / target - 1)))


def shape(
    rollout: Rollout,
    *,
    kl_coef: float = 0.05,
    kl_target: float | None = None,
    kl_estimator: Literal["k1", "k3"] = "k1",
    gamma: float = 1.0,
    lam: float = 0.95,
    whiten: bool = True,
) -> None:
    """Put "advantages" and "returns" into a rollout that has rewards, values and, with kl_coef, a reference.

    The state carries the coefficient that was used and the KL divergence it found, in nats a response.

    Options:
        kl_coef: what a nat away from the reference policy costs at each token; 0 needs no reference policy
        kl_target: nats a response that kl_coef adapts itself to hold; none leaves it as it is
        kl_estimator: of a token's KL divergence, log mu - log pi_ref (k1), or the one that is never negative (k3)
        gamma: discount of rewards, a token
        lam: of generalised advantage estimates; 1 sums rewards, 0 trusts the critic
        whiten: give the advantages of a rollout mean 0 and variance 1
    """
    lengths, values = torch.from_numpy(rollout.lengths), torch.from_numpy(rollout.flat("values"))
    rewards = torch.zeros_like(values)
    # Under a mask the penalty is on the policy itself: what the mask alone keeps from it is no way away.
    drawn = "own" if rollout.trees and "own" in rollout.trees[0].info else "behaviour"
    if kl_coef:
        if kl_target and "rollout_kl" in rollout.state:
            kl_coef = adapted(rollout.state["kl_coef"], rollout.state["rollout_kl"], kl_target)
        behaviour, reference = (torch.from_numpy(rollout.flat(name)) for name in (drawn, "reference"))
        rewards -= kl_coef * (k1 if kl_estimator == "k1" else k3)(behaviour, reference)
        away = float(k1(behaviour, reference).sum()) / max(1, int((lengths > 0).sum()))
        rollout.state = {"kl_coef": kl_coef, "rollout_kl": away}
    ends = lengths.cumsum(0) - 1
    scored = lengths > 0
    rewards[ends[scored]] += torch.from_numpy(rollout.flat("rewards"))[scored]
    advantages, returns = gae(rewards, values, lengths, gamma=gamma, lam=lam)
    rollout.put("advantages", (whitened(advantages) if whiten else advantages).numpy())
    rollout.put("returns", returns.numpy())


@method("rlhf-ppo", wing="training", paper="arXiv:1909.08593", survey="S1 §4.3.1, S2 §3.2.1", aliases=("ppo",))
@learns_online(reference="kl_coef", critic=True, shape=shape, samples=1, updates=4)
def ppo(
    policy: LogProbs,
    group: Groups,
    *,
    cliprange: float = 0.2,
    cliprange_value: float = 0.2,
    vf_coef: float = 0.1,
    entropy_coef: float = 0.0,
) -> Loss:
    """RLHF: PPO with a KL penalty (Ziegler et al. 2019; Stiennon et al. 2020; Ouyang et al. 2022).

    Raises E[r(x, y)] - beta KL(pi || pi_ref). Each token of a response is rewarded with
    R_t = - beta (log mu(y_t) - log pi_ref(y_t)), the last one also with r(x, y); mu is the distribution that y was
    drawn from. A critic V, a model of its own, says before each token what is still to come:
    d_t = R_t + gamma V_{t+1} - V_t, A_t = sum_k (gamma lam)^k d_{t+k}, G_t = A_t + V_t, worked out once a rollout, A
    whitened over it. L = L_pi + vf_coef L_V - entropy_coef H, means over the tokens of a step, with
    L_pi = - min(rho A, clip(rho, 1 - e, 1 + e) A), rho = exp(log pi(y_t) - log mu(y_t)), e = cliprange, and
    L_V = 1/2 max((V - G)^2, (clip(V, V_old - e_V, V_old + e_V) - G)^2), e_V = cliprange_value.

    With `kl_target` beta adapts from rollout to rollout: beta (1 + 0.1 clip(KL / target - 1, -0.2, 0.2)). The critic
    starts as the policy with a head of zeros, or as a reward model (`critic`), and is left in out/critic. `updates` are
    PPO's epochs; cut_penalty is what the peers call a missing-EOS penalty. Not here: pretraining gradients (PPO-ptx).

    policy: log-probs of R responses, with values; group: behaviour log-probs, advantages, returns, values [P], rewards
    [R]. The result is per response [R], weighted by its number of tokens. The metric kl is log mu - log pi_ref.

    Options:
        cliprange: how far the ratio may leave 1 before the clip holds the gradient back
        cliprange_value: how far a value may leave what the critic said at the rollout before its loss is clipped
        vf_coef: weight of the critic's loss
        entropy_coef: weight of the policy's entropy at each token
    """
    _, behaviour = sampled(group)
    values, old, returns, advantages = policy.values, group.values, group.returns, group.advantages
    if values is None or old is None or returns is None or advantages is None:
        raise ValueError(
            "PPO learns from values, advantages and returns; give it a critic and a rollout that has them."
        )
    gain, held = surrogate(policy.tokens - behaviour, advantages, cliprange, cliprange)
    # Where nothing is clipped this is the value itself, not off by rounding.
    bounded = torch.clamp(values, old - cliprange_value, old + cliprange_value)
    missed, clipped = (values - returns) ** 2, (bounded - returns) ** 2
    value_loss = 0.5 * torch.maximum(missed, clipped)
    metrics = shown(policy, group, held) | {
        "value_loss": value_loss.detach(),
        "value_clip_fraction": ((bounded != values) & (clipped > missed)).float(),
    }
    if group.reference is not None:
        metrics["kl"] = policy.total(k1(behaviour, group.reference))
    lost = vf_coef * value_loss - gain
    if entropy_coef and policy.entropy is not None:
        lost = lost - entropy_coef * policy.entropy
    return Loss(policy.total(lost), policy.lengths, metrics)
