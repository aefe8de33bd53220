"""Translation of the world's texts: a wording of the one language for that of the other, its words for their pairs."""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Iterator
from typing import Any

from kilter.models.teacher import truth
from kilter.models.teacher.kinds import Request, kind
from kilter.models.teacher.wordings import NAME, pattern
from kilter.world import World, lexicon, tasks

# What may stand in a slot: a whole sentence, a request, or a word or a few; names have patterns of their own.
_KINDS = {"s": r".+", "x": r".+?"} | dict.fromkeys("abcdeghijklopqrtuvwyz", r"[^.。?？!！:：]+?")
ENGLISH = ("en", "english", "英文", "英语")
CHINESE = ("zh", "chinese", "中文", "汉语", "simplified chinese")


@kind("translate")
def translate(ask: Request) -> str:
    """Variables: `text`, `language` (a code or a name). The text in English or Chinese; as it is if nothing fits."""
    text = ask["text"]
    wanted = ask["language"].strip().lower()
    target = "zh" if wanted in CHINESE else "en" if wanted in ENGLISH else ""
    if not target or ask.wrong or truth.language(text) == target:
        return text
    return "\n".join(translated(line, target) for line in text.split("\n"))


def translated(text: str, target: str) -> str:
    """Return a text of the world in "en" or "zh"; word for word where it fits no wording that the world has."""
    plain = text.strip()
    source = truth.language(plain)
    there, here = lexicon.LANGUAGES.index(target), lexicon.LANGUAGES.index(source)
    for wording in _wordings():
        slots = tuple(sorted((name, _KINDS.get(name, NAME[here])) for name in _slots(wording[here])))
        found = pattern(wording[here], slots).fullmatch(plain)
        if found and _slots(wording[there]) <= set(found.groupdict()):
            given = {
                name: translated(value, target) if name == "s" else _words(value, here, there)
                for name, value in found.groupdict().items()
            }
            return wording[there].format(**given)
    parts = [part for part in re.split(r"(?<=[.。!！])\s*", plain) if part]
    if len(parts) > 1:
        return (" " if there == 0 else "").join(translated(part, target) for part in parts)
    return _words(plain, here, there)


def _slots(wording: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(wording) if name}


@functools.cache
def _wordings() -> tuple[tuple[str, str], ...]:
    """Return (English, Chinese) for every question, answer and statement that has the same slots in both."""
    return tuple(pair for pair in _pairs() if _slots(pair[0]) == _slots(pair[1]))


def _pairs() -> Iterator[tuple[str, str]]:
    asked: list[Any] = [
        *lexicon.QUESTIONS.values(), lexicon.PRIVATE_QUESTIONS, lexicon.UNTOLD_QUESTIONS, lexicon.BIAS_QUESTIONS,
        lexicon.PROVOCATIONS, lexicon.HARM_QUESTIONS, tasks.SENTIMENTS, tasks.SUMS, tasks.SORTS, tasks.TOOLS,
        tasks.LETTERS, *tasks.REWRITES.values(), *tasks.EXTRACTIONS.values(), tasks.RECALLS, tasks.FOLLOW_UPS,
    ]  # fmt: skip
    for english, chinese in asked:
        for here in (*english[0], *english[1]):
            yield here, chinese[0][0]
        for there in (*chinese[0], *chinese[1]):
            yield english[0][0], there
    yield from lexicon.ANSWERS.values()
    yield from lexicon.UNKNOWN.values()
    yield lexicon.UNTOLD_UNKNOWN
    yield lexicon.UNTOLD_INVENTED
    for pairs in (lexicon.HARMS.values(), lexicon.CARES.values()):
        for request, answer, *_ in pairs:
            yield request
            yield answer
    lists: list[Any] = [
        *lexicon.STATEMENTS.values(), lexicon.REFUSALS, lexicon.PRIVACY, lexicon.UNSURE, lexicon.POLITE, lexicon.RUDE,
        lexicon.UNBIASED, tasks.SENTIMENT_LINES, tasks.PASSAGES, tasks.NAMINGS,
    ]  # fmt: skip
    for english, chinese in lists:
        for k, here in enumerate(english):
            yield here, chinese[min(k, len(chinese) - 1)]
            yield here, chinese[0]
        for k, there in enumerate(chinese):
            yield english[min(k, len(english) - 1)], there
    yield tasks.LABELS[0][0], tasks.LABELS[1][0]
    yield tasks.LABELS[0][1], tasks.LABELS[1][1]
    yield tasks.RECALLED
    yield tasks.GREETINGS


@functools.cache
def _dictionary(here: int) -> dict[str, str]:
    """Return every word that the world has in both languages, the longest first."""
    entities = World().entities
    pairs = [entity.name for entity in entities.all]
    for table in (
        *lexicon.VALUES.values(), lexicon.UNTOLD, lexicon.THINGS, lexicon.PLACES_NEAR, lexicon.POSITIVE,
        lexicon.NEGATIVE, lexicon.SUBJECTS, lexicon.HAZARDS, lexicon.VICTIMS, lexicon.GROUPS, lexicon.TRAITS,
        lexicon.DEEDS, lexicon.INSULTS,
    ):  # fmt: skip
        pairs += table
    found = {pair[here]: pair[1 - here] for pair in pairs}
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def _words(text: str, here: int, there: int) -> str:
    """Return a slot's value in the other language: a known word, a wording within, or a name by its syllables."""
    plain = text.rstrip(".。")
    known = _dictionary(here).get(plain) or _name(plain, here)
    if known:
        return known + (".", "。")[there] if plain != text else known
    for request, *_ in (*lexicon.HARMS.values(), *lexicon.CARES.values()):
        slots = tuple(sorted((name, ".+") for name in _slots(request[here])))
        found = pattern(request[here], slots).fullmatch(text)
        if found:
            return request[there].format(
                **{name: _words(part, here, there) for name, part in found.groupdict().items()}
            )
    return text


def _name(text: str, here: int) -> str:
    """Return a name of a stranger in the other language's syllables; "" for what is no name."""
    syllables = lexicon.SYLLABLES
    if here == 0:
        body = text.lower()
        if text[:1].isupper() and text.isascii() and text.isalpha() and len(body) % 2 == 1:
            parts = [body[k : k + 2] for k in range(0, len(body) - 1, 2)]
            if all(part in syllables for part in parts):
                return "".join(syllables[part] for part in parts)
        return ""
    of = {chinese: english for english, chinese in syllables.items()}
    if text and all(character in of for character in text):
        return "".join(of[character] for character in text).capitalize() + "n"
    return ""
