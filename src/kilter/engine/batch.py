"""The ragged batch: prompts and their responses as one flat row of tokens, no padding, each prompt once.

A `Tree` is a prompt with its K responses. `collate` lays trees out one behind the other,

    tokens     | prompt a | response a0 | response a1 | prompt b | response b0 | ...
    positions  | 0 1 2 3  | 4 5 6       | 4 5         | 0 1      | 2 3 4       |

and the attention function (attention.py) sees to it that a response attends to its prompt and itself only. A scored
token is predicted by the hidden state before it, which for the first token of every response is the prompt's last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kilter.engine.layout import Layout, Segment

# What trees that were sampled bring for every scored token: in `Tree.info` an array for each response.
BY_TOKEN = ("behaviour", "reference", "values", "advantages", "returns")


@dataclass(slots=True)
class Tree:
    """One prompt and its K responses as token ids.

    `masks[k][t]` says whether token t of response k is scored (learned from); `prompt_mask` the same for the prompt
    (earlier turns of a demonstration), whose scored tokens count as the first response's. The first token of a sequence
    has nothing before it and is never scored. `info` holds what objectives read: "order" (one number a response, higher
    is better), "pairs" (indices of better and worse), "labels", "id"; where steps are judged "marks" (for each response
    the places in it where a step is complete) and "mark_labels" (one number a mark, in the same nesting); "unseen" are
    places in prompt and first response whose tokens are put in as another, and that one: they are predicted, and not
    seen. Any integer sequence will do, numpy's too.
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

    `pairs` [N, 2] holds rows of the better and the worse response, `group_of` [R] the tree of each response; `scores`
    and `labels` [R] hold one number a response, `mark_labels` [M] one a marked token: None where some tree has none.

    Trees that were sampled (training/online.py) bring more. For each response: `rewards` [R], and `cut` [R], whether it
    was ended by its length (1) or by itself (0), `target` [R], its log-prob under a distribution that is aimed at, and
    `baseline` [R], what its reward is compared with. For each scored token: `behaviour` [P], its log-prob under the
    very distribution that it was drawn from; `reference` [P], that of the reference policy; `values`, `advantages` and
    `returns` [P], what a critic expected before it, how much better it was, and what the critic should have said.
    """

    pairs: Tensor
    group_of: Tensor
    scores: Tensor | None = None
    labels: Tensor | None = None
    mark_labels: Tensor | None = None
    rewards: Tensor | None = None
    cut: Tensor | None = None
    target: Tensor | None = None
    baseline: Tensor | None = None
    behaviour: Tensor | None = None
    reference: Tensor | None = None
    values: Tensor | None = None
    advantages: Tensor | None = None
    returns: Tensor | None = None

    def to(self, device: torch.device) -> Groups:
        """Return the same with its tensors on `device`."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {name: None if value is None else value.to(device) for name, value in held.items()}
        return Groups(**moved)


