"""Who attends to whom in a ragged batch, and the few attention calls that this comes to.

A `Layout` is a forest of segments in a flat row of tokens: a token sees its own segment up to itself, and all of the
segments above. `Layout.plan` turns it into as few calls of batched attention as it can:

- a prompt and its first response stand side by side and are one causal run;
- causal runs of about one length are one call (padding at a run's end needs no mask, nothing real looks there);
- the other responses attend to (prompt, themselves), about equal ones in one call.

What stands before every sequence alike (an adapter's virtual tokens) is there once: as a root above all others, or,
where it has keys and values but no hidden states, as a front that every query sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kilter.engine.recurring import lacking

# A row joins a call when it is at least this share of the call's longest, or shorter by no more than so many tokens:
# padding costs arithmetic, a call about 50 µs.
JOIN, SLACK = 0.75, 32


class Segment(NamedTuple):
    """`length` tokens from `start` of the flat row, below segment number `parent` (-1: a root)."""

    start: int
    length: int
    parent: int


@dataclass(slots=True)
class Call:
    """One batched attention: n rows of Lq queries over Lk keys.

    `queries` [n, Lq] and `keys` [n, Lk] are indices into the flat row (keys: with the front before it), or None where
    the n rows of one length stand in the flat row as they are, all of it. `query_at` [n, Lq] and `key_at` [n, Lk] are
    places in the sequence: a query looks at keys no later than itself. Padding repeats a row's last query, and a padded
    key is later than anything. `causal` says that the two are the same, so that a plain causal kernel gives the same.
    `tokens` [n, Lq] are the queries once more, -1 for padding, and `real` [n, Lk] says which keys are none.
    """

    rows: int
    causal: bool
    queries: Tensor | None
    keys: Tensor | None
    query_at: Tensor
    key_at: Tensor
    tokens: np.ndarray
    real: np.ndarray
    _masks: dict[int | None, Tensor] = field(default_factory=dict, repr=False)
    _biases: dict[tuple[int | None, torch.dtype], Tensor] = field(default_factory=dict, repr=False)

    def mask(self, window: int | None) -> Tensor:
        """Return bool [n, Lq, Lk], True where a query looks: no later keys, and none `window` or more before it."""
        if window not in self._masks:
            behind = self.query_at[:, :, None] - self.key_at[:, None, :]
            self._masks[window] = behind >= 0 if window is None else (behind >= 0) & (behind < window)
        return self._masks[window]

    def bias(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """Return `mask` as 0 or -inf to add to scores; [1, Lq, Lk] where all rows have the same."""
        if (window, dtype) not in self._biases:
            if self.causal and window is None:
                # Padded keys lie behind every real query already.
                length = self.query_at.shape[1]
                mask = torch.ones(1, length, length, dtype=torch.bool, device=self.query_at.device).tril()
            else:
                mask = self.mask(window)
                mask = mask[:1] if bool((mask == mask[:1]).all()) else mask
            bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
            self._biases[window, dtype] = bias.masked_fill_(~mask, -torch.inf)
        return self._biases[window, dtype]


@dataclass
class Plan:
    """Attention calls over a flat row of `total` tokens, each of them in one call at most, behind `ahead` places.

    `indices` is for whoever works something out of a plan once.
    """

    calls: list[Call]
    total: int
    ahead: int
    indices: dict[tuple[int, int], Any] = field(default_factory=dict, repr=False)
    _parts: dict[int, tuple[Plan, Plan]] = field(default_factory=dict, repr=False)

    @cached_property
    def order(self) -> Tensor | None:
        """[T]: where in the calls' outputs, one behind the other, each token is (behind all of them: nowhere).

        None where outputs are the tokens as they stand.
        """
        if len(self.calls) == 1 and self.calls[0].queries is None:
            return None
        flat = np.concatenate([call.tokens.reshape(-1) for call in self.calls])
        order = np.full(self.total, len(flat))
        real = np.flatnonzero(flat >= 0)
        order[flat[real]] = real
        return torch.from_numpy(order).to(self.calls[0].query_at.device)

    def parted(self, most: int) -> tuple[Plan, Plan]:
        """Return the calls of at most so many keys as a plan of their own, and the others."""
        if most not in self._parts:
            short = [call for call in self.calls if call.key_at.shape[1] <= most]
            long = [call for call in self.calls if call.key_at.shape[1] > most]
            self._parts[most] = Plan(short, self.total, self.ahead), Plan(long, self.total, self.ahead)
        return self._parts[most]


@dataclass(frozen=True, slots=True)
class Ranges:
    """The same as runs one behind the other, each the queries of a part of the row and the keys that its last one sees.

    `keys` [Tk] are indices into the flat row (with the front before it); `queries_until` and `keys_until` [runs + 1],
    int32, say where each run's end, the first of them 0.
    """

    keys: Tensor
    queries_until: Tensor
    keys_until: Tensor
    most_queries: int
    most_keys: int


@dataclass
class Layout:
    """A forest of segments over `length` tokens. Segments stand in the row in their order, without gaps.

    `watch`, where it is a list, is told the sliding window of every layer that asks for attention (a trial of a model).
    `front` holds for layers keys and values [Hkv, ahead, D] of places before the row that every token sees. A layer
    that has none, or not `ahead` of them, has a layout of its own (`at`), and so has one that is `cut` to some tokens
    [N], given in their order: there those look, with what lies between them in a run, and no others.
    """

    segments: tuple[Segment, ...]
    length: int
    watch: list[int | None] | None = None
    ahead: int = 0
    front: Mapping[int, tuple[Tensor, Tensor]] | None = None
    cut: tuple[int, Tensor] | None = None
    only: Tensor | None = None
    _plans: dict[tuple[torch.device, int], Plan] = field(default_factory=dict, repr=False)
    _ranges: dict[torch.device, Ranges] = field(default_factory=dict, repr=False)
    _others: dict[tuple[int, bool], Layout] = field(default_factory=dict, repr=False)
    _longer: dict[int, Layout] = field(default_factory=dict, repr=False)

    def below_root(self, count: int) -> Layout:
        """Return the layout of a row with `count` tokens more at its beginning, a root above all of this one's."""
        shifted = [Segment(s.start + count, s.length, s.parent + 1 if s.parent >= 0 else 0) for s in self.segments]
        return Layout((Segment(0, count, -1), *shifted), self.length + count, self.watch)

    def behind(self, front: Mapping[int, tuple[Tensor, Tensor]], count: int) -> Layout:
        """Return the layout of the same row behind `count` places (the most of any layer) of keys and values only."""
        return Layout(self.segments, self.length, self.watch, count, front)

    def cut_to(self, layer: int, only: Tensor) -> Layout:
        """Return the same layout, but that in the layer of this number only the tokens `only` [N] have to look."""
        return replace(self, cut=(layer, only), _others={}, _longer={})

    def longer(self, count: int) -> Layout:
        """Return the layout of the row with `count` tokens more at its end, which see nothing and which none sees."""
        if count not in self._longer:
            self._longer[count] = replace(
                self, length=self.length + count, _plans={}, _ranges={}, _others={}, _longer={}
            )
        return self._longer[count]

    def at(self, layer: int) -> Layout:
        """Return the layout as it is for the layer of this number: its own places before the row, cut or not."""
        count = self.ahead
        if self.front is not None:
            count = self.front[layer][0].shape[1] if layer in self.front else 0
        only = self.cut[1] if self.cut is not None and self.cut[0] == layer else None
        if count == self.ahead and only is None:
            return self
        key = count, only is not None
        if key not in self._others:
            ranges = self._ranges if count == self.ahead else {}  # of the whole runs, however it is cut
            self._others[key] = Layout(
                self.segments, self.length, self.watch, count, self.front, only=only, _ranges=ranges
            )
        return self._others[key]

    def plan(self, device: torch.device, grain: int = 1) -> Plan:
        """Return the attention calls with their indices on `device`, lengths multiples of `grain`; worked out once."""
        if (device, grain) not in self._plans:
            calls = [_call(group, self.length, self.ahead, grain) for group in _grouped(self._looking)]
            for call in calls:
                for name in ("queries", "keys", "query_at", "key_at"):
                    value = getattr(call, name)
                    setattr(call, name, None if value is None else value.to(device, non_blocking=True))
            self._plans[device, grain] = Plan(calls, self.length, self.ahead)
        return self._plans[device, grain]

    def ranges(self, device: torch.device) -> Ranges:
        """Return all runs, in their order and uncut, for a kernel that takes rows of any lengths; worked out once."""
        if device not in self._ranges:
            own = np.array([run.length for run in self._runs])
            seen = np.array([run.depth + run.length for run in self._runs])
            pieces = [piece for r in self._runs for piece in (*r.above, (r.start + self.ahead, r.length))]
            keys = np.concatenate([np.arange(start, start + length) for start, length in pieces])
            until = [np.concatenate(([0], lengths.cumsum())).astype(np.int32) for lengths in (own, seen)]
            parts = [torch.from_numpy(x).to(device, non_blocking=True) for x in (keys, *until)]
            self._ranges[device] = Ranges(parts[0], parts[1], parts[2], int(own.max()), int(seen.max()))
        return self._ranges[device]

    @cached_property
    def _runs(self) -> list[_Run]:
        """Segments joined to causal runs where a child stands right behind its parent, with what lies above each."""
        runs: list[_Run] = []
        run_of: list[int] = []
        for number, (start, length, parent) in enumerate(self.segments):
            if parent >= 0 and parent == number - 1:
                run_of.append(run_of[parent])
                runs[run_of[parent]].length += length
                continue
            above: list[tuple[int, int]] = []
            while parent >= 0:
                above.insert(0, (self.segments[parent].start + self.ahead, self.segments[parent].length))
                parent = self.segments[parent].parent
            if self.ahead:
                above.insert(0, (0, self.ahead))
            run_of.append(len(runs))
            runs.append(_Run(start, length, above))
        return runs

    @property
    def _looking(self) -> list[_Run]:
        """The runs, or what is left of them where only some tokens look."""
        if self.only is None:
            return self._runs
        tokens, left = self.only.cpu().numpy(), []
        for run in self._runs:
            within = tokens[slice(*np.searchsorted(tokens, (run.start, run.start + run.length)))]
            if len(within):
                first, last = int(within[0]), int(within[-1])
                before = [(run.start + self.ahead, first - run.start)] if first > run.start else []
                left.append(_Run(first, last + 1 - first, run.above + before))
        return left


