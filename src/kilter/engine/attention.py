"""Attention over a ragged batch, as the one function "kilter" that transformers calls for any architecture.

`transformers.AttentionInterface` hands over queries, keys and values of one flat row [1, H, T, D] with the model's own
arguments (scaling, softcap, sliding_window, s_aux), and whatever keyword the model's forward was given: `layout` says
who sees whom. Without a layout the function is transformers' own, so a model left on "kilter" still generates.
A model is put on it by `model.set_attn_implementation("kilter")` (scorer.py does).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from kilter.engine import varlen
from kilter.engine.layout import Call, Layout

NAME = "kilter"

# On a CPU, attention written out as matrix products beats torch's fused kernel, forward and back (bf16, heads of 32: 9
# times at 40 keys, 5 at 96, 2.4 at 256 to 512, 1.8 at 1024; fp32: level up to 256, then 1.2). The weights that it keeps
# grow with the square of the length: beyond this many keys the fused kernel's thrift counts for more.
WRITTEN_OUT = 2048
# Queries of a causal call that are looked at together.
BLOCK = 128


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout | None = None,
    front: Mapping[int, tuple[Tensor, Tensor]] | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Return [1, T, H, D] for query [1, H, T, D], key and value [1, Hkv, T, D]. Dropout is not applied.

    With a layout the result is in the precision that was computed in, as what comes behind it will be. Without a
    layout, n rows [n, H, T, D] as in any model; `front` then holds for layers the keys and values [Hkv, V, D]
    of places before every row.
    """
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if layout is None:
        if front is not None and module.layer_idx in front:
            first = front[module.layer_idx]  # type: ignore[index]
            key, value, attention_mask = _behind(first, query, key, value, attention_mask, sliding_window)
        if softcap is None and s_aux is None:
            return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **rest)
        if attention_mask is None:
            attention_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device)
            attention_mask = attention_mask.tril(key.shape[-2] - query.shape[-2])
        return _any(query, key, value, attention_mask, scale, softcap, s_aux).transpose(1, 2).contiguous(), None

    if layout.watch is not None:
        layout.watch.append(sliding_window)
    kind = _compute_dtype(value)
    parts = [query[0], key[0], value[0]]
    if layout.front is not None:
        layout = layout.at(module.layer_idx)  # type: ignore[arg-type]
    if layout.front is not None and layout.ahead:
        first = layout.front[module.layer_idx]  # type: ignore[index]
        parts[1:] = [torch.cat((new.to(old.dtype), old), dim=1) for new, old in zip(first, parts[1:], strict=True)]
    flat = [x.transpose(0, 1).to(kind) for x in parts]
    if softcap is None and s_aux is None and varlen.suited(flat[0], flat[1]):
        found = varlen.attend(flat[0], flat[1], flat[2], layout.ranges(query.device), scale, sliding_window)
        return found[None], None
    plan = layout.plan(query.device)
    results = []
    for call in plan.calls:
        q, k, v = (_rows(x, i, call.rows) for x, i in zip(flat, (call.queries, call.keys, call.keys), strict=True))
        results.append(_attend(q, k, v, call, scale, sliding_window, softcap, s_aux).to(kind).flatten(0, 1))
    joined = results[0] if len(results) == 1 else torch.cat(results)
    return (joined if plan.order is None else _take(joined, plan.order))[None], None


