"""Sentences for the user that are no errors: what was left out, what was cut, what was done before."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable


def speaks() -> bool:
    """Whether this process is the one that tells the user: of several the first."""
    return os.environ.get("RANK", "0") == "0"


def tell(notes: Iterable[str]) -> None:
    """Print each note on a line of stderr, in the process that speaks."""
    if speaks():
        for note in notes:
            print(note, file=sys.stderr, flush=True)


def ended(text: str) -> str:
    """Return `text` as a sentence: with a full stop, unless it ends as one already."""
    return text if text.endswith((".", "?", "!", "。", "？", "！")) else f"{text}."
