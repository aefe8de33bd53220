"""Small decision processes written out: planning, soft planning, and what a plan meets on its way.

S states, A actions, d features of a state; everything in tables, as inverse reinforcement learning is told of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Mdp:
    """A process of `horizon` states: moves [S, A, S] are probabilities, start [S], features [S, d] of each state."""

    moves: Tensor
    start: Tensor
    features: Tensor
    horizon: int

    def rewards(self, weights: Tensor) -> Tensor:
        """Return [S]: what it is worth to be in each state, w . phi(s)."""
        return self.features @ weights


def soft_policy(mdp: Mdp, weights: Tensor) -> Tensor:
    """Return [horizon - 1, S, A]: log pi_t(a | s) of the maximum-entropy policy; differentiable.

    Q_t(s, a) = sum_s' P(s' | s, a) V_{t+1}(s'), V_t(s) = r(s) + log sum_a exp Q_t(s, a), V_T = r; pi = softmax Q
    (Ziebart 2010): among policies it is the one of largest entropy plus reward.
    """
    rewards = mdp.rewards(weights)
    value, found = rewards, []
    for _ in range(mdp.horizon - 1):
        ahead = mdp.moves @ value
        found.append(torch.log_softmax(ahead, -1))
        value = rewards + torch.logsumexp(ahead, -1)
    return torch.stack(found[::-1]) if found else rewards.new_zeros(0, *mdp.moves.shape[:2])


def best_policy(mdp: Mdp, rewards: Tensor) -> Tensor:
    """Return [horizon - 1, S, A]: log-probs of the policy that is best for `rewards` [S]; of equal actions each."""
    value, found = rewards, []
    for _ in range(mdp.horizon - 1):
        ahead = mdp.moves @ value
        value = rewards + ahead.amax(-1)
        best = (ahead >= ahead.amax(-1, keepdim=True) - 1e-9).to(rewards)
        found.append((best / best.sum(-1, keepdim=True)).log())
    return torch.stack(found[::-1]) if found else rewards.new_zeros(0, *mdp.moves.shape[:2])


def visits(mdp: Mdp, policy: Tensor) -> Tensor:
    """Return [horizon, S]: how likely each state is at each time under `policy` (log-probs, as above)."""
    here = [mdp.start]
    for step in policy:
        here.append(torch.einsum("s,sa,sat->t", here[-1], step.exp(), mdp.moves))
    return torch.stack(here)


def counts(mdp: Mdp, policy: Tensor) -> Tensor:
    """Return [d]: the features that a run of `policy` meets, summed over its states, on average."""
    return visits(mdp, policy).sum(0) @ mdp.features
