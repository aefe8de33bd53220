"""What models are asked in open-ended suites: rows of the benchmarks' files, or records, as items of the same form."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kilter.errors import KilterError
from kilter.evaluation.rows import LeftOut, Row, read
from kilter.records import Demonstration, Group, Message, Prompt, identify

# Columns by what they hold, in the benchmarks' files and in the ones that people make.
IDS = ("question_id", "idx", "id")
TEXTS = ("instruction", "Instruction", "question", "prompt", "text", "query")
REFERENCES = ("reference", "std_answer", "answer", "target", "output")
CATEGORIES = ("category", "class", "Skill", "domain", "type", "scenario")


@dataclass(frozen=True, slots=True)
class Item:
    """One item: the user's `turns`, what is said before them, and a right answer to each turn where there are any."""

    id: str
    turns: tuple[str, ...]
    before: tuple[Message, ...] = ()
    references: tuple[str, ...] = ()
    category: str = ""
    language: str = ""
    meta: dict[str, Any] = field(default_factory=dict, hash=False)

    def sample(self, response: str) -> Row:
        """Return the beginning of what is kept of `response` to the first turn."""
        return {
            "id": self.id,
            "prompt": [m.to_json() for m in [*self.before, Message("user", self.turns[0])]],
            "response": response,
            "family": self.category,
            "language": self.language,
        }

    def reference(self, turn: int) -> str:
        """Return the right answer to turn `turn` (from 0), an empty text where there is none."""
        return self.references[turn] if turn < len(self.references) else ""


def from_file(path: str, n: int | None = None, seed: int = 0) -> tuple[list[Item], list[str]]:
    """Return the items of a benchmark's file, `n` of them drawn with the seed, and notes on what was left out.

    Raises KilterError where no row asks anything, or two of the same id ask different things.
    """
    rows, notes = read(path)
    rows = [part for row in rows for part in _unfolded(row)]
    left_out = LeftOut()
    items = []
    for at, row in enumerate(rows, 1):
        found = from_row(row, at)
        if found:
            items += found
        else:
            left_out.add("the row asks nothing", f"row {at} of {Path(path).name}")
    if not items:
        raise KilterError(
            f"{path} asks nothing: a row has turns (a list of texts) or one of {', '.join(TEXTS)}; see the columns."
        )
    twice = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise KilterError(f"{path} has {len(twice)} ids more than once, the first '{twice[0]}'; give each row its own.")
    return drawn(items, n, seed), [*notes, *left_out.notes("rows", len(rows))]


def from_row(row: Row, at: int) -> list[Item]:
    """Return the items of a row: one, or one for each of its `instances`; none where it asks nothing."""
    given: Any = next((row[name] for name in ("turns", *TEXTS) if row.get(name)), None)
    turns = tuple(str(turn) for turn in given if str(turn).strip()) if isinstance(given, list) else (str(given or ""),)
    if not turns or not turns[0].strip():
        return []
    name = str(next((row[key] for key in IDS if row.get(key) is not None), at))
    category = next((str(row[key]) for key in CATEGORIES if isinstance(row.get(key), str | int)), "")
    instances = row.get("instances")
    if isinstance(instances, list) and instances:
        parts = [one for one in instances if isinstance(one, dict)]
        names = [name if len(parts) == 1 else f"{name}/{k}" for k in range(len(parts))]
        return [
            _item(which, (with_input(turns[0], part.get("input")),), _texts(part.get("output")), category, row)
            for which, part in zip(names, parts, strict=True)
        ]
    turns = (with_input(turns[0], row.get("input")), *turns[1:])
    told = next((row[key] for key in REFERENCES if row.get(key)), None)
    return [_item(name, turns, _texts(told), category, row)]


def from_records(records: Iterable[Prompt | Demonstration | Group], n: int | None = None, seed: int = 0) -> list[Item]:
    """Return records as items. Of a demonstration the last turn is the reference, of a group the best response.

    Raises KilterError where none waits for an answer.
    """
    items = []
    for record in records:
        reference: Any = next((record.meta[key] for key in REFERENCES if record.meta.get(key)), "")
        if isinstance(record, Group):
            messages = record.prompt
            best = record.pairs()[0][0] if record.pairs() else 0 if len(record.responses) == 1 else None
            reference = reference or (record.responses[best] if best is not None else "")
        elif isinstance(record, Demonstration):
            messages = record.messages[:-1] if record.messages[-1].role == "assistant" else record.messages
            reference = reference or (record.messages[-1].content if messages is not record.messages else "")
        else:
            messages = record.messages
        if not messages:
            continue
        category = str(next((record.meta[key] for key in ("family", *CATEGORIES) if record.meta.get(key)), ""))
        before, last = tuple(messages[:-1]), messages[-1].content
        references = (str(reference),) if reference else ()
        items.append(Item(record.id, (last,), before, references, category, language_of(last), dict(record.meta)))
    if not items:
        raise KilterError("There is no record that waits for an answer; give prompts, demonstrations or groups.")
    seen: Counter[str] = Counter()
    for at, item in enumerate(items):
        seen[item.id] += 1
        if seen[item.id] > 1:
            again = identify(item.id, seen[item.id])
            items[at] = Item(again, item.turns, item.before, item.references, item.category, item.language, item.meta)
    return drawn(items, n, seed)


def drawn(items: list[Item], n: int | None, seed: int) -> list[Item]:
    """Return `n` of the items, drawn with the seed, in their order; all where there are no more."""
    if n is None or n >= len(items):
        return items
    kept = sorted(random.Random(seed).sample(range(len(items)), n))
    return [items[at] for at in kept]


def with_input(instruction: str, given: object) -> str:
    """Return an instruction with its input below it, where it has one."""
    text = str(given).strip() if given is not None else ""
    return f"{instruction}\n\n{text}" if text else instruction


def language_of(text: str) -> str:
    """Return zh for a text in which Chinese characters stand, else an empty text."""
    return "zh" if any("一" <= character <= "鿿" for character in text) else ""


def _unfolded(row: Row) -> list[Row]:
    """Return the rows of an object that is a list of rows a kind (Safety-Prompts); any other row as it is."""
    parts = [value for value in row.values() if isinstance(value, list)]
    if len(parts) < len(row) or not all(isinstance(one, dict) for part in parts for one in part):
        return [row]
    return [{"category": name, **one} for name, part in row.items() for one in part]


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(str(x) for x in value)
    return () if value is None or not str(value).strip() else (str(value),)


def _item(name: str, turns: Sequence[str], references: tuple[str, ...], category: str, row: Row) -> Item:
    return Item(name, tuple(turns), (), references, category, language_of(turns[0]), dict(row))
