"""FLAN's mixtures of NLP tasks: capped rates, and each example in one of four forms."""

from __future__ import annotations

import random
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from kilter.data.mixture import Shares, counts, draw, grouped, key, shares
from kilter.errors import KilterError, nearest
from kilter.records import Demonstration, Message
from kilter.registry import method

WEIGHTS = {"flan": 0.4, "t0": 0.32, "niv2": 0.2, "cot": 0.05, "dialog": 0.03}
"""Shares of the five submixtures of the Flan Collection."""
CAPS = {"flan": 30_000, "t0": 20_000, "niv2": 5_000, "cot": 100_000, "dialog": 200_000}
"""Most examples of one task, by submixture."""
INVERTED = ("cot", "dialog")
CAP, RATE_CAP, INVERSION = 30_000, 3_000, 0.3
OPTIONS = "OPTIONS:"
FORMS = ("zero-shot, options", "zero-shot", "few-shot, options", "few-shot")


@method("flan", wing="data", paper="arXiv:2301.13688", survey="S2 §2.1")
def flan(
    records: list[Demonstration],
    *,
    version: Literal["2021", "v2"] = "2021",
    n: Annotated[int, Field(gt=0)] | None = None,
    shots: Annotated[int, Field(ge=1)] = 3,
    epochs: Annotated[float, Field(gt=0)] = 1.0,
    seed: int = 0,
) -> list[Demonstration]:
    """Mix NLP tasks as FLAN 2021 (Wei et al. 2022) or the Flan Collection (v2, Longpre et al. 2023) does.

    A record's meta says its `task`, for v2 also its `submixture` (flan, t0, niv2, cot, dialog), and may hold `options`,
    a list of the answers to choose from; `promptsource` and `superni` make such records. 2021: at most 30,000 examples
    a task, and rates in proportion to their number, capped at 3,000. v2: the submixtures weigh 0.4, 0.32, 0.2, 0.05 and
    0.03, tasks in them are capped at 30,000, 20,000, 5,000, 100,000 and 200,000 examples. In both a quarter of each
    source is zero-shot with the options listed, a quarter without, and the other two quarters stand after `shots`
    examples of their task. Of cot and dialog three in ten are inverted in v2: from the answer to the question.

    Options:
        version: 2021 or v2
        n: records of the mixture; without it, as many as there are under the caps
        shots: examples of the same task before a few-shot one
        epochs: how often a record may come up
        seed: seed of the draw, the forms and the examples
    """
    tasks = grouped(records, {}, "task")
    for name, group in tasks.items():
        most = CAPS[_submixture(group[0])] if version == "v2" else CAP
        if len(group) > most:
            tasks[name] = random.Random(f"flan cap {seed} {name}").sample(group, most)
    sizes = [len(group) for group in tasks.values()]
    weights = collection(tasks) if version == "v2" else shares(sizes, cap=RATE_CAP)
    amounts = counts(weights, sizes, n if n is not None else sum(sizes), epochs=epochs)
    drawn = draw(tasks, amounts, "flan", seed)
    return [
        _formed(record, form, tasks[record.meta["source"]], version, shots, seed)
        for record, form in zip(drawn, _forms(drawn, seed), strict=True)
    ]


def collection(tasks: dict[str, list[Any]]) -> Shares:
    """Return the share of each task in the Flan Collection: its submixture's weight, by examples under the cap.

    Where a submixture is missing the others make up for it in proportion.
    """
    kinds = [_submixture(group[0]) for group in tasks.values()]
    sizes = np.array([min(len(group), CAPS[kind]) for group, kind in zip(tasks.values(), kinds, strict=True)], float)
    totals = {kind: sizes[[other == kind for other in kinds]].sum() for kind in set(kinds)}
    found = np.array([WEIGHTS[kind] * size / totals[kind] for kind, size in zip(kinds, sizes, strict=True)])
    return found / found.sum()


def _submixture(record: Any) -> str:
    name = key(record, "submixture")
    if name not in WEIGHTS:
        hint = nearest(name, WEIGHTS) or f" They are {', '.join(WEIGHTS)}."
        raise KilterError(
            f"A record says '{name}' for its submixture, which there is not in the Flan Collection.{hint}"
        )
    return name


def _forms(drawn: list[Demonstration], seed: int) -> list[str]:
    """Return a form for each record, in equal parts within each source."""
    places: dict[str, list[int]] = {}
    for place, record in enumerate(drawn):
        places.setdefault(record.meta["source"], []).append(place)
    found = [""] * len(drawn)
    for name, these in places.items():
        first = random.Random(f"flan forms {seed} {name}").randrange(len(FORMS))
        for k, place in enumerate(these):  # `drawn` is shuffled: which record gets which form is by chance
            found[place] = FORMS[(first + k) % len(FORMS)]
    return found


def _formed(
    record: Demonstration, form: str, task: list[Demonstration], version: str, shots: int, seed: int
) -> Demonstration:
    chance = random.Random(f"flan {seed} {record.id}")
    inverted = version == "v2" and _submixture(record) in INVERTED and chance.random() < INVERSION
    listed = form.endswith("options")
    asked, answer = _pair(record, listed, inverted)
    if form.startswith("few-shot"):
        others = [other for other in task if other.id != record.id.partition("/")[0]]
        examples = [_pair(other, listed, inverted) for other in chance.sample(others, min(shots, len(others)))]
        asked = "\n\n\n".join([*(f"{question}\n\n{reply}" for question, reply in examples), asked])
    record.meta |= {"form": form, "inverted": inverted}
    return Demonstration([Message("user", asked), Message("assistant", answer)], "", record.origin, record.meta)


def _pair(record: Demonstration, listed: bool, inverted: bool) -> tuple[str, str]:
    """Return question and answer of a record, with its options or without, or the other way round."""
    asked = "\n".join(m.content for m in record.messages[:-1])
    answer = record.messages[-1].content
    if inverted:
        return f"{answer}\n\nWhat was asked, to be answered like this?", asked
    options = record.meta.get("options")
    if listed and options and OPTIONS not in asked:
        asked = "\n".join([asked, "", OPTIONS, *(f"- {option}" for option in options)])
    return asked, answer
