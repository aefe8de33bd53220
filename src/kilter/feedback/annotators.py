"""Simulated annotators: somebody's scores, seen through people who err at a known rate.

After AlpacaFarm (Dubois et al. 2023, arXiv:2305.14387), whose simulated annotators flip a quarter of their labels so
that they disagree as people do. Here the rate is an option and the truth is known.
"""

from __future__ import annotations

import random

from kilter.feedback.protocol import Feedback
from kilter.records import Prompt


class Annotators:
    """Compares two responses as `source` scores them and answers the wrong way round at rate `noise`."""

    def __init__(self, source: Feedback, *, noise: float = 0.1, seed: int = 0) -> None:
        self.source, self.noise, self.seed = source, noise, seed
        self.name = f"annotators({source.name}, noise {noise})"

    async def compare(self, prompt: Prompt, first: str, second: str) -> int | None:
        """Return 0 where `first` is preferred, 1 where `second` is, None where the source sees no difference."""
        a, b = (signal.score or 0.0 for signal in await self.source(prompt, [first, second]))
        if a == b:
            return None
        # Keyed by the comparison, so that the order in which prompts are asked changes no label.
        flipped = random.Random(f"{self.seed} {prompt.id} {first} {second}").random() < self.noise
        return int((b > a) != flipped)
