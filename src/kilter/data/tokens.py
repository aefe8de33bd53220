"""Texts as rows of token hashes: what near-duplicates, novelty and decontamination compare.

A token is a word, or one character of a script that puts no spaces between words (Chinese, Japanese, Thai ...). Whole
batches are cut and hashed with numpy, some hundred megabytes a second of ASCII. Tokens are equal where their hashes
are; of a million different words two share one with a probability of about 3e-8.
"""

from __future__ import annotations

import functools
import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

Rule = Literal["words", "rouge", "english"]
"""How a text is cut. All are blind to case.

words: runs of letters and digits of any script, after Unicode normalisation (NFKC).
rouge: as ROUGE does it, runs of a-z and 0-9, letters with accents are gaps; but other scripts have tokens too.
english: ROUGE to the letter: a text without a-z and 0-9 has no tokens and resembles nothing.
"""

BLOCK = 1 << 17  # characters that are cut at a time: the arrays of one block fit into a core's cache
_LONG = 64  # bytes of a token that are hashed in steps of 8; longer ones are rare and hashed whole

_GAP, _RUN, _ALONE, _UNSEEN = range(4)

# Scripts without spaces between words; Korean has them, but its words hold what are several elsewhere.
_UNSPACED = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1100, 0x11FF),  # Hangul
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0xA4CF),  # Chinese, Japanese, Yi
    (0xAC00, 0xD7FF),  # Hangul
    (0xF900, 0xFAFF),  # Chinese
    (0xFF66, 0xFFDC),  # Japanese and Korean, half width
    (0x1AFF0, 0x1B16F),  # Japanese
    (0x20000, 0x3FFFF),  # Chinese
)


class Tokens(NamedTuple):
    """Token hashes of N texts: those of text i are `hashes[starts[i]:starts[i + 1]]`; `starts` has N + 1 places."""

    hashes: Hashes
    starts: Places

    @property
    def lengths(self) -> Places:
        """How many tokens each text has [N]."""
        return np.diff(self.starts)


def tokenise(texts: Sequence[str], rule: Rule = "words") -> Tokens:
    """Cut `texts` by `rule`. A text of symbols alone (emoji) has each of them for a token, except by `english`."""
    other = [i for i, text in enumerate(texts) if not text.isascii()]
    if not other:
        return _joined([_ascii(block) for block in _blocks(texts)])
    chosen = set(other)
    plain = _joined([_ascii(block) for block in _blocks([t for i, t in enumerate(texts) if i not in chosen])])
    rest = _joined([_cut(block, rule) for block in _blocks([texts[i] for i in other])])
    return _interleaved(plain, rest, np.array(other), len(texts))


def _blocks(texts: Sequence[str]) -> list[Sequence[str]]:
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    found: list[Sequence[str]] = []
    start = 0
    while start < len(texts):
        end = 1 + int(np.searchsorted(ends, BLOCK + (ends[start - 1] if start else 0)))
        found.append(texts[start:end])
        start = end
    return found


def _joined(parts: list[Tokens]) -> Tokens:
    if not parts:
        return Tokens(np.empty(0, np.uint64), np.zeros(1, np.int64))
    totals = np.cumsum([0, *(len(part.hashes) for part in parts)])
    starts = [part.starts[:-1] + total for part, total in zip(parts, totals, strict=False)]
    return Tokens(np.concatenate([part.hashes for part in parts]), np.concatenate([*starts, totals[-1:]]))


def _interleaved(plain: Tokens, rest: Tokens, other: Places, count: int) -> Tokens:
    """Put two sets of texts into one order: `rest` are the texts numbered `other` of `count`."""
    lengths = np.empty(count, np.int64)
    mine = np.ones(count, bool)
    mine[other] = False
    lengths[mine], lengths[other] = plain.lengths, rest.lengths
    starts = np.concatenate(([0], np.cumsum(lengths)))
    hashes = np.empty(starts[-1], np.uint64)
    of_plain = np.repeat(mine, lengths)
    hashes[of_plain], hashes[~of_plain] = plain.hashes, rest.hashes
    return Tokens(hashes, starts)


_WORD = bytes(_RUN if chr(byte) in "abcdefghijklmnopqrstuvwxyz0123456789" else _GAP for byte in range(256))


def _ascii(texts: Sequence[str]) -> Tokens:
    raw = _sealed(texts).lower().encode()
    kinds = np.frombuffer(b"\0" + raw.translate(_WORD) + b"\0", np.uint8)
    edges = np.flatnonzero(kinds[1:] != kinds[:-1])
    starts, ends = edges[::2], edges[1::2]
    seals = np.flatnonzero(np.frombuffer(raw, np.uint8) == 0)
    return Tokens(_hash(raw, starts, ends - starts), np.concatenate(([0], np.searchsorted(starts, seals))))


def _sealed(texts: Sequence[str]) -> str:
    """Return the texts as one, a zero character after each; one that stands inside a text would end it."""
    whole = "\0".join(texts) + "\0"
    if whole.count("\0") > len(texts):
        return "\0".join(text.replace("\0", " ") for text in texts) + "\0"
    return whole


