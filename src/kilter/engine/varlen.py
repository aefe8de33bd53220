"""Attention of a whole ragged batch in one call, by the flash kernel that takes rows of any lengths (on a GPU).

The flat row is a sequence of runs (layout.py): each sees itself causally, and all of what stands above it. The kernel
is given, run by run, the queries as they stand and the keys of what is above, then the run's own; it lines the last
query up with the last key, so that no mask is needed and nothing is padded. Whether the kernel is there and right for
a device is not looked up but tried, once a precision and a width of heads, against attention with a mask.
"""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from kilter.engine.layout import Layout, Ranges, Segment
from kilter.errors import first_line

ROUNDING = 0.05  # how far numbers of about unit size may be apart, in half precision


def attend(query: Tensor, key: Tensor, value: Tensor, ranges: Ranges, scale: float, window: int | None) -> Tensor:
    """Return [T, H, D] for query [T, H, D], key and value [front + T, Hkv, D], all on a GPU in half precision."""
    from torch.nn.attention.varlen import varlen_attn

    found = varlen_attn(
        query.contiguous(), key.index_select(0, ranges.keys), value.index_select(0, ranges.keys),
        ranges.queries_until, ranges.keys_until, ranges.most_queries, ranges.most_keys,
        scale=scale, window_size=(-1 if window is None else window - 1, 0), enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    return found[0] if isinstance(found, tuple) else found


def suited(query: Tensor, key: Tensor) -> bool:
    """Whether the kernel computes what is asked for, right, on the device of `query` [T, H, D] and `key`."""
    if query.device.type != "cuda" or query.dtype not in (torch.bfloat16, torch.float16):
        return False
    return _tried(query.device, query.dtype, query.shape[2], query.shape[1] // key.shape[1])


@cache
def _tried(device: torch.device, dtype: torch.dtype, width: int, share: int) -> bool:
    """Compare the kernel with attention written out, forward and back, on a prompt of 9 tokens with three responses."""
    layout = Layout((Segment(0, 9, -1), Segment(9, 5, 0), Segment(14, 7, 0), Segment(21, 3, 0)), 24)
    segment = torch.tensor([0] * 9 + [1] * 5 + [2] * 7 + [3] * 3, device=device)
    place = torch.cat([torch.arange(9), *(9 + torch.arange(n) for n in (5, 7, 3))]).to(device)
    behind = place[:, None] - place
    sees = (behind >= 0) & ((segment == 0) | (segment == segment[:, None]))
    noise = torch.Generator(device).manual_seed(0)
    given = [torch.randn(24, heads, width, device=device, generator=noise) for heads in (2 * share, 2, 2)]
    scale, worst = width**-0.5, 0.0
    try:
        with torch.enable_grad(), torch.autocast(device.type, enabled=False):
            for window in (None, 4):
                own, other = ([x.to(dtype).requires_grad_() for x in given] for _ in range(2))
                found = attend(own[0], own[1], own[2], layout.ranges(device), scale, window)
                mask = sees if window is None else sees & (behind < window)
                expected = written_out(other[0], other[1], other[2], mask, scale)
                slopes = [
                    torch.autograd.grad(y.float().square().sum(), x) for y, x in ((found, own), (expected, other))
                ]
                pairs = [(found, expected), *zip(*slopes, strict=True)]
                worst = max([worst, *(float((a - b).abs().max() / b.abs().max().clamp_min(1)) for a, b in pairs)])
    except (ImportError, RuntimeError, ValueError) as error:
        warnings.warn(f"Attention goes call by call, which is slower: {first_line(error)}.", stacklevel=2)
        return False
    if worst > ROUNDING:
        warnings.warn(f"Attention goes call by call, which is slower: the kernel is off by {worst:.2g}.", stacklevel=2)
    return worst <= ROUNDING


def written_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Return [T, H, D] of torch's own attention with a mask [T, Tk], in fp32: what others have to come to."""
    q, k, v = (x.float().transpose(0, 1)[None] for x in (query, key, value))
    found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)
    return found[0].transpose(0, 1)
