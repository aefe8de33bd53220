"""What one sees of a response without reading it: its length, its headings, lists and bold print.

A judge who likes these is measured with them as covariates, so that a rating says what is left (Chatbot Arena's style
control; Li et al. 2024).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from kilter.evaluation.rows import Row, number

FEATURES = ("length", "headers", "lists", "bold")

_CODE = re.compile(r"```.*?(```|\Z)", re.DOTALL)
_PATTERNS = {
    "headers": re.compile(r"^ {0,3}#{1,6}\s", re.MULTILINE),
    "lists": re.compile(r"^\s*(?:\d+[.)]|[-*+])\s", re.MULTILINE),
    "bold": re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
}
# The same four in the metadata that Chatbot Arena publishes with its votes.
_ARENA = {
    "length": "sum_assistant_{}_tokens",
    "headers": "header_count_{}",
    "lists": "list_count_{}",
    "bold": "bold_count_{}",
}
# And in rows that hold lengths or texts themselves, first side and second side.
_TEXTS = (("response_a", "response_b"), ("output_1", "output_2"), ("answer_a", "answer_b"))
_LENGTHS = (("length_a", "length_b"), ("len_a", "len_b"))


def style(text: str) -> dict[str, float]:
    """Return the length of `text` in characters and how many headings, list items and bold spans its markdown has."""
    prose = _CODE.sub("", text)
    return {"length": float(len(text)), **{name: float(len(p.findall(prose))) for name, p in _PATTERNS.items()}}


def features(row: Row, names: Sequence[str]) -> list[float] | None:
    """Return (a - b) / (a + b + 1) of each named feature of the two responses, or None where the row does not tell."""
    found = []
    for name in names:
        pair = counts(row, name)
        if pair is None:
            return None
        found.append((pair[0] - pair[1]) / (pair[0] + pair[1] + 1))
    return found


def counts(row: Row, name: str) -> tuple[float, float] | None:
    """Return one feature of both responses: from the row's metadata, its lengths, or its texts."""
    meta = row.get("conv_metadata")
    if isinstance(meta, dict):
        sides = [_total(meta.get(_ARENA[name].format(side))) for side in "ab"]
        if sides[0] is not None and sides[1] is not None:
            return sides[0], sides[1]
    if name == "length":
        for x, y in _LENGTHS:
            a, b = number(row.get(x)), number(row.get(y))
            if a is not None and b is not None:
                return a, b
    for x, y in _TEXTS:
        if isinstance(row.get(x), str) and isinstance(row.get(y), str):
            return style(row[x])[name], style(row[y])[name]
    return None


def _total(value: Any) -> float | None:
    """A count, or the sum of counts by kind: {"h1": 2, "h2": 1}."""
    if isinstance(value, dict):
        numbers = [number(part) for part in value.values()]
        return float(sum(n for n in numbers if n is not None))
    return number(value)
