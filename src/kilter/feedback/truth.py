"""The world's own truth as feedback: what an all-knowing annotator would say."""

from __future__ import annotations

from collections.abc import Sequence

from kilter.errors import KilterError
from kilter.feedback.protocol import Signal
from kilter.records import Prompt
from kilter.world import World


class WorldTruth:
    """Scores in [0, 1] from `World.judge`; the verdict is whether the response is all that it should be."""

    name = "world"

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raise KilterError if a prompt is not one of the world's."""
        if strange := [prompt for prompt in prompts if not {"kind", "check"} <= prompt.meta.keys()]:
            raise KilterError(
                f"The world can judge only prompts that it made, and {len(strange)} of {len(prompts)} are others; "
                "make some with `kilter data world-prompts`, or use another feedback."
            )

    async def __call__(self, prompt: Prompt, responses: list[str]) -> list[Signal]:
        rewards = [self.world.judge(prompt, response).reward for response in responses]
        return [Signal(score=reward, verdict=reward == 1.0) for reward in rewards]
