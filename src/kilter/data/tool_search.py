"""Looking for a path of actions that ends well: a depth-first search of a decision tree."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Step = TypeVar("Step")


class Search:
    """How a search went: `steps` actions were tried, `given_up` branches came back without a result."""

    def __init__(self) -> None:
        self.steps = 0
        self.given_up = 0


async def depth_first(
    expand: Callable[[Sequence[Step], Sequence[Step]], Awaitable[Step | None]],
    ended: Callable[[Step], bool | None],
    *,
    depth: int,
    width: int,
    most: int = 200,
    told: Search | None = None,
) -> list[Step] | None:
    """Return the first path that ends well, None where there is none within the bounds (Qin et al. 2023, DFSDT).

    `expand(path, tried)` proposes one more step after `path` that is none of `tried`, or None where it knows no other.
    `ended(step)` is True where a step ends the path well, False where it ends it badly, None where it goes on. A path
    has at most `depth` steps, a point at most `width` of them tried, the whole search `most`.
    """
    search = told or Search()

    async def go(path: list[Step]) -> list[Step] | None:
        tried: list[Step] = []
        while len(tried) < width and len(path) < depth and search.steps < most:
            step = await expand(path, tried)
            if step is None:
                break
            tried.append(step)
            search.steps += 1
            how = ended(step)
            if how:
                return [*path, step]
            if how is None:
                found = await go([*path, step])
                if found is not None:
                    return found
        search.given_up += 1
        return None

    return await go([])
