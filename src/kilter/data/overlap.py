"""Which of many sets overlap: exact, by prefixes, in the order in which they come.

Two sets of m and n elements are similar where |A & B| >= d (m + n) / 2, that is, where their Dice coefficient is at
least d; a Jaccard coefficient of t is a Dice coefficient of 2t / (1 + t). In any fixed order of all elements the first
n - least + 1 elements of similar sets have one in common, least = ceil(n d / (2 - d)) (Chaudhuri et al. 2006; Xiao et
al. 2008, PPJoin). With the rarest elements first few pairs share one, and of those the overlap is counted. Nothing is
estimated: no similar pair is missed, and none is reported that is not one.

Sets are held as 48-bit hashes of their elements; that two elements of one pair share theirs happens once in 1e10 pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kilter.data.shelf import Shelf, ranges
from kilter.data.tokens import Hashes, Places, Tokens, mixed

AT_ONCE = 1 << 22  # candidate pairs, or elements of pairs, that are held at a time
RUN = 1 << 23  # entries of the index in one sorted run; whole runs are on disk

_SLACK = 1e-9  # thresholds are reals, overlaps are counts: 0.7 * 10 must not ask for 8
_16, _32, _48 = np.uint64(16), np.uint64(32), np.uint64(48)
_LOW32, _SLOT = np.uint64(0xFFFFFFFF), np.uint64(0xFFFFF)

Flags = NDArray[np.bool_]


class Pairs(NamedTuple):
    """Similar pairs, by the numbers of their sets over all batches [P] each."""

    earlier: Places
    later: Places

    def where(self, chosen: Flags) -> Pairs:
        return Pairs(self.earlier[chosen], self.later[chosen])


Confirm = Callable[[Pairs], Flags]
"""Says which of the pairs are similar by a measure that needs more than sets."""


def distinct(tokens: Tokens) -> Tokens:
    """Return each text's different hashes, 48 bits of them, sorted."""
    hashes = sorted_rows(tokens.hashes >> _16, tokens.lengths)
    first = _first(hashes, tokens.starts)
    return _chosen(hashes, tokens.starts, first)


def counted(tokens: Tokens) -> Tokens:
    """Return each text's hashes as a set in which the second occurrence of a hash is an element of its own."""
    hashes = sorted_rows(tokens.hashes >> _16, tokens.lengths)
    first = _first(hashes, tokens.starts)
    places = np.arange(len(hashes))
    occurrence = places - np.maximum.accumulate(np.where(first, places, 0))
    again = occurrence > 0
    hashes[again] = mixed(hashes[again] + (occurrence[again].astype(np.uint64) << _48)) >> _16
    return Tokens(hashes, tokens.starts)


def _first(hashes: Hashes, starts: Places) -> Flags:
    """Whether each of sorted rows' numbers differs from the one before it in its row."""
    first = np.ones(len(hashes), bool)
    first[1:] = hashes[1:] != hashes[:-1]
    first[starts[:-1][starts[:-1] < len(hashes)]] = True
    return first


def _chosen(hashes: Hashes, starts: Places, chosen: Flags) -> Tokens:
    return Tokens(hashes[chosen], np.concatenate(([0], np.cumsum(chosen)))[starts])


