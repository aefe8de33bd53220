"""Responses without a word in them: they are left out and counted, before anything is learned from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kilter.records import Demonstration, Group, Record


def without_blanks(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Return the records without empty responses, and a sentence about them where there are any.

    A group loses the empty ones of its responses, with what is known of them; where nothing else is left, or the answer
    of a demonstration is empty, the whole record goes. To learn that an answer is to end at once is what nobody wants
    of such a line: it comes from a server that gave up or a field that was lost.
    """
    found: list[Record] = []
    blank = 0
    for record in records:
        if isinstance(record, Group):
            kept = [k for k, response in enumerate(record.responses) if response.strip()]
            blank += len(record.responses) - len(kept)
            if kept:
                found.append(record if len(kept) == len(record.responses) else _part(record, kept))
        elif isinstance(record, Demonstration) and _says_nothing(record):
            blank += 1
        else:
            found.append(record)
    return found, [f"{blank} empty response{'s' * (blank != 1)} left out."] if blank else []


def _part(group: Group, kept: Sequence[int]) -> Group:
    def of(values: list[Any] | None) -> list[Any] | None:
        return values and [values[k] for k in kept]

    return replace(
        group,
        responses=[group.responses[k] for k in kept],
        scores=of(group.scores),
        ranking=of(group.ranking),
        labels=of(group.labels),
        critiques=of(group.critiques),
    )


def _says_nothing(demonstration: Demonstration) -> bool:
    """Whether the last turn of the assistant holds no word."""
    answers = [message for message in demonstration.messages if message.role == "assistant"]
    return bool(answers) and not answers[-1].content.strip()
