"""Dolly's categories: what employees wrote by a guideline, checked against it."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field

from kilter.data.mixture import key
from kilter.data.sieve import leave_out
from kilter.notes import tell
from kilter.records import Demonstration, Message, Origin
from kilter.registry import method

CATEGORIES = (
    "brainstorming",
    "classification",
    "closed_qa",
    "creative_writing",
    "general_qa",
    "information_extraction",
    "open_qa",
    "summarization",
)
WITH_CONTEXT = frozenset({"closed_qa", "information_extraction", "summarization"})
"""Categories of which a record stands on a passage."""
_CITATION = re.compile(r"\s?\[(?:\d{1,3}|citation needed|note \d+)\]")


@method("dolly", wing="data", paper="databricks.com/blog/dolly-15k", survey="S2 §2.1")
def dolly(
    records: Iterable[Demonstration],
    *,
    quota: Annotated[int, Field(gt=0)] | None = None,
    strict: bool = False,
) -> Iterator[Demonstration]:
    """Check and clean demonstrations written in Dolly's categories (Conover et al. 2023).

    The marks of citations, as [12], that passages from Wikipedia bring along are taken out. A record of none of the
    eight categories, and one without a request or an answer, is left out; so is one over the `quota` of its category.
    With `strict` a record of closed_qa, information_extraction or summarization must have a passage. How many records
    each category has, with a passage and without, is told at the end.

    Options:
        quota: most records of one category
        strict: whether a category that stands on a passage must have one
    """
    counts: Counter[str] = Counter()
    passages: Counter[str] = Counter()
    for record in records:
        category = key(record, "category")
        context = record.meta.get("input") or ""
        if category not in CATEGORIES:
            leave_out(record, "category", f"Its category is '{category}', which is none of Dolly's.")
        elif len(record.messages) < 2 or not all(m.content.strip() for m in record.messages):
            leave_out(record, "empty", "It has no request or no answer.")
        elif strict and category in WITH_CONTEXT and not context:
            leave_out(record, "no passage", f"A record of {category} stands on a passage, and it has none.")
        elif quota is not None and counts[category] == quota:
            leave_out(record, "quota", f"There are {quota} others of {category} before it.")
        else:
            counts[category] += 1
            passages[category] += bool(context)
            yield _cleaned(record, category)
    tell([", ".join(f"{name} {counts[name]:,} ({passages[name]:,} with a passage)" for name in sorted(counts)) + "."])


def _cleaned(record: Demonstration, category: str) -> Demonstration:
    found = copy.copy(record)
    found.messages = [Message(m.role, _CITATION.sub("", m.content)) for m in record.messages]
    found.meta = {**record.meta, "category": category}
    if record.meta.get("input"):
        found.meta["input"] = _CITATION.sub("", record.meta["input"])
    found.origin = record.origin or Origin("dolly", parents=(record.id,))
    return found
