"""What an objective wants of the engine beside log-probs, said on the function by its decorator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

# By name numbers [N] and what each counts for [N].
Surveyed = Mapping[str, tuple[Tensor, Tensor]]
# It is given (policy, group) or (policy, reference, group), as the objective.
Survey = Callable[..., Surveyed]


@dataclass(frozen=True, slots=True)
class Asks:
    """What the engine is to give beside log-probs.

    rivals: for every scored token the log-prob of another one, drawn from the so many likeliest others
    (`LogProbs.rivals`); 0 asks for none. divergence: KL(pi_ref || pi) over the whole vocabulary at every scored token
    (`LogProbs.divergence`); pi_ref is the policy that training starts from. survey: worked out without gradient before
    each step over all of its trees (or what stands in their info as "aside"), whatever micro-batches and processes they
    are dealt to; the objective gets the means as its argument `survey`. tokens: of a model that says a number, that
    before every scored token (`Values.tokens`), beside those at ends and marks.
    """

    rivals: int = 0
    divergence: bool = False
    survey: Survey | None = None
    tokens: bool = False


NOTHING = Asks()


def asked_by(objective: Callable[..., Any]) -> Asks:
    """Return what an objective asks for, given the options that it goes by.

    Its attribute `asks` is an Asks, or a function that makes one of the options that it names as its arguments.
    """
    inner = objective.func if isinstance(objective, partial) else objective
    given = objective.keywords if isinstance(objective, partial) else {}
    asks: Asks | Callable[..., Asks] = getattr(inner, "asks", NOTHING)
    if isinstance(asks, Asks):
        return asks
    defaults = {name: p.default for name, p in inspect.signature(inner).parameters.items()}
    options = defaults | given
    return asks(**{name: options[name] for name in inspect.signature(asks).parameters})
