"""What a model was asked to write in some form, read back: a list, JSON, labelled sections, a grade.

A reply that does not have the form raises SetAside, so that nothing half-read goes on.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any

from kilter.data.sieve import leave_out
from kilter.errors import SetAside
from kilter.models.protocol import Model
from kilter.records import Message, Prompt

_ITEM = re.compile(r"^\s*(?:\(?\d{1,3}[.):、．）]|[-*•])\s*(.+?)\s*$", re.MULTILINE)
_FENCE = re.compile(r"```(?:\w+)?\s*\n(.*?)```", re.DOTALL)
_TRIES = 50  # brackets at which JSON may begin: a text of nothing else is none
_BOLD = re.compile(r"^\*\*(.+)\*\*$")


def model_of(given: str | Model, otherwise: Model) -> Model:
    """Return the model that an option names, `otherwise` where it names none."""
    if not isinstance(given, str):
        return given
    if not given:
        return otherwise
    from kilter.models.load import load  # brings torch, which nobody needs who only looks at the catalogue

    return load(given)


async def together(these: Iterable[Awaitable[Any]]) -> list[Any]:
    """Await all of these at once; where some fail, raise the first that did when all have ended."""
    found = await asyncio.gather(*these, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


def listed(text: str, most: int | None = None) -> list[str]:
    """Return the items of a numbered or dashed list, each once, quotes around them taken off; at most `most`.

    Raises SetAside where there is no list.
    """
    found = [_BOLD.sub(r"\1", item).strip("\"'“”「」 ") for item in _ITEM.findall(text)]
    items = list(dict.fromkeys(item for item in found if item))
    if not items:
        raise SetAside("The answer is no list; ask for one item a line, numbered.", "no list")
    return items[:most]


def in_json(text: str) -> Any:
    """Return the first JSON object or array in `text`, fenced or not; raise SetAside where none can be read."""
    decoder = json.JSONDecoder()
    for part in (*_FENCE.findall(text), text):
        for found in itertools.islice(re.finditer(r"[\[{]", part), _TRIES):
            try:
                return decoder.raw_decode(part, found.start())[0]
            except (ValueError, RecursionError):
                continue
    raise SetAside("The answer holds no JSON that can be read.", "broken JSON")


def sections(text: str, names: Sequence[str], *, rule: str = "sections") -> dict[str, str]:
    """Return what stands under each of `names` (a line `Name:` or `[Name]` or `## Name`), in whatever case.

    Raises SetAside where one is missing, empty, or where they come in another order.
    """
    tags = "|".join(re.escape(name) for name in names)
    parts = re.split(
        rf"^[ \t]*(?:[#*\[]+[ \t]*)?({tags})[ \t]*(?:\]|\*\*)?[ \t]*[:：]?[*]*[ \t]*", text, flags=re.I | re.M
    )
    found: dict[str, str] = {}
    for name, said in zip(parts[1::2], parts[2::2], strict=True):
        found.setdefault(next(known for known in names if known.casefold() == name.casefold()), said.strip())
    missing = [name for name in names if not found.get(name)]
    if missing:
        raise SetAside(f"The answer lacks the part '{missing[0]}', or it is empty.", rule)
    if list(found) != list(names):
        raise SetAside(f"The parts of the answer come in another order than {', '.join(names)}.", rule)
    return found


def grade(text: str, low: float, high: float, names: str = r"score|rating|grade|评分|分数|得分") -> float:
    """Return the grade in a reply: the last one that follows its name, else a number alone on the first or last line.

    Raises SetAside where there is none between `low` and `high`: what cannot be read is no grade, and no lowest one.
    """
    lines = [line for line in text.strip().splitlines() if line.strip()] or [""]
    named = re.findall(rf"(?:{names})\W{{0,8}}?(-?\d+(?:\.\d+)?)", text, re.IGNORECASE)
    alone = [
        re.fullmatch(r"[\s*\[(]*(-?\d+(?:\.\d+)?)(?:\s*/\s*\d+)?[\s*\]).]*", line) for line in (lines[0], lines[-1])
    ]
    for found in [*reversed(named), *(match[1] for match in alone if match)]:
        if low <= float(found) <= high:
            return float(found)
    raise SetAside(f"The reply holds no grade from {low:g} to {high:g}.", "no grade")


def requests_in(records: Iterable[Prompt]) -> list[tuple[str, tuple[str, ...]]]:
    """Return what each record asks, and its id for the parents of what is made of it; those that ask nothing go."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for record in records:
        try:
            found.append((asked_of(record.messages), (record.id,)))
        except SetAside as why:
            leave_out(record, why.rule, str(why))
    return found


def asked_of(messages: Sequence[Message]) -> str:
    """Return the last turn that is not the assistant's: what is asked. Raises SetAside where nothing is."""
    text = next((m.content for m in reversed(messages) if m.role == "user"), "")
    if not text.strip():
        raise SetAside("It asks nothing; give it a user's turn.", "no prompt")
    return text


def answer_of(messages: Sequence[Message]) -> str:
    """Return the last turn, which is the assistant's and not empty; else raise SetAside."""
    if not messages or messages[-1].role != "assistant":
        raise SetAside("It does not end with an answer; give demonstrations that do.", "no answer")
    if not messages[-1].content.strip():
        raise SetAside("Its answer is empty; give demonstrations with answers.", "no answer")
    return messages[-1].content
