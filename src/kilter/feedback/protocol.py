"""The surveys' list of alignment signals as one type: a score, a verdict, a critique, or several of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kilter.records import Prompt


@dataclass(frozen=True, slots=True)
class Signal:
    """What was said of one response. `score`: higher is better; `verdict`: acceptable or not; `critique`: in words."""

    score: float | None = None
    verdict: bool | None = None
    critique: str | None = None


class Feedback(Protocol):
    """Anything that judges. It returns one signal a response, in their order.

    One that cannot judge every prompt may have `check(prompts)`, which raises KilterError before anything is asked.
    """

    name: str

    async def __call__(self, prompt: Prompt, responses: list[str]) -> list[Signal]: ...
