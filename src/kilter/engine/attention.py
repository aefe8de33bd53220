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

from kilter.engine import recurring, varlen, written_out
from kilter.engine.layout import Call, Layout, Plan
from kilter.engine.precision import computed_in

NAME = "kilter"

# On a CPU attention is written out (written_out.py), but the weights that this keeps grow with the square of the
# length: beyond this many keys the fused kernel's thrift counts for more.
WRITTEN_OUT = 2048


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
    kind = computed_in(value.device, value.dtype)  # rotary embeddings leave queries and keys in fp32
    parts = [query[0], key[0], value[0]]
    if layout.front is not None or layout.cut is not None:
        layout = layout.at(module.layer_idx)  # type: ignore[arg-type]
    if layout.front is not None and layout.ahead:
        first = layout.front[module.layer_idx]  # type: ignore[index]
        parts[1:] = [torch.cat((new.to(old.dtype), old), dim=1) for new, old in zip(first, parts[1:], strict=True)]
    flat = [x.transpose(0, 1).to(kind) for x in parts]
    if softcap is None and s_aux is None and varlen.suited(flat[0], flat[1]):
        found = varlen.attend(flat[0], flat[1], flat[2], layout.ranges(query.device), scale, sliding_window)
        return found[None], None
    plan = layout.plan(query.device, recurring.grain(recurring.RUN, query.device, kind))
    if query.device.type != "cpu" or softcap is not None or s_aux is not None:
        return _by_call(flat, plan, scale, sliding_window, softcap, s_aux)[None], None
    short, long = plan.parted(WRITTEN_OUT)
    results = [written_out.attend(flat[0], flat[1], flat[2], short, scale, sliding_window)] if short.calls else []
    if long.calls:
        results.append(_by_call(flat, long, scale, sliding_window))
    return sum(results[1:], results[0])[None], None


def _by_call(
    flat: list[Tensor],
    plan: Plan,
    scale: float,
    window: int | None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Return [T, H, D] for queries [T, H, D], keys and values, call by call; 0 for tokens in none of the calls."""
    results = []
    for call in plan.calls:
        q, k, v = (_rows(x, i, call.rows) for x, i in zip(flat, (call.queries, call.keys, call.keys), strict=True))
        results.append(_attend(q, k, v, call, scale, window, softcap, sinks).to(flat[2].dtype).flatten(0, 1))
    if plan.order is None:
        return results[0]
    return _take(torch.cat([*results, torch.zeros_like(results[0][:1])]), plan.order)


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


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """The mask for calls without a layout. With one, the model is given a ready mask that stands for nothing."""
    return sdpa_mask(*args, **kwargs)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _mask)
