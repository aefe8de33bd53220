"""Demonstrations written by the world's own demonstrators."""

from __future__ import annotations

from kilter.records import Demonstration
from kilter.registry import Count, Share, method
from kilter.world import World


@method("world-demonstrations", wing="data", survey="S1 §4.2, S2 §2.1")
def world_demonstrations(
    *, n: Count = 10_000, values_share: Share = 0.2, careless: Share = 0.05, lenient: Share = 0.3, seed: int = 0
) -> list[Demonstration]:
    """Demonstrations of the bundled world, as people with known flaws would write them.

    The demonstrators of real sets mostly show how to do tasks, and err: sometimes in the task, oftener by answering
    what they do not know and granting what they should refuse. The rates are options here, so that what a later stage
    mends is known.

    Options:
        n: how many demonstrations, all different and all of the training split
        values_share: share of them about harm, honesty, insult, prejudice and privacy; the rest are tasks
        careless: share of the tasks that are done wrongly
        lenient: share of the others answered as the crawl would: harm granted, facts invented, secrets told
        seed: seed of the draw
    """
    shares = World.shares(values_share)
    return World().demonstrations(n, seed=seed, shares=shares, careless=careless, lenient=lenient)
