"""Turning one kind of record into another, and saying what that loses: a group into its best response, into a pair."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from kilter.formats.shape import Losses
from kilter.records import Demonstration, Group, Message, Prompt, Record


def as_kind(record: Record, kinds: tuple[type[Record], ...], losses: Losses) -> Record | None:
    """Return `record` as one of `kinds`, the nearest that is possible, or None (counted in `losses`)."""
    if isinstance(record, kinds):
        return record
    if isinstance(record, Group) and Demonstration in kinds:
        return demonstrate(record, losses)
    if isinstance(record, Prompt) and Demonstration in kinds and any(m.role == "assistant" for m in record.messages):
        return _answered(record, losses)
    if Prompt in kinds and not isinstance(record, Prompt):
        return ask(record, losses)
    due = " or ".join(f"{kind.__name__.lower()}s" for kind in kinds)
    losses.add(record, f"cannot be made into {due} and are left out")
    return None


def demonstrate(group: Group, losses: Losses) -> Demonstration | None:
    """Return the prompt with its best response (the first of equals), None where no response is good."""
    if not group.responses:
        losses.add(group, "no response, left out")
        return None
    order = group.order()
    best = max(range(len(group.responses)), key=lambda k: order[k]) if order else 0
    if group.labels is not None and not group.labels[best]:
        losses.add(group, "no response is labelled good, left out")
        return None
    if len(group.responses) > 1:
        losses.add(group, "only the best response is kept")
    meta = {k: v for k, v in group.meta.items() if k not in _OF_RESPONSES}
    return Demonstration(
        [*group.prompt, Message("assistant", group.responses[best])], _given(group), group.origin, meta
    )


def _answered(prompt: Prompt, losses: Losses) -> Demonstration:
    """Return a dialogue that breaks off as a demonstration of the turns that the assistant had."""
    losses.add(prompt, "breaks off without an answer, so it is cut after the last one")
    end = max(i for i, m in enumerate(prompt.messages) if m.role == "assistant") + 1
    return Demonstration(prompt.messages[:end], _given(prompt), prompt.origin, dict(prompt.meta))


def ask(record: Demonstration | Group, losses: Losses) -> Prompt | None:
    """Return what the last assistant turn of a demonstration, or each response of a group, answers."""
    losses.add(record, "only the prompt is kept")
    meta = {k: v for k, v in record.meta.items() if k not in _OF_RESPONSES}
    if isinstance(record, Group):
        return Prompt(list(record.prompt), _given(record), record.origin, meta)
    spoken = [i for i, m in enumerate(record.messages) if m.role == "assistant"]
    end = spoken[-1] if spoken and spoken[-1] == len(record.messages) - 1 else len(record.messages)
    if end == 0:
        losses.add(record, "no prompt before the answer, left out")
        return None
    if end < len(record.messages):
        meta = {**copy.copy(meta), "reference": record.messages[end].content}
    return Prompt(record.messages[:end], _given(record), record.origin, meta)


def ranked(group: Group) -> list[int]:
    """Return the indices of the responses, best first; equal ones, or all where nothing is known, as they stand."""
    order = group.order()
    return sorted(range(len(group.responses)), key=lambda k: -order[k] if order else 0)


def pair(group: Group, shape: str, losses: Losses) -> tuple[int, int] | None:
    """Return the indices of the best and the worst response, None where none is better than another."""
    order = group.order()
    if order is None or len(order) < 2 or max(order) == min(order):
        losses.add(group, f"no response is better than another, so there is no pair for {shape}; left out")
        return None
    if len(order) > 2:
        losses.add(group, f"of more than 2 responses only the best and the worst are kept in {shape}")
    if group.critiques is not None:
        losses.add(group, f"critiques are not kept by {shape}")
    if group.labels is not None:
        losses.add(group, f"labels are not kept by {shape}")
    best = ranked(group)
    return best[0], best[-1]


def lose_signals(group: Group, shape: str, losses: Losses, kept: Iterable[str]) -> None:
    """Count the signals of `group` that `shape` does not hold."""
    for name in ("scores", "ranking", "labels", "critiques"):
        if name not in kept and getattr(group, name) is not None:
            losses.add(group, f"{name} are not kept by {shape}")


def alternating(messages: list[Message], ends_with: str) -> bool:
    """Whether, after a system turn at most, user and assistant take turns, beginning with the user."""
    spoken = messages[1:] if messages and messages[0].role == "system" else messages
    expected = ("user", "assistant")
    return (
        bool(spoken) and spoken[-1].role == ends_with and all(m.role == expected[i % 2] for i, m in enumerate(spoken))
    )


_OF_RESPONSES = ("completions", "steps", "step_labels", "responses")


def _given(record: Record) -> str:
    """Return the id of a record if somebody gave it: one made from the content does not fit a changed content."""
    return "" if made(record) else record.id


def made(record: Record) -> bool:
    """Whether the id of `record` is the one that its content gives."""
    bare: Any
    if isinstance(record, Group):
        bare = Group(record.prompt, record.responses)
    else:
        bare = type(record)(record.messages)
    return bool(bare.id == record.id)
