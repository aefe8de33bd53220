"""Quality control, order and mixing of several sources, as one balanced plan of runs."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from kilter.data.mixture import counts, draw, grouped, shares
from kilter.data.sieve import Record, leave_out, said
from kilter.errors import KilterError
from kilter.registry import method
from kilter.store import hash_path

Quality = Literal["all", "best half", "best tenth"]
Order = Literal["shuffled", "short first", "best first"]
Mixing = Literal["by size", "equal"]
_SHARE: dict[str, float] = {"all": 1.0, "best half": 0.5, "best tenth": 0.1}


@dataclass(frozen=True)
class Cell:
    """One run of the plan: a level of each factor."""

    quality: Quality
    order: Order
    mixing: Mixing


def plan(*, scored: bool, several: bool) -> list[Cell]:
    """Return the full factorial: each level of each factor with every level of the others, equally often.

    Levels that need scores, or several sources, are left out where there are none.
    """
    qualities = get_args(Quality) if scored else ("all",)
    orders = get_args(Order) if scored else ("shuffled", "short first")
    mixings = get_args(Mixing) if several else ("by size",)
    return [Cell(*levels) for levels in itertools.product(qualities, orders, mixings)]


@method("fine-mgmt", wing="data", survey="S2 §5", aliases=("factorial",))
def fine_mgmt(
    records: list[Record] | None = None,
    *,
    run: Annotated[int, Field(ge=0)],
    sources: dict[str, float | None] = {},  # noqa: B006 - never changed, and a mapping is what a user writes
    quality: str = "",
    by: str = "source",
    n: Annotated[int, Field(gt=0)] | None = None,
    seed: int = 0,
) -> list[Record]:
    """The data of one run of a study of quality control, order and mixing together (a survey's future direction).

    The plan is the full factorial of quality (all, the best half, the best tenth of each source, by meta[`quality`]),
    order (shuffled, short first, best first) and mixing (sources by size or equally). Each record's meta["run"] says
    the run's levels and the content hashes of the sources' files, so that runs are comparable or known not to be.
    Every run has the same number of records, that of its smallest cell unless `n` says another.

    Options:
        run: number of the run, from 0
        sources: files that are sources, to each null: {a.jsonl: null, b.jsonl: null}
        quality: name of a number in a record's meta, higher for better; without it two factors have fewer levels
        by: name in a record's meta that says its source, for records that are given
        n: records of the run
        seed: seed of the draw and of the order
    """
    groups = grouped(records, sources, by)
    cells = plan(scored=bool(quality), several=len(groups) > 1)
    if run >= len(cells):
        raise KilterError(f"The plan has {len(cells)} runs, 0 to {len(cells) - 1}; there is no run {run}.")
    cell = cells[run]
    pins = {name: hash_path(Path(name)) for name in sources if Path(name).exists()}
    every = [_amounts([len(group) for group in groups.values()], other) for other in cells]
    total = n or min(sum(amounts) for amounts in every)
    good = {name: _good(group, _SHARE[cell.quality], quality) for name, group in groups.items()}
    sizes = [len(group) for group in good.values()]
    weights = shares(sizes, temperature=1.0 if cell.mixing == "by size" else 1e9)
    drawn = draw(good, counts(weights, sizes, total), "fine-mgmt", seed)
    for record in drawn:
        record.meta["run"] = {"number": run, **cell.__dict__, "hashes": pins}
    return _ordered(drawn, cell.order, quality, seed)


def _amounts(sizes: list[int], cell: Cell) -> list[int]:
    """Return what the cell takes of each source when it takes as much as its mixing allows."""
    left = [max(1, round(size * _SHARE[cell.quality])) for size in sizes]
    return left if cell.mixing == "by size" else [min(left)] * len(left)


def _good(group: list[Any], share: float, quality: str) -> list[Any]:
    if share == 1:
        return group
    ranked = sorted(group, key=lambda record: -_score(record, quality))
    count = max(1, round(share * len(group)))
    for record in ranked[count:]:
        leave_out(record, "quality", f"Its {quality} is not in the best {share:.0%} of its source.")
    return ranked[:count]


def _score(record: Any, quality: str) -> float:
    value = record.meta.get(quality, record.meta.get("extra", {}).get(quality))
    if not isinstance(value, int | float):
        raise KilterError(f"Record {record.id} has no number '{quality}' in its meta; score it, or leave quality out.")
    return float(value)


def _ordered(drawn: list[Any], order: Order, quality: str, seed: int) -> list[Any]:
    random.Random(f"fine-mgmt order {seed}").shuffle(drawn)
    if order == "short first":
        return sorted(drawn, key=lambda record: len(said(record)))
    if order == "best first":
        return sorted(drawn, key=lambda record: -_score(record, quality))
    return drawn
