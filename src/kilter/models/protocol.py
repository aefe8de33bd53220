"""Everything that answers, as one protocol: a checkpoint on this machine, a server, a person's own class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kilter.records import Message


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to answer. temperature 0 is greedy; top_k 0 and min_p 0 and top_p 1 cut nothing off.

    `n` answers are wanted; `seed` fixes their noise; an answer ends before any of the texts in `stop`.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    n: int = 1
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its text, its length in tokens, their log-probs (nats) where the model tells them.

    `finish_reason` is "stop" where the answer ended by itself, "length" where it was cut.
    """

    text: str
    tokens: int
    logprobs: list[float] | None
    finish_reason: str


class Model(Protocol):
    """A language model one can ask. Both calls may be awaited many at a time; the model sees to batching."""

    name: str

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> list[Answer]:
        """Return `sampling.n` answers to a conversation."""
        ...

    async def score(self, messages: Sequence[Message], response: str) -> list[float]:
        """Return the log-prob (nats) of each token of `response`, the one that ends the turn included.

        Raises KilterError where the model cannot tell them.
        """
        ...
