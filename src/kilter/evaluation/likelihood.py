"""How likely a model finds a text: what multiple-choice and stereotype suites compare.

A model scores a response to a conversation. The token that ends the turn is not part of the text and is left out. A
plain sentence is scored as a response to nothing.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

from kilter.errors import KilterError
from kilter.models.protocol import Model
from kilter.records import Message

Item = TypeVar("Item")
Result = TypeVar("Result")
By = Literal["sum", "tokens", "characters", "bytes"]


async def token_logprobs(model: Model, messages: Sequence[Message], text: str) -> list[float]:
    """Return the log-prob (nats) of each token of `text`, without the one that ends the turn.

    Raises KilterError where one of them is no number.
    """
    found = (await model.score(messages, text))[:-1]
    if any(math.isnan(value) for value in found):
        raise KilterError(f"The model {model.name} gives log-probs that are no numbers; its weights may be damaged.")
    return found


async def logprob(model: Model, messages: Sequence[Message], text: str, by: By = "sum") -> float:
    """Return the summed log-prob of `text` as an answer, or its mean over tokens, characters or bytes.

    An empty text is certain: 0.
    """
    found = await token_logprobs(model, messages, text)
    size = {"sum": 1, "tokens": len(found), "characters": len(text), "bytes": len(text.encode())}[by]
    return math.fsum(found) / size if size else 0.0


async def of_choices(model: Model, question: str, choices: Sequence[str], by: By = "sum") -> list[float]:
    """Return the log-prob of each choice as the answer to `question`."""
    messages = [Message("user", question)]
    return list(await asyncio.gather(*(logprob(model, messages, choice, by) for choice in choices)))


async def of_pieces(model: Model, text: str, cuts: Sequence[int]) -> list[float]:
    """Return the log-prob of each piece of `text` between `cuts` (places in it), each given all that is before it.

    A piece's log-prob is that of the text up to its end less that of the text up to its start, so that it does not
    matter how the model cuts the text into tokens, as long as a cut stands before a space.
    """
    ends = [*cuts, len(text)]
    whole = await asyncio.gather(*(logprob(model, [], text[:end]) if text[:end] else _nothing() for end in ends))
    return [end - start for start, end in zip([0.0, *whole[:-1]], whole, strict=True)]


def tolerant(
    one: Callable[[Item], Awaitable[Result]], trouble: list[str]
) -> Callable[[Item], Awaitable[Result | None]]:
    """Return `one` such that an item the model cannot score gives None, and its reason goes to `trouble`.

    An item may be longer than the model has positions for; the others are measured all the same.
    """

    async def tried(item: Item) -> Result | None:
        try:
            return await one(item)
        except KilterError as error:
            trouble.append(str(error))
            return None

    return tried


def unscored(trouble: Sequence[str], of: int) -> list[str]:
    """Return the sentence on items that the model could not score; raise KilterError where that is all of them."""
    if not trouble:
        return []
    if len(trouble) == of:
        raise KilterError(trouble[0])
    return [f"{len(trouble):,} of {of:,} items could not be scored by the model, the first because: {trouble[0]}"]


def best(values: Sequence[float]) -> int:
    """Return the place of the largest value, the first of several."""
    return max(range(len(values)), key=lambda at: values[at])


async def _nothing() -> float:
    return 0.0
