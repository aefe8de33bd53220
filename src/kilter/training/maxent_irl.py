"""Maximum-entropy inverse reinforcement learning: the reward under which what was demonstrated is likeliest."""

from __future__ import annotations

import torch
from torch import Tensor

from kilter.engine.batch import Groups
from kilter.engine.loss import Loss
from kilter.engine.values import Values
from kilter.errors import KilterError
from kilter.registry import method
from kilter.training.mdp import Mdp, counts, soft_policy
from kilter.training.objective import learns_from


@method("maxent-irl", wing="training", paper="arXiv:2301.11270", survey="S1 §4.3.1", aliases=("irl",))
@learns_from("pairs", trains="judge")
def maxent_irl(values: Values, group: Groups) -> Loss:
    """Maximum-entropy inverse reinforcement learning (Ziebart et al. 2008; Zhu, Jiao and Jordan 2023, §5).

    A response is a trajectory, and a demonstrator chooses it with p(y) = exp r(x, y) / Z(x). L = - log p(y*), the mean
    over the prompts of a step; y* is the demonstrated response, the best of its group (by score, rank or label; of
    several best ones each counts alike), Z the sum over the prompt's responses. For r = w . phi the gradient is the
    mean features that p expects less the features that were demonstrated. Where the responses are all that there are it
    is the likelihood of the demonstration itself; where they are samples, of its being chosen among them. It is the
    first factor of the Plackett-Luce likelihood (`reward-listwise`), which Zhu et al. bound it by, and says nothing of
    the order among the others. What is learned is a reward model, known up to a number for each prompt.

    For processes that can be written out as tables `tabular` finds w by soft value iteration.

    values: ends [R] are r; group.scores [R] tell who is the best of each prompt. The result is per response [R], the
    prompt's weights summing to 1. The metric accuracy is the share of responses that are not the best that r puts below
    the best.
    """
    if group.scores is None:
        raise KilterError("A demonstration is due in every group: give scores, a ranking or labels, the best highest.")
    rewards = values.ends
    together = group.group_of[:, None] == group.group_of
    highest = group.scores.expand(len(rewards), -1).masked_fill(~together, -torch.inf).amax(1)
    shown = (group.scores == highest).to(rewards.dtype)
    total = rewards.expand(len(rewards), -1).masked_fill(~together, -torch.inf).logsumexp(1)
    number, size = together.to(rewards.dtype) @ shown, together.sum(1).to(rewards.dtype)
    loss = (total - rewards) * shown / number
    lead = rewards[group.pairs[:, 0]] - rewards[group.pairs[:, 1]]
    lead = lead[shown[group.pairs[:, 0]] > 0]
    metrics = {"reward_margin": lead, "accuracy": (lead > 0).float() + 0.5 * (lead == 0).float()}
    return Loss(loss, 1 / size, metrics)


def expected(mdp: Mdp, weights: Tensor) -> Tensor:
    """Return [d]: the features that the maximum-entropy policy for `weights` meets."""
    return counts(mdp, soft_policy(mdp, weights))


def log_likelihood(mdp: Mdp, weights: Tensor, states: Tensor, actions: Tensor) -> Tensor:
    """Return the mean log-prob of the demonstrated actions [N, horizon - 1] in states [N, horizon]; differentiable."""
    policy = soft_policy(mdp, weights)
    times = torch.arange(actions.shape[1], device=actions.device).expand_as(actions)
    return policy[times, states[:, :-1], actions].sum(1).mean()


def tabular(mdp: Mdp, demonstrated: Tensor, *, l2: float = 1e-9, most: int = 500) -> Tensor:
    """Return the weights [d] under which the policy meets the `demonstrated` features [d], summed over a run's states.

    The gradient of the mean log-likelihood is `demonstrated` - expected(w) where moves are certain, and by it w is
    found where they are not (maximum causal entropy). `l2` |w|^2 / 2 is taken off, which chooses among weights that say
    the same. Raises KilterError where no weights meet these features.
    """
    weights = torch.zeros_like(demonstrated, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=most, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        # log Z(w) - w . demonstrated, whose gradient is expected(w) - demonstrated.
        value = mdp.start @ start_values(mdp, weights) - weights @ demonstrated + l2 / 2 * weights @ weights
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = weights.detach()
    missed = float((expected(mdp, found) + l2 * found - demonstrated).abs().max())
    if not missed < 1e-3:
        raise KilterError(
            f"No weights make a policy meet the demonstrated features (by {missed:.2g} at best); check that they are "
            "sums over the states of runs of this horizon, and that not all runs avoid or take the same state."
        )
    return found


def start_values(mdp: Mdp, weights: Tensor) -> Tensor:
    """Return [S]: the soft value of being in each state at the start; log Z of the runs from there."""
    rewards = mdp.rewards(weights)
    value = rewards
    for _ in range(mdp.horizon - 1):
        value = rewards + torch.logsumexp(mdp.moves @ value, -1)
    return value
