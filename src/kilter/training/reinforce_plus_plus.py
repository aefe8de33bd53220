"""REINFORCE++: PPO's clip and a KL penalty at every token, without a critic; the whole rollout is the baseline."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import Amount, method
from kilter.training.objective import learns_online
from kilter.training.policy_gradient import group_mean, k1, sampled, shown, surrogate, whitened
from kilter.training.rollouts import Rollout


def shape(
    rollout: Rollout,
    *,
    kl_coef: Amount = 0.01,
    gamma: Annotated[float, Field(ge=0, le=1)] = 1.0,
    group_baseline: bool = False,
) -> None:
    """Put "advantages" into a rollout: sums of the rewards still to come, normalised over all tokens of the rollout."""
    lengths, rewards = rollout.lengths, torch.from_numpy(rollout.flat("rewards"))
    if group_baseline:
        sizes = [len(tree.responses) for tree in rollout.trees]
        rewards = rewards - group_mean(rewards, torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)))[0]
    each = np.zeros(int(lengths.sum()))
    if kl_coef:
        behaviour, reference = (torch.from_numpy(rollout.flat(name)) for name in ("behaviour", "reference"))
        each -= kl_coef * k1(behaviour, reference).numpy()
    ends = np.cumsum(lengths)
    each[ends[lengths > 0] - 1] += rewards.numpy()[lengths > 0]
    parts = [to_come(part, gamma) for part in np.split(each, ends[:-1])]
    rollout.put("advantages", whitened(torch.from_numpy(np.concatenate(parts))).numpy())


def to_come(rewards: np.ndarray, gamma: float) -> np.ndarray:
    """Return [T]: at each token the rewards from there on, sum_k gamma^k r_{t+k}."""
    found = np.zeros_like(rewards)
    ahead = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        ahead = rewards[t] + gamma * ahead
        found[t] = ahead
    return found


@method("reinforce++", wing="training", paper="arXiv:2501.03262", aliases=("reinforce-plus-plus",))
@learns_online(reference="kl_coef", shape=shape, samples=1)
def reinforce_plus_plus(policy: LogProbs, group: Groups, *, cliprange: Annotated[float, Field(gt=0)] = 0.2) -> Loss:
    """REINFORCE++ (Hu 2025).

    Each token of a response is rewarded with - beta (log mu(y_t) - log pi_ref(y_t)), beta being `kl_coef`, the last one
    also with r(x, y). A_t is the sum of the rewards from t on, discounted by `gamma`, less its mean over all tokens of
    the rollout and divided by their standard deviation: one baseline for all prompts, which a single response to each
    suffices for (`samples`), and which no prompt's own luck can bend. L = - min(rho A, clip(rho, 1 - e, 1 + e) A), the
    mean over the tokens of a step, rho = exp(log pi(y_t) - log mu(y_t)), mu being the distribution that y_t was drawn
    from, e `cliprange`. With `group_baseline` (the paper's variant for reasoning, several `samples`) the mean of a
    prompt's own rewards is taken off them first; its deviation is not divided by.

    policy: log-probs of R responses; group: behaviour log-probs and advantages [P]. The result is per response [R],
    weighted by its tokens.

    Options:
        cliprange: how far the ratio may leave 1 before the clip holds the gradient back
        kl_coef: what a nat away from the reference policy costs at each token; 0 needs no reference policy
        gamma: discount of rewards, a token
        group_baseline: take the mean of a prompt's rewards off each of them
    """
    _, behaviour = sampled(group)
    if group.advantages is None:
        raise ValueError("REINFORCE++ learns from advantages; give it a rollout that has them.")
    gain, held = surrogate(policy.tokens - behaviour, group.advantages, cliprange, cliprange)
    metrics = shown(policy, group, held)
    if group.reference is not None:
        metrics["kl"] = policy.total(k1(behaviour, group.reference))
    return Loss(-policy.total(gain), policy.lengths, metrics)
