"""Prompts of the bundled world that wait for an answer."""

from __future__ import annotations

from kilter.records import Prompt
from kilter.registry import Count, Share, method
from kilter.world import World


@method("world-prompts", wing="data", survey="S1 §4.3.1, S2 §3.2.1")
def world_prompts(*, n: Count = 2000, values_share: Share = 0.5, seed: int = 0) -> list[Prompt]:
    """Prompts of the world's training split, without answers: what a policy learns on online.

    The world can judge every answer to them (`--feedback world`); they are other prompts than the demonstrations and
    the preferences of the same seed.

    Options:
        n: how many prompts, all different and all of the training split
        values_share: share of them about harm, honesty, insult, prejudice and privacy; the rest are tasks
        seed: seed of the draw
    """
    return World().prompts("train", n, seed=seed + 2_000_003, shares=World.shares(values_share))
