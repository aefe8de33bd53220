"""The world's wordings read back: which template a text is, and what stands in its slots.

With some tolerance for punctuation and space, for an instruction and its input may come apart ("Sort these" and
"3, 1, 2" below it).
"""

from __future__ import annotations

import functools
import re
import string
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from kilter.world import lexicon

CHINESE = re.compile("[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]")
NAME = (
    r"[A-Z][a-z]+",
    "[" + "".join(lexicon.SYLLABLES.values()) + "".join(z for _, z in lexicon.PLACE_ENDINGS) + "]+",
)


def language(text: str) -> str:
    """Return "zh" for a text with Chinese characters, else "en"."""
    return "zh" if CHINESE.search(text) else "en"


def chosen(options: Sequence[str], text: str) -> str:
    return options[zlib.crc32(text.encode("utf-8", "replace")) % len(options)]


@functools.cache
def pattern(template: str, slots: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    kinds, seen, parts = dict(slots), set(), []
    for literal, name, _, _ in string.Formatter().parse(template):
        for piece in re.split(r"([\s:：.。,，!！?？]+)", literal):
            if not piece.strip(" :：.。,，!！?？"):
                spaced = " " in piece and not piece.strip()
                parts.append(r"[\s:：]+" if spaced else r"[\s:：.。,，!！?？]*" if piece else "")
            else:
                parts.append(re.escape(piece))
        if name is not None:
            parts.append(f"(?P={name})" if name in seen else rf"\s*(?P<{name}>{kinds[name]})")
            seen.add(name)
    return re.compile("".join(parts) + r"[\s.。!！?？]*")


def read(text: str, templates: Any, slots: Any) -> tuple[dict[str, str], int] | None:
    """Return the slots of `text` and its language's number, where one of (English, Chinese) `templates` fits."""
    return next(reads(text, templates, slots), None)


def reads(text: str, templates: Any, slots: Any) -> Iterator[tuple[dict[str, str], int]]:
    """Yield what `_read` returns, for every one that fits."""
    lang = 1 if CHINESE.search(text) else 0
    of = templates[lang]
    every = [*of[0], *of[1]] if isinstance(of, tuple) and isinstance(of[0], list) else of
    kinds = tuple(sorted((name, kind[lang] if isinstance(kind, tuple) else kind) for name, kind in slots.items()))
    for template in every:
        found = pattern(template, kinds).fullmatch(text)
        if found:
            yield found.groupdict(), lang


def either(words: Sequence[lexicon.Pair]) -> tuple[str, str]:
    return tuple("|".join(sorted((re.escape(w[l]) for w in words), key=len, reverse=True)) for l in (0, 1))  # type: ignore[return-value]
