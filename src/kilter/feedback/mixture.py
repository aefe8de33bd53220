"""Several signals as one: their weighted sum."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from kilter.errors import KilterError
from kilter.feedback.numbers import check, rewards
from kilter.feedback.protocol import Feedback, Signal
from kilter.records import Prompt


class Mixture:
    """Scores are sum_i w_i s_i over the sources; a verdict is given where the source has none but that (1 or 0)."""

    def __init__(self, sources: Sequence[tuple[Feedback, float]]) -> None:
        """`sources` are feedbacks with their weights, which may be negative and need not sum to 1.

        Raises KilterError for a weight that is not finite.
        """
        self.sources = list(sources)
        for source, weight in self.sources:
            if not math.isfinite(weight):
                raise KilterError(f"The weight of '{source.name}' in the mixture is {weight}; give it a finite number.")
        self.name = " + ".join(f"{weight:g} {source.name}" for source, weight in self.sources)

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raise KilterError if there is a prompt that one of the sources can say nothing of."""
        for source, _ in self.sources:
            check(source, prompts)

    async def __call__(self, prompt: Prompt, responses: list[str]) -> list[Signal]:
        """Return one score a response. Raises KilterError where a source gives no finite number for each."""
        told = await asyncio.gather(*(rewards(source, prompt, responses) for source, _ in self.sources))
        weights = [weight for _, weight in self.sources]
        return [
            Signal(score=sum(w * s for w, s in zip(weights, scores, strict=True))) for scores in zip(*told, strict=True)
        ]
