"""What a shape is: one row of the table of formats, with the two functions that lead to records and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from kilter.records import Demonstration, Group, Prompt, Record

Row = dict[str, Any]
Want = Literal["demonstrations", "groups", "prompts"]

KINDS: dict[str, type[Record]] = {"demonstrations": Demonstration, "groups": Group, "prompts": Prompt}


class Unreadable(Exception):
    """Why one row cannot be read; it goes to the rejects with this reason and the reading goes on."""


class Losses:
    """Counts what a shape cannot hold, one sentence a kind of loss."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, record: Record, what: str) -> None:
        """Count one record of which `what` ("critiques are not kept") is true."""
        self._counts[type(record).__name__.lower(), what] += 1

    def sentences(self) -> list[str]:
        """Return for instance "3 groups: critiques are not kept"."""
        return [f"{n} {noun}{'s' if n > 1 else ''}: {what}" for (noun, what), n in self._counts.items()]


@dataclass(frozen=True)
class Shape:
    """A format people keep alignment data in.

    `needs` are the columns without which a row is not of this shape, `knows` further ones that it reads; every other
    column is kept in `meta["extra"]` and written back. `to_records(row, want)` may raise Unreadable.
    `from_record(record, losses)` gives the rows of a record of one of the kinds in `holds`, none if it cannot be held;
    a shape without it can only be read. `gather` turns the rows of a file into rows that stand alone (flat trees).
    A `whole` shape deals with every column itself. One that is `only_for` a kind is tried where that kind is wanted.
    """

    name: str
    description: str
    needs: tuple[str, ...]
    holds: tuple[type[Record], ...]
    to_records: Callable[[Row, Want | None], list[Record]]
    from_record: Callable[[Any, Losses], list[Row]] | None = None
    detect: Callable[[Row], bool] | None = None
    knows: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    gather: Callable[[list[Row]], list[Row]] | None = None
    whole: bool = False
    only_for: Want | None = None

    def fits(self, row: Row) -> bool:
        """Whether the columns of `row` (and their types, where columns do not tell) are this shape's."""
        return self.detect(row) if self.detect else all(name in row for name in self.needs)
