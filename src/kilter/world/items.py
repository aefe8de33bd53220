"""What one prompt of the world is, and the small tools with which the families make them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from kilter.records import Message
from kilter.world.entities import Entities, Entity

Split = Literal["corpus", "train", "eval"]
ALLOWED: dict[str, tuple[str, ...]] = {"corpus": ("asked",), "train": ("asked", "read"), "eval": ("held out",)}
Templates = tuple[list[str], list[str]]  # (seen in training, held out)


@dataclass(slots=True)
class Item:
    """A prompt with one good and one bad response, and in `check` what the judge needs to know.

    `kind` is what the truth is asked about: task, fact, unanswerable, harmful, lookalike, provocation, bias, private.
    """

    family: str
    kind: str
    language: str
    messages: list[Message]
    good: str
    bad: str
    check: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Draw:
    """One draw from the world: random numbers, the language and the split that an item is made for."""

    entities: Entities
    rng: random.Random
    language: str
    split: Split

    @property
    def lang(self) -> int:
        """Index of the language in every (English, Chinese) pair."""
        return 0 if self.language == "en" else 1

    def template(self, by_language: tuple[Templates, Templates]) -> str:
        """Choose a wording: a seen one in training, a seen or a held-out one in the evaluation."""
        seen, held = by_language[self.lang]
        if self.split == "eval" and self.rng.random() < 0.5:
            return self.rng.choice(held)
        return self.rng.choice(seen)

    def entity(self, fits: Callable[[Entity], Any]) -> Entity:
        """Choose somebody or something that fits and that this split may ask about, each exposure as often."""
        allowed = ALLOWED[self.split]
        exposure = allowed[0] if len(allowed) == 1 else self.rng.choice(allowed)
        found: Entity = self.pick([e for e in self.entities.all if e.exposure == exposure and fits(e)])
        return found

    def person(self) -> Entity:
        return self.entity(lambda e: not e.is_place)

    def object(self, options: list[Any], new: int) -> Any:
        """Choose among `options`, of which only the evaluation asks about the last `new`, half of the time."""
        if self.split == "eval" and self.rng.random() < 0.5:
            return self.rng.choice(options[-new:])
        return self.rng.choice(options[:-new])

    def pick(self, options: list[Any]) -> Any:
        return self.rng.choice(options)

    def until(self, make: Callable[[], Any], is_held_out: Callable[[Any], bool]) -> Any:
        """Draw until the combination belongs to this draw's split."""
        while True:
            made = make()
            if is_held_out(made) == (self.split == "eval"):
                return made

    def name(self) -> str:
        """A name made up on the spot, for passages and dialogues."""
        return self.entities.fresh_name(self.rng)[self.lang]


def user(text: str) -> list[Message]:
    return [Message("user", text)]


Family = Callable[[Draw], Item]
