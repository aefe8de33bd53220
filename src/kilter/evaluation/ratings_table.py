"""Who rated what how: a table of items by raters with holes in it, from rows in either of the usual forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kilter.errors import KilterError
from kilter.evaluation.rows import LeftOut, Row, need, number

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
UNRATED = ("", None)


@dataclass(slots=True)
class Table:
    """`codes` [items, raters]: the place of a rating in `labels`, -1 where there is none; `notes` on what was left out.

    `labels` are in their order: numbers by size, words as they were given or by the alphabet.
    """

    items: list[str]
    raters: list[str]
    labels: list[str]
    codes: Ints
    notes: list[str] = field(default_factory=list)

    @property
    def values(self) -> Floats:
        """The number that each label stands for, its place where it is a word."""
        numbers = [number(label) for label in self.labels]
        if all(n is not None for n in numbers):
            return np.asarray(numbers, dtype=np.float64)
        return np.arange(len(self.labels), dtype=np.float64)

    def counts(self) -> Floats:
        """Return how often each label was given to each item [items, labels]."""
        return np.stack([(self.codes == k).sum(1) for k in range(len(self.labels))], axis=1).astype(np.float64)

    def both(self, first: int, second: int) -> tuple[Ints, Ints, Ints]:
        """Return the codes that two raters gave to the items that both rated, and the places of those items."""
        a, b = self.codes[:, first], self.codes[:, second]
        shared = np.flatnonzero((a >= 0) & (b >= 0))
        return a[shared], b[shared], shared


def table(
    rows: Sequence[Row],
    *,
    item: str = "item",
    rater: str = "rater",
    label: str = "label",
    columns: Sequence[str] = (),
    order: Sequence[str] = (),
    where: str = "The data",
) -> Table:
    """Return ratings as a table. One row a rating (item, rater, label), or one row an item with the raters' `columns`.

    A second rating of one item by one rater is left out and counted, as is a label that `order` does not have.
    Raises KilterError where the columns are not there.
    """
    left_out = LeftOut()
    given: dict[tuple[str, str], str] = {}
    if columns:
        need(rows, columns, where)
        triples = [(str(row.get(item, at)), name, row.get(name)) for at, row in enumerate(rows) for name in columns]
    else:
        need(rows, (item, rater, label), where)
        triples = [(str(row.get(item)), str(row.get(rater)), row.get(label)) for row in rows]
    for thing, who, said in triples:
        if said in UNRATED:
            left_out.add("there is no label", f"{who} on {thing}")
        elif (thing, who) in given:
            left_out.add("the rater has rated this item before", f"{who} on {thing}")
        elif order and _word(said) not in order:
            left_out.add(f"the label is none of {', '.join(order)}", said)
        else:
            given[thing, who] = _word(said)
    if not given:
        why = " ".join(left_out.notes("ratings", len(triples)))
        raise KilterError(f"{where} holds no rating that can be used; {why}")
    labels = list(order) if order else _sorted(set(given.values()))
    items = list(dict.fromkeys(thing for thing, _ in given))
    raters = list(columns) if columns else sorted({who for _, who in given})
    places = ({x: i for i, x in enumerate(items)}, {x: i for i, x in enumerate(raters)})
    codes = np.full((len(items), len(raters)), -1, dtype=np.int64)
    rank = {name: i for i, name in enumerate(labels)}
    for (thing, who), said in given.items():
        codes[places[0][thing], places[1][who]] = rank[said]
    return Table(items, raters, labels, codes, left_out.notes("ratings", len(triples)))


def _word(value: Any) -> str:
    """A label as text: 3, 3.0 and "3" are one label."""
    found = number(value)
    if found is not None and not isinstance(value, str) and found.is_integer():
        return str(int(found))
    return str(value).strip()


def _sorted(labels: set[str]) -> list[str]:
    if all(number(name) is not None for name in labels):
        return sorted(labels, key=float)
    return sorted(labels)
