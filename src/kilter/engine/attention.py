"""Attention over a ragged batch, as the one function "kilter" that transformers calls for any architecture.

`transformers.AttentionInterface` hands over queries, keys and values of one flat row [1, H, T, D] with the model's own
arguments (scaling, softcap, sliding_window, s_aux), and whatever keyword the model's forward was given: `layout` says
who sees whom. Without a layout the function is transformers' own, so a model left on "kilter" still generates.
A model is put on it by `model.set_attn_implementation("kilter")` (scorer.py does).
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from kilter.engine.layout import Call, Layout

NAME = "kilter"

# On a CPU, written-out attention beats torch's fused kernel up to about this many keys (bf16, heads of 32: 7 times at
# 40 keys, 5 at 96, 1.8 at 256); beyond, the scores no longer fit in a cache and the fused kernel wins.
WRITTEN_OUT = 320


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Return [1, T, H, D] for query [1, H, T, D], key and value [1, Hkv, T, D]. Dropout is not applied."""
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if layout is None:
        if softcap is None and s_aux is None:
            return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **rest)
        if attention_mask is None:
            attention_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device)
            attention_mask = attention_mask.tril(key.shape[-2] - query.shape[-2])
        return _any(query, key, value, attention_mask, scale, softcap, s_aux).transpose(1, 2).contiguous(), None

    if layout.watch is not None:
        layout.watch.append(sliding_window)
    plan = layout.plan(query.device)
    kind = _compute_dtype(value)
    flat = [x[0].transpose(0, 1).to(kind) for x in (query, key, value)]
    results = []
    for call in plan.calls:
        q, k, v = (_rows(x, i, call.rows) for x, i in zip(flat, (call.queries, call.keys, call.keys), strict=True))
        results.append(_attend(q, k, v, call, scale, sliding_window, softcap, s_aux).to(query.dtype).flatten(0, 1))
    joined = results[0] if len(results) == 1 else torch.cat(results)
    return (joined if plan.order is None else _take(joined, plan.order))[None], None


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
            return _WrittenOut.apply(q, k, v, call.bias(window), scale)
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

    Short rows of thin heads keep a CPU's matrix units busy so, where the fused kernel does not.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
        """Return [n, Lq, H, D] for q [n, H, Lq, D], k and v [n, Hkv, Lk, D], bias [1 or n, Lq, Lk] in fp32."""
        n, heads, queries, width = q.shape
        groups, keys = k.shape[1], k.shape[2]
        share = heads // groups
        q3 = q.reshape(n * groups, share * queries, width)
        k3, v3 = (x.reshape(n * groups, keys, width) for x in (k, v))
        scores = torch.bmm(q3, k3.transpose(1, 2)).float().mul_(scale)
        scores.view(n, heads, queries, keys).add_(bias[:, None])
        weights = torch.softmax(scores, dim=-1).to(q.dtype)
        out = torch.bmm(weights, v3)
        ctx.save_for_backward(q3, k3, v3, weights, out)
        ctx.scale, ctx.shape = scale, (n, heads, groups)
        return out.view(n, heads, queries, width).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q3, k3, v3, weights, out = ctx.saved_tensors
        n, heads, groups = ctx.shape
        g3 = grad.transpose(1, 2).reshape(out.shape).to(out.dtype)
        grad_v = torch.bmm(weights.transpose(1, 2), g3)
        # d softmax: w * (dw - sum(w dw)), and the sum is out . grad
        inner = (g3 * out).sum(-1, keepdim=True)
        scores = torch.bmm(g3, v3.transpose(1, 2)).sub_(inner).mul_(weights).mul_(ctx.scale)
        grad_q = torch.bmm(scores, k3)
        grad_k = torch.bmm(scores.transpose(1, 2), q3)
        return (
            grad_q.view(n, heads, -1, grad_q.shape[-1]),
            grad_k.view(n, groups, -1, grad_k.shape[-1]),
            grad_v.view(n, groups, -1, grad_v.shape[-1]),
            None,
            None,
        )


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """The mask for calls without a layout. With one, the model is given a ready mask that stands for nothing."""
    return sdpa_mask(*args, **kwargs)


def keep_memory() -> bool:
    """Let glibc keep freed tensors for the next ones instead of giving them back to the kernel. False: not glibc.

    Fresh pages for every activation cost up to half of a CPU step (page faults).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    trim_threshold, mmap_threshold = -1, -3
    return bool(mallopt(mmap_threshold, 2**30) and mallopt(trim_threshold, 2**31 - 1))


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _mask)
