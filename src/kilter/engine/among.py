"""Log-probs of a policy that is cut to some of the tokens: those that another one finds likely at the same position.

As in head.py logits exist a chunk at a time, and the way back computes them again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from kilter.engine.choose import Shaping, least
from kilter.engine.vocabulary import Heads, way_back


class Among(NamedTuple):
    """Which tokens there are at each of P positions: the top-p sets of the distributions of `heads`."""

    heads: Heads
    top_p: float


def outside(logits: Tensor, top_p: float) -> Tensor:
    """Return [N, V]: whether each token is none of the fewest likeliest whose probabilities together reach `top_p`.

    logits [N, V]. The likeliest token is never outside; what is as likely as the last that is in is in.
    """
    if top_p >= 1:
        return torch.zeros_like(logits, dtype=torch.bool)
    return logits < least(logits, Shaping(top_p=top_p))


def log_probs_among(policy: Heads, among: Among, targets: Tensor) -> Tensor:
    """Return [P]: the log-prob of each target among the tokens that are left, with a gradient for the policy.

    log pi(y) - log sum_{u in M} pi(u); its gradient with respect to the logits is onehot(y) - pi(. | M), 0 outside M. A
    target counts as one of M: it was drawn, and sampler and trainer may round a token at its rim to different sides.
    """
    own = policy.computed()
    found: Tensor = _Among.apply(own.hidden, own.weight, own.bias, own, among, targets)
    return found


def _left(logs: Tensor, among: Among, targets: Tensor, part: slice) -> Tensor:
    """Return log-probs [C, V] of the positions in `part`, normalised over what is left, minus infinity elsewhere."""
    shut = outside(among.heads.logs(part), among.top_p).scatter_(1, targets[part, None], False)
    return logs.masked_fill(shut, -torch.inf).log_softmax(-1)


class _Among(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, policy: Heads, among: Among, targets: Tensor
    ) -> Tensor:
        found = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        held = Among(among.heads.computed(), among.top_p)
        for part in policy.parts():
            logs = _left(policy.logs(part), held, targets, part)
            found[part] = logs.gather(1, targets[part, None])[:, 0]
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.heads = policy.with_tensors(hidden, weight, bias), held
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden, weight, bias, targets = ctx.saved_tensors
        policy, among = ctx.heads

        def slope(part: slice, logs: Tensor) -> Tensor:
            found = -_left(logs, among, targets, part).exp()
            return found.scatter_add_(1, targets[part, None], found.new_ones(len(found), 1)) * grad[part, None]

        return (*way_back(policy.with_tensors(hidden, weight, bias), slope, ctx.needs_input_grad), None, None, None)
