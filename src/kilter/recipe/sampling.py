"""Sampling answers to a file of prompts, as a data method that is not of the catalogue: what `kilter sample` runs."""

from __future__ import annotations

from collections.abc import Iterable

from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.records import Group, Origin, Prompt
from kilter.registry import Method


def answers(
    model: Model,
    records: Iterable[Prompt],
    *,
    n: int = 1,
    temperature: float | None = None,
    top_p: float = 1.0,
    max_tokens: int = 64,
    seed: int = 0,
) -> Each[Group]:
    """Answers of a model to prompts, a group each.

    Options:
        n: answers a prompt
        temperature: sampling temperature; 0, the most likely answer, where not given, or 1 if n > 1
        top_p: share of probability to draw from
        max_tokens: longest answer in tokens
        seed: seed of the draw
    """
    heat = temperature if temperature is not None else 1.0 if n > 1 else 0.0
    sampling = Sampling(max_tokens=max_tokens, temperature=heat, top_p=top_p, n=n, seed=seed)

    async def one(prompt: Prompt) -> Group:
        found = await model.ask(prompt.messages, sampling)
        origin = Origin("sample", None, found[0].model or model.name, (prompt.id,), seed)
        return Group(prompt.messages, [answer.text for answer in found], origin=origin, meta=prompt.meta)

    return each(records, one, label="sampling")


SAMPLE = Method("sample", "data", answers, None, None, ())