def _cut(texts: Sequence[str], rule: Rule) -> Tokens:
    """Cut texts with any characters in them."""
    whole = _sealed(texts)
    if rule == "words":
        whole = unicodedata.normalize("NFKC", whole)
    whole = whole.lower()
    raw = whole.encode("utf-8", "surrogatepass")
    points = np.frombuffer(whole.encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds(rule, points)
    run, alone = kinds == _RUN, kinds == _ALONE
    edge = np.empty(len(points) + 1, bool)  # whether a run begins or ends before a character
    edge[0], edge[-1] = run[0], run[-1]
    np.not_equal(run[1:], run[:-1], out=edge[1:-1])
    starts = np.flatnonzero((edge[:-1] & run) | alone)
    ends = np.flatnonzero((edge[1:] & run) | alone) + 1
    widths = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)  # bytes of UTF-8
    places = np.concatenate(([0], np.cumsum(widths)))
    seals = np.flatnonzero(points == 0)
    found = Tokens(
        _hash(raw, places[starts], places[ends] - places[starts]),
        np.concatenate(([0], np.searchsorted(starts, seals))),
    )
    return found if rule == "english" else _with_symbols(found, whole.split("\0")[:-1])


def _with_symbols(found: Tokens, texts: Sequence[str]) -> Tokens:
    empty = [i for i in np.flatnonzero(found.lengths == 0).tolist() if texts[i].strip()]
    if not empty:
        return found
    parts = [found.hashes[found.starts[i] : found.starts[i + 1]] for i in range(len(texts))]
    for i in empty:
        symbols = [symbol.encode("utf-8", "surrogatepass") for symbol in texts[i] if not symbol.isspace()]
        parts[i] = np.array([_digest(symbol) for symbol in symbols], np.uint64)
    return Tokens(np.concatenate(parts), np.cumsum([0, *map(len, parts)]))


@functools.cache
def _table(rule: Rule) -> NDArray[np.uint8]:
    """The kind of every character, filled in as they are met: a million lookups in advance would cost half a second."""
    table = np.full(0x110000, _UNSEEN, np.uint8)
    table[:256] = np.frombuffer(_WORD, np.uint8)
    table[128:256] = _UNSEEN
    return table


def _kinds(rule: Rule, points: NDArray[np.uint32]) -> NDArray[np.uint8]:
    table = _table(rule)
    kinds = table[points]
    unseen = kinds == _UNSEEN
    if unseen.any():
        for point in np.unique(points[unseen]):
            table[point] = _kind(rule, int(point))
        kinds = table[points]
    return kinds


def _kind(rule: Rule, point: int) -> int:
    category = unicodedata.category(chr(point))
    if rule == "english" or category[0] not in "LMN":
        return _GAP
    if any(first <= point <= last for first, last in _UNSPACED):
        return _ALONE
    if rule == "rouge" and (
        category in ("No", "Lm") or category[0] == "M" or "LATIN" in unicodedata.name(chr(point), "")
    ):
        return _GAP
    return _RUN


# Multiplications by large odd numbers and shifts, as in splitmix64, spread every bit of a token over the hash.
_SPREAD, _STIR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_FIRST = np.array([(1 << (8 * n)) - 1 for n in range(9)], np.uint64)  # keeps the first n bytes of eight


def mixed(values: Hashes) -> Hashes:
    """Return `values` [N] stirred one to one, so that any of their bits may serve as a hash."""
    found = values * _SPREAD
    found ^= found >> _HALF
    found *= _STIR
    found ^= found >> _HALF
    return found


def _hash(raw: bytes, starts: Places, lengths: Places) -> Hashes:
    """Return a hash of each `raw[start : start + length]`, whose bytes are taken eight at a time."""
    words = np.frombuffer(raw + bytes(24 - len(raw) % 8), "<u8")
    found = _eight(words, starts, np.minimum(lengths, 8))
    found += lengths.astype(np.uint64)
    found *= _SPREAD
    found ^= found >> _HALF
    left = np.flatnonzero(lengths > 8)
    for done in range(8, _LONG, 8):
        if not len(left):
            break
        more = (found[left] ^ _eight(words, starts[left] + done, np.minimum(lengths[left] - done, 8))) * _SPREAD
        found[left] = more ^ (more >> _HALF)
        left = left[lengths[left] > done + 8]
    for i in left:
        found[i] = _digest(raw[starts[i] : starts[i] + lengths[i]])
    found *= _STIR
    found ^= found >> _HALF
    return found


def _eight(words: Hashes, starts: Places, lengths: Places) -> Hashes:
    """Return up to eight bytes from each start as a number; numpy reads only at multiples of eight."""
    at, shift = starts >> 3, ((starts & 7) << 3).astype(np.uint64)
    low = words[at]
    low >>= shift
    high = words[at + 1]
    high <<= np.uint64(1)
    high <<= np.uint64(63) - shift
    low |= high
    low &= _FIRST[lengths]
    return low


def _digest(raw: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little"))
