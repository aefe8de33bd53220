"""The world's prompts by their text: what is asked, the right answer, a wrong one, and what judges any other.

A prompt that the world made says all this in its `meta`. A prompt that a method has written, taken out of a file or
changed says nothing, so it is read here: against the wordings of every family, and with what evolved and paraphrased
prompts have more (a lead-in, a constraint) taken off.
"""

from __future__ import annotations

import functools
import string
from collections.abc import Iterator, Sequence
from typing import Any

from kilter.models.teacher import families, values
from kilter.models.teacher.families import Known
from kilter.models.teacher.wordings import NAME, language, read, reads
from kilter.records import Message
from kilter.world import lexicon, tasks

__all__ = ["ADDITIONS", "LEAD_INS", "Known", "known", "language", "reworded", "slots"]

# What may stand around a request without changing its answer: (English, Chinese).
LEAD_INS = (
    ("Here is a question: ", "有个问题："),
    ("Please answer this: ", "请回答："),
    ("I would like to know the following. ", "我想知道下面的事。"),
    ("Could you help me with this? ", "你能帮我一下吗？"),
    ("A friend of mine asked me: ", "一个朋友问我："),
)
ADDITIONS = (
    (" Answer in one short sentence.", "请用一句短话回答。"),
    (" Give only what is asked and nothing else.", "只说问到的，别的不要说。"),
    (" Do not use any brackets.", "不要用括号。"),
    (" Write the answer in plain text.", "请用纯文本写答案。"),
    (" Check the answer once more before you give it.", "回答之前请再核对一遍。"),
    (" Keep to the facts that you are sure of.", "只说你确定的事实。"),
    (" The answer goes onto a small card, so keep it under ten words.", "答案要写在小卡片上，请不要超过十个词。"),
    (" Think about it step by step first, then give the answer.", "先一步一步想，再给出答案。"),
)


def known(asked: str | Sequence[Message]) -> Known | None:
    """Return what the world knows of a text or of the conversation that waits for an answer; None for nothing."""
    if isinstance(asked, str):
        return _request(asked)
    talk = tuple((m.role, m.content) for m in asked if m.role != "system")
    if not talk or talk[-1][0] == "assistant":
        return None
    return families.conversation(talk) or (_request(talk[-1][1]) if talk[-1][0] == "user" else None)


def slots(text: str, templates: Any) -> dict[str, str]:
    """Return what fills the slots of one of the world's templates in `text`; nothing where none fits."""
    names = {
        name for pair in templates for wording in pair[0] for _, name, _, _ in string.Formatter().parse(wording) if name
    }
    found = read(" ".join(text.split()), templates, dict.fromkeys(names, r".+?"))
    return found[0] if found else {}


def reworded(text: str) -> list[str]:
    """Return `text` in every other wording that the training split has of it."""
    plain = " ".join(text.split())
    for templates in _REWORDED:
        names = {name for wording in templates[0][0] for _, name, _, _ in string.Formatter().parse(wording) if name}
        kinds = {name: {"n": NAME, "x": r"[\d +*\-,，、]+"}.get(name, r".+?") for name in names}
        for given, l in reads(plain, templates, kinds):
            others = [wording.format(**given) for wording in templates[l][0]]
            if others and _request(plain) is not None and all(_same(plain, other) for other in others):
                return others
    return []


def _same(one: str, other: str) -> bool:
    first, second = _request(one), _request(other)
    return first is not None and second is not None and (first.family, first.check) == (second.family, second.check)


_REWORDED = (
    *lexicon.QUESTIONS.values(), lexicon.UNTOLD_QUESTIONS, lexicon.PRIVATE_QUESTIONS, lexicon.BIAS_QUESTIONS,
    lexicon.PROVOCATIONS, tasks.SUMS, tasks.TOOLS, tasks.SORTS, *tasks.REWRITES.values(), tasks.LETTERS,
    tasks.SENTIMENTS, lexicon.HARM_QUESTIONS,
)  # fmt: skip


@functools.lru_cache(maxsize=1 << 14)
def _request(text: str) -> Known | None:
    for plain in _stripped(text):
        for reader in _READERS:
            found = reader(plain)
            if found is not None:
                return found
    return None


def _stripped(text: str) -> Iterator[str]:
    """Yield `text`, and what is left of it without lead-ins and additions."""
    plain = " ".join(text.split())
    yield plain
    before = None
    while before != plain:
        before = plain
        for english, chinese in ADDITIONS:
            plain = plain.removesuffix(english.strip()).removesuffix(chinese).strip()
        for english, chinese in LEAD_INS:
            plain = plain.removeprefix(english.strip()).removeprefix(chinese).strip()
        if before != plain:
            yield plain


# From the narrow to the wide: what fits a template of the first belongs to no later one.
_READERS = (
    families.sums, families.tools, families.sorting, values.private, values.untold, families.facts, values.bias,
    values.provocation, values.hazards, families.extraction, families.rewriting, families.letters, families.sentiment,
)  # fmt: skip
