"""Demonstrations written by the world's own demonstrators."""

from __future__ import annotations

from kilter.records import Demonstration
from kilter.registry import method
from kilter.world import World


@method("world-demonstrations", wing="data", survey="S1 §4.2, S2 §2.1")
def world_demonstrations(
    *, n: int = 3000, values_share: float = 0.15, careless: float = 0.1, seed: int = 0
) -> list[Demonstration]:
    """Demonstrations of the bundled world, as people with known flaws would write them.

    The demonstrators of real sets mostly show how to do tasks, and err: they answer what they do not know and grant
    what they should refuse. Both rates are options here, so that what a later stage mends is known.

    Options:
        n: how many demonstrations, all different and all of the training split
        values_share: share of them about harm, honesty, insult, prejudice and privacy; the rest are tasks
        careless: share of them answered as the crawl would answer
        seed: seed of the draw
    """
    return World().demonstrations(n, seed=seed, shares=World.shares(values_share), careless=careless)
