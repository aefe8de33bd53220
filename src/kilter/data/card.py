"""The card of a file of records: by what it was made, from what, what was left out, and what it holds."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kilter.data.languages import language_of
from kilter.data.sieve import said
from kilter.files import write_text
from kilter.records import Demonstration, Group, Prompt, Record
from kilter.registry import Method

LOOKED_AT = 4096  # records whose language is told, spread over the file
SHOWN = 3  # records that are shown
_CUT = 300  # characters of a turn that is shown
_SIZES = (0, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)


class Card:
    """Looks at records while they are written (`watch`), and then says in Markdown what there is to know of them."""

    def __init__(
        self, method: Method, options: Mapping[str, Any], *, records: str | None = None, model: str | None = None
    ) -> None:
        """`records` and `model` are what the method was given, by name."""
        self._method, self._options, self._records, self._model = method, options, records, model
        self.count = 0
        self._kinds: Counter[str] = Counter()
        self._origins: Counter[tuple[str, str, str]] = Counter()
        self._languages: Counter[str] = Counter()
        self._prompts, self._responses = Counter[int](), Counter[int]()
        self._turns: Counter[int] = Counter()
        self._sample: list[tuple[int, str]] = []
        self._step = 1
        self._shown: list[Record] = []

    def watch(self, records: Iterable[Any]) -> Iterator[Any]:
        """Yield `records`, remembering what the card will say."""
        for record in records:
            self._look(record)
            yield record

    def _look(self, record: Record) -> None:
        self._kinds[type(record).__name__.lower()] += 1
        origin = record.origin
        if origin is not None:
            self._origins[origin.method, origin.model or "", origin.paper or ""] += 1
        messages = record.prompt if isinstance(record, Group) else record.messages
        self._turns[len(messages) + isinstance(record, Group)] += 1
        self._prompts[_bin(sum(len(m.content) for m in messages if m.role != "assistant"))] += 1
        for response in _responses(record):
            self._responses[_bin(len(response))] += 1
        # Every step-th record; where they become too many the step is doubled, and every other one is forgotten.
        if self.count % self._step == 0:
            self._sample.append((self.count, said(record)[:1000]))
            if len(self._sample) > LOOKED_AT:
                self._step *= 2
                self._sample = [pair for pair in self._sample if pair[0] % self._step == 0]
        if len(self._shown) < SHOWN:
            self._shown.append(record)
        self.count += 1

    def text(
        self,
        *,
        read: int = 0,
        aside: Mapping[str, int] | None = None,
        unread: int = 0,
        account: Mapping[str, float] | None = None,
    ) -> str:
        """Return the card: `read` records in, those set aside by rule, lines that could not be read, what it cost."""
        self._languages = Counter(language_of(text) or "none" for _, text in self._sample)
        known = [name for name, count in self._languages.most_common() if name != "none" and count >= 0.01 * self.count]
        head = {"language": known, "tags": ["kilter", self._method.id], "size": self.count}
        parts = [
            "---",
            *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items()),
            "---",
            f"# {self.count:,} records by `{self._method.id}`",
            "",
            self._method.summary,
            *([f"Paper: {self._method.paper}"] if self._method.paper else []),
            "",
            "## How it was made",
            "",
            *_table(("option", "value"), self._options.items()),
            *([f"Records: `{self._records}`"] if self._records else []),
            *([f"Model: `{self._model}`"] if self._model else []),
            "",
            *self._books(read, aside or {}, unread),
            *_cost(account or {}),
            "## What it holds",
            "",
            *_table(("kind", "records"), self._kinds.items()),
            *_table(("language", f"share of {len(self._sample):,} looked at"), self._shares()),
            *_table(("turns", "records"), sorted(self._turns.items())),
            *_table(("characters", "prompts", "responses"), self._sizes()),
            *self._from(),
            *self._examples(),
        ]
        return "\n".join(parts) + "\n"

    def save(self, out: str | Path, **books: Any) -> Path:
        """Write the card beside the file `out` as `<out>.card.md`; `books` as `text` takes them."""
        path = card_beside(out)
        write_text(path, self.text(**books))
        return path

    def _books(self, read: int, aside: Mapping[str, int], unread: int) -> list[str]:
        if not (read or aside or unread):
            return []
        rows = [("records read", read), *((f"left out: {rule}", -count) for rule, count in aside.items())]
        more = self.count - read + sum(aside.values())
        if more and read:
            rows.append(("more than one of a record" if more > 0 else "put together, or not drawn", more))
        rows.append(("records written", self.count))
        if unread:
            rows.append(("lines that could not be read", unread))
        return ["## What was left out", "", *_table(("", "records"), rows)]

    def _shares(self) -> Iterator[tuple[str, str]]:
        for name, count in self._languages.most_common(10):
            yield name, f"{count / len(self._sample):.1%}"

    def _sizes(self) -> Iterator[tuple[str, int, int]]:
        for i, low in enumerate(_SIZES):
            high = f"{_SIZES[i + 1] - 1:,}" if i + 1 < len(_SIZES) else "more"
            if self._prompts[i] or self._responses[i]:
                yield f"{low:,} to {high}", self._prompts[i], self._responses[i]

    def _from(self) -> list[str]:
        if not self._origins:
            return []
        rows = [(*origin, count) for origin, count in self._origins.most_common(20)]
        return ["## Where the records come from", "", *_table(("method", "model", "paper", "records"), rows)]

    def _examples(self) -> list[str]:
        found = ["## The first records", ""] if self._shown else []
        for record in self._shown:
            messages = record.prompt if isinstance(record, Group) else record.messages
            turns = [(m.role, m.content) for m in messages]
            turns += [("response", response) for response in record.responses] if isinstance(record, Group) else []
            found += [f"- {role}: {_short(content)}" for role, content in turns[:8]] + [""]
        return found


def card_beside(out: str | Path) -> Path:
    """Return where the card of the file `out` is: `<out>.card.md`."""
    out = Path(out)
    return out.with_name(f"{out.name}.card.md")


def _responses(record: Record) -> list[str]:
    if isinstance(record, Group):
        return record.responses
    if isinstance(record, Demonstration):
        return [m.content for m in record.messages if m.role == "assistant"]
    assert isinstance(record, Prompt)
    return []


def _bin(size: int) -> int:
    return bisect_right(_SIZES, size) - 1


def _cost(account: Mapping[str, float]) -> list[str]:
    told = [
        (name, f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4f}") for name, value in account.items()
    ]
    told = [row for row in told if row[1] not in ("0", "0.0000")]
    return ["## What it cost", "", *_table(("", ""), told)] if told else []


def _table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> list[str]:
    lines = [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    if not lines:
        return []
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines, ""]


def _cell(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return _short(text).replace("|", "\\|")


def _short(text: str) -> str:
    whole = " ".join(text.split())
    return whole if len(whole) <= _CUT else whole[:_CUT] + " …"
