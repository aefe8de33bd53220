"""The head for large vocabularies on a CPU: logits exist a tile at a time, some positions by some of the vocabulary.

Whole rows of logits (head.py) hold so few positions, where the vocabulary is large, that the weights' gradient would be
read and written for a handful of them at a time. Tiles let a thousand go by. What the way back needs of the softmax is
one number a position, its logsumexp: logits are made again, tile by tile, and neither they nor a second copy of the
weights is ever whole. The log-sum of exponentials of parts is summed as in online softmax (Milakov & Gimelshein 2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 1024  # positions and words of a tile: 4 MB of fp32, which a CPU's cache holds
LEAST = 64  # positions that whole rows should hold; with fewer, tiles are faster
# Weights whose gradient is added to what they have, so that autograd hears of none (thrift.py), by their identity.
gathered: set[int] = set()


def suited(rows: int, device: str) -> bool:
    """Whether tiles are the better way where a chunk of whole rows has so many."""
    return device == "cpu" and rows < LEAST


class Tiled(torch.autograd.Function):
    """As head._Head: log-probs of the targets [P] and entropies [P] (or empty); see there for the arguments."""

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
        ctx.options = scale, softcap, temperature
        total = torch.empty(len(hidden), device=hidden.device)
        found, spread = torch.empty_like(total), torch.empty_like(total) if entropy else total[:0]
        for part in parts(len(hidden)):
            own = hidden[part]
            log_sum = torch.full((len(own),), -torch.inf, device=hidden.device)
            mean = torch.zeros_like(log_sum)  # of the logits, under the softmax of what was seen so far
            for words in parts(len(weight)):
                logits, _ = _logits(own, weight, bias, words, *ctx.options)
                rows, columns = _within(targets[part], words)
                found[part][rows] = logits[rows, columns]
                here = logits.logsumexp(-1)
                both = torch.logaddexp(log_sum, here)
                if entropy:
                    inside = (torch.exp(logits - here[:, None]) * logits).sum(-1)
                    mean = mean * torch.exp(log_sum - both) + inside * torch.exp(here - both)
                log_sum = both
            total[part] = log_sum
            found[part] -= log_sum
            if entropy:
                spread[part] = log_sum - mean
        ctx.save_for_backward(hidden, weight, bias, targets, total, spread)
        return found, spread

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_spread: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden, weight, bias, targets, total, spread = ctx.saved_tensors
        scale, softcap, temperature = ctx.options
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.zeros(hidden.shape, device=hidden.device) if wants_hidden else None
        gathers = id(weight) in gathered
        if gathers and weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        sums = weight.grad if gathers else torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if wants_bias and bias is not None else None
        for part in parts(len(hidden)):
            own, g = hidden[part], grad[part, None]
            for words in parts(len(weight)):
                logits, bent = _logits(own, weight, bias, words, *ctx.options)
                logs = logits.sub_(total[part, None])
                slope = torch.exp(logs)
                if len(spread):
                    slope *= -g - grad_spread[part, None] * (logs + spread[part, None])
                else:
                    slope *= -g
                rows, columns = _within(targets[part], words)
                slope[rows, columns] += grad[part][rows]
                if bent is not None and softcap is not None:
                    slope *= 1 - (bent / softcap) ** 2
                slope = slope.mul_(scale / temperature).to(hidden.dtype)
                if grad_hidden is not None:
                    grad_hidden[part] += slope @ weight[words].to(hidden.dtype)
                if sums is not None:
                    sums[words] += slope.T @ own
                if grad_bias is not None:
                    grad_bias[words] += slope.sum(0, dtype=torch.float32)
        return (
            None if grad_hidden is None else grad_hidden.to(hidden.dtype),
            None if gathers or sums is None else sums.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            *([None] * 5),
        )


def parts(count: int) -> Iterator[slice]:
    """Yield the parts of `count` positions or words that a tile spans."""
    return (slice(start, min(count, start + SIDE)) for start in range(0, count, SIDE))


def _logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, words: slice, scale: float, softcap: float | None, heat: float
) -> tuple[Tensor, Tensor | None]:
    """Return logits [C, W] of some words, fp32, over the temperature, and under a softcap the capped ones."""
    kind = hidden.dtype
    made = F.linear(hidden, weight[words].to(kind), None if bias is None else bias[words].to(kind)).float() * scale
    if softcap is None:
        return made / heat, None
    bent = torch.tanh(made / softcap) * softcap
    return bent / heat, bent


def _within(targets: Tensor, words: slice) -> tuple[Tensor, Tensor]:
    """Return the places [N] of the targets that are among `words`, and which of them [N] they are."""
    rows = ((targets >= words.start) & (targets < words.stop)).nonzero()[:, 0]
    return rows, targets[rows] - words.start
