"""Longest common subsequences of many pairs at once, 64 tokens a machine word (Hyyrö 2004)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kilter.data.shelf import ranges
from kilter.data.tokens import Hashes, Places

_BYTES = 1 << 24  # of comparisons that are held at a time


def common(first: Hashes, n: Places, second: Hashes, m: Places) -> Places:
    """Return the length of the longest common subsequence of each pair [P].

    `first` holds one sequence after the other, of `n` [P] tokens each, and `second` their partners, of `m` [P].
    """
    shorter, longer = np.minimum(n, m), np.maximum(n, m)
    starts = np.cumsum(n) - n, np.cumsum(m) - m
    swapped = n > m
    found = np.zeros(len(n), np.int64)
    words = -(-longer // 64)
    order = np.lexsort((shorter, words))
    order = order[shorter[order] > 0]
    low = 0
    while low < len(order):
        width = int(words[order[low]]) * 64
        same = int(np.searchsorted(words[order], words[order[low]], "right"))
        high = min(same, low + max(1, _BYTES // (width * int(shorter[order[low:same]].max()))))
        chosen = order[low:high]
        a = _rows(first, second, starts, swapped[chosen], chosen, shorter)
        b = _rows(second, first, starts[::-1], swapped[chosen], chosen, longer, width)
        found[chosen] = _common(a, shorter[chosen], b, longer[chosen])
        low = high
    return found


def _rows(
    usual: Hashes,
    other: Hashes,
    starts: tuple[Places, Places],
    swapped: NDArray[np.bool_],
    chosen: Places,
    lengths: Places,
    width: int = 0,
) -> Hashes:
    """Return the chosen sequences as a matrix [P, width], those that are swapped from `other`."""
    size = lengths[chosen]
    matrix = np.zeros((len(chosen), width or int(size.max())), np.uint64)
    filled = np.arange(matrix.shape[1]) < size[:, None]
    from_other = np.repeat(swapped, size)
    values = np.empty(int(size.sum()), np.uint64)
    values[~from_other] = usual[ranges(starts[0][chosen[~swapped]], size[~swapped])]
    values[from_other] = other[ranges(starts[1][chosen[swapped]], size[swapped])]
    matrix[filled] = values
    return matrix


def _common(a: Hashes, n: Places, b: Hashes, m: Places) -> Places:
    """Return the lengths for rows `a` [P, n] and `b` [P, 64 w], of which the first n and m tokens count [P] each.

    v has a bit for each token of b; a bit becomes 0 where one more token can be matched up to there. For each token of
    a, with u = v & (b equals it): v = (v + u) | (v & ~u), an addition over all words of a row.
    """
    rows, words = len(a), b.shape[1] // 64
    inside = np.arange(b.shape[1]) < m[:, None]
    v = np.full((words, rows), ~np.uint64(0))
    for step in range(a.shape[1]):
        equal = (b == a[:, step, None]) & inside
        equal &= (step < n)[:, None]
        masks = np.packbits(equal, axis=1, bitorder="little").view("<u8")
        carry = np.zeros(rows, np.uint64)
        for word in range(words):
            before = v[word]
            u = before & masks[:, word]
            total = before + u
            over = total < before
            total += carry
            over |= total < carry
            v[word] = total | (before & ~u)
            carry = over.astype(np.uint64)
    # Bits beyond a row's own tokens were never matched and are still 1.
    return np.asarray(np.bitwise_count(~v).sum(axis=0), np.int64)
