"""Changes to an answer that make it no better and no worse: what a judge says to them is its bias.

Each is asked of a judge on some items of every judged run. A judge without the bias answers as it did before, up to
chance; so the mean difference, with its interval, is the bias itself, whatever the answers are worth.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

from kilter.feedback.judge import Case, Judge, Judgement

Rate = Callable[[Case, str, str], Awaitable[list[Judgement]]]  # of an answer, and what is said of who wrote it
OWN, OTHER = "you wrote this answer yourself", "another assistant wrote this answer"
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


def padded(text: str) -> str:
    """Return the answer with all of it said once more, which adds no information (after the repetitive list attack)."""
    again = "换句话说，" if _chinese(text) else "In other words, to say the same once more: "
    return f"{text.rstrip()}\n\n{again}{text.strip()}"


def marked_up(text: str) -> str:
    """Return the answer under a bold heading, its sentences as a list: the same words in another layout."""
    heading = "回答" if _chinese(text) else "Answer"
    return "\n".join([f"**{heading}**", "", *(f"- {sentence}" for sentence in sentences(text))])


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, of English and Chinese alike."""
    return [part.strip() for part in _SENTENCE.split(text) if part.strip()]


async def of_ratings(rate: Rate, case: Case, response: str, turn: int = 1) -> list[Judgement]:
    """Return the ratings of the changed answer: padded, laid out, and said to be the judge's own or another's."""
    asked = (
        ("verbosity", padded(response), ""), ("format", marked_up(response), ""),
        ("self own", response, OWN), ("self other", response, OTHER),
    )  # fmt: skip
    told = await asyncio.gather(*(rate(case, text, claim) for _, text, claim in asked))
    return [replace(one, probe=name, turn=turn) for (name, _, _), some in zip(asked, told, strict=True) for one in some]


async def of_comparisons(judge: Judge, case: Case, response: str, other: str, turn: int = 1) -> list[Judgement]:
    """Return the judge's verdicts, in both orders: the changed answer against itself, and the pair under two claims.

    Where a pair is ordinarily shown in one order only, it is shown in both here, for the position.
    """
    asked = [
        judge.compare(case, padded(response), response, probe="verbosity", turn=turn),
        judge.compare(case, marked_up(response), response, probe="format", turn=turn),
        judge.compare(case, response, other, claims=(OWN, OTHER), probe="self own", turn=turn),
        judge.compare(case, response, other, claims=(OTHER, OWN), probe="self other", turn=turn),
    ]
    if judge.orders != "both":
        asked.append(judge.compare(case, response, other, probe="position", turn=turn))
    return [one for some in await asyncio.gather(*asked) for one in some]


def _chinese(text: str) -> bool:
    return any("一" <= character <= "鿿" for character in text)
