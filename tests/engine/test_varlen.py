"""One call for a whole ragged batch: what the kernel is given says who sees whom; on a GPU, that it computes that."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kilter.engine import varlen
from kilter.engine.attention import attention
from kilter.engine.layout import Layout, Segment

FORESTS = {
    "one sequence": [(7, -1)],
    "prompts alone": [(3, -1), (5, -1), (1, -1)],
    "a prompt with three": [(6, -1), (4, 0), (2, 0), (5, 0)],
    "two prompts, and a turn below": [(4, -1), (3, 0), (2, 0), (5, -1), (1, 3), (6, 3), (2, 5)],
}


def forest(name: str) -> Layout:
    start, segments = 0, []
    for length, parent in FORESTS[name]:
        segments.append(Segment(start, length, parent))
        start += length
    return Layout(tuple(segments), start)


def by_the_book(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float, window: int | None) -> Tensor:
    """What the kernel's documentation promises: run by run, causal, the last query in line with the last key."""
    ranges, results = layout.ranges(query.device), []
    q_until, k_until = ranges.queries_until.tolist(), ranges.keys_until.tolist()
    for i in range(len(q_until) - 1):
        q = query[q_until[i] : q_until[i + 1]]
        keys = ranges.keys[k_until[i] : k_until[i + 1]]
        behind = torch.arange(len(keys) - len(q), len(keys))[:, None] - torch.arange(len(keys))
        mask = (behind >= 0) & (behind < (window or len(keys)))
        results.append(varlen.written_out(q, key[keys], value[keys], mask, scale))
        assert (len(q) <= ranges.most_queries, len(keys) <= ranges.most_keys) == (True, True)
    return torch.cat(results)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("name", FORESTS)
def test_ranges_say_who_sees_whom(name: str, ahead: int, window: int | None) -> None:
    torch.manual_seed(0)
    layout = forest(name)
    query, key, value = (torch.randn(layout.length, heads, 8) for heads in (4, 2, 2))
    first = tuple(torch.randn(2, ahead, 8) for _ in range(2))
    if ahead:
        layout = layout.behind({0: (first[0], first[1])}, ahead)
    module = torch.nn.Module()
    module.layer_idx = 0  # type: ignore[assignment]
    rows = [x.transpose(0, 1)[None] for x in (query, key, value)]
    expected, _ = attention(module, rows[0], rows[1], rows[2], None, layout=layout, sliding_window=window)
    key, value = (torch.cat((f.transpose(0, 1), x)) for f, x in zip(first, (key, value), strict=True))
    found = by_the_book(query, key, value, layout, 8**-0.5, window)
    assert torch.allclose(found, expected[0], atol=1e-5)


def test_on_a_cpu_calls_stay_as_they_are() -> None:
    x = torch.randn(5, 2, 8, dtype=torch.bfloat16)
    assert not varlen.suited(x, x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="flash attention wants a GPU")
@pytest.mark.parametrize("share", [1, 4])
@pytest.mark.parametrize("width", [32, 64, 128])
def test_the_kernel_on_a_gpu_is_attention_written_out(width: int, share: int) -> None:
    device = torch.device("cuda")
    x, y = (torch.randn(5, heads, width, dtype=torch.bfloat16, device=device) for heads in (2 * share, 2))
    assert varlen.suited(x, y)
