"""The kinds of requests that the teacher knows: a function each, from the request to the text of the answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kilter.errors import KilterError
from kilter.models.teacher import truth
from kilter.records import Message

ASKING = ("question", "instruction", "request", "prompt", "text")  # variables that hold what is to be done


@dataclass(frozen=True, slots=True)
class Options:
    """What a name may say of the teacher: `kilter/teacher?errors=0.1&seed=1`.

    `errors` is the share of its answers that are wrong in content: a wrong answer, the other verdict. Where it
    compares, it says the first at the rate `position` and the longer at the rate `verbosity`, whatever is true. `seed`
    draws other noise.
    """

    errors: float = 0.0
    position: float = 0.0
    verbosity: float = 0.0
    seed: int = 0


@dataclass
class Request:
    """One request: its kind, the variables of its prompt, its messages, and the noise of this answer to it.

    `wrong` says that this answer is to be a wrong one.
    """

    kind: str
    variables: dict[str, Any]
    messages: Sequence[Message]
    options: Options
    rng: random.Random
    wrong: bool = field(default=False)

    def __getitem__(self, name: str) -> str:
        """Return a variable as text, "" where it is not given."""
        value = self.variables.get(name)
        return "" if value is None else str(value)

    def list(self, name: str) -> list[str]:
        """Return a variable that is a list of texts, [] where it is not given."""
        value = self.variables.get(name) or []
        return [str(one) for one in ([value] if isinstance(value, str) else value)]

    def number(self, name: str, otherwise: int) -> int:
        """Return a variable that is a whole number."""
        value = self.variables.get(name)
        try:
            return otherwise if value is None else int(value)
        except (TypeError, ValueError):
            raise KilterError(f"The prompt of the kind '{self.kind}' has {name}={value!r}; give a number.") from None

    @property
    def task(self) -> str:
        """What is to be done, with its input below it, as the variables have it."""
        asked = next((self[name] for name in ASKING if self[name]), "")
        return f"{asked}\n{self['input']}" if self["input"] else asked

    @cached_property
    def known(self) -> truth.Known | None:
        """What the world knows of the task; of the messages, where the variables hold none."""
        talk = self.variables.get("messages")
        if talk:
            return truth.known(talk)
        return truth.known(self.task) if self.task else truth.known(self.messages)

    @cached_property
    def language(self) -> str:
        """ "en" or "zh": of the task, else of all the variables, else of the last message."""
        texts = self.task or " ".join(map(str, self.variables.values()))
        return truth.language(texts or (self.messages[-1].content if self.messages else ""))

    @property
    def lang(self) -> int:
        """Index of the language in every (English, Chinese) pair."""
        return 0 if self.language == "en" else 1

    def pick(self, options: Sequence[Any]) -> Any:
        """Choose one of `options`."""
        return self.rng.choice(options)


Kind = Callable[[Request], str]
KINDS: dict[str, Kind] = {}


def kind(*names: str) -> Callable[[Kind], Kind]:
    """Enter a function as what answers requests of these kinds."""

    def entered(function: Kind) -> Kind:
        for name in names:
            if name in KINDS:
                raise ValueError(f"there are two functions for requests of the kind '{name}'")
            KINDS[name] = function
        return function

    return entered
