"""Sentences for the user that are no errors: what was left out, what was cut, what was done before."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable


def tell(notes: Iterable[str]) -> None:
    """Print each note on a line of stderr. Of several processes the first one speaks."""
    if os.environ.get("RANK", "0") == "0":
        for note in notes:
            print(note, file=sys.stderr, flush=True)


def ended(text: str) -> str:
    """Return `text` as a sentence: with a full stop, unless it ends as one already."""
    return text if text.endswith((".", "?", "!", "。", "？", "！")) else f"{text}."
