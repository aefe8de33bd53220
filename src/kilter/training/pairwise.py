"""What the objectives over pairs share: rows of the better and the worse response, and what is logged of them."""

from __future__ import annotations

from torch import Tensor

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs


def of_pairs(numbers: Tensor, group: Groups) -> tuple[Tensor, Tensor]:
    """Return `numbers` [R], one a response, of the better [N] and of the worse response [N] of every pair."""
    return numbers[group.pairs[:, 0]], numbers[group.pairs[:, 1]]


def log_ratio(policy: LogProbs, reference: LogProbs) -> Tensor:
    """Return [R]: log pi(y|x) - log pi_ref(y|x), sums over the scored tokens of y, in nats."""
    return policy.sum() - reference.sum()


def shown(
    better: Tensor, worse: Tensor, policy: LogProbs | None = None, reference: LogProbs | None = None
) -> dict[str, Tensor]:
    """Return the metrics of rewards [N] of better and worse responses; with both policies, kl of each response [R].

    kl is log pi_ref - log pi, which estimates KL(pi_ref || pi) where the reference policy wrote the responses.
    """
    margin = (better - worse).detach()
    told = {
        "reward_margin": margin,
        "accuracy": (margin > 0).float(),
        "chosen_reward": better.detach(),
        "rejected_reward": worse.detach(),
    }
    if policy is not None and reference is not None:
        told["kl"] = -log_ratio(policy, reference).detach()
    return told
