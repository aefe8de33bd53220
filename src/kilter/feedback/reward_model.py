"""A reward model as feedback: scalar rewards, learned from what people preferred."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Literal, Protocol

from kilter.errors import KilterError
from kilter.feedback.protocol import Signal
from kilter.models.drive import run
from kilter.records import Demonstration, Message, Prompt

# How the probabilities of a response's steps become one number.
Steps = Literal["product", "least"]


class Judge(Protocol):
    """Anything that says a number of each response to a conversation: models.rewarder.Rewarder, or one's own."""

    name: str

    async def rewards(self, messages: Sequence[Message], responses: Sequence[str]) -> Sequence[float]: ...


class RewardModel:
    """Scores are the reward model's, less `shift`; what is asked at the same time is computed in one batch.

    With `steps` the model is taken as a process reward model: a response's lines are its steps, and its score is the
    product of their probabilities of being right, or the least of them (Lightman et al. 2023).
    """

    def __init__(
        self, model: str | Judge, *, steps: Steps | None = None, separator: str = "\n", shift: float = 0.0
    ) -> None:
        """`model` is a reward model or its name. Raises KilterError where that is no reward model."""
        if isinstance(model, str):
            from kilter.models.rewarder import Rewarder

            model = Rewarder(model)
        if not hasattr(model, "rewards"):
            raise KilterError(
                f"'{getattr(model, 'name', model)}' is no reward model, and one is due here; "
                "make one of it with `kilter train reward`."
            )
        if steps and not hasattr(model, "steps"):
            raise KilterError(f"'{model.name}' judges no steps; leave out the option steps.")
        self.model, self.steps, self.separator, self.shift = model, steps, separator, shift
        self.name = model.name

    async def __call__(self, prompt: Prompt, responses: list[str]) -> list[Signal]:
        """Return a score for each response.

        Raises SetAside where the model cannot judge one of them, KilterError where it answers for another number of
        responses than asked, or not with a finite number.
        """
        if self.steps:
            scores = await asyncio.gather(*(self._by_steps(prompt.messages, response) for response in responses))
        else:
            scores = list(await self.model.rewards(prompt.messages, responses))
        if len(scores) != len(responses):
            raise KilterError(
                f"'{self.name}' was asked for {len(responses)} rewards and gave {len(scores)}; it has to give one each."
            )
        for score in scores:
            if not math.isfinite(score):
                raise KilterError(
                    f"'{self.name}' rewards a response to prompt {prompt.id} with {score}; train it again."
                )
        return [Signal(score=float(score) - self.shift) for score in scores]

    async def centre(self, demonstrations: Sequence[Demonstration]) -> None:
        """Set `shift` such that demonstrations have a mean score of 0 (Ouyang et al. 2022), whatever it was before.

        Pairs say nothing of where 0 is. Raises KilterError where no conversation ends with the assistant's turn.
        """
        ending = [d.messages for d in demonstrations if len(d.messages) > 1 and d.messages[-1].role == "assistant"]
        if not ending:
            raise KilterError("There is no demonstration to centre rewards on; give conversations that end answered.")
        self.shift = 0.0

        async def one(messages: list[Message]) -> float:
            [signal] = await self(Prompt(messages[:-1]), [messages[-1].content])
            return signal.score or 0.0

        found = await run(ending, one, label="centring")
        self.shift = sum(found) / len(found)

    async def _by_steps(self, messages: Sequence[Message], response: str) -> float:
        steps = [line for line in response.split(self.separator) if line.strip()]
        if not steps:
            return 0.0  # nothing that could be right
        found: list[float] = await self.model.steps(messages, steps, separator=self.separator)  # type: ignore[attr-defined]
        return math.prod(found) if self.steps == "product" else min(found)
