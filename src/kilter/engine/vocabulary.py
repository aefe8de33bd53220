"""What needs the whole distribution at a position, not one log-prob: its divergence from another, a rival token.

As in head.py logits exist a chunk at a time, and the way back computes them again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kilter.engine.head import chunk_log_softmax, chunks

LARGE = 2**14  # words from which a chunk has no fewer positions than this vocabulary's


@dataclass(slots=True)
class Heads:
    """What P distributions over V tokens are made of: softmax(softcap(scale (W h + b)) / temperature).

    hidden [P, H], weight [V, H], bias [V] or None.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    scale: float = 1.0
    softcap: float | None = None
    temperature: float = 1.0

    def parts(self) -> list[slice]:
        """Return the chunks that the positions are taken in.

        However large the vocabulary, of some size: the way back reads and writes the gradient of all weights for each.
        """
        count, vocabulary = len(self.hidden), len(self.weight)
        return chunks(count, min(vocabulary, LARGE), self.hidden.device.type)

    def both(self, part: slice) -> tuple[Tensor, Tensor | None]:
        """Return the log-probs [C, V] of the positions in `part`, fp32, and under a softcap the capped logits."""
        scale = self.scale if self.softcap is not None else self.scale / self.temperature
        return chunk_log_softmax(self.hidden[part], self.weight, self.bias, scale, self.softcap, self.temperature)

    def logs(self, part: slice) -> Tensor:
        """Return the log-probs [C, V] of the positions in `part`, fp32."""
        return self.both(part)[0]

    def with_tensors(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Heads:
        """Return the same made of other tensors, without their gradients."""
        plain = None if bias is None else bias.detach()
        return replace(self, hidden=hidden.detach(), weight=weight.detach(), bias=plain)

    def computed(self) -> Heads:
        """Return the same in the precision that autocast asks for at the time."""
        device = self.hidden.device.type
        if not torch.is_autocast_enabled(device):
            return self
        kind = torch.get_autocast_dtype(device)
        bias = None if self.bias is None else self.bias.to(kind)
        return Heads(self.hidden.to(kind), self.weight.to(kind), bias, self.scale, self.softcap, self.temperature)


def divergence(reference: Heads, policy: Heads) -> Tensor:
    """Return [P]: KL(reference || policy) at each position in nats, with a gradient for the policy.

    sum_v p(v) (log p(v) - log q(v)); its gradient with respect to the policy's logits is q - p (over the temperature).
    """
    q = policy.computed()
    found: Tensor = _Divergence.apply(q.hidden, q.weight, q.bias, q, reference.computed())
    return found


@torch.no_grad()
def rivals(heads: Heads, targets: Tensor, k: int) -> Tensor:
    """Return [P]: for each position a token other than its target, drawn from softmax over the k likeliest others.

    With k = 1 it is the likeliest token, or the second where that is the target.
    """
    found = torch.empty_like(targets)
    heads = heads.computed()
    for part in heads.parts():
        logs = heads.logs(part).scatter(1, targets[part, None], -torch.inf)
        best = logs.topk(min(k, logs.shape[1] - 1), dim=1)
        drawn = torch.multinomial(best.values.softmax(dim=1), 1) if k > 1 else torch.zeros_like(targets[part, None])
        found[part] = best.indices.gather(1, drawn)[:, 0]
    return found


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, policy: Heads, reference: Heads
    ) -> Tensor:
        found = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        for part in policy.parts():
            p, q = reference.logs(part), policy.logs(part)
            found[part] = (p.exp() * (p - q)).sum(-1)
        ctx.save_for_backward(hidden, weight, bias)
        ctx.heads = policy.with_tensors(hidden, weight, bias), reference
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        policy, reference = ctx.heads

        def slope(part: slice, logs: Tensor) -> Tensor:
            return (logs.exp() - reference.logs(part).exp()) * grad[part, None]

        return (*way_back(policy.with_tensors(*ctx.saved_tensors), slope, ctx.needs_input_grad), None, None)


def way_back(
    heads: Heads, slope: Callable[[slice, Tensor], Tensor], wants: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of hidden, weight and bias, each where it is wanted.

    `slope(part, log-probs [C, V])` is the gradient [C, V] with respect to the logits of the positions in `part`, as
    they are under softcap and temperature.
    """
    hidden, weight, bias = heads.hidden, heads.weight, heads.bias
    grad_hidden, grad_weight = torch.empty_like(hidden), torch.zeros_like(weight, dtype=torch.float32)
    grad_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
    for part in heads.parts():
        logs, bent = heads.both(part)
        found = slope(part, logs)
        if bent is not None and heads.softcap is not None:
            found = found * (1 - (bent / heads.softcap) ** 2)
        found = (found * (heads.scale / heads.temperature)).to(hidden.dtype)
        grad_hidden[part] = found @ weight
        grad_weight += (found.T @ hidden[part]).float()
        if grad_bias is not None:
            grad_bias += found.float().sum(0)
    return (
        grad_hidden if wants[0] else None,
        grad_weight.to(weight.dtype) if wants[1] else None,
        grad_bias.to(bias.dtype) if bias is not None and grad_bias is not None and wants[2] else None,
    )
