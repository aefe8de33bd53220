"""Conversations as one text, a tag before every turn: how a model writes a whole dialogue in one answer."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from kilter.errors import SetAside
from kilter.records import Message

Tags = tuple[str, ...]


def written(messages: Sequence[Message], user: str = "Human:", assistant: str = "Assistant:") -> str:
    """Return the turns as one text, each on a line of its own that begins with its tag.

    Raises SetAside for a turn in which a line begins with a tag: the text would be read as other turns than these.
    """
    tags = {"user": user, "assistant": assistant}
    lines = []
    for message in messages:
        if message.role not in tags:
            raise SetAside(f"A turn of the {message.role} has no tag in a transcript; leave it out.", "roles")
        if _tagged((user,), (assistant,)).search(message.content):
            raise SetAside("A turn holds a speaker's tag itself, so that it cannot be told from a new turn.", "tag")
        lines.append(f"{tags[message.role]} {message.content.strip()}")
    return "\n".join(lines)


def spoken(text: str, user: Tags = ("Human:",), assistant: Tags = ("Assistant:",)) -> list[Message]:
    """Return the turns of a transcript, tags taken off: the user's first, then alternating, the assistant's last.

    What stands before the user's first turn is dropped, and so is a user's turn that nobody answers. Raises SetAside
    where no turn is left, where a turn is empty, and where one side speaks twice in a row.
    """
    parts = _tagged(user, assistant).split(text)
    named = {tag.casefold(): "user" for tag in user} | {tag.casefold(): "assistant" for tag in assistant}
    turns = [Message(named[tag.casefold()], said.strip()) for tag, said in zip(parts[1::2], parts[2::2], strict=True)]
    while turns and turns[0].role == "assistant":
        turns.pop(0)
    while turns and turns[-1].role == "user":
        turns.pop()
    if not turns:
        raise SetAside("No dialogue can be read from the answer: it lacks turns of both sides.", "no dialogue")
    if any(one.role == other.role for one, other in itertools.pairwise(turns)):
        raise SetAside("One side speaks twice in a row, so that the turns do not alternate.", "alternation")
    if not all(turn.content for turn in turns):
        raise SetAside("A turn of the dialogue is empty.", "empty turn")
    return turns


def _tagged(user: Tags, assistant: Tags) -> re.Pattern[str]:
    """A tag at the beginning of a line, in any case, perhaps in bold or after the mark of a list."""
    tags = "|".join(re.escape(tag) for tag in (*user, *assistant))
    return re.compile(rf"^[ \t*#>-]*({tags})[ \t*]*", re.IGNORECASE | re.MULTILINE)
