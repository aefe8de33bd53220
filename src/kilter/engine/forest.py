"""Many sequences as a forest: what several of them begin with is computed once, whoever asked for it.

The sequences of a benchmark share much: the shots before every question of a subject, the question before each of its
choices. Sorted, those that begin alike are neighbours, and the tokens that they share become one segment of a ragged
batch (layout.py) with the rest of each below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from kilter.engine.batch import Groups, Ragged
from kilter.engine.layout import Layout, Segment

# Fewer tokens than these are rather computed again: each fork splits the attention into more calls.
FORK = 8

Ids = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Grove:
    """Sequences laid out together: the batch, and for each of them the place in its row of every one of its tokens."""

    batch: Ragged
    places: list[Ids]


def ordered(sequences: Sequence[Ids]) -> list[int]:
    """Return the places of `sequences` in lexicographic order, in which those that begin alike are neighbours."""
    return sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">i4").tobytes())


def shared(one: Ids, other: Ids) -> int:
    """Return how many tokens two sequences have in common at their beginning."""
    length = min(len(one), len(other))
    differ = np.flatnonzero(one[:length] != other[:length])
    return int(differ[0]) if len(differ) else length


def cut(sequences: Sequence[Ids], tokens: int, attended: int) -> list[list[int]]:
    """Cut sequences in lexicographic order into batches; each batch computes what its sequences share once.

    A batch has at most `tokens` tokens, and its queries look at no more than `attended` keys in all (which is what
    attention needs memory for). A sequence that is over them is alone.
    """
    batches: list[list[int]] = []
    size = keys = 0
    for i, sequence in enumerate(sequences):
        common = shared(sequences[i - 1], sequence) if i else 0
        common = common if common >= FORK else 0
        new = len(sequence) - common
        looked = new * len(sequence)
        if not batches or size + new > tokens or keys + looked > attended:
            batches.append([])
            size = keys = 0
            new, looked = len(sequence), len(sequence) ** 2
        batches[-1].append(i)
        size += new
        keys += looked
    return batches


def grow(sequences: Sequence[Ids]) -> Grove:
    """Lay out distinct sequences, in lexicographic order, as one ragged batch without scored tokens."""
    common = [0, *(shared(a, b) for a, b in pairwise(sequences))]
    segments: list[Segment] = []
    tokens: list[Ids] = []
    positions: list[Ids] = []
    places: list[list[Ids]] = [[] for _ in sequences]
    start = 0
    # (first, last + 1, depth, parent): these sequences are alike up to the depth, which stands above already.
    open_: list[tuple[int, int, int, int]] = [(first, last, 0, -1) for first, last in _split(common, 0, len(common), 0)]
    open_.reverse()
    while open_:
        first, last, depth, parent = open_.pop()
        end = min(common[first + 1 : last], default=len(sequences[first]))
        if end > depth:
            piece = sequences[first][depth:end]
            for i in range(first, last):
                places[i].append(np.arange(start, start + end - depth))
            segments.append(Segment(start, end - depth, parent))
            tokens.append(piece)
            positions.append(np.arange(depth, end))
            start += end - depth
            parent = len(segments) - 1
        if last - first > 1:
            # One that ends here has nothing below.
            first += len(sequences[first]) == end
            below = [(a, b, end, parent) for a, b in _split(common, first, last, end)]
            open_ += reversed(below)
    none = torch.empty(0, dtype=torch.long)
    batch = Ragged(
        tokens=torch.from_numpy(np.concatenate(tokens)),
        positions=torch.from_numpy(np.concatenate(positions)),
        layout=Layout(tuple(segments), start),
        at=none,
        targets=none,
        owner=none,
        lengths=none,
        groups=Groups(none.reshape(0, 2), none),
        leaves=(),
        marks=none,
        mark_owner=none,
    )
    return Grove(batch, [np.concatenate(pieces) for pieces in places])


def _split(common: Sequence[int], first: int, last: int, depth: int) -> list[tuple[int, int]]:
    """Cut sequences that are alike up to `depth` where they share less than FORK tokens more."""
    borders = [first, *(i for i in range(first + 1, last) if common[i] < depth + FORK), last]
    return [(a, b) for a, b in pairwise(borders) if a < b]
