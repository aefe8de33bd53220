"""What the policy-gradient methods share: baselines within a group, ratios and their clipping, estimates of the KL.

Everything is a pure function of tensors. R responses stand in groups of one prompt each, P scored tokens in responses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs

# What is added to a group's standard deviation, as TRL does: responses that are all rewarded alike teach nothing.
FLOOR = 1e-4


def group_mean(numbers: Tensor, group_of: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each of R responses, the mean of `numbers` [R] over its group, and the size of the group."""
    # There are no more groups than responses; asking how many there are would wait for the device.
    empty = numbers.new_zeros(len(numbers))
    size = empty.index_add(0, group_of, torch.ones_like(numbers))
    mean = empty.index_add(0, group_of, numbers) / size.clamp(min=1)
    return mean[group_of], size[group_of]


def normalised(rewards: Tensor, group_of: Tensor, *, scaled: bool = True) -> Tensor:
    """Return [R]: (r - mean) / std over each response's group, the standard deviation with n - 1; else r - mean.

    A response that is alone in its group has nothing to be compared with: its advantage is 0.
    """
    mean, size = group_mean(rewards, group_of)
    away = rewards - mean
    if not scaled:
        return away
    square, _ = group_mean(away**2, group_of)
    return away / ((square * size / (size - 1).clamp(min=1)).sqrt() + FLOOR)


def leave_one_out(rewards: Tensor, group_of: Tensor) -> Tensor:
    """Return [R]: r_i less the mean of the other rewards of its group; 0 for a response that is alone."""
    mean, size = group_mean(rewards, group_of)
    return (rewards - mean) * size / (size - 1).clamp(min=1)


def surrogate(log_ratio: Tensor, advantages: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Return PPO's clipped objective, to be raised, and where the clip holds the gradient back (1 or 0).

    min(rho A, clip(rho, 1 - low, 1 + high) A), rho = exp(log_ratio); all of one shape (Schulman et al. 2017, eq. 7).
    """
    ratio = log_ratio.exp()
    bounded = ratio.clamp(1 - low, 1 + high)
    found = torch.minimum(ratio * advantages, bounded * advantages)
    held = ((ratio > 1 + high) & (advantages > 0)) | ((ratio < 1 - low) & (advantages < 0))
    return found, held.detach().float()


def k1(policy: Tensor, reference: Tensor) -> Tensor:
    """Return log pi - log pi_ref: the KL divergence on average over samples from pi; may be negative."""
    return policy - reference


def k3(policy: Tensor, reference: Tensor) -> Tensor:
    """Return pi_ref / pi - log(pi_ref / pi) - 1: the same on average, never negative (Schulman 2020)."""
    log_ratio = reference - policy
    return log_ratio.exp() - log_ratio - 1


def shown(policy: LogProbs, group: Groups, held: Tensor) -> dict[str, Tensor]:
    """Return the metrics of every online method: reward, length, cut, clip_fraction; entropy where it was asked for.

    `held` says of each token (or response) whether the clip held it back.
    """
    told = {"length": policy.lengths.float(), "clip_fraction": held}
    if group.rewards is not None:
        told["reward"] = group.rewards
    if group.cut is not None:
        told["cut"] = group.cut
    if policy.entropy is not None:
        told["entropy"] = policy.entropy.detach()
    return told


def sampled(group: Groups) -> tuple[Tensor, Tensor]:
    """Return rewards [R] and behaviour log-probs [P] of responses that were sampled.

    Raises ValueError where the batch does not bring them.
    """
    if group.rewards is None or group.behaviour is None:
        raise ValueError("Responses that were sampled are due here, with rewards and the log-probs they were drawn at.")
    return group.rewards, group.behaviour


def gae(rewards: Tensor, values: Tensor, lengths: Tensor, *, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Return generalised advantage estimates [P] and the returns [P] that a critic should have said.

    rewards, values [P]: of each token, response by response; lengths [R]. With V = 0 behind a response's last token,
    d_t = r_t + gamma V_{t+1} - V_t, A_t = d_t + gamma lam A_{t+1}, G_t = A_t + V_t (Schulman et al. 2016, eq. 16).
    """
    rows, longest = len(lengths), int(lengths.max()) if len(lengths) else 0
    row = torch.arange(rows, device=lengths.device).repeat_interleave(lengths)
    column = torch.arange(len(row), device=lengths.device) - (lengths.cumsum(0) - lengths)[row]
    r, v = (numbers.new_zeros(rows, longest + 1) for numbers in (rewards, values))
    r[row, column], v[row, column] = rewards, values
    found, ahead = torch.zeros_like(v), values.new_zeros(rows)
    for t in range(longest - 1, -1, -1):
        ahead = r[:, t] + gamma * v[:, t + 1] - v[:, t] + gamma * lam * ahead
        # Behind its end a response has neither reward nor value, and so no advantage either.
        found[:, t] = ahead
    advantages = found[row, column]
    return advantages, advantages + values


def whitened(numbers: Tensor) -> Tensor:
    """Return `numbers` with mean 0 and variance 1, as far as there are several and they differ."""
    if len(numbers) < 2:
        return numbers - numbers.mean() if len(numbers) else numbers
    return (numbers - numbers.mean()) / (numbers.std() + 1e-8)
