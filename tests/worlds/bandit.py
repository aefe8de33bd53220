"""W1, the tabular bandit: K actions with known rewards, a reference policy, a policy of K logits.

Everything about it has a closed form: what KL-regularised reward is maximised by, and how much it is then.
"""

import torch

from kilter.engine import Groups, LogProbs


def as_responses(tokens, lengths=None):
    """Return [P] log-probs as LogProbs of responses of the given lengths; without any, of one token each."""
    sizes = torch.tensor([1] * len(tokens) if lengths is None else lengths)
    return LogProbs(tokens, torch.arange(len(sizes)).repeat_interleave(sizes), sizes)


def as_groups(scores=None, *, pairs=(), labels=None, group_of=None, responses=None):
    """Return what is known of responses: `scores` and `labels` [R], `pairs` of rows, `group_of` (else one group)."""
    known = scores if scores is not None else labels
    count = responses or (len(known) if known is not None else 1 + max(map(max, pairs)))
    return Groups(
        pairs=torch.tensor(pairs, dtype=torch.long).reshape(-1, 2),
        group_of=torch.zeros(count, dtype=torch.long) if group_of is None else torch.tensor(group_of),
        scores=None if scores is None else torch.as_tensor(scores),
        labels=None if labels is None else torch.as_tensor(labels),
    )


def mean(loss):
    """Return a step's loss from what an objective returned."""
    return loss.per_example.sum() / loss.weight.sum()


class Bandit:
    """K actions in double precision. `reward` [K]; `held` [K], log-probs of the reference policy."""

    def __init__(self, actions=5, seed=0):
        draw = torch.Generator().manual_seed(seed)
        self.reward = torch.randn(actions, generator=draw, dtype=torch.float64)
        self.held = torch.log_softmax(torch.randn(actions, generator=draw, dtype=torch.float64), 0)

    def __len__(self):
        return len(self.reward)

    @property
    def reference(self):
        """The reference policy's log-probs, every action a response of one token."""
        return as_responses(self.held)

    @property
    def pairs(self):
        """Every (i, j) with i != j."""
        return [(i, j) for i in range(len(self)) for j in range(len(self)) if i != j]

    def chance(self, tau=1.0):
        """Return [pairs]: the probability that i is preferred to j, by Bradley and Terry at temperature `tau`."""
        left, right = torch.tensor(self.pairs).T
        return torch.sigmoid((self.reward[left] - self.reward[right]) / tau)

    def best(self, beta):
        """Return the policy [K] that maximises E[r] - beta KL(pi || pi_ref): pi_ref exp(r / beta) / Z."""
        return torch.softmax(self.held + self.reward / beta, 0)

    def value(self, policy, beta):
        """Return E[r] - beta KL(pi || pi_ref) of a policy [K] of probabilities."""
        return policy @ self.reward - beta * self.kl(policy)

    def best_value(self, beta):
        """Return what no policy can exceed: beta log Z."""
        return beta * torch.logsumexp(self.held + self.reward / beta, 0)

    def kl(self, policy):
        """Return KL(pi || pi_ref) in nats of a policy [K] of probabilities."""
        return (torch.special.xlogy(policy, policy) - policy * self.held).sum()

    def optimum(self, loss_of, start=None):
        """Return the policy [K] at which `loss_of(log-probs [K])` is least, found by L-BFGS on its logits."""
        logits = (self.held if start is None else start).clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
        )

        def closure():
            optimizer.zero_grad()
            loss = loss_of(torch.log_softmax(logits, 0))
            loss.backward()
            return loss

        optimizer.step(closure)
        return torch.softmax(logits.detach(), 0)
