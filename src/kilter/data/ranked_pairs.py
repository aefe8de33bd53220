"""Several people's rankings as one: Tideman's ranked pairs."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)


def merged(rankings: Sequence[Sequence[Item]]) -> list[Item]:
    """Return one order, best first, of the items in `rankings`, each of them best first (Tideman 1987).

    Pairs are taken by how many more prefer one than the other; each is locked unless it would close a circle with those
    locked before. A ranking may leave items out; it then says nothing of them. Who beats all others is first. Equal
    strengths, and items that nothing tells apart, keep the order in which they first come up.
    """
    items = list(dict.fromkeys(item for ranking in rankings for item in ranking))
    wins: Counter[tuple[Item, Item]] = Counter()
    for ranking in rankings:
        wins.update(itertools.combinations(ranking, 2))
    place = {item: i for i, item in enumerate(items)}
    majorities = [pair for pair in wins if wins[pair] > wins[pair[1], pair[0]]]
    majorities.sort(key=lambda p: (wins[p[1], p[0]] - wins[p], -wins[p], place[p[0]], place[p[1]]))
    beats: dict[Item, set[Item]] = {item: set() for item in items}
    for better, worse in majorities:
        if not _reaches(beats, worse, better):
            beats[better].add(worse)
    found: list[Item] = []
    left = list(items)
    while left:
        first = next(item for item in left if not any(item in beats[other] for other in left))
        found.append(first)
        left.remove(first)
    return found


def _reaches(beats: dict[Item, set[Item]], start: Item, goal: Item) -> bool:
    seen: set[Item] = set()
    stack = [start]
    while stack:
        item = stack.pop()
        if item == goal:
            return True
        if item not in seen:
            seen.add(item)
            stack += beats[item]
    return False
