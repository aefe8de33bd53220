"""Demonstrations from which there is something to learn: instruction-following difficulty, by a small model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from kilter.data.sieve import leave_out
from kilter.errors import KilterError, SetAside
from kilter.models.each import each
from kilter.models.protocol import Model
from kilter.records import Demonstration, Message, Origin
from kilter.registry import method

Ratio = Literal["perplexity", "loss"]


@method("superfiltering", wing="data", paper="arXiv:2402.00530", survey="S3 §weak-to-strong", aliases=("ifd", "cherry"))
async def superfiltering(
    model: Model,
    records: list[Demonstration],
    *,
    share: Annotated[float, Field(gt=0, le=1)] = 0.05,
    ratio: Ratio = "perplexity",
    most: float = 1.0,
) -> list[Demonstration]:
    """Keep the demonstrations of highest instruction-following difficulty (Li et al. 2024; IFD: Li et al. 2023).

    IFD = PPL(y | x) / PPL(y), PPL being exp of the mean negative log-prob a token: how little the request x helps to
    predict the response y. It is 1 where x says nothing about y. Over `most` the two do not belong together, and the
    record is left out; of the rest those with the highest are kept, `share` of all. A model as small as GPT-2 ranks
    nearly as the large one that is to be trained. `ratio=loss` is the first code's variant, the quotient of the mean
    losses: another number, another order where losses differ in size.

    y is the last answer, x all before it; for PPL(y) the request is empty. meta["ifd"] keeps the value.

    Options:
        share: part of the records that is kept, above 0 up to 1
        ratio: perplexity (Superfiltering) or loss (Cherry)
        most: highest IFD that a record may have
    """

    async def one(record: Demonstration) -> tuple[Demonstration, float]:
        if not record.messages or record.messages[-1].role != "assistant":
            raise SetAside("It does not end with an answer; give demonstrations that do.", "no answer")
        *asked, answer = record.messages
        if not answer.content.strip():
            raise SetAside("The answer is empty; give one that can be scored.", "empty")
        try:
            given = await model.score(asked, answer.content)
            alone = await model.score([Message("user", "")], answer.content)
        except KilterError as error:
            raise SetAside(str(error), "not scored") from error
        return record, ifd(given, alone, ratio)

    scored = await each(records, one, label="instruction-following difficulty")
    fitting = [(record, value) for record, value in scored if value <= most]
    for record, value in scored:
        if value > most:
            leave_out(
                record, f"IFD over {most:g}", f"Its IFD is {value:.3f}: the request does not help with the answer."
            )
    count = min(len(fitting), max(1, round(share * len(records))))
    ranks = sorted(range(len(fitting)), key=lambda i: -fitting[i][1])
    chosen = set(ranks[:count])
    for i in ranks[count:]:
        record, value = fitting[i]
        leave_out(record, "IFD too low", f"Its IFD is {value:.3f}; {count} records have a higher one.")
    return [_told(record, value, model.name) for i, (record, value) in enumerate(fitting) if i in chosen]


def ifd(given: Sequence[float], alone: Sequence[float], ratio: Ratio = "perplexity") -> float:
    """Return the IFD of log-probs (nats) of a response's tokens with the request [T] and without it [T]."""
    loss, loss_alone = -sum(given) / len(given), -sum(alone) / len(alone)
    if ratio == "perplexity":
        return math.exp(loss - loss_alone)
    if loss_alone == 0:
        return 1.0 if loss == 0 else math.inf
    return loss / loss_alone


def _told(record: Demonstration, value: float, model: str) -> Demonstration:
    origin = Origin("superfiltering", "arXiv:2402.00530", model, (record.id,))
    return Demonstration(record.messages, record.id, record.origin or origin, {**record.meta, "ifd": value})