def _behind(
    first: tuple[Tensor, Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    window: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return keys and values [n, Hkv, V + Lk, D] behind V places that come `first`, and a mask [n, 1, Lq, V + Lk]."""
    rows, length, seen, ahead = len(query), query.shape[-2], key.shape[-2], first[0].shape[1]
    if mask is None:
        mask = torch.ones(1, 1, length, seen, dtype=torch.bool, device=query.device).tril(seen - length)
    queries, places = (torch.arange(n, device=query.device) for n in (length, ahead))
    behind = (seen - length + queries)[:, None] + ahead - places
    sees = torch.ones_like(behind, dtype=torch.bool) if window is None else behind < window
    if mask.dtype != torch.bool:
        sees = torch.zeros(sees.shape, dtype=mask.dtype, device=mask.device).masked_fill_(~sees, -torch.inf)
    mask = torch.cat((sees.expand(*mask.shape[:2], -1, -1), mask[..., :seen]), dim=-1)
    keys, values = (new.to(old.dtype).expand(rows, -1, -1, -1) for new, old in zip(first, (key, value), strict=True))
    return torch.cat((keys, key), dim=2), torch.cat((values, value), dim=2), mask


def _compute_dtype(value: Tensor) -> torch.dtype:
    """Autocast does not reach into a custom function, and rotary embeddings leave queries and keys in fp32."""
    device = value.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype


def _take(rows: Tensor, order: Tensor) -> Tensor:
    return rows.flatten(1).index_select(0, order).unflatten(1, rows.shape[1:])


def _rows(flat: Tensor, index: Tensor | None, rows: int) -> Tensor:
    """Return [n, H, L, D] of a flat [T, H, D]."""
    picked = flat if index is None else _take(flat, index.reshape(-1))
    return picked.unflatten(0, (rows, -1)).transpose(1, 2)


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    call: Call,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Return [n, Lq, H, D] for q [n, H, Lq, D], k and v [n, Hkv, Lk, D]."""
    if window is not None and window >= k.shape[2]:
        window = None
    if softcap is not None or sinks is not None:
        return _any(q, k, v, call.mask(window)[:, None], scale, softcap, sinks).transpose(1, 2)
    plain = call.causal and window is None
    if q.device.type == "cpu":
        if k.shape[2] <= WRITTEN_OUT:
            return _WrittenOut.apply(q, k, v, call.bias(window, q.dtype), scale, call.causal)
        # The fused CPU kernel is slower in bf16 than in fp32.
        q, k, v = q.float(), k.float(), v.float()
    with torch.autocast(q.device.type, enabled=False):
        out = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if plain else call.mask(window)[:, None],
            is_causal=plain,
            scale=scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )
    return out.transpose(1, 2)


def _any(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, softcap: float | None, sinks: Tensor | None
) -> Tensor:
    """Attention with everything, in the order of Gemma 2 and GPT-OSS: scale, softcap, mask, sinks.

    q [n, H, Lq, D], k and v [n, Hkv, Lk, D], mask bool or additive, broadcast to [n, H, Lq, Lk], sinks [H]: one more
    logit a head that takes weight and gives nothing. Softmax in fp32. Returns [n, H, Lq, D].
    """
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = (q @ k.transpose(-1, -2)).float() * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    if sinks is not None:
        column = sinks.float().reshape(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
        weights = torch.softmax(torch.cat((scores, column), dim=-1), dim=-1)[..., :-1]
    else:
        weights = torch.softmax(scores, dim=-1)
    return weights.to(v.dtype) @ v


class _WrittenOut(torch.autograd.Function):
    """softmax(scale q kT + bias) v by batched matrix products, with the weights kept for the way back.

    Short rows of thin heads keep a CPU's matrix units busy so, where the fused kernel does not. Causal calls go by
    blocks of queries, so that of the keys only those up to the block's end are looked at.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float, causal: bool) -> Tensor:
        """Return [n, Lq, H, D] for q [n, H, Lq, D], k and v [n, Hkv, Lk, D], bias [1 or n, Lq, Lk].

        `causal` says that keys behind a query's own place are hidden anyway, and so need not be computed.
        """
        n, heads, queries, width = q.shape
        groups = k.shape[1]
        q4 = q.reshape(n * groups, heads // groups, queries, width)
        k3, v3 = (x.reshape(n * groups, -1, width) for x in (k, v))
        kept, results = [], []
        for rows, seen in _blocks(queries, k3.shape[1], causal):
            scores = _scores(q4[:, :, rows].flatten(1, 2), k3[:, seen], bias[:, rows, seen], scale, n)
            kept.append(torch.softmax(scores, dim=-1))
            results.append(torch.bmm(kept[-1], v3[:, seen]).unflatten(1, (heads // groups, -1)))
        ctx.save_for_backward(q4, k3, v3, *kept)
        ctx.scale, ctx.causal, ctx.shape = scale, causal, (n, heads, groups)
        out = results[0] if len(results) == 1 else torch.cat(results, dim=2)
        return out.view(n, heads, queries, width).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q4, k3, v3, *kept = ctx.saved_tensors
        n, heads, groups = ctx.shape
        blocks = _blocks(q4.shape[2], k3.shape[1], ctx.causal)
        g4 = grad.transpose(1, 2).reshape(q4.shape).to(q4.dtype)
        # Blocks add up in fp32; a single one needs no such sum.
        kind = torch.float32 if len(blocks) > 1 else q4.dtype
        grad_k, grad_v = torch.zeros_like(k3, dtype=kind), torch.zeros_like(v3, dtype=kind)
        grads_q = []
        for (rows, seen), weights in zip(blocks, kept, strict=True):
            g, q, keys = g4[:, :, rows].flatten(1, 2), q4[:, :, rows].flatten(1, 2), k3[:, seen]
            slope = torch.bmm(g, v3[:, seen].transpose(1, 2))
            slope = torch._softmax_backward_data(slope, weights, -1, weights.dtype)
            grads_q.append((torch.bmm(slope, keys) * ctx.scale).unflatten(1, (heads // groups, -1)))
            grad_k[:, seen] += torch.bmm(slope.transpose(1, 2), q)
            grad_v[:, seen] += torch.bmm(weights.transpose(1, 2), g)
        grad_q = grads_q[0] if len(grads_q) == 1 else torch.cat(grads_q, dim=2)
        return (
            grad_q.view(n, heads, -1, grad_q.shape[-1]),
            (grad_k * ctx.scale).to(k3.dtype).view(n, groups, -1, k3.shape[-1]),
            grad_v.to(v3.dtype).view(n, groups, -1, v3.shape[-1]),
            None,
            None,
            None,
        )


def _blocks(queries: int, keys: int, causal: bool) -> list[tuple[slice, slice]]:
    """Return blocks of queries, and the keys that each has to look at."""
    if not causal:
        return [(slice(0, queries), slice(0, keys))]
    return [(slice(i, min(i + BLOCK, queries)), slice(0, min(i + BLOCK, queries))) for i in range(0, queries, BLOCK)]


def _scores(q: Tensor, k: Tensor, bias: Tensor, scale: float, rows: int) -> Tensor:
    """Return scale q kT + bias [n * G, share * Lq, Lk] for q [n * G, share * Lq, D], k [n * G, Lk, D]."""
    share = q.shape[1] // bias.shape[1]
    if len(bias) == 1:
        return torch.baddbmm(bias.repeat(1, share, 1), q, k.transpose(1, 2), alpha=scale)
    scores = torch.bmm(q, k.transpose(1, 2)).mul_(scale)
    scores.view(rows, -1, *bias.shape[1:]).add_(bias[:, None])
    return scores


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """The mask for calls without a layout. With one, the model is given a ready mask that stands for nothing."""
    return sdpa_mask(*args, **kwargs)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _mask)
