"""The head: log-probs of the scored tokens only, in chunks; [T, V] logits never exist.

A chunk of hidden states becomes logits, log-softmax and the log-prob of its target while it is in the cache. The way
back needs the softmax again: it is kept (in the computing precision) while it is small, else computed anew. Of a large
vocabulary a chunk is a tile (tiles.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kilter.engine import recurring
from kilter.engine.precision import computed_in
from kilter.engine.tiles import Tiled, suited

# Logits of a chunk, in elements: 4 MB of fp32, which a CPU's cache holds. A GPU wants larger ones.
CHUNK = {"cpu": 2**20, "cuda": 2**27}
# The softmax is kept for the way back up to so many bytes.
KEEP = {"cpu": 2**28, "cuda": 2**30}

# What log-probs of other origin have not, such as a reference's that were kept.
BESIDE: dict[str, Any] = dict.fromkeys(("entropy", "values", "rivals", "divergence"))


@dataclass(slots=True)
class LogProbs:
    """Log-probs of the P scored tokens of R responses, in nats.

    tokens [P], fp32; owner [P], the response of each; lengths [R], scored tokens of each; entropy [P] where asked for;
    values [P] where a critic learns along: what it expects before each of the tokens; rivals [P] and divergence [P]
    where an objective asks for them (asks.py).
    """

    tokens: Tensor
    owner: Tensor
    lengths: Tensor
    entropy: Tensor | None = None
    values: Tensor | None = None
    rivals: Tensor | None = None
    divergence: Tensor | None = None

    def total(self, numbers: Tensor) -> Tensor:
        """Return [R]: `numbers` [P], one a scored token, summed over each response (0 for one without)."""
        return numbers.new_zeros(len(self.lengths)).index_add(0, self.owner, numbers)

    def sum(self) -> Tensor:
        """Return [R]: log-probs of whole responses (0 for one without scored tokens)."""
        return self.total(self.tokens)

    def mean(self) -> Tensor:
        """Return [R]: mean log-prob per scored token of each response (0 for one without)."""
        return self.sum() / self.lengths.clamp(min=1)

    def with_tokens(self, tokens: Tensor) -> LogProbs:
        """Return the same layout with other log-probs [P], such as a reference's."""
        return replace(self, tokens=tokens.to(self.tokens.device), **BESIDE)


