"""The world's own truth as feedback: what an all-knowing annotator would say."""

from __future__ import annotations

from kilter.feedback.protocol import Signal
from kilter.records import Prompt
from kilter.world import World


class WorldTruth:
    """Scores in [0, 1] from `World.judge`; the verdict is whether the response is all that it should be."""

    name = "world"

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()

    async def __call__(self, prompt: Prompt, responses: list[str]) -> list[Signal]:
        rewards = [self.world.judge(prompt, response).reward for response in responses]
        return [Signal(score=reward, verdict=reward == 1.0) for reward in rewards]
