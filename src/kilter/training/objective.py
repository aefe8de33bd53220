"""What an objective learns from, said beside it by a decorator: a kind of record, or its own samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from kilter.engine.asks import NOTHING, Asks
from kilter.engine.batch import Tree
from kilter.feedback.protocol import Feedback
from kilter.records import Record

Kind = Literal["demonstrations", "pairs", "scores", "labels", "steps", "prompts"]
# A policy writes (a causal language model), a judge says a number (a reward model); a guide writes, but what another
# model is asked with: by itself it answers nothing. A study trains several models, to compare them.
Role = Literal["policy", "judge", "guide", "study"]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Online:
    """What an objective that learns from its own samples asks of the online source (online.py).

    `reference` names the option that, unless it is 0, takes the reference policy's log-probs; `critic` says whether a
    critic learns along. `shape(rollout, **options)` works out once for each rollout, before the first update, what the
    objective reads from it; its keyword-only arguments are options of the method too. With fewer than `at_least`
    responses to a prompt nothing can be learned. `mask` says whether samples may be drawn under a mask (mask.py): its
    options are the method's too. `judges` are options that name further feedback: its numbers stand
    beside the rewards in a rollout, under the option's name. `through(feedback, *, options)` makes of the feedback
    another one, such as one that asks a model with the response; its arguments are options of the method as well.
    `defaults` are the paper's, for options that all such methods share.
    """

    reference: str | None = None
    critic: bool = False
    shape: Callable[..., None] | None = None
    at_least: int = 1
    judges: tuple[str, ...] = ()
    through: Callable[..., Feedback] | None = None
    mask: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hooks(self) -> list[Callable[..., Any]]:
        """The functions that there are."""
        return [hook for hook in (self.shape, self.through) if hook is not None]


@dataclass(frozen=True)
class Offline:
    """What an objective that learns from records asks of the driver (run.py) beside them.

    `records(records, *, options)` turns what the file holds into records to learn from, of the kind `becomes`, and
    sentences about what it left out; it may take the `tokenizer` too, and change it, and the `model` as it starts.
    `trees(trees, *, options)` completes the trees that are made of them. The keyword-only arguments of both are options
    of the method. `defaults` are the paper's, for options that all methods share.
    """

    records: Callable[..., tuple[list[Record], list[str]]] | None = None
    trees: Callable[..., list[Tree]] | None = None
    becomes: Kind | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hooks(self) -> list[Callable[..., Any]]:
        """The functions that there are."""
        return [hook for hook in (self.records, self.trees) if hook is not None]


def learns_from(
    kind: Kind,
    *,
    trains: Role = "policy",
    becomes: Kind | None = None,
    records: Callable[..., tuple[list[Record], list[str]]] | None = None,
    trees: Callable[..., list[Tree]] | None = None,
    asks: Asks | Callable[..., Asks] = NOTHING,
    **defaults: Any,
) -> Callable[[Function], Function]:
    """Mark an objective: the driver reads such records, leaves out those without, and says so if none is left.

    An objective that trains a judge is given Values instead of LogProbs, and a model with a head that says a number.
    What else may be asked of the driver: see `Offline`; and of the engine: see `Asks`, which may depend on options.
    """

    def mark(function: Function) -> Function:
        setattr(function, "learns_from", kind)  # noqa: B010 - a function has no such attribute for the type checker
        setattr(function, "trains", trains)  # noqa: B010
        setattr(function, "offline", Offline(records, trees, becomes, defaults))  # noqa: B010
        setattr(function, "asks", asks)  # noqa: B010
        return function

    return mark


def learns_online(
    *,
    reference: str | None = None,
    critic: bool = False,
    shape: Callable[..., None] | None = None,
    at_least: int = 1,
    judges: tuple[str, ...] = (),
    through: Callable[..., Feedback] | None = None,
    mask: bool = False,
    records: Callable[..., tuple[list[Record], list[str]]] | None = None,
    trains: Role = "policy",
    **defaults: Any,
) -> Callable[[Function], Function]:
    """Mark an objective that learns from responses which the policy samples to prompts as it goes; see `Online`.

    `records` makes of the prompts others that are sampled for, as it does for `learns_from`.
    """

    def mark(function: Function) -> Function:
        online = Online(reference, critic, shape, at_least, judges, through, mask, defaults)
        setattr(function, "online", online)  # noqa: B010 - as above
        return learns_from("prompts", trains=trains, records=records)(function)

    return mark


def kind_of(function: Callable[..., Any]) -> Kind:
    """Return what `function` learns from; without a mark, demonstrations."""
    found: Kind = getattr(function, "learns_from", "demonstrations")
    return found


def online_of(function: Callable[..., Any]) -> Online | None:
    """Return what `function` asks of the online source, None where it learns from records."""
    found: Online | None = getattr(function, "online", None)
    return found


def offline_of(function: Callable[..., Any]) -> Offline:
    """Return what `function` asks of the driver beside records."""
    found: Offline = getattr(function, "offline", Offline())
    return found


def role_of(function: Callable[..., Any]) -> Role:
    """Return what `function` trains; without a mark, a policy."""
    found: Role = getattr(function, "trains", "policy")
    return found