def log_probs(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return log softmax(z / temperature) of each target [P] and the entropy [P] (or None).

    z = softcap(scale (W h + b)), softcap(z) = c tanh(z / c). hidden [P, H], weight [V, H], bias [V] or None,
    targets [P]. Results are fp32.
    """
    hidden = hidden.to(computed_in(hidden.device, hidden.dtype))
    if softcap is None:
        scale, temperature = scale / temperature, 1.0
    count = len(hidden)
    if extra := recurring.lacking(count, recurring.grain(recurring.ROW, hidden.device, hidden.dtype)):
        hidden, targets = F.pad(hidden, (0, 0, 0, extra)), F.pad(targets, (0, extra))
    way = Tiled if by_tiles(weight) else _Head
    found, spread = way.apply(hidden, weight, bias, targets, scale, softcap, temperature, entropy)
    return found[:count], spread[:count] if entropy else None


def by_tiles(weight: Tensor) -> bool:
    """Whether the vocabulary of `weight` [V, H] is so large for its device that the head goes by tiles."""
    return suited(CHUNK.get(weight.device.type, 2**24) // len(weight), weight.device.type)


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        scale: float,
        softcap: float | None,
        temperature: float,
        entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        count, vocabulary = len(hidden), len(weight)
        own, own_bias = _as(hidden, weight), _as(hidden, bias)
        found = torch.empty(count, dtype=torch.float32, device=hidden.device)
        spread = torch.empty(count if entropy else 0, dtype=torch.float32, device=hidden.device)
        size = count * vocabulary * hidden.element_size()
        plain = scale == 1.0 and softcap is None and not entropy
        wanted = any(ctx.needs_input_grad) and plain and size <= KEEP.get(hidden.device.type, 2**28)
        kept = hidden.new_empty((count, vocabulary)) if wanted else None
        for part in chunks(count, vocabulary, hidden.device.type):
            logs, _ = chunk_log_softmax(hidden[part], own, own_bias, scale, softcap, temperature)
            found[part] = logs.gather(1, targets[part, None])[:, 0]
            if kept is not None:
                # What the slope is a multiple of, written down once in the precision of the products on the way back.
                torch.exp(logs, out=logs)
                kept[part] = logs.scatter_add_(1, targets[part, None], logs.new_full((len(logs), 1), -1.0))
            elif entropy:
                spread[part] = -(logs.exp() * logs).sum(-1)
        ctx.save_for_backward(hidden, weight, bias, targets, kept, spread)
        ctx.options = (scale, softcap, temperature, entropy)
        return found, spread

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_spread: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden, weight, bias, targets, kept, spread = ctx.saved_tensors
        scale, softcap, temperature, entropy = ctx.options
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        wants_bias = wants_bias and bias is not None
        own, own_bias = _as(hidden, weight), _as(hidden, bias)
        if kept is not None:
            # It becomes the slope in place; a second way back through this graph is refused by autograd.
            kept.mul_(-grad[:, None].to(kept.dtype))
            grad_hidden = kept @ own if wants_hidden else None
            grad_weight = (kept.T @ hidden).to(weight.dtype) if wants_weight else None
            grad_bias = kept.sum(0, dtype=torch.float32).to(bias.dtype) if wants_bias else None
            return grad_hidden, grad_weight, grad_bias, *([None] * 5)

        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        total = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        total_bias = torch.zeros_like(bias, dtype=torch.float32) if wants_bias else None
        for part in chunks(len(hidden), len(weight), hidden.device.type):
            logs, bent = chunk_log_softmax(hidden[part], own, own_bias, scale, softcap, temperature)
            g, soft = grad[part, None], logs.exp()
            slope = soft * -g
            if entropy:
                slope -= grad_spread[part, None] * soft * (logs + spread[part, None])
            slope.scatter_add_(1, targets[part, None], g)
            if bent is not None and softcap is not None:
                slope *= 1 - (bent / softcap) ** 2
            slope = slope.mul_(scale / temperature).to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = slope @ own
            if total is not None:
                total += slope.T @ hidden[part]
            if total_bias is not None:
                total_bias += slope.sum(0, dtype=torch.float32)
        grad_weight = None if total is None else total.to(weight.dtype)
        return grad_hidden, grad_weight, None if total_bias is None else total_bias.to(bias.dtype), *([None] * 5)


def _as(hidden: Tensor, weight: Any) -> Any:
    """Return the head's weights in the precision that is computed in.

    They are made for each way anew: between the two, a copy of a large vocabulary would be kept with all activations.
    """
    return None if weight is None else weight.to(hidden.dtype)


def chunks(count: int, vocabulary: int, device: str) -> list[slice]:
    """Return `count` positions cut so that the logits of each part stay in the cache of a device of that type."""
    size = max(1, CHUNK.get(device, 2**24) // vocabulary)
    return [slice(start, min(count, start + size)) for start in range(0, count, size)]


def chunk_log_softmax(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, softcap: float | None, temperature: float
) -> tuple[Tensor, Tensor | None]:
    """Return fp32 log-softmax [C, V] and, under a softcap, the capped logits."""
    logits = F.linear(hidden, weight, bias)
    if scale != 1.0 or softcap is not None:
        logits = logits.float() * scale
    if softcap is None:
        return F.log_softmax(logits, dim=-1, dtype=torch.float32), None
    bent = torch.tanh(logits / softcap) * softcap
    return F.log_softmax(bent / temperature, dim=-1, dtype=torch.float32), bent
