"""What an objective returns: a number for each example, and what each counts for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(slots=True)
class Loss:
    """What an objective returns for the N examples (responses, pairs ...) of a micro-batch.

    per_example [N] are numerators, `weight` [N] what each counts for: the step's loss is the ratio of their sums over
    the whole step. `metrics` are [N] each, of examples again; their means are logged. `value` [N] are the numerators of
    a measurement, where those are others: a weight without gradient that follows the policy leaves a number whose slope
    is right and whose height says nothing, so that one cannot tell by it which of two models is the better.
    """

    per_example: Tensor
    weight: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
    value: Tensor | None = None


Objective = Callable[..., Loss]


def compares(objective: Objective) -> bool:
    """Whether an objective is given the reference policy's log-probs."""
    return "reference" in inspect.signature(objective).parameters