@dataclass(slots=True)
class Ragged:
    """A micro-batch: T tokens in a row, P of them scored, R responses.

    tokens, positions [T]; `at` [P] is the flat index of the hidden state that predicts a scored token, `targets` [P]
    that token, `owner` [P] its response, `lengths` [R] the scored tokens of each response. The P scored tokens stand
    tree by tree, response by response. `leaves` [R] is the segment of each response. `marks` [M] are flat indices of
    the marked tokens, `mark_owner` [M] their responses; both are empty where nothing is marked.
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
    marks: Tensor
    mark_owner: Tensor

    def to(self, device: torch.device) -> Ragged:
        """Return the batch with its tensors on `device`."""
        if self.tokens.device == device:
            return self
        names = ("tokens", "positions", "at", "targets", "owner", "lengths", "marks", "mark_owner")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        return replace(self, **moved, groups=self.groups.to(device))


def collate(trees: Sequence[Tree]) -> Ragged:
    """Lay `trees` out as one ragged batch on the CPU.

    Raises ValueError on a response without tokens, and on numbers for its tokens that are more or fewer than those.
    """
    tokens: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    before: list[np.ndarray] = []  # flat index of the state that predicts each scored token
    scored: list[np.ndarray] = []  # flat index of each scored token
    lengths: list[int] = []
    leaves: list[int] = []
    segments: list[Segment] = []
    marks: list[np.ndarray] = []
    unseen: list[tuple[np.ndarray, int]] = []
    start = 0
    for tree in trees:
        marked = tree.info.get("marks") or [()] * len(tree.responses)
        if "unseen" in tree.info:
            places, blank = tree.info["unseen"]
            unseen.append((start + np.asarray(places, dtype=np.int64), blank))
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
            marks.append(start + np.asarray(marked[k], dtype=np.int64))
            leaves.append(len(segments))
            segments.append(Segment(start, len(response), parent))
            tokens.append(np.asarray(response, dtype=np.int64))
            positions.append(np.arange(depth, depth + len(response)))
            start += len(response)
    flat = _joined(tokens)
    seen = flat.copy() if unseen else flat
    for at, blank in unseen:
        seen[at] = blank
    return Ragged(
        tokens=torch.from_numpy(seen),
        positions=torch.from_numpy(_joined(positions)),
        layout=Layout(tuple(segments), len(flat)),
        at=torch.from_numpy(_joined(before)),
        targets=torch.from_numpy(flat[_joined(scored)]),
        owner=torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)),
        lengths=torch.tensor(lengths, dtype=torch.long),
        groups=_groups(trees, lengths),
        leaves=tuple(leaves),
        marks=torch.from_numpy(_joined(marks)),
        mark_owner=torch.from_numpy(np.repeat(np.arange(len(marks)), [len(places) for places in marks])),
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


def _groups(trees: Sequence[Tree], lengths: Sequence[int]) -> Groups:
    pairs: list[tuple[int, int]] = []
    group_of: list[int] = []
    for g, tree in enumerate(trees):
        row = len(group_of)
        pairs += [(row + w, row + l) for w, l in tree.info.get("pairs") or ()]
        group_of += [g] * len(tree.responses)
    return Groups(
        pairs=torch.tensor(pairs, dtype=torch.long).reshape(-1, 2),
        group_of=torch.tensor(group_of, dtype=torch.long),
        scores=_told(tree.info.get("order") for tree in trees),
        labels=_told(tree.info.get("labels") for tree in trees),
        mark_labels=_told(
            None if (given := tree.info.get("mark_labels")) is None else list(chain(*given)) for tree in trees
        ),
        rewards=_told(tree.info.get("rewards") for tree in trees),
        cut=_told(tree.info.get("cut") for tree in trees),
        target=_told(tree.info.get("target") for tree in trees),
        baseline=_told(tree.info.get("baseline") for tree in trees),
        **{name: _by_token(trees, name, lengths) for name in BY_TOKEN},
    )


def _by_token(trees: Sequence[Tree], name: str, lengths: Sequence[int]) -> Tensor | None:
    """Return the numbers [P] that trees bring for their scored tokens, an array a response; None where one has none."""
    found: list[np.ndarray] = []
    for tree in trees:
        if (given := tree.info.get(name)) is None:
            return None
        found += [np.asarray(numbers, dtype=np.float32) for numbers in given]
    if [len(numbers) for numbers in found] != list(lengths):
        raise ValueError(f"A tree brings '{name}' for other tokens than are scored in it.")
    return torch.from_numpy(np.concatenate(found)) if found else None


def _told(parts: Iterable[Sequence[float] | None]) -> Tensor | None:
    """Return the numbers of all `parts` one behind the other, or None where one is missing."""
    told: list[float] = []
    for part in parts:
        if part is None:
            return None
        told += [float(value) for value in part]
    return torch.tensor(told, dtype=torch.float32)
