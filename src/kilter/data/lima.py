"""A thousand good and different demonstrations."""

from __future__ import annotations

import random
import re
from typing import Annotated

import numpy as np
from pydantic import Field

from kilter.data.mixture import key
from kilter.data.sieve import Record, leave_out, said
from kilter.data.vectors import vectors
from kilter.errors import KilterError
from kilter.registry import method

COMPOSITION = {
    "stack-exchange-stem": 200,
    "stack-exchange-other": 200,
    "wikihow": 200,
    "writing-prompts": 150,
    "authors": 200,
    "superni": 50,
}
"""LIMA's thousand: 750 from communities and 250 that the authors wrote or chose (§2, table 1). One of the surveys says
six thousand; the paper says one."""

_STYLE = re.compile(r"\b(I|my|my own|as mentioned|as others have said|stack ?exchange|stack ?overflow|this answer)\b")
_BLOCK = 256


@method("lima", wing="data", paper="arXiv:2305.11206", survey="S1 §4.2, S2 §2.4")
def lima(
    records: list[Record],
    *,
    n: Annotated[int, Field(gt=0)] = 1000,
    floor: Annotated[float, Field(ge=0, le=1)] = 0.3,
    quality: str = "",
    composition: bool = False,
    community: bool = False,
    seed: int = 0,
) -> list[Record]:
    """Choose few demonstrations, the best that are different enough (Zhou et al. 2023).

    Records are taken from the best to the worst; one whose distance to another that is taken is under `floor` is left
    out. Distance is 1 - cosine of tf-idf vectors of the words of the prompts. Better is what meta[`quality`] says is
    higher; without it the order is by chance. `composition` takes the paper's shares of each source (meta["source"],
    see COMPOSITION: 750 of 1,000 from communities, 250 of the authors), `community` first applies its rules for answers
    from communities: 1,200 to 4,096 characters, not in the first person, not about other answers.

    Options:
        n: how many are chosen, if there are as many
        floor: smallest distance between two that are chosen
        quality: name of a number in a record's meta, higher for better
        composition: whether sources get the paper's shares
        community: whether the paper's rules for answers from communities apply
        seed: seed of the order among equals
    """
    if quality and not any(quality in record.meta for record in records):
        raise KilterError(f"No record's meta has '{quality}'; name what does, or leave quality out.")
    fitting = []
    for record in records:
        fault = _fault(said(record, "response")) if community else None
        if fault:
            leave_out(record, *fault)
        else:
            fitting.append(record)
    quotas = _quotas(n) if composition else {"": n}
    groups: dict[str, list[Record]] = {name: [] for name in quotas}
    for record in fitting:
        name = key(record, "source") if composition else ""
        if name in groups:
            groups[name].append(record)
        else:
            leave_out(record, "no share", f"Its source '{name}' has no share in the composition.")
    return [record for name, group in groups.items() for record in _chosen(group, quotas[name], floor, quality, seed)]


def _fault(answer: str) -> tuple[str, str] | None:
    if len(answer) < 1200:
        return "too short", f"The answer has {len(answer)} characters, fewer than 1,200."
    if len(answer) > 4096:
        return "too long", f"The answer has {len(answer)} characters, more than 4,096."
    found = _STYLE.search(answer)
    return ("style", f"The answer speaks of '{found[0]}'.") if found else None


def _quotas(n: int) -> dict[str, int]:
    """Return the composition for `n`, rounded so that it adds up."""
    exact = {name: count * n / sum(COMPOSITION.values()) for name, count in COMPOSITION.items()}
    found = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: found[name] - exact[name])[: n - sum(found.values())]:
        found[name] += 1
    return found


def _chosen(records: list[Record], n: int, floor: float, quality: str, seed: int) -> list[Record]:
    order = list(range(len(records)))
    random.Random(f"lima {seed}").shuffle(order)
    order.sort(key=lambda i: -float(records[i].meta.get(quality, -np.inf)) if quality else 0)
    points = vectors([said(records[i], "prompt") for i in order])
    taken: list[int] = []
    for start in range(0, len(order), _BLOCK):
        block = points[start : start + _BLOCK]
        near = (block @ points[taken].T).toarray().max(axis=1) if taken else np.full(block.shape[0], -1.0)
        within = (block @ block.T).toarray()
        here: list[int] = []
        for k in range(block.shape[0]):
            closest = max(near[k], within[k, here].max() if here else -1.0)
            if len(taken) + len(here) == n:
                leave_out(records[order[start + k]], "enough", f"{n} others were chosen before.")
            elif 1 - closest < floor:
                reason = f"Its distance to one that is chosen is {1 - closest:.2f}, under {floor:g}."
                leave_out(records[order[start + k]], "too similar", reason)
            else:
                here.append(k)
        taken += [start + k for k in here]
    return [records[order[k]] for k in taken]
