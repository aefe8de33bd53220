"""Prompts that several sequences share: their keys and values stand once, and all of their sequences look there.

Sampling K responses to a prompt reads the prompt's keys and values once a step instead of K times, and a CPU multiplies
K queries at a time where it else had one. What a sequence added to its prompt is in its own slot (slots.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kilter.engine.virtual import Front


@dataclass(slots=True)
class Prefix:
    """Prompts that went through the model: per layer keys and values [Hkv, T, D], and (start, length) of each."""

    layers: Front
    places: list[tuple[int, int]]


class Shelf:
    """Places for prompts' keys and values, [places, Hkv, width, D] a layer; `rows` sequences sit at them.

    `lengths` [rows] are the tokens that each row has here, 0 for one that sits nowhere; `counts` the same on the CPU.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        self.device = device
        self.layers: Front = {}
        self.width = 0
        self._of: list[int | None] = []  # the prompt at each place
        self._length: list[int] = []
        self._at = np.full(rows, -1)  # the place of each row
        self._arrange()

    def holds(self, prompt: int) -> bool:
        """Whether the prompt of this number stands here."""
        return prompt in self._of

    def put(self, prompts: Sequence[int], prefix: Prefix, wanted: Collection[int]) -> None:
        """Put all of `prefix` here; `prompts` are the numbers of its prompts.

        They take places where nobody sits, but not those of prompts that are `wanted`.
        """
        taken = set(self._at.tolist())
        free = [place for place, of in enumerate(self._of) if place not in taken and of not in wanted]
        free += range(len(self._of), len(self._of) + len(prompts) - len(free))
        places = free[: len(prompts)]
        self._widen(max([len(self._of), *(place + 1 for place in places)]), max(n for _, n in prefix.places), prefix)
        for place, prompt, (start, length) in zip(places, prompts, prefix.places, strict=True):
            self._of[place], self._length[place] = prompt, length
            for layer, pair in prefix.layers.items():
                for held, new in zip(self.layers[layer], pair, strict=True):
                    held[place, :, :length] = new[:, start : start + length]

    def seat(self, rows: Sequence[int], prompts: Sequence[int | None]) -> None:
        """Let each of `rows` sit at a prompt that stands here, or (None) nowhere."""
        for row, prompt in zip(rows, prompts, strict=True):
            self._at[row] = -1 if prompt is None else self._of.index(prompt)
        self._arrange()

    def keep(self, rows: Sequence[int]) -> None:
        """Leave only these rows, in this order; prompts that nobody sits at go when they are more than half."""
        self._at = self._at[list(rows)]
        used = sorted(set(self._at[self._at >= 0].tolist()))
        if 2 * len(used) < len(self._of):
            for layer, (keys, values) in self.layers.items():
                self.layers[layer] = (keys[used], values[used])
            self._of, self._length = [self._of[place] for place in used], [self._length[place] for place in used]
            new = {old: place for place, old in enumerate(used)}
            self._at = np.array([new.get(place, -1) for place in self._at.tolist()])
            self.width = max(self._length, default=0)
            self.layers = {n: (k[:, :, : self.width], v[:, :, : self.width]) for n, (k, v) in self.layers.items()}
        self._arrange()

    def scores(self, query: Tensor, layer: int) -> Tensor:
        """Return [rows, H, width], products of the queries [rows, H, 1, D] with the keys of each row's prompt."""
        keys = self.layers[layer][0]
        return self._back(torch.bmm(self._together(query, keys), keys.flatten(0, 1).transpose(1, 2)), keys)

    def read(self, weights: Tensor, layer: int) -> Tensor:
        """Return [rows, H, D], the values of each row's prompt by `weights` [rows, H, width]."""
        values = self.layers[layer][1]
        found = self._back(torch.bmm(self._together(weights, values), values.flatten(0, 1)), values)
        # Who sits nowhere was given what somebody else read.
        return found if self._all_seated else found.masked_fill(self.lengths[:, None, None] == 0, 0)

    def bias(self, earliest: Tensor | None) -> Tensor:
        """Return [rows, width]: 0 for a prompt's tokens from number `earliest` [rows, 1] on, -inf for what is none."""
        column = torch.arange(self.width, device=self.device)
        hidden = column >= self.lengths[:, None]
        if earliest is not None:
            hidden |= column < earliest
        return torch.zeros(hidden.shape, device=self.device).masked_fill_(hidden, -torch.inf)

    def _together(self, x: Tensor, held: Tensor) -> Tensor:
        """Return [places * Hkv, most * share, X] of [rows, H, (1,) X]: what sits at a place, one behind the other."""
        groups = held.shape[1]
        x = x.reshape(len(x), groups, -1, x.shape[-1])
        if not self._orderly:
            x = x.index_select(0, self._members)
        return x.unflatten(0, (len(held), -1)).transpose(1, 2).reshape(len(held) * groups, -1, x.shape[-1])

    def _back(self, x: Tensor, held: Tensor) -> Tensor:
        """Return [rows, H, X] of what `_together` made."""
        places, groups = held.shape[:2]
        share = x.shape[1] * places // self._members.numel()
        x = x.view(places, groups, -1, share, x.shape[-1]).transpose(1, 2).flatten(0, 1).flatten(1, 2)
        return x if self._orderly else x.index_select(0, self._seats)

    def _arrange(self) -> None:
        """Work out who sits where: `_members` [places * most] rows, `_seats` [rows] the seat of each among them."""
        places = max(1, len(self._of))
        by_place = [np.flatnonzero(self._at == place) for place in range(places)]
        most = max(1, *(len(rows) for rows in by_place)) if by_place else 1
        members, seats = np.zeros((places, most), dtype=np.int64), np.zeros(len(self._at), dtype=np.int64)
        for place, rows in enumerate(by_place):
            members[place, : len(rows)] = rows
            seats[rows] = place * most + np.arange(len(rows))
        self._members = torch.from_numpy(members.reshape(-1)).to(self.device)
        self._seats = torch.from_numpy(seats).to(self.device)
        self._orderly = members.size == len(self._at) and bool((seats == np.arange(len(seats))).all())
        self.counts = np.array([*self._length, 0])[self._at]
        self._all_seated = bool((self._at >= 0).all())
        self.lengths = torch.from_numpy(self.counts).to(self.device)

    def _widen(self, places: int, width: int, prefix: Prefix) -> None:
        """Make room for so many places of so many tokens."""
        self._of += [None] * (places - len(self._of))
        self._length += [0] * (places - len(self._length))
        self.width = max(self.width, width)
        for layer, pair in prefix.layers.items():
            old = self.layers.get(layer, (pair[0][None, :, :0], pair[1][None, :, :0]))
            if old[0].shape[0] < places or old[0].shape[2] < self.width:
                # What stands nowhere is weighted with 0, which would keep a NaN.
                new = [x.new_zeros(places, x.shape[1], self.width, x.shape[3]) for x in old]
                for x, before in zip(new, old, strict=True):
                    x[: len(before), :, : before.shape[2]] = before
                self.layers[layer] = (new[0], new[1])
