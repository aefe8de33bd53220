"""Groups as trees for the methods that train a judge: whole conversations, with margins and labelled steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from kilter.engine.batch import Tree
from kilter.engine.conversations import conversation_trees, step_cuts
from kilter.engine.template import Dropped
from kilter.errors import KilterError
from kilter.records import Group
from kilter.training.objective import Kind


def judged_trees(
    tokenizer: Any, groups: Sequence[Group], kind: Kind, *, max_length: int, dropped: Dropped
) -> list[Tree | None]:
    """Return the tree of each group; see `conversation_trees`.

    Where `kind` is "steps" the steps are marked and info has their "mark_labels". The column `margin` of TRL's pairs
    becomes the distance between the two in info's "order".
    """
    if kind == "steps":
        found = [steps_of(group) for group in groups]
        cuts = [[step_cuts(one[0])] if one else None for one in found]
        made = conversation_trees(tokenizer, groups, cuts=cuts, max_length=max_length, dropped=dropped)
        for tree, one in zip(made, found, strict=True):
            if tree is not None and one is not None:
                tree.info["mark_labels"] = [one[1]]
        return made
    made = conversation_trees(tokenizer, groups, max_length=max_length, dropped=dropped)
    for group, tree in zip(groups, made, strict=True):
        margin = group.meta.get("extra", {}).get("margin")
        if tree is not None and isinstance(margin, int | float) and len(tree.info["pairs"]) == 1:
            [(better, _)] = tree.info["pairs"]
            tree.info["order"] = [float(margin) if k == better else 0.0 for k in range(len(tree.responses))]
    return made


def steps_of(group: Group) -> tuple[list[str], list[float]] | None:
    """Return the steps of a group's one response with a label in [0, 1] each, or None where it has none."""
    steps, labels = group.meta.get("steps"), group.meta.get("step_labels")
    if not steps or not labels or len(steps) != len(labels) or len(group.responses) != 1:
        return None
    return list(steps), [float(label) for label in labels]


def check_scores(groups: Iterable[Group]) -> None:
    """Raise KilterError for a score that is not finite, before it turns a loss into one."""
    for group in groups:
        for score in group.scores or ():
            if not math.isfinite(score):
                raise KilterError(
                    f"A response of record {group.id} has the score {score}; leave that record out or score it again."
                )
