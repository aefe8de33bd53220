"""How much of each source a mixture takes, and the draw."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kilter import formats
from kilter.data.sieve import Record
from kilter.errors import KilterError
from kilter.records import Origin

Shares = NDArray[np.float64]


def shares(sizes: Sequence[int], *, cap: int | None = None, temperature: float = 1.0) -> Shares:
    """Return w_i in proportion to min(n_i, cap)^(1 / temperature), their sum being 1 (Raffel et al. 2020, §3.5.2).

    Temperature 1 mixes in proportion to the examples, a large one equally; a cap keeps one large source from being all
    there is, and sources over it get equal shares.
    """
    if temperature <= 0:
        raise KilterError(f"The temperature is {temperature:g}; it must be over 0.")
    limited = np.minimum(np.asarray(sizes, np.float64), np.inf if cap is None else cap)
    if not limited.any():
        raise KilterError("No source holds a record; name others.")
    raised = np.where(limited > 0, np.maximum(limited, 1) ** (1 / temperature), 0)
    return raised / raised.sum()


def counts(weights: Shares, sizes: Sequence[int], total: int, *, epochs: float = 1.0) -> list[int]:
    """Return how many records of each source make `total` in proportion to `weights`, rounded by largest remainder.

    Of a source at most its size times `epochs` is taken; what it lacks goes to the others, in proportion.
    """
    most = np.floor(np.asarray(sizes) * epochs).astype(np.int64)
    taken = np.zeros(len(most), np.int64)
    left = min(total, int(most[np.asarray(weights) > 0].sum()))
    while left:
        open_ = (taken < most) & (weights > 0)
        due = np.where(open_, weights, 0)
        exact = left * due / due.sum()
        step = np.floor(exact).astype(np.int64)
        rest = np.argsort(-(exact - step) * open_, kind="stable")[: left - int(step.sum())]
        step[rest] += 1
        step = np.minimum(step, most - taken)
        taken += step
        left -= int(step.sum())
    return [int(count) for count in taken]


def draw(groups: Mapping[str, Sequence[Record]], amounts: Iterable[int], method: str, seed: int) -> list[Record]:
    """Return `amounts` records of the groups, shuffled together, each told its group as meta["source"].

    Where more are due than a group has, all of it is repeated, and the remainder is drawn without repetition.
    """
    drawn: list[Record] = []
    for (name, records), amount in zip(groups.items(), amounts, strict=True):
        order = random.Random(f"{method} {seed} {name}")
        for repetition in range(-(-amount // len(records)) if records else 0):
            few = min(len(records), amount - repetition * len(records))
            chosen = range(len(records)) if few == len(records) else sorted(order.sample(range(len(records)), few))
            drawn += [told(records[i], name, method, seed, repetition) for i in chosen]
    random.Random(f"{method} {seed}").shuffle(drawn)
    return drawn


def told(record: Record, source: str, method: str, seed: int, repetition: int = 0) -> Record:
    """Return a copy of `record` that says what source it is of; a repeated one has an id of its own."""
    found = copy.copy(record)
    found.meta = {**record.meta, "source": source}
    found.origin = record.origin or Origin(method, seed=seed, parents=(record.id,))
    if repetition:
        found.id = f"{record.id}/{repetition + 1}"
    return found


def grouped(records: Iterable[Record] | None, sources: Mapping[str, Any], by: str) -> dict[str, list[Any]]:
    """Return records by what their meta says of `by`, and those of each file of `sources` under the file's name."""
    found: dict[str, list[Any]] = {}
    for record in records or ():
        found.setdefault(key(record, by), []).append(record)
    for name in sources:
        if name in found:
            raise KilterError(f"'{name}' is a source of the records and a file; give one of them.")
        found[name] = list(formats.read(name).records)
    if not found:
        raise KilterError("There is nothing to mix; give records, or sources={FILE: WEIGHT, ...}.")
    return found


def key(record: Any, by: str) -> str:
    """Return what a record says of `by`: in its meta, in a column that came with it, or as the method of its origin."""
    for place in (record.meta, record.meta.get("extra", {})):
        if by in place:
            return str(place[by])
    return record.origin.method if by == "source" and record.origin is not None else "other"
