"""Rows of numbers of different lengths that are appended and looked up; those that memory has no room for, on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np

from kilter.data.tokens import Hashes, Places
from kilter.files import explaining

HELD = 1 << 24  # numbers of 8 bytes that are held in memory
BLOCK = 1 << 20  # numbers that are read from disk at a time


class Shelf:
    """N rows of 64-bit numbers. `lengths` [N] says how many numbers each has."""

    def __init__(self, spill: bool = True, held: int = HELD) -> None:
        """Hold everything in memory, or with `spill` at most `held` numbers, and the rest in a temporary file."""
        self.count = 0
        self._lengths = np.empty(16, np.int64)
        self._starts = np.zeros(17, np.int64)
        self._held = np.empty(1024, np.uint64)
        self._in_memory = 0
        self._limit = held if spill else None
        self._file: IO[bytes] | None = None

    @property
    def lengths(self) -> Places:
        return self._lengths[: self.count]

    @property
    def size(self) -> int:
        """How many numbers there are in all rows."""
        return int(self._starts[self.count])

    def append(self, numbers: Hashes, lengths: Places) -> None:
        """Append rows, one after the other in `numbers`."""
        end = self.count + len(lengths)
        self._lengths = _room(self._lengths, end)
        self._starts = _room(self._starts, end + 1)
        self._lengths[self.count : end] = lengths
        self._starts[self.count + 1 : end + 1] = self.size + np.cumsum(lengths)
        self.count = end
        if self._file is None and (self._limit is None or self._in_memory + len(numbers) <= self._limit):
            self._held = _room(self._held, self._in_memory + len(numbers))
            self._held[self._in_memory : self._in_memory + len(numbers)] = numbers
            self._in_memory += len(numbers)
            return
        with explaining(tempfile.gettempdir(), "write to"):
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the shelf
            self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(numbers).tobytes())
            self._file.flush()

    def take(self, rows: Places) -> Hashes:
        """Return the numbers of `rows`, one row after the other."""
        starts, lengths = self._starts[rows], self._lengths[rows]
        if self._file is None:
            return self._held[ranges(starts, lengths)]
        found = np.empty(int(lengths.sum()), np.uint64)
        ends = np.cumsum(lengths)
        inside = starts + lengths <= self._in_memory
        places = np.repeat(inside, lengths)
        found[places] = self._held[ranges(starts[inside], lengths[inside])]
        for i in np.flatnonzero(~inside):
            found[ends[i] - lengths[i] : ends[i]] = self._read(int(starts[i]), int(lengths[i]))
        return found

    def blocks(self) -> Iterator[Hashes]:
        """Yield all numbers in their order, at most `BLOCK` of those on disk at a time."""
        if self._in_memory:
            yield self._held[: self._in_memory]
        for start in range(self._in_memory, self.size, BLOCK):
            yield self._read(start, min(BLOCK, self.size - start))

    def _read(self, start: int, count: int) -> Hashes:
        assert self._file is not None
        with explaining(tempfile.gettempdir(), "read from"):
            self._file.seek(8 * (start - self._in_memory))
            return np.frombuffer(self._file.read(8 * count), np.uint64)


def ranges(starts: Places, lengths: Places) -> Places:
    """Return the places `start, start + 1 ...`, `length` of them, for each start, one after the other."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0)


def _room(array: np.ndarray, size: int) -> np.ndarray:
    """Return `array` with room for `size` items, half as much again so that appending stays cheap."""
    if size <= len(array):
        return array
    grown = np.zeros(size + size // 2, array.dtype)
    grown[: len(array)] = array
    return grown
