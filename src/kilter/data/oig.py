"""Open Instruction Generalist: conversations in one line of text, from many subsets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from kilter.data.sieve import leave_out
from kilter.formats.sources import tables
from kilter.notes import tell
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import method
from kilter.store import rejects

MARKS = {"user": "<human>:", "assistant": "<bot>:"}
_TURN = re.compile(r"(<human>:|<bot>:)")


@method("oig", wing="data", paper="laion.ai/blog/oig-dataset", survey="S2 §2.1")
def oig(*, rows: str, sources: str = "") -> Iterator[Demonstration]:
    """Read OIG's flat conversations, `<human>: ... <bot>: ...`, subset by subset (Nguyen et al. 2023).

    Human and bot take turns, the human first; a text in which they do not is left out, and so is one that ends with a
    question alone, cut after its last answer if it has one. What stands before the first turn is the system's. How many
    conversations each subset (metadata.source) has is told at the end; `mix --by source` mixes them.

    Options:
        rows: OIG's files: JSONL with text and metadata
        sources: subsets that are taken, with commas between; without it all are
    """
    wanted = {name.strip() for name in sources.split(",") if name.strip()}
    counts: dict[str, int] = {}
    for table in tables(rows):
        for line in table.lines():
            if line.row is None or not isinstance(line.row.get("text"), str):
                kept = rejects.current()
                if kept is not None:
                    reason = line.reason or "there is no text"
                    kept.unreadable({"file": table.name, "line": line.number, "reason": reason, "text": line.raw})
                continue
            source = _source(line.row, table.name)
            if wanted and source not in wanted:
                continue
            messages = parse(line.row["text"])
            found, fault = _cut(messages)
            if fault is not None:
                leave_out(Prompt([Message("user", line.row["text"])]), *fault)
                continue
            counts[source] = counts.get(source, 0) + 1
            yield Demonstration(found, "", Origin("oig", parents=(source,)), {"source": source})
    tell([", ".join(f"{name} {count:,}" for name, count in counts.items()) + f"; {sum(counts.values()):,} in all."])


def _source(row: dict[str, Any], name: str) -> str:
    told = row.get("metadata")
    return str(told.get("source") or name) if isinstance(told, dict) else name


def parse(text: str) -> list[Message]:
    """Return the turns of a flat text; what stands before the first is the system's, if it is more than spaces."""
    before, *parts = _TURN.split(text)
    roles = {mark: role for role, mark in MARKS.items()}
    found = [Message("system", before.strip())] if before.strip() else []
    return found + [Message(roles[mark], said.strip()) for mark, said in zip(parts[::2], parts[1::2], strict=True)]


def render(messages: list[Message]) -> str:
    """Return turns as OIG's flat text, which `parse` reads again."""
    turns = [m.content if m.role == "system" else f"{MARKS[m.role]} {m.content}" for m in messages]
    return "\n".join(turns)


def _cut(messages: list[Message]) -> tuple[list[Message], tuple[str, str] | None]:
    turns = [m for m in messages if m.role != "system"]
    if any(m.role != ("user", "assistant")[i % 2] for i, m in enumerate(turns)):
        return [], ("turns", "Human and bot do not take turns.")
    if len(turns) % 2:
        messages, turns = messages[:-1], turns[:-1]
    if not turns or not all(m.content for m in turns):
        return [], ("empty", "A turn is empty, or nothing is answered.")
    return messages, None
