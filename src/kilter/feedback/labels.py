"""Which of a few words a model would say: its own probabilities, without a draw."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from kilter.errors import KilterError, SetAside
from kilter.models.protocol import Model
from kilter.records import Message


async def probabilities(model: Model, messages: Sequence[Message], labels: Sequence[str]) -> dict[str, float]:
    """Return P(label) of each of `labels` as the answer to `messages`, such that they add up to 1.

    P(l) = exp(log p(l)) / sum_k exp(log p(k)), log p(l) being summed over the label's tokens. Where one label begins
    another (1 and 10) the token that ends the turn counts as well; otherwise it does not, since a base model seldom
    ends its turn after a word. Raises SetAside where the model finds none of them possible, KilterError where it gives
    no log-probs or one that is no number.
    """
    ended = any(a != b and b.startswith(a) for a in labels for b in labels)
    told = await asyncio.gather(*(model.score(messages, label) for label in labels))
    found = [math.fsum(one if ended else one[:-1]) for one in told]
    if any(math.isnan(value) for value in found):
        raise KilterError(f"The model {model.name} gives log-probs that are no numbers; its weights may be damaged.")
    top = max(found)
    if top == -math.inf:
        raise SetAside(f"The model finds none of {', '.join(labels)} possible as an answer.", "no label possible")
    weights = [math.exp(value - top) for value in found]
    whole = math.fsum(weights)
    return {label: weight / whole for label, weight in zip(labels, weights, strict=True)}


async def yes(model: Model, messages: Sequence[Message], words: tuple[str, str] = ("Yes", "No")) -> float:
    """Return P(yes) / (P(yes) + P(no)) of a question, `words` being how the two are said."""
    return (await probabilities(model, messages, words))[words[0]]
