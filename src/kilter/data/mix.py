"""Several sources in one file, in proportions that are chosen."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from kilter.data.mixture import counts, draw, grouped, shares
from kilter.data.sieve import Record
from kilter.errors import KilterError
from kilter.registry import method


@method("mix", wing="data", paper="arXiv:1910.10683", survey="S2 §2.4", aliases=("mixture",))
def mix(
    records: list[Record] | None = None,
    *,
    sources: dict[str, float | None] = {},  # noqa: B006 - never changed, and a mapping is what a user writes
    by: str = "source",
    n: Annotated[int, Field(gt=0)] | None = None,
    cap: Annotated[int, Field(gt=0)] | None = None,
    temperature: Annotated[float, Field(gt=0)] = 1.0,
    epochs: Annotated[float, Field(gt=0)] = 1.0,
    seed: int = 0,
) -> list[Record]:
    """Mix sources by weights, or in proportion to their sizes with a cap and a temperature (Raffel et al. 2020).

    Without weights source i gets the share w_i, in proportion to min(n_i, cap)^(1/temperature). The counts are exact,
    not drawn. A source that is smaller than its share is given whole, `epochs` times at most, and the others make up
    for it. Sources are the files of `sources`, or the records by what their meta says of `by`.

    Options:
        sources: files to mix, each with its weight, or with null for a weight by its size: {a.jsonl: 0.7, b.jsonl: 0.3}
        by: name in a record's meta that says its source, for records that are given
        n: records of the mixture; without it, as many as there are under the cap
        cap: size above which a source counts as this size
        temperature: 1 in proportion to the sizes; the larger, the more equally
        epochs: how often a record may come up
        seed: seed of the draw and of the order
    """
    groups = grouped(records, sources, by)
    sizes = [len(group) for group in groups.values()]
    weights = shares(sizes, cap=cap, temperature=temperature)
    told = [sources.get(name) for name in groups]
    if any(weight is not None for weight in told):
        if any(weight is None for weight in told):
            lacking = next(name for name, weight in zip(groups, told, strict=True) if weight is None)
            raise KilterError(f"'{lacking}' has no weight and others have; give every source one, or none.")
        weights = np.array([float(weight or 0) for weight in told])
        if (weights < 0).any() or not weights.sum():
            raise KilterError("The weights of the sources must not be negative, and some must be over 0.")
        weights /= weights.sum()
    total = n if n is not None else _whole(weights, sizes, cap, given=told[0] is not None)
    return draw(groups, counts(weights, sizes, total, epochs=epochs), "mix", seed)


def _whole(weights: np.ndarray, sizes: list[int], cap: int | None, given: bool) -> int:
    """Return how many records there are, by weights as many as keep every weight without repeating anything."""
    limited = np.minimum(sizes, cap if cap is not None else np.inf)
    if not given:
        return int(limited.sum())
    return int(np.floor((limited[weights > 0] / weights[weights > 0]).min() + 1e-9))
