"""The answer that a solution comes to, and whether it is the right one."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from kilter.feedback.rules import ANSWERS, words
from kilter.records import Demonstration, Prompt

_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_SAID = re.compile(r"(?:answer\s*(?:is|:|：)+|answer is:?|答案是?\s*[:：]?|答案为\s*[:：]?)\s*(.+)", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_PLAIN = re.compile(r"[$€£¥￥\\%\s]|(?<=\d),(?=\d{3})")


def due_of(record: Prompt | Demonstration) -> str | None:
    """Return the right answer of a record: beside it, or at the end of its last turn; None where there is none."""
    for place in (record.meta, record.meta.get("extra") or {}):
        for name in ANSWERS:
            found: Any = place.get(name)
            if isinstance(found, str | int | float) and not isinstance(found, bool) and str(found).strip():
                return final(str(found))
    last = record.messages[-1] if record.messages else None
    return final(last.content) or None if last is not None and last.role == "assistant" else None


def final(solution: str) -> str:
    """Return the answer of a solution: in its last box, behind ####, after "the answer is", else its last line."""
    boxed = _BOXED.findall(solution)
    if boxed:
        return str(boxed[-1]).strip()
    if "####" in solution:
        return solution.rpartition("####")[2].strip()
    said = _SAID.findall(solution)
    if said:
        return str(said[-1]).strip().rstrip(".。")
    lines = [line for line in solution.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def right(due: str, solution: str) -> bool:
    """Whether `solution` comes to the answer `due`: as a number where that is one, else word for word."""
    return equal(due, final(solution))


def equal(due: str, given: str) -> bool:
    """Whether two answers are the same: numbers by their value, the last of several; else their words."""
    number = value(due)
    if number is None:
        return words(due.casefold()) == words(given.casefold()) and bool(words(due))
    found = [value(part) for part in _NUMBER.findall(given.replace(" - ", " "))]
    return bool(found) and found[-1] == number


def value(text: str) -> Fraction | None:
    """Return the number that `text` is, exactly; None where it is none."""
    try:
        return Fraction(_PLAIN.sub("", text).rstrip("."))
    except (ValueError, ZeroDivisionError):
        return None
