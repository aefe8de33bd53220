"""How much data is enough: nested subsets, and what a curve over their sizes says."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from kilter.data.mixture import key, told
from kilter.data.sieve import Record
from kilter.errors import KilterError
from kilter.registry import method

SIZES = (200_000, 600_000, 1_000_000, 2_000_000)
"""The paper's sizes, a tenth, three tenths and a half of the whole."""

Trend = Literal["rising", "saturated", "flat"]


@method("belle-scaling", wing="data", paper="arXiv:2303.14742", survey="S2 §2.4", aliases=("nested-subsets",))
def belle_scaling(
    records: list[Record],
    *,
    parts: list[Annotated[float, Field(gt=0, le=1)]] = [0.1, 0.3, 0.5, 1.0],  # noqa: B006 - never changed
    part: Annotated[float, Field(gt=0, le=1)] = 1.0,
    by: str = "family",
    seed: int = 0,
) -> list[Record]:
    """Nested subsets for a study of quantity (Ji et al. 2023): every smaller one is in every larger one.

    The records come in an order in which each beginning is a subset: of each kind of task (what the meta says of `by`)
    it holds that share of its records, to one. meta["subset"] is the smallest of `parts` that a record is in. Train on
    each part, judge each kind of task, and let `trend` say of each curve whether it still rises. In the paper
    extraction, classification, closed QA and summarisation rise to two million; translation, rewriting, generation and
    brainstorming saturate before; mathematics, code and chains of thought stay poor.

    Options:
        parts: sizes of the subsets as parts of the whole
        part: the subset that is given
        by: name in a record's meta that says its kind of task
        seed: seed of the order
    """
    sizes = sorted({*parts, part})
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record, by), []).append(record)
    places: list[tuple[float, str, Record]] = []
    for name, group in groups.items():
        order = random.Random(f"belle-scaling {seed} {name}")
        shuffled = order.sample(group, len(group))
        # Spread evenly over the whole, from an offset by chance, so that small groups are not all late.
        offset = order.random()
        places += [((i + offset) / len(group), name, record) for i, record in enumerate(shuffled)]
    places.sort(key=lambda place: place[:2])
    found = []
    for i, (_, name, record) in enumerate(places[: round(part * len(places))]):
        smallest = next((size for size in sizes if i < round(size * len(places))), 1.0)
        copied = told(record, name, "belle-scaling", seed)
        copied.meta["subset"] = smallest
        found.append(copied)
    return found


def trend(sizes: Sequence[float], scores: Sequence[float], *, least: float = 0.02) -> Trend:
    """Say whether scores (0 to 1) over the sizes of training sets are rising, saturated or flat.

    flat: from the first to the best they gain less than `least`. rising: the last doubling of the data (by the slope
    between the last two sizes, a doubling) still gains at least a third of what doublings gained on average, and
    `least` times a third. saturated: it gains less.
    """
    if len(sizes) != len(scores) or len(sizes) < 3:
        raise KilterError("A trend needs three sizes or more, with a score each; measure more subsets.")
    order = np.argsort(sizes)
    doublings, values = np.log2(np.asarray(sizes, float)[order]), np.asarray(scores, float)[order]
    if values.max() - values[0] < least:
        return "flat"
    whole = (values.max() - values[0]) / (doublings[-1] - doublings[0])
    last = (values[-1] - values[-2]) / (doublings[-1] - doublings[-2])
    return "rising" if last >= max(whole, least) / 3 else "saturated"
