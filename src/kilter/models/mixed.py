"""Several models as one: each question goes to one of them, by weight, and always to the same one.

`kilter/nano*3,http://127.0.0.1:8000/v1#big` asks the first for three questions in four.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

from kilter.errors import KilterError
from kilter.models.protocol import Answer, Model, Sampling, Usage
from kilter.records import Message, identify


class Mixed:
    """A mixture of models. `members` are they, for a method that wants answers of each."""

    def __init__(self, members: Sequence[tuple[Model, float]]) -> None:
        """`members` are models and their weights, which are positive and need not add up to anything."""
        self.weights = [weight for _, weight in members]
        self.members = [model for model, _ in members]
        if not self.members or min(self.weights) <= 0 or not all(math.isfinite(weight) for weight in self.weights):
            raise KilterError("A mixture needs models with weights above 0; write NAME*WEIGHT,NAME*WEIGHT.")
        self.name = ",".join(model.name if weight == 1 else f"{model.name}*{weight:g}" for model, weight in members)

    @property
    def usage(self) -> Usage:
        """What was asked of all of them together."""
        return sum((getattr(model, "usage", Usage()) for model in self.members), Usage())

    @property
    def tokens(self) -> int:
        """Tokens that they have read and written."""
        return sum(getattr(model, "tokens", 0) or 0 for model in self.members)

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> list[Answer]:
        """Return the answers of the model that this question with this seed belongs to."""
        return await self.chosen(messages, sampling).ask(messages, sampling)

    async def score(self, messages: Sequence[Message], response: str) -> list[float]:
        """Raise KilterError: models split texts differently, so that their log-probs do not compare."""
        raise KilterError(f"'{self.name}' is a mixture, which has no log-probs of its own; name one model.")

    def chosen(self, messages: Sequence[Message], sampling: Sampling) -> Model:
        """Return the member that answers: the largest of weighted draws which depend on question and member alone.

        So a member more, or another weight, moves only the questions that have to move.
        """
        question = identify([message.to_json() for message in messages], sampling.seed)
        draws = [
            -weight / math.log(_uniform(f"{question} {model.name}"))
            for model, weight in zip(self.members, self.weights, strict=True)
        ]
        return self.members[draws.index(max(draws))]


def members(model: Model) -> list[Model]:
    """Return the models that `model` consists of: several of a mixture, else itself."""
    return list(model.members) if isinstance(model, Mixed) else [model]


def parts(name: str) -> list[str]:
    """Return the names of the models that `name` consists of: itself, where it names one."""
    return [part for part, _ in split(name)] if is_mixture(name) else [name]


def is_mixture(name: str) -> bool:
    """Whether `name` names several models; a folder may have a comma in its name as well."""
    return "," in name and not Path(name).expanduser().exists()


def split(name: str) -> list[tuple[str, float]]:
    """Return the names and weights that `name` consists of: `A*3,B` is A with 3 and B with 1."""
    found = []
    for part in name.split(","):
        model, star, weight = part.strip().rpartition("*")
        try:
            found.append((model.strip(), float(weight)) if star else (weight.strip(), 1.0))
        except ValueError:
            raise KilterError(f"'{part.strip()}' has the weight '{weight}'; write NAME*WEIGHT, such as a*3.") from None
    if not all(model for model, _ in found):
        raise KilterError(f"'{name}' names a mixture with an empty part; write NAME*WEIGHT,NAME*WEIGHT.")
    return found


def _uniform(text: str) -> float:
    """Return a number above 0 and below 1 that depends on `text` alone."""
    digits = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return (digits + 0.5) / 2**64
