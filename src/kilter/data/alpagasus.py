"""Demonstrations that a judge finds good."""

from __future__ import annotations

import copy
import random
import re
from typing import Annotated, Literal

from pydantic import Field

from kilter.data.sieve import leave_out, said
from kilter.errors import KilterError, SetAside
from kilter.models.each import answered, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Origin
from kilter.registry import method

PROMPTS = Prompts(__file__)
UNREAD = -1.0

_ALONE = re.compile(r"""[*#\s"'(]*(\d+(?:[.,]\d+)?)\s*(?:/\s*5(?:\.0)?|out of 5)?[*"']*\s*(?:[.,;:!)–—]|$)""")
_NAMED = re.compile(r"(?:score|grade|评分|分数|得分)\W{0,8}?(\d+(?:\.\d+)?)", re.IGNORECASE)


@method("alpagasus", wing="data", paper="arXiv:2307.08701", survey="S2 §2.4", aliases=("judge-filter",))
async def alpagasus(
    records: list[Demonstration],
    model: Model | None = None,
    *,
    threshold: Annotated[float, Field(ge=0, le=5)] = 4.5,
    dimension: Literal["accuracy", "helpfulness"] = "accuracy",
    score: str = "score",
    random_baseline: bool = False,
    max_tokens: int = 256,
    seed: int = 0,
) -> list[Demonstration]:
    """Keep the demonstrations that a judge grades `threshold` or higher, of 5 (Chen et al. 2023).

    The judge reads instruction, input and answer, and writes a grade on the first line and reasons below it. Without a
    model the grades are read from meta[`score`], where an earlier run or somebody else put them: a number, or a judge's
    whole reply. A reply without a grade counts as -1 and is never kept. With `random_baseline` as many records are
    drawn by chance instead, which is what the choice has to be compared with. meta["score"] keeps the grade.

    In the paper gpt-3.5-turbo grades 52,002 records of Alpaca, and 9,229 have 4.5 or more.

    Options:
        threshold: lowest grade that is kept
        dimension: what is graded, accuracy or helpfulness
        score: name in the records' meta of grades that are there already, where no model grades
        random_baseline: as many records drawn by chance instead of those that are kept
        max_tokens: longest reply of the judge
        seed: seed of the draw by chance
    """
    if model is None:
        graded = [(record, _stored(record, score)) for record in records]
    else:
        graded = await each(records, _grader(model, dimension, max_tokens), label=f"grading · {model.name}")
    kept = [(record, grade) for record, grade in graded if grade >= threshold]
    if random_baseline:
        chosen = set(random.Random(f"alpagasus {seed}").sample(range(len(graded)), len(kept)))
        for i, (record, _) in enumerate(graded):
            if i not in chosen:
                leave_out(record, "not drawn", "Chance did not draw it.")
        return [_told(record, grade, model, score) for i, (record, grade) in enumerate(graded) if i in chosen]
    for record, grade in graded:
        if grade == UNREAD:
            leave_out(record, "no grade", "The judge's reply holds no grade.")
        elif grade < threshold:
            leave_out(record, f"grade under {threshold:g}", f"Its grade is {grade:g}.")
    return [_told(record, grade, model, score) for record, grade in kept]


def _grader(model: Model, dimension: str, max_tokens: int):  # type: ignore[no-untyped-def]
    async def one(record: Demonstration) -> tuple[Demonstration, float]:
        if not record.messages or record.messages[-1].role != "assistant":
            raise SetAside("It does not end with an answer; give demonstrations that do.", "no answer")
        prompt = PROMPTS(
            "rate",
            instruction=said(record, "instruction"),
            input=record.meta.get("input") or "",
            response=record.messages[-1].content,
            dimension=dimension,
        )
        reply = await answered(model, prompt, Sampling(max_tokens=max_tokens), cut=True, empty=True)
        return record, grade_in(reply.text)

    return one


def grade_in(reply: str) -> float:
    """Return the grade (0 to 5) of a judge's reply: what its first line begins with or follows "score", else -1.

    A first line that begins with a number counts if the number stands for itself ("4.5", "4.5/5", "4.5 out of 5, for
    ..."). A number that is no grade, over 5 or below 0, is none.
    """
    first = _ALONE.match((reply.strip().splitlines() or [""])[0])
    for found in (first, _NAMED.search(reply)):
        if found and 0 <= float(found[1].replace(",", ".")) <= 5:
            return float(found[1].replace(",", "."))
    return UNREAD


def _stored(record: Demonstration, name: str) -> float:
    value = record.meta.get(name, record.meta.get("extra", {}).get(name))
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise KilterError(f"Record {record.id} has no grade '{name}' in its meta; name where it is, or give a model.")
    return grade_in(value) if isinstance(value, str) else float(value)


def _told(record: Demonstration, grade: float, model: Model | None, score: str) -> Demonstration:
    found = copy.copy(record)
    found.meta = {**record.meta, "score" if model is not None else score: grade}
    name = model.name if model is not None else None
    found.origin = record.origin or Origin("alpagasus", "arXiv:2307.08701", name, (record.id,))
    return found
