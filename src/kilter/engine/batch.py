"""The ragged batch: prompts and their responses as one flat row of tokens, no padding, each prompt once.

A `Tree` is a prompt with its K responses. `collate` lays trees out one behind the other,

    tokens     | prompt a | response a0 | response a1 | prompt b | response b0 | ...
    positions  | 0 1 2 3  | 4 5 6       | 4 5         | 0 1      | 2 3 4       |

and the attention function (attention.py) sees to it that a response attends to its prompt and itself only. A scored
token is predicted by the hidden state before it, which for the first token of every response is the prompt's last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kilter.engine.layout import Layout, Segment


@dataclass(slots=True)
class Tree:
    """One prompt and its K responses as token ids.

    `masks[k][t]` says whether token t of response k is scored (learned from); `prompt_mask` the same for the prompt
    (earlier turns of a demonstration), whose scored tokens count as the first response's. The first token of a sequence
    has nothing before it and is never scored. `info` holds what objectives read: "order" (one number a response, higher
    is better), "pairs" (indices of better and worse), "labels", "id". Any integer sequence will do, numpy's too.
    """

    prompt: Sequence[int]
    responses: Sequence[Sequence[int]]
    masks: Sequence[Sequence[bool]]
    prompt_mask: Sequence[bool] | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prompt) + sum(len(response) for response in self.responses)


@dataclass(slots=True)
class Groups:
    """What a micro-batch's trees say about its R responses.

    `pairs` [N, 2] holds rows of the better and the worse response, `group_of` [R] the tree of each response,
    `scores` [R] one number a response, or None where some tree has none.
    """

    pairs: Tensor
    group_of: Tensor
    scores: Tensor | None = None


@dataclass(slots=True)
class Ragged:
    """A micro-batch: T tokens in a row, P of them scored, R responses.

    tokens, positions [T]; `at` [P] is the flat index of the hidden state that predicts a scored token, `targets` [P]
    that token, `owner` [P] its response, `lengths` [R] the scored tokens of each response. The P scored tokens stand
    tree by tree, response by response. `leaves` [R] is the segment of each response.
    """

    tokens: Tensor
    positions: Tensor
    layout: Layout
    at: Tensor
    targets: Tensor
    owner: Tensor
    lengths: Tensor
    groups: Groups
    leaves: tuple[int, ...]

    def to(self, device: torch.device) -> Ragged:
        """Return the batch with its tensors on `device`."""
        if self.tokens.device == device:
            return self
        names = ("tokens", "positions", "at", "targets", "owner", "lengths")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        scores = None if self.groups.scores is None else self.groups.scores.to(device)
        groups = Groups(self.groups.pairs.to(device), self.groups.group_of.to(device), scores)
        return replace(self, **moved, groups=groups)


def collate(trees: Sequence[Tree]) -> Ragged:
    """Lay `trees` out as one ragged batch on the CPU. Raises ValueError on a response without tokens."""
    tokens: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    before: list[np.ndarray] = []  # flat index of the state that predicts each scored token
    scored: list[np.ndarray] = []  # flat index of each scored token
    lengths: list[int] = []
    leaves: list[int] = []
    segments: list[Segment] = []
    start = 0
    for tree in trees:
        depth, parent = len(tree.prompt), -1
        learned = np.empty(0, dtype=np.int64)
        if depth:
            parent = len(segments)
            segments.append(Segment(start, depth, -1))
            tokens.append(np.asarray(tree.prompt, dtype=np.int64))
            positions.append(np.arange(depth))
            if tree.prompt_mask is not None:
                learned = start + _scored(tree.prompt_mask, first=False)
        start += depth
        fork = start - 1
        for k, response in enumerate(tree.responses):
            if not len(response):
                raise ValueError(f"Response {k} of tree {tree.info.get('id', '?')} has no tokens.")
            own = start + _scored(tree.masks[k], first=depth > 0)
            predictors = np.where(own == start, fork, own - 1)
            if k == 0 and len(learned):
                own, predictors = np.concatenate((learned, own)), np.concatenate((learned - 1, predictors))
            scored.append(own)
            before.append(predictors)
            lengths.append(len(own))
            leaves.append(len(segments))
            segments.append(Segment(start, len(response), parent))
            tokens.append(np.asarray(response, dtype=np.int64))
            positions.append(np.arange(depth, depth + len(response)))
            start += len(response)
    flat = _joined(tokens)
    return Ragged(
        tokens=torch.from_numpy(flat),
        positions=torch.from_numpy(_joined(positions)),
        layout=Layout(tuple(segments), len(flat)),
        at=torch.from_numpy(_joined(before)),
        targets=torch.from_numpy(flat[_joined(scored)]),
        owner=torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)),
        lengths=torch.tensor(lengths, dtype=torch.long),
        groups=_groups(trees),
        leaves=tuple(leaves),
    )


def fill(costs: Sequence[int], budget: int) -> list[list[int]]:
    """Cut items of the given token counts into micro-batches of at most `budget` tokens, longest items first.

    Neighbours in length go together, so that attention runs on few shapes. An item over the budget is alone.
    """
    order = sorted(range(len(costs)), key=lambda i: (-costs[i], i))
    batches: list[list[int]] = []
    room = 0
    for i in order:
        if costs[i] > room or not batches:
            batches.append([])
            room = budget
        batches[-1].append(i)
        room -= costs[i]
    return batches


def deal(costs: Sequence[int], ranks: int, budget: int) -> list[list[list[int]]]:
    """Return for every rank its micro-batches of one step, as indices; every rank has the same number of them.

    Every rank works this out alone and finds the same. Longest first to the rank with the least so far. A rank that
    has fewer micro-batches than another ends with empty ones, which it has to fill with something of weight zero.
    """
    hands: list[list[int]] = [[] for _ in range(ranks)]
    load = [0] * ranks
    for i in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        rank = min(range(ranks), key=lambda r: load[r])
        hands[rank].append(i)
        load[rank] += costs[i]
    cut = [[[hand[i] for i in batch] for batch in fill([costs[i] for i in hand], budget)] for hand in hands]
    most = max(1, *(len(batches) for batches in cut))
    return [batches + [[] for _ in range(most - len(batches))] for batches in cut]


def _scored(mask: Sequence[bool], *, first: bool) -> np.ndarray:
    """Return the positions that `mask` marks; position 0 only where something stands before it (`first`)."""
    at = np.flatnonzero(np.asarray(mask, dtype=bool))
    return at if first else at[at > 0]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts).astype(np.int64, copy=False) if parts else np.empty(0, dtype=np.int64)


def _groups(trees: Sequence[Tree]) -> Groups:
    pairs: list[tuple[int, int]] = []
    group_of: list[int] = []
    scores: list[float] | None = []
    for g, tree in enumerate(trees):
        row = len(group_of)
        pairs += [(row + w, row + l) for w, l in tree.info.get("pairs") or ()]
        group_of += [g] * len(tree.responses)
        order = tree.info.get("order")
        scores = None if scores is None or order is None else scores + [float(value) for value in order]
    return Groups(
        pairs=torch.tensor(pairs, dtype=torch.long).reshape(-1, 2),
        group_of=torch.tensor(group_of, dtype=torch.long),
        scores=None if scores is None else torch.tensor(scores, dtype=torch.float32),
    )
