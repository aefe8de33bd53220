"""Slots that stand side by side and are equally wide, as batched products want them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kilter.engine.virtual import Front

GROWTH = 32  # slots are widened by at least so many tokens at a time


class Bank:
    """The slots of rows `first` to `first + rows`, and what stands in them; rows are counted from `first` on here."""

    def __init__(self, first: int, rows: int, front: Front, ahead: int) -> None:
        """`front` are keys and values that stand first in every slot, up to place `ahead`."""
        self.first, self.rows = first, rows
        self.capacity = 0
        self.layers: Front = {}  # keys and values [rows, Hkv, capacity, D]
        self._front, self._ahead = front, ahead
        self._column = torch.zeros(rows, dtype=torch.long)  # where in its slot a row's new token goes
        self._places: dict[int, Tensor] = {}  # the same in slots that are one long row, for so many heads

    @property
    def own(self) -> slice:
        """Its rows among all rows."""
        return slice(self.first, self.first + self.rows)

    def has(self, row: int) -> bool:
        """Whether this is the number of one of its rows among all rows."""
        return self.first <= row < self.first + self.rows

    def fit(self, length: int) -> None:
        """Make every slot wide enough for `length` tokens, and not much wider.

        It grows by steps, as products of new shapes cost something too. All of the width is looked at: a product over a
        part of each slot would first be copied together, and that for every token.
        """
        needed = -(-length // GROWTH) * GROWTH
        if needed <= self.capacity <= needed + GROWTH:
            return
        before, self.capacity = self.capacity, needed
        before = min(before, self.capacity)
        for layer, pair in self.layers.items():
            wider = []
            for old in pair:
                new = old.new_empty(*old.shape[:2], self.capacity, old.shape[3])
                new[:, :, :before] = old[:, :, :before]
                new[:, :, before:] = 0  # what is not yet written is weighted with 0, which would keep a NaN
                wider.append(new)
            self.layers[layer] = (wider[0], wider[1])

    def of(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return the slots of a layer; the first keys and values [Hkv, T, D] that come tell their shape."""
        if layer not in self.layers:
            pair = tuple(x.new_zeros(self.rows, x.shape[0], self.capacity, x.shape[2]) for x in (key, value))
            if layer in self._front:
                for slots, first in zip(pair, self._front[layer], strict=True):
                    slots[:, :, self._ahead - first.shape[1] : self._ahead] = first
            self.layers[layer] = (pair[0], pair[1])
        return self.layers[layer]

    def turn_to(self, column: Tensor) -> None:
        """Let the next token of each row go to place `column` [rows] of its slot."""
        self._column = column
        self._places.clear()

    def write(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write a token [rows, Hkv, 1, D] into every slot; return the slots of the layer."""
        pair = self.of(layer, key[0], value[0])
        heads = key.shape[1]
        if heads not in self._places:
            first = torch.arange(self.rows * heads, device=key.device) * self.capacity
            self._places[heads] = first + self._column.repeat_interleave(heads)
        for slots, new in zip(pair, (key, value), strict=True):
            slots.view(-1, slots.shape[-1]).index_copy_(0, self._places[heads], new.flatten(0, 2))
        return pair

    def keep(self, rows: Sequence[int]) -> list[int]:
        """Leave only the slots `rows`; return them in the order that they have now.

        The last ones move into the gaps, so that next to nothing is copied.
        """
        self.rows = len(rows)
        held = set(rows)
        movers = [row for row in rows if row >= self.rows]
        gaps = [row for row in range(self.rows) if row not in held]
        for layer, (keys, values) in self.layers.items():
            for x in (keys, values):
                x[gaps] = x[movers]
            self.layers[layer] = (keys[: self.rows], values[: self.rows])
        moved = dict(zip(gaps, movers, strict=True))
        return [moved.get(row, row) for row in range(self.rows)]
