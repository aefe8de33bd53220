"""FLACUNA's mixture of problem solving and chat."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from kilter.data.mixture import counts, draw, grouped
from kilter.data.sieve import Record
from kilter.data.tulu import named
from kilter.registry import method

FLAN_MINI = {
    "flan2021": 388_000,
    "p3": 320_000,
    "niv2": 200_000,
    "cot": 100_000,
    "code-search": 100_000,
    "code-contest": 50_000,
    "apps": 50_000,
    "gpt4-alpaca": 52_000,
    "code-alpaca": 20_000,
    "sharegpt": 60_000,
}
"""Examples of each set in Flan-mini, 1.34 million in all (table 1 of the paper)."""


@method("flacuna", wing="data", paper="arXiv:2307.02053", survey="S2 §2.4")
def flacuna(
    records: list[Record] | None = None,
    *,
    sources: dict[str, str] = {},  # noqa: B006 - never changed, and a mapping is what a user writes
    n: Annotated[int, Field(gt=0)] = 1_340_000,
    epochs: Annotated[float, Field(gt=0)] = 1.0,
    partial: bool = False,
    seed: int = 0,
) -> list[Record]:
    """Mix the ten sets of Flan-mini in the paper's proportions (Ghosal et al. 2023, table 1).

    The sets are flan2021, p3, niv2, cot, code-search, code-contest, apps, gpt4-alpaca, code-alpaca and sharegpt. The
    paper trains LoRA on Vicuna-13B with it, at 1,280 tokens.

    Options:
        sources: the file of each set: {flan2021: flan.jsonl, cot: cot.jsonl, ...}
        n: records of the mixture, 1.34 million in the paper
        epochs: how often a record may come up
        partial: go on without the sets that are not given, the others in proportion
        seed: seed of the draw and of the order
    """
    groups = named(grouped(records, {}, "source") if records else {}, sources, list(FLAN_MINI), partial)
    weights = np.array([FLAN_MINI[name] for name in groups], float)
    return draw(
        groups,
        counts(weights / weights.sum(), [len(group) for group in groups.values()], n, epochs=epochs),
        "flacuna",
        seed,
    )
