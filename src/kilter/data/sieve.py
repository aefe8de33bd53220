"""What every filter does: take records batch by batch, look at a part of their text, say which are left out and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

from kilter.errors import SetAside
from kilter.records import Demonstration, Group, Prompt
from kilter.store import rejects

Record = TypeVar("Record", Prompt, Demonstration, Group, Prompt | Demonstration | Group)

Part = Literal["all", "prompt", "instruction", "response"]
"""all: every turn and response; prompt: what is not the assistant's; instruction: the first request without the input
that came with it in a column of its own; response: what the assistant says."""

BATCH = 1 << 14  # records that are looked at together, and
TEXT = 1 << 22  # characters of them


def said(record: Prompt | Demonstration | Group, part: Part = "all") -> str:
    """Return the text of one part of a record, a line between turns."""
    messages = record.prompt if isinstance(record, Group) else record.messages
    if part == "instruction":
        asked = next((m.content for m in messages if m.role == "user"), "")
        given = record.meta.get("input")
        return asked.removesuffix(given).rstrip() or asked if isinstance(given, str) and given else asked
    turns = [m.content for m in messages if part == "all" or (m.role == "assistant") == (part == "response")]
    if isinstance(record, Group) and part in ("all", "response"):
        turns = [*turns, *record.responses] if part == "all" else record.responses
    return "\n".join(turns)


def batches(records: Iterable[Record], part: Part = "all") -> Iterator[tuple[list[Record], list[str]]]:
    """Yield records, some thousand at a time, with the text of their `part`."""
    held: list[Record] = []
    texts: list[str] = []
    size = 0
    for record in records:
        text = said(record, part)
        held.append(record)
        texts.append(text)
        size += len(text)
        if len(held) == BATCH or size >= TEXT:
            yield held, texts
            held, texts, size = [], [], 0
    if held:
        yield held, texts


def leave_out(record: Prompt | Demonstration | Group, rule: str, reason: str) -> None:
    """Enter a record in the rejects of the run, where there is one; a filter called by itself only filters."""
    kept = rejects.current()
    if kept is not None:
        kept.set_aside(record, SetAside(reason, rule))


def passing(records: Iterable[Record], fault: Callable[[Record], tuple[str, str] | None]) -> Iterator[Record]:
    """Yield the records in which `fault` finds none; what it finds is a rule's name and a sentence."""
    for record in records:
        found = fault(record)
        if found is None:
            yield record
        else:
            leave_out(record, *found)
