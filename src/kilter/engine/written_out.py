"""Attention on a CPU, written out as matrix products: all calls of a plan at once, forward and back.

Short rows of thin heads keep a CPU's matrix units busy so, where a fused kernel does not (bf16, heads of 32, forward
and back: 9 times at 40 keys, 5 at 96, 2.4 at 256 to 512, 1.8 at 1024; fp32: level up to 256, then 1.2). What moves
data is done once for all calls: rows of heads are gathered straight into the order that products want them in, results
go back the same way, and the gradients of a key, of which every run that looks at it has one, are summed in fp32 by
the kernel that embedding bags have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kilter.engine.layout import Call, Plan

# Queries of a causal call that are looked at together, so that of its keys only those up to their end are.
BLOCK = 128


def attend(query: Tensor, key: Tensor, value: Tensor, plan: Plan, scale: float, window: int | None) -> Tensor:
    """Return [T, H, D] for query [T, H, D], key and value [ahead + T, Hkv, D]; 0 for tokens in none of the calls."""
    found: Tensor = _WrittenOut.apply(query, key, value, plan, scale, window)  # type: ignore[no-untyped-call]
    return found


@dataclass(slots=True)
class Piece:
    """Some `queries` [batch, share * Lq, D] of a call and the first `seen` of its `keys` [batch, Lk, D], in buffers.

    A batch is n rows of as many heads as keys have, which `share` heads of queries look at; `rows` are the queries'
    places in the call, and `slopes` [batch, seen, D] the gradients of these keys.
    """

    call: Call
    rows: slice
    seen: int
    batch: int
    queries: slice
    keys: slice
    slopes: slice

    def of(self, buffer: Tensor, part: slice) -> Tensor:
        return buffer[part].view(self.batch, -1, buffer.shape[1])

    def seen_of(self, buffer: Tensor) -> Tensor:
        return self.of(buffer, self.keys)[:, : self.seen]


@dataclass(slots=True)
class Index:
    """Where rows of heads come from and go to, for `heads` of queries [T * heads, D] and `groups` of keys.

    `queries` [Q] and `keys` [K] are the rows that make the buffers; `padding` are places among the former that stand
    for nothing; `order` [T * heads] is each row's place there, Q for one that has none. Gradients of keys are `slopes`
    rows, of which `bags` has those of each key [(ahead + T) * groups] behind one another, from `starts` of it on.
    """

    pieces: list[Piece]
    queries: Tensor
    padding: Tensor
    order: Tensor
    keys: Tensor
    slopes: int
    bags: Tensor
    starts: Tensor


class _WrittenOut(torch.autograd.Function):
    """softmax(scale q kT + bias) v by batched matrix products, with the weights kept for the way back."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: Plan, scale: float, window: int | None) -> Tensor:
        index = index_of(plan, q.shape[1], k.shape[1])
        own, keys = _rows(q, index.queries), _rows(k, index.keys)
        values, kept = _rows(v, index.keys), []
        out = _with_nothing(len(own), v)
        for piece in index.pieces:
            bias = piece.call.bias(window, q.dtype)[:, piece.rows, : piece.seen]
            scores = _scores(piece.of(own, piece.queries), piece.seen_of(keys), bias, scale)
            weights = torch.softmax(scores, dim=-1)
            torch.bmm(weights, piece.seen_of(values), out=piece.of(out, piece.queries))
            if any(ctx.needs_input_grad):
                kept.append(weights)
        ctx.save_for_backward(own, keys, values, *kept)
        ctx.index, ctx.scale, ctx.shapes = index, scale, (q.shape, k.shape, v.shape)
        return out.index_select(0, index.order).view(*q.shape[:2], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        own, keys, values, *kept = ctx.saved_tensors
        index: Index = ctx.index
        grads = _rows(grad.to(own.dtype), index.queries).index_fill_(0, index.padding, 0)
        grad_q = _with_nothing(len(own), own)
        grad_k, grad_v = (x.new_empty(index.slopes, x.shape[1]) for x in (keys, values))
        for piece, weights in zip(index.pieces, kept, strict=True):
            g, q = (piece.of(x, piece.queries) for x in (grads, own))
            slope = torch.bmm(g, piece.seen_of(values).transpose(1, 2))
            slope = torch._softmax_backward_data(slope, weights, -1, weights.dtype)
            torch.bmm(slope, piece.seen_of(keys), out=piece.of(grad_q, piece.queries))
            torch.bmm(slope.transpose(1, 2), q, out=piece.of(grad_k, piece.slopes))
            torch.bmm(weights.transpose(1, 2), g, out=piece.of(grad_v, piece.slopes))
        found = grad_q.index_select(0, index.order).mul_(ctx.scale)
        sums = [torch.embedding_bag(x, index.bags, index.starts)[0] for x in (grad_k, grad_v)]
        sums[0].mul_(ctx.scale)
        return *(x.view(shape) for x, shape in zip((found, *sums), ctx.shapes, strict=True)), None, None, None


def _rows(x: Tensor, at: Tensor) -> Tensor:
    """Return rows [N, D] of the heads in x [T, H, D]."""
    return x.reshape(-1, x.shape[-1]).index_select(0, at)


def _with_nothing(rows: int, like: Tensor) -> Tensor:
    """Return a buffer [rows + 1, D] whose last row is 0."""
    made = like.new_empty(rows + 1, like.shape[-1])
    made[-1] = 0
    return made


def _scores(q: Tensor, k: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Return scale q kT + bias [batch, share * Lq, Lk]; k [batch, Lk, D], bias [n, Lq, Lk], one for each row or all."""
    share = q.shape[1] // bias.shape[1]
    if len(bias) == 1:
        return torch.baddbmm(bias.repeat(1, share, 1), q, k.transpose(1, 2), alpha=scale)
    rows, own, seen = bias.shape
    each = bias[:, None, None].expand(rows, len(q) // rows, share, own, seen)
    # A copy for sure: of one query and one head of keys a reshaped one would be the bias itself.
    each = each.clone(memory_format=torch.contiguous_format).view(len(q), share * own, seen)
    return each.baddbmm_(q, k.transpose(1, 2), alpha=scale)


def _blocks(queries: int, keys: int, causal: bool) -> Iterator[tuple[slice, int]]:
    """Yield blocks of queries, and how many of the keys each has to look at."""
    if not causal:
        yield slice(0, queries), keys
        return
    for start in range(0, queries, BLOCK):
        end = min(start + BLOCK, queries)
        yield slice(start, end), end


def index_of(plan: Plan, heads: int, groups: int) -> Index:
    """Return where a plan's rows come from and go to; worked out once."""
    if (heads, groups) not in plan.indices:
        plan.indices[heads, groups] = _index(plan, heads, groups)
    found: Index = plan.indices[heads, groups]
    return found


def _index(plan: Plan, heads: int, groups: int) -> Index:
    pieces: list[Piece] = []
    queries, keys, padding, seen_of, slopes_of = [], [], [], [], []
    order = np.full((plan.total, heads), -1)
    done = asked = sloped = 0
    for call in plan.calls:
        own = call.tokens if call.queries is None else call.queries.numpy()
        looked = own + plan.ahead if call.keys is None else call.keys.numpy()
        rows = looked[:, None] * groups + np.arange(groups)[:, None]  # [n, G, Lk]
        keys.append(rows.reshape(-1))
        for part, seen in _blocks(own.shape[1], looked.shape[1], call.causal):
            at = own[:, None, part] * heads + np.arange(heads)[:, None]  # [n, H, Lq]
            places = done + np.arange(at.size).reshape(at.shape)
            there = call.tokens[:, part] >= 0
            order[own[:, part][there]] = places.transpose(0, 2, 1)[there]
            padding.append(places.transpose(0, 2, 1)[~there].reshape(-1))
            queries.append(at.reshape(-1))
            first = sloped + np.arange(len(own))[:, None] * (groups * seen) + np.arange(seen)
            known = call.real[:, :seen]
            seen_of.append(looked[:, :seen][known])
            slopes_of.append(np.stack((first[known], np.full(int(known.sum()), seen))))
            size = len(own) * groups * seen
            pieces.append(
                Piece(
                    call,
                    part,
                    seen,
                    len(own) * groups,
                    slice(done, done + at.size),
                    slice(asked, asked + rows.size),
                    slice(sloped, sloped + size),
                )
            )
            done, sloped = done + at.size, sloped + size
        asked += rows.size
    order[order < 0] = done
    bags, starts = _bags(np.concatenate(seen_of), np.concatenate(slopes_of, axis=1), plan.ahead + plan.total, groups)
    return Index(
        pieces,
        torch.from_numpy(np.concatenate(queries)),
        torch.from_numpy(np.concatenate(padding)),
        torch.from_numpy(order.reshape(-1)),
        torch.from_numpy(np.concatenate(keys)),
        sloped,
        torch.from_numpy(bags),
        torch.from_numpy(starts),
    )


def _bags(tokens: np.ndarray, slopes: np.ndarray, total: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the gradients of each token's heads of keys, and where each head's begin [total * groups].

    `tokens` [E] has each gradient's token, `slopes` [2, E] the place of that of its first head, and the way to others.
    """
    by_token = np.argsort(tokens, kind="stable")
    counts = np.bincount(tokens, minlength=total)
    starts = np.concatenate(([0], counts[:-1].cumsum()))
    sorted_tokens, (first, way) = tokens[by_token], slopes[:, by_token]
    rank = np.arange(len(tokens)) - starts[sorted_tokens]
    head = np.arange(groups)
    bags = np.empty(len(tokens) * groups, dtype=np.int64)
    at = (starts[sorted_tokens] * groups + rank)[:, None] + head * counts[sorted_tokens][:, None]
    bags[at] = first[:, None] + head * way[:, None]
    return bags, (starts[:, None] * groups + head * counts[:, None]).reshape(-1)
