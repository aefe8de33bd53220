"""Responses with a verdict each: what objectives learn from that tell good from bad without comparing two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kilter.engine.batch import Groups, Tree
from kilter.errors import KilterError
from kilter.records import Group, Record


def labelled(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Return groups in which every response is labelled good or bad, and sentences about the rest.

    Groups with labels stay as they are. Of scored or ranked responses the best becomes good and the worst bad (several
    of them, where they tie); what lies between is left out, and so are groups in which all are alike.
    """
    found: list[Record] = []
    between = alike = 0
    for record in records:
        if not isinstance(record, Group) or record.labels is not None:
            found.append(record)
            continue
        order = record.order() or []
        if not order or min(order) == max(order):
            alike += 1
            continue
        kept = [k for k, value in enumerate(order) if value in (min(order), max(order))]
        between += len(order) - len(kept)
        found.append(
            replace(
                record,
                responses=[record.responses[k] for k in kept],
                scores=None,
                ranking=None,
                critiques=None,
                labels=[order[k] == max(order) for k in kept],
            )
        )
    verdicts = [label for record in found if isinstance(record, Group) for label in record.labels or ()]
    notes = []
    if alike:
        notes.append(f"{alike} of {len(records)} records left out: their responses are scored alike, none good or bad.")
    if between:
        notes.append(f"{between} response{'s' * (between != 1)} left out: neither the best nor the worst to a prompt.")
    if not verdicts:
        raise KilterError("No response is better or worse than another; give labels, or scores that differ.")
    notes.append(f"Learning from {sum(verdicts)} good and {len(verdicts) - sum(verdicts)} bad responses.")
    return found, notes


def with_asides(trees: list[Tree]) -> list[Tree]:
    """Give each tree in info["aside"] the same prompt with a response that belongs to another one.

    It is the next tree's with another prompt, cut where the two together would be longer than any tree is. Raises
    KilterError where all prompts are the same.
    """
    longest = max(len(tree.prompt) + max(map(len, tree.responses)) for tree in trees)
    count = len(trees)
    for i, tree in enumerate(trees):
        others = (trees[(i + step) % count] for step in range(1, count))
        other = next((one for one in others if list(one.prompt) != list(tree.prompt)), None)
        if other is None:
            raise KilterError("A response to another prompt is due, and all prompts are the same; give more prompts.")
        response = list(other.responses[i % len(other.responses)])[: max(1, longest - len(tree.prompt))]
        tree.info["aside"] = Tree(tree.prompt, [response], [[True] * len(response)])
    return trees


def labels_of(group: Groups, method: str) -> Tensor:
    """Return [R]: 1 for a good response and 0 for a bad one; raise KilterError where some group has no labels."""
    if group.labels is None:
        raise KilterError(f"'{method}' learns from labels, and some group has none; give each response true or false.")
    return group.labels


def signed(numbers: Tensor, good: Tensor) -> Tensor:
    """Return [R], for a metric: `numbers` of good responses, and minus those of bad ones."""
    found = numbers.detach()
    return torch.where(good, found, -found)
