"""Everything that answers, as one protocol: a checkpoint on this machine, a server, a person's own class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from kilter.records import Message


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to answer. temperature 0 is greedy; top_k 0 and min_p 0 and top_p 1 cut nothing off.

    `n` answers are wanted; `seed` fixes their noise; an answer ends before any of the texts in `stop`; `logprobs` says
    whether the answer's log-probs are wanted, which makes a server's reply several times as long.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    n: int = 1
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its text, its length in tokens, their log-probs (nats) where they were wanted and are told.

    `finish_reason` is "stop" where the answer ended by itself, "length" where it was cut, "filter" where the server
    kept a part back. `model` names who wrote it, which of a mixture of models only the answer knows.
    """

    text: str
    tokens: int
    logprobs: list[float] | None
    finish_reason: str
    model: str = ""


@dataclass(slots=True)
class Usage:
    """What was asked of a model: requests, those of them that were sent again, tokens read and tokens written.

    `cut` counts the prompts that lost their beginning because the model has too few positions for them, `unheard` the
    requests of which another copy was answered first, or which took too long; their tokens are counted all the same.
    """

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cut: int = 0
    unheard: int = 0

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Usage)))

    def __sub__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(Usage)))


def used(model: Any) -> Usage:
    """Return what was asked of `model` so far, as it stands now; nothing where it does not count."""
    return Usage() + getattr(model, "usage", Usage())


def cuts(usage: Usage) -> list[str]:
    """Return the note on prompts that were cut, if any were."""
    if not usage.cut:
        return []
    prompts = "1 prompt was" if usage.cut == 1 else f"{usage.cut:,} prompts were"
    return [f"{prompts} cut from the left: the model has too few positions for all of it and an answer."]


class Model(Protocol):
    """A language model one can ask. Both calls may be awaited many at a time; the model sees to batching.

    A model may also have `usage` (a Usage that grows) and `identity()` (a coroutine: a text that is another for other
    weights, where the name alone does not tell); what stands between a method and a model asks for them.
    """

    name: str

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> list[Answer]:
        """Return `sampling.n` answers to a conversation.

        Raises SetAside where this one cannot be answered though others can.
        """
        ...

    async def score(self, messages: Sequence[Message], response: str) -> list[float]:
        """Return the log-prob (nats) of each token of `response`, the one that ends the turn included.

        Raises KilterError where the model cannot tell them.
        """
        ...