@dataclass(slots=True)
class _Run:
    """`length` tokens from `start` that see each other causally, and the (start, length) of all that they see above.

    Starts of what is above count from the first place of the front, where there is one.
    """

    start: int
    length: int
    above: list[tuple[int, int]]

    @property
    def depth(self) -> int:
        return sum(length for _, length in self.above)


def _grouped(runs: Iterable[_Run]) -> list[list[_Run]]:
    """Cut runs into groups that one call can hold without much padding."""
    groups: list[list[_Run]] = []
    for run in sorted(runs, key=lambda r: (not r.above, -r.length, -r.depth, r.start)):
        head = groups[-1][0] if groups else None
        if (
            head is not None
            and bool(head.above) == bool(run.above)
            and _about(run.length, head.length)
            and _about(run.depth, head.depth)
        ):
            groups[-1].append(run)
        else:
            groups.append([run])
    return groups


def _about(some: int, other: int) -> bool:
    """Whether two lengths may be in one call."""
    short, long = sorted((some, other))
    return short >= min(JOIN * long, long - SLACK)


def _call(group: list[_Run], total: int, ahead: int, grain: int) -> Call:
    """Return the call of a group; keys are those of `ahead` places before the row and of its `total` tokens."""
    group = sorted(group, key=lambda r: r.start)
    rows = len(group)
    depth, length = max(run.depth for run in group), max(run.length for run in group)
    depth, length = (count + lacking(count, grain) for count in (depth, length))
    step = np.arange(length)
    lengths = np.array([run.length for run in group])[:, None]
    starts = np.array([run.start for run in group])[:, None]
    depths = np.array([run.depth for run in group])[:, None]
    own = starts + np.minimum(step, lengths - 1)
    query_at = depths + np.minimum(step, lengths - 1)
    never = ahead + total + 1
    key_at = np.where(step < lengths, depths + step, never)
    keys = own + ahead
    if depth:
        above = np.zeros((rows, depth), dtype=np.int64)
        above_at = np.full((rows, depth), never)
        for row, run in enumerate(group):
            above[row, : run.depth] = np.concatenate([np.arange(s, s + n) for s, n in run.above])
            above_at[row, : run.depth] = np.arange(run.depth)
        keys, key_at = np.concatenate((above, keys), axis=1), np.concatenate((above_at, key_at), axis=1)
    whole = not depth and rows * length == total and bool((lengths == length).all())
    as_tensor = torch.from_numpy
    return Call(
        rows=rows,
        causal=not depth,
        queries=None if whole else as_tensor(own),
        keys=None if whole else as_tensor(keys),
        query_at=as_tensor(query_at),
        key_at=as_tensor(key_at),
        tokens=np.where(step < lengths, own, -1),
        real=key_at < never,
    )
