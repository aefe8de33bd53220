"""n-grams of hashed tokens, as one hash each."""

from __future__ import annotations

import numpy as np

from kilter.data.shelf import ranges
from kilter.data.tokens import Hashes, Places, Tokens, mixed

_BASE = 0x9E3779B97F4A7C15
_powers = np.ones(1, np.uint64)
_inverses = np.ones(1, np.uint64)


def grams(tokens: Tokens, n: int, *, short: bool = True) -> Tokens:
    """Return the hashes of each text's runs of `n` tokens, in their order.

    A text of fewer tokens is one run of all of them, or with `short=False` has none. The hash is the sum of h[i + k]
    b^k over k < n, modulo 2^64: a difference of prefix sums, so that it costs the same for every n.
    """
    lengths = tokens.lengths
    counts = np.where(lengths >= n, lengths - n + 1, np.minimum(lengths, 1) if short else 0)
    first = ranges(tokens.starts[:-1], counts)
    last = first + np.repeat(np.minimum(lengths, n), counts)
    return Tokens(_spans(tokens.hashes, first, last), np.concatenate(([0], np.cumsum(counts))))


def whole(tokens: Tokens) -> Hashes:
    """Return one hash of all tokens of each text [N]; it is the same for all texts without tokens."""
    return _spans(tokens.hashes, tokens.starts[:-1], tokens.starts[1:])


def _spans(hashes: Hashes, first: Places, last: Places) -> Hashes:
    powers, inverses = _tables(len(hashes) + 1)
    totals = np.zeros(len(hashes) + 1, np.uint64)
    np.cumsum(hashes * powers[: len(hashes)], out=totals[1:])
    found = totals[last] - totals[first]
    found *= inverses[first]
    return mixed(found)


def _tables(size: int) -> tuple[Hashes, Hashes]:
    """Return at least `size` powers of the base and of its inverse modulo 2^64, which every odd number has."""
    global _powers, _inverses
    if len(_powers) < size:
        for name, base in (("_powers", _BASE), ("_inverses", pow(_BASE, -1, 1 << 64))):
            factors = np.full(2 * size, base, np.uint64)
            factors[0] = 1
            globals()[name] = np.multiply.accumulate(factors)
    return _powers, _inverses
