"""Documents cut into passages, and those that fit a question best: BM25, the ranking that needs no model."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from kilter.errors import KilterError
from kilter.evaluation.rows import read

_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W_]+")
K1, B = 1.5, 0.75


class Passages:
    """The passages of one text or of several, in order; `best` finds those that share the rarest words with a query."""

    def __init__(self, texts: Sequence[str], size: int = 256) -> None:
        """Each text is cut into passages of `size` words, characters of Chinese counting as words."""
        self.texts = [passage for text in texts for passage in cut(text, size)]
        self._counts = [Counter(words(text)) for text in self.texts]
        self._sizes = [sum(counts.values()) for counts in self._counts]
        self._mean = sum(self._sizes) / len(self._sizes) if self._sizes else 1.0
        self._holding = Counter(word for counts in self._counts for word in counts)
        self._kept: dict[tuple[str, int], list[str]] = {}
        self.hits = 0

    def best(self, query: str, k: int = 5) -> list[str]:
        """Return the `k` passages with the highest BM25 score, the best first; asked again they come from the cache."""
        key = (query, k)
        if key in self._kept:
            self.hits += 1
            return self._kept[key]
        asked = Counter(words(query))
        ranked = sorted(range(len(self.texts)), key=lambda at: (-self._score(at, asked), at))
        self._kept[key] = [self.texts[at] for at in ranked[:k]]
        return self._kept[key]

    def _score(self, at: int, asked: Counter[str]) -> float:
        counts, size, total = self._counts[at], self._sizes[at], len(self.texts)
        found = 0.0
        for word, times in asked.items():
            there = counts.get(word, 0)
            if there:
                rarity = math.log(1 + (total - self._holding[word] + 0.5) / (self._holding[word] + 0.5))
                found += times * rarity * there * (K1 + 1) / (there + K1 * (1 - B + B * size / self._mean))
        return found


def words(text: str) -> list[str]:
    """Return the words of a text in lower case; a Chinese, Japanese or Korean character is a word."""
    return [match.group().casefold() for match in _WORD.finditer(text)]


def cut(text: str, size: int) -> list[str]:
    """Return `text` in passages of at most `size` words, whole and in order; nothing for an empty text."""
    found = list(_WORD.finditer(text))
    starts = [0, *(found[at].start() for at in range(size, len(found), size))]
    ends = [*starts[1:], len(text)]
    return [text[a:b].strip() for a, b in zip(starts, ends, strict=True) if text[a:b].strip()]


def by_topic(path: str, size: int = 256) -> dict[str, Passages]:
    """Return the passages of each topic in a file of rows with title (or topic) and text.

    Raises KilterError where a row lacks one of the two.
    """
    rows, _ = read(path)
    texts: dict[str, list[str]] = {}
    for at, row in enumerate(rows, 1):
        title, text = row.get("title", row.get("topic")), row.get("text", row.get("content"))
        if not title or not text:
            raise KilterError(f"Row {at} of {path} lacks a title or a text; each document of the knowledge has both.")
        texts.setdefault(str(title), []).append(str(text))
    return {title: Passages(some, size) for title, some in texts.items()}
