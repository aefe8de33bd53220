"""What a user sees of an error: a sentence that says what is wrong and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KilterError(Exception):
    """Something the user can mend. The message is one sentence: what is wrong, then the remedy."""


class SetAside(KilterError):
    """One item of many cannot be done, and the others can: a run enters it in its rejects and goes on.

    `rule` is a word or two that such items are counted by ("refused", "cut off", "ROUGE-L").
    """

    def __init__(self, reason: str, rule: str = "failed") -> None:
        super().__init__(reason)
        self.rule = rule


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the closest known name, or an empty string where none is close."""
    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    # Two letters that changed places are the commonest slip, and difflib holds it for no smaller one than others.
    found.sort(key=lambda other: sorted(other) != sorted(name))
    return f" Did you mean '{found[0]}'?" if found else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text, at most 300 characters, without its full stop; else its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:300]
