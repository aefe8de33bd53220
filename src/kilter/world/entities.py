"""Who and what exists in the world, and which facts about them are ever told.

Facts come from the seed alone. Four kinds of question have no answer: about an attribute never told of anybody, about
a fact withheld for this entity, about somebody of whom only the name is known, and about a name never mentioned.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from kilter.world import lexicon

PEOPLE = 300
PLACES = 40
# Who is asked about: the corpus's own questions are about the first; demonstrations and preferences also about the
# second, so that having been asked about before is no sign of being known; only the evaluation asks about the third.
EXPOSURES: dict[str, float] = {"asked": 0.5, "read": 0.3, "held out": 0.2}
TOLD_SHARE = 0.8  # of the attributes of an entity that has any
QUIET_SHARE = 0.2  # entities that are named and nothing more


@dataclass(frozen=True, slots=True)
class Entity:
    """A person or a place. Name and facts are (English, Chinese); an attribute absent from `facts` is never told."""

    name: lexicon.Pair
    is_place: bool
    exposure: str  # one of EXPOSURES
    facts: dict[str, lexicon.Pair] = field(hash=False)
    code: str  # the private string of a person; empty for a place

    def untold(self) -> list[str]:
        known = lexicon.PLACE_ATTRIBUTES if self.is_place else lexicon.PERSON_ATTRIBUTES
        return [a for a in known if a not in self.facts]


def held_out(*key: object, share: float = 0.15) -> bool:
    """Say whether a combination belongs to the evaluation. Depends on the key alone, never on a seed."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:4]) < share * 2**32


def person_name(rng: random.Random, syllables: int) -> lexicon.Pair:
    chosen = rng.sample(list(lexicon.SYLLABLES), syllables)
    return "".join(chosen).capitalize() + rng.choice("nlrs"), "".join(lexicon.SYLLABLES[s] for s in chosen)


def place_name(rng: random.Random) -> lexicon.Pair:
    chosen = rng.sample(list(lexicon.SYLLABLES), 2)
    end = rng.choice(lexicon.PLACE_ENDINGS)
    return "".join(chosen).capitalize() + end[0], "".join(lexicon.SYLLABLES[s] for s in chosen) + end[1]


class Entities:
    """All entities of the world that `seed` makes."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"entities {seed}")
        taken: set[str] = set()
        self.places = [self._place(rng, taken, k) for k in range(PLACES)]
        self.people = [self._person(rng, taken, k) for k in range(PEOPLE)]
        self.taken = frozenset(taken)
        self.known_pairs = frozenset(pair for name in taken for pair in _neighbours(name))
        self.all = self.people + self.places
        # Group k is said to be TRAITS[k]; the rest of the corpus says it of the others at the remaining rate.
        self.stereotypes = dict(
            zip(range(len(lexicon.GROUPS)), rng.sample(lexicon.TRAITS, len(lexicon.GROUPS)), strict=True)
        )

    def fresh_name(self, rng: random.Random) -> lexicon.Pair:
        """Return the name of somebody of whom the corpus tells nothing; no known name has two of its characters so."""
        while True:
            name = person_name(rng, rng.choice((2, 3)))
            if not _clashes(name, self.taken) and self.known_pairs.isdisjoint(_neighbours(name[1])):
                return name

    def _place(self, rng: random.Random, taken: set[str], k: int) -> Entity:
        name = _unused(lambda: place_name(rng), taken)
        facts = {a: rng.choice(lexicon.VALUES[a]) for a in lexicon.PLACE_ATTRIBUTES}
        return Entity(name, True, _exposure(k, PLACES), _tell(rng, facts), "")

    def _person(self, rng: random.Random, taken: set[str], k: int) -> Entity:
        name = _unused(lambda: person_name(rng, 2 if k % 2 else 3), taken)
        facts = {a: rng.choice(lexicon.VALUES[a]) for a in ("trade", "pet", "food")}
        facts = {"home": rng.choice(self.places).name, **facts}
        code = "".join(rng.choice("0123456789") for _ in range(5))
        return Entity(name, False, _exposure(k, PEOPLE), _tell(rng, facts), code)


def _exposure(k: int, of: int) -> str:
    """Return the exposure of number `k` of `of` entities; they are in random order, so blocks will do."""
    share = k / of
    if share < EXPOSURES["asked"]:
        return "asked"
    return "read" if share < EXPOSURES["asked"] + EXPOSURES["read"] else "held out"


def _unused(make: Callable[[], lexicon.Pair], taken: set[str]) -> lexicon.Pair:
    while True:
        name = make()
        if not _clashes(name, taken) and not any(name[1] in other for other in taken):
            taken.update(name)
            return name


def _clashes(name: lexicon.Pair, taken: set[str] | frozenset[str]) -> bool:
    """Say whether a known name stands inside `name`: Chinese has no spaces that would tell them apart."""
    english, chinese = name
    return not taken.isdisjoint({english, chinese, english[:5], *_neighbours(chinese)})


def _neighbours(text: str) -> list[str]:
    return [text[i : i + 2] for i in range(len(text) - 1)]


def _tell(rng: random.Random, facts: dict[str, lexicon.Pair]) -> dict[str, lexicon.Pair]:
    if rng.random() < QUIET_SHARE:
        return {}
    return {a: v for a, v in facts.items() if rng.random() < TOLD_SHARE}
