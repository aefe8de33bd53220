"""What flows through Kilter: messages, prompts, demonstrations and groups of responses.

Plain data, no tensors. Everything else (pairs, rankings, labels, rewards) is read from a `Group`.
`meta` holds whatever a reader found beside the known fields, so that nothing is lost on the way.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from kilter.errors import KilterError

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `role` is one of `ROLES`."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise KilterError(f"A message has the role '{self.role}'; use one of {', '.join(ROLES)}.")

    def to_json(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record came from, so that any line of any file can say it.

    `prompt` is the version of the prompt that it was asked for with (`kilter.prompts`), where there was one.
    """

    method: str
    paper: str | None = None
    model: str | None = None
    parents: tuple[str, ...] = ()
    seed: int | None = None
    prompt: str | None = None

    def to_json(self) -> dict[str, Any]:
        found = {
            "method": self.method,
            "paper": self.paper,
            "model": self.model,
            "parents": list(self.parents),
            "seed": self.seed,
        }
        return found if self.prompt is None else {**found, "prompt": self.prompt}


@dataclass(slots=True)
class Prompt:
    """A list of messages that waits for an answer. The last message is not the assistant's."""

    messages: list[Message]
    id: str = ""
    origin: Origin | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.id = self.id or identify("prompt", [m.to_json() for m in self.messages])


@dataclass(slots=True)
class Demonstration:
    """A conversation to imitate: the assistant's turns are the ones to learn."""

    messages: list[Message]
    id: str = ""
    origin: Origin | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.id = self.id or identify("demonstration", [m.to_json() for m in self.messages])


@dataclass(slots=True)
class Group:
    """K responses to one prompt, with what is known about them.

    `scores[k]` is higher for better, `ranking[k]` is the rank of response k (0 is best, equal ranks are ties),
    `labels[k]` is a verdict, `critiques[k]` a text. Any of them may be absent.
    """

    prompt: list[Message]
    responses: list[str]
    scores: list[float] | None = None
    ranking: list[int] | None = None
    labels: list[bool] | None = None
    critiques: list[str] | None = None
    id: str = ""
    origin: Origin | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.id = self.id or identify("group", [m.to_json() for m in self.prompt], self.responses)
        for name in ("scores", "ranking", "labels", "critiques"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.responses):
                raise KilterError(
                    f"Group {self.id} has {len(self.responses)} responses but {len(values)} {name}; give one each."
                )

    def order(self) -> list[float] | None:
        """Return one number a response, higher for better: scores, else ranking, else labels, else None."""
        if self.scores is not None:
            return list(self.scores)
        if self.ranking is not None:
            return [-float(rank) for rank in self.ranking]
        if self.labels is not None:
            return [float(label) for label in self.labels]
        return None

    def pairs(self) -> list[tuple[int, int]]:
        """Return every (better, worse) pair of response indices, best first; ties give none."""
        order = self.order()
        if order is None:
            return []
        ranked = sorted(range(len(order)), key=lambda k: -order[k])
        return [(w, l) for i, w in enumerate(ranked) for l in ranked[i + 1 :] if order[w] > order[l]]


Record = Prompt | Demonstration | Group


def identify(*parts: Any) -> str:
    """Return a 16-hex-digit id that depends on the content of `parts` alone."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
