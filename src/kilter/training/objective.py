"""What kind of record an objective learns from, said beside it by a decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

Kind = Literal["demonstrations", "pairs", "scores", "labels"]
Function = TypeVar("Function", bound=Callable[..., Any])


def learns_from(kind: Kind) -> Callable[[Function], Function]:
    """Mark an objective: the driver reads such records, leaves out those without, and says so if none is left."""

    def mark(function: Function) -> Function:
        setattr(function, "learns_from", kind)  # noqa: B010 - a function has no such attribute for the type checker
        return function

    return mark


def kind_of(function: Callable[..., Any]) -> Kind:
    """Return what `function` learns from; without a mark, demonstrations."""
    found: Kind = getattr(function, "learns_from", "demonstrations")
    return found