class Pool:
    """The sets that have been kept so far, and the search for those that a new one is similar to.

    With `spill`, what does not fit into some hundred megabytes goes to a temporary file.
    """

    def __init__(self, dice: float, *, confirm: Confirm | None = None, spill: bool = True) -> None:
        self.dice, self.confirm = dice, confirm
        self.seen = 0  # sets that were given, kept or not
        self._rarity: NDArray[np.uint16] | None = None
        self._elements = Shelf(spill)
        self._signatures = np.empty(0, np.uint64)  # a bit for every element of a kept set, 64 bits in all
        self._numbers = np.empty(0, np.int64)  # of the kept sets
        self._runs: list[Shelf] = []
        self._fresh = np.empty(0, np.uint64)
        self._spill = spill

    def sift(self, sets: Tokens) -> tuple[Flags, Places]:
        """Keep each set that is similar to none kept before it.

        Returns which of the batch were kept [N], and for each the number of the set it is similar to, or -1 [N].
        """
        kept, nearest = np.ones(len(sets.lengths), bool), np.full(len(sets.lengths), -1)
        for part, start in self._parts(sets):
            pairs = self._similar(part)
            base = self.seen
            for earlier, later in zip(pairs.earlier.tolist(), pairs.later.tolist(), strict=True):
                at = start + later
                if kept[at] and (earlier < base or kept[start + earlier - base]):
                    kept[at], nearest[at] = False, earlier
            self._add(part, kept[start : start + len(part.lengths)])
        return kept, nearest

    def pairs(self, sets: Tokens) -> Iterator[Pairs]:
        """Yield all similar pairs that sets of this batch are the later ones of; none is dropped."""
        for part, _ in self._parts(sets):
            found = self._similar(part)
            yield Pairs(found.earlier, found.later + self.seen)
            self._add(part, np.ones(len(part.lengths), bool))

    def add(self, sets: Tokens) -> None:
        """Enter sets whatever they are similar to."""
        for part, _ in self._parts(sets):
            self._add(part, np.ones(len(part.lengths), bool))

    def _parts(self, sets: Tokens) -> Iterator[tuple[Tokens, int]]:
        """Yield the batch in parts that have not too many candidates each; what a part drops is none for the next."""
        if self._rarity is None:
            counts = np.bincount((sets.hashes & _SLOT).astype(np.int64), minlength=int(_SLOT) + 1)
            self._rarity = np.minimum(counts, 0xFFFF).astype(np.uint16)
        start, size = 0, len(sets.lengths)
        while start < len(sets.lengths):
            part = _slice(sets, start, start + size)
            if size > 64 and self._expected(part) > AT_ONCE:
                size = max(64, size // 4)
                continue
            yield part, start
            start += len(part.lengths)
            size *= 2

    def _expected(self, part: Tokens) -> int:
        """How many candidate pairs the index would give, repeated ones counted again."""
        entries = self._entries(part)
        keys = entries >> _32
        own = np.diff(np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1], [True]))))
        found = int((own * (own - 1) // 2).sum())
        for run in self._segments():
            found += int((np.searchsorted(run, entries | _LOW32, "right") - np.searchsorted(run, keys << _32)).sum())
        return found

    def _entries(self, sets: Tokens) -> Hashes:
        """Return (element, set) for the elements in each set's prefix, 32 bits each, sorted by element."""
        assert self._rarity is not None
        lengths = sets.lengths
        rarity = self._rarity[(sets.hashes & _SLOT).astype(np.int64)].astype(np.uint64)
        ordered = sorted_rows((rarity << _48) | sets.hashes, lengths)
        least = np.ceil(lengths * self.dice / (2 - self.dice) - _SLACK).astype(np.int64)
        prefix = np.where(lengths > 0, lengths - np.maximum(least, 1) + 1, 0)
        entries = ordered[ranges(sets.starts[:-1], prefix)] << _32
        entries |= np.repeat(np.arange(len(lengths), dtype=np.uint64), prefix)
        entries.sort()
        return entries

    def _segments(self) -> Iterator[Hashes]:
        yield self._fresh
        for run in self._runs:
            yield from run.blocks()

    def _similar(self, part: Tokens) -> Pairs:
        """Return the similar pairs of the part with kept sets and within itself, by `later` and then `earlier`.

        Here and below `later` counts within the part.
        """
        entries = self._entries(part)
        found = [self._within(entries, part)]
        for segment in self._segments():
            first = np.searchsorted(segment, (entries >> _32) << _32)
            counts = np.searchsorted(segment, entries | _LOW32, "right") - first
            for low, high in _portions(counts):
                slots = segment[ranges(first[low:high], counts[low:high])] & _LOW32
                later = np.repeat(entries[low:high] & _LOW32, counts[low:high])
                found.append(self._checked(slots, later, part))
        pairs = Pairs(np.concatenate([p.earlier for p in found]), np.concatenate([p.later for p in found]))
        order = _unique((pairs.later << 40) | pairs.earlier)
        return self._confirmed(Pairs(order & ((1 << 40) - 1), order >> 40))

    def _confirmed(self, pairs: Pairs) -> Pairs:
        if self.confirm is None or not len(pairs.later):
            return pairs
        return pairs.where(self.confirm(Pairs(pairs.earlier, pairs.later + self.seen)))

    def _within(self, entries: Hashes, part: Tokens) -> Pairs:
        keys = entries >> _32
        places = np.arange(len(keys))
        fresh = np.ones(len(keys), bool)
        fresh[1:] = keys[1:] != keys[:-1]
        first = np.maximum.accumulate(np.where(fresh, places, 0))
        found = []
        for low, high in _portions(places - first):
            counts = (places - first)[low:high]
            earlier = entries[ranges(first[low:high], counts)] & _LOW32
            later = np.repeat(entries[low:high] & _LOW32, counts)
            found.append(self._checked(earlier, later, part, within=True))
        empty = np.empty(0, np.int64)
        return Pairs(
            np.concatenate([empty, *(p.earlier for p in found)]), np.concatenate([empty, *(p.later for p in found)])
        )

    def _checked(self, earlier: Hashes, later: Hashes, part: Tokens, *, within: bool = False) -> Pairs:
        """Return those candidates whose overlap suffices; `earlier` are slots, or sets of the part."""
        early, late = earlier.astype(np.int64), later.astype(np.int64)
        own = _signatures(part)
        sizes, signatures = (part.lengths, own) if within else (self._elements.lengths, self._signatures)
        both = sizes[early] + part.lengths[late]
        # Elements that only one of two sets has are (1 - d) (m + n) at most, and no more bits than those differ.
        differ = np.bitwise_count(signatures[early] ^ own[late])
        fit = (differ <= both * (1 - self.dice) + _SLACK) & (
            2 * np.minimum(sizes[early], part.lengths[late]) >= both * self.dice - _SLACK
        )
        candidates = _unique((later[fit] << _32) | earlier[fit])
        early, late = (candidates & _LOW32).astype(np.int64), (candidates >> _32).astype(np.int64)
        m, n = sizes[early], part.lengths[late]
        enough = np.zeros(len(candidates), bool)
        for low, high in _portions(m + n):
            ours = part.hashes[ranges(part.starts[late[low:high]], n[low:high])]
            if within:
                theirs = part.hashes[ranges(part.starts[early[low:high]], m[low:high])]
            else:
                theirs = self._elements.take(early[low:high])
            overlap = _overlaps(ours, n[low:high], theirs, m[low:high])
            enough[low:high] = overlap >= (m + n)[low:high] * (self.dice / 2) - _SLACK
        early, late = early[enough], late[enough]
        return Pairs(early + self.seen if within else self._numbers[early], late)

    def _add(self, part: Tokens, kept: Flags) -> None:
        """Enter the kept sets of the part in the index."""
        chosen = np.flatnonzero(kept)
        slots = self._elements.count + np.arange(len(chosen), dtype=np.uint64)
        entries = self._entries(part)
        local = (entries & _LOW32).astype(np.int64)
        number = np.zeros(len(kept), np.uint64)
        number[chosen] = slots
        entries = ((entries >> _32) << _32 | number[local])[kept[local]]
        # Both parts are sorted but for the new slots, which a stable sort makes use of.
        self._fresh = np.sort(np.concatenate([self._fresh, entries]), kind="stable")
        if self._spill and len(self._fresh) > RUN:
            run = Shelf(spill=True, held=0)
            run.append(self._fresh, np.array([len(self._fresh)]))
            self._runs.append(run)
            self._fresh = np.empty(0, np.uint64)
        self._elements.append(part.hashes[np.repeat(kept, part.lengths)], part.lengths[kept])
        self._signatures = np.concatenate([self._signatures, _signatures(part)[chosen]])
        self._numbers = np.concatenate([self._numbers, self.seen + chosen])
        self.seen += len(kept)


def _slice(sets: Tokens, first: int, last: int) -> Tokens:
    starts = sets.starts[first : last + 1]
    return Tokens(sets.hashes[starts[0] : starts[-1]], starts - starts[0])


def _signatures(sets: Tokens) -> Hashes:
    """Return for each set a number whose bits are those that its elements' lowest six bits name."""
    bits = np.uint64(1) << (sets.hashes & np.uint64(63))
    found = np.zeros(len(sets.lengths), np.uint64)
    some = sets.lengths > 0
    found[some] = np.bitwise_or.reduceat(bits, sets.starts[:-1][some]) if some.any() else 0
    return found


def _unique(numbers: np.ndarray) -> np.ndarray:
    """As np.unique, by sorting; the hash table that numpy uses is many times slower on numbers of 64 bits."""
    numbers.sort()
    return numbers[np.concatenate((numbers[:1] == numbers[:1], numbers[1:] != numbers[:-1]))]


def _portions(counts: Places) -> Iterator[tuple[int, int]]:
    """Yield ranges of items whose counts sum to `AT_ONCE` at most, or that are one item."""
    totals = np.cumsum(counts)
    low = 0
    while low < len(counts):
        before = totals[low - 1] if low else 0
        high = max(low + 1, int(np.searchsorted(totals, before + AT_ONCE, "right")))
        yield low, high
        low = high


def _overlaps(ours: Hashes, n: Places, theirs: Hashes, m: Places) -> Places:
    """Return the size of the intersection of each pair of sets, given one after the other [P]."""
    ends = np.cumsum(m + n)
    both = np.empty(len(ours) + len(theirs), np.uint64)
    both[ranges(ends - m - n, n)] = ours
    both[ranges(ends - m, m)] = theirs
    both = sorted_rows(both, m + n)
    same = np.zeros(len(both), np.int64)
    same[1:] = both[1:] == both[:-1]
    same[(ends - m - n)[m + n > 0]] = 0
    totals = np.concatenate(([0], np.cumsum(same)))
    return totals[ends] - totals[ends - m - n]


def sorted_rows(numbers: Hashes, lengths: Places) -> Hashes:
    """Return rows of different lengths, given one after the other, each of them sorted.

    Rows of about one length are sorted together as a matrix: numpy has short rows in order thirty times as fast as the
    same numbers in one row.
    """
    found = np.empty_like(numbers)
    starts = np.cumsum(lengths) - lengths
    width, done = 8, 1
    while done <= 256:
        rows = np.flatnonzero((lengths >= done) & (lengths <= width))
        for few in np.array_split(rows, len(rows) * width // AT_ONCE + 1):
            matrix = np.full((len(few), width), ~np.uint64(0))
            filled = np.arange(width) < lengths[few][:, None]
            places = ranges(starts[few], lengths[few])
            matrix[filled] = numbers[places]
            matrix.sort(axis=1)
            found[places] = matrix[filled]
        width, done = width * 2, width + 1
    for row in np.flatnonzero(lengths >= done):
        here = slice(starts[row], starts[row] + lengths[row])
        found[here] = np.sort(numbers[here])
    return found


def dice_of_jaccard(jaccard: float) -> float:
    """Return the Dice coefficient that sets of this Jaccard coefficient have."""
    return 2 * jaccard / (1 + jaccard) if math.isfinite(jaccard) else 1.0
