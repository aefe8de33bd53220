"""Plain text, without a chat template: what a base model is given by benchmarks that were made for such.

A context and its continuation are cut into tokens together, and the continuation is what comes after as many tokens as
the context has by itself. A space at the end of the context goes to the continuation, where most vocabularies have it
in the first word. This is how the Language Model Evaluation Harness does it, so that numbers compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kilter.engine.weigher import Pair
from kilter.errors import SetAside


def encode(tokenizer: Any, pairs: Sequence[tuple[str, str]], positions: int) -> tuple[list[Pair | SetAside], int]:
    """Return the ids of each (context, continuation), or why it cannot be weighed; and how many contexts were cut.

    An empty context stands for the token that begins a text. What is too long for the model's `positions` is cut from
    the left, the continuation never.
    """
    moved = [_moved(context, continuation) for context, continuation in pairs]
    contexts = list(dict.fromkeys(context for context, _ in moved if context))
    wholes = [context + continuation for context, continuation in moved]
    own = dict(zip(contexts, ids(tokenizer, contexts), strict=True))
    found: list[Pair | SetAside] = []
    cut = 0
    for (context, continuation), whole in zip(moved, ids(tokenizer, wholes), strict=True):
        before = own[context] if context else [beginning(tokenizer)]
        after = whole[len(before) :] if context else _bare(tokenizer, continuation, before[0])
        if not after:
            found.append(SetAside(f"The continuation {continuation!r} has no tokens of its own.", "empty"))
        elif len(after) > positions:
            found.append(SetAside(f"A continuation of {len(after)} tokens is over the {positions} positions.", "long"))
        else:
            over = max(0, len(before) + len(after) - positions - 1)
            cut += over > 0
            found.append(Pair(before[over:], after))
    return found, cut


def ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of each text as the tokenizer begins one; not twice where the text does so itself."""
    begins = tokenizer.decode([beginning(tokenizer)])
    own = [bool(begins) and text.startswith(begins) for text in texts]
    found: list[list[int]] = [[] for _ in texts]
    for marked in (False, True):
        some = [i for i, mark in enumerate(own) if mark is marked]
        if some:
            rows = tokenizer([texts[i] for i in some], add_special_tokens=not marked, verbose=False)["input_ids"]
            for i, row in zip(some, rows, strict=True):
                found[i] = row
    return found


def beginning(tokenizer: Any) -> int:
    """Return the token that stands for nothing before a text: its first one, else its last one."""
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if (token := getattr(tokenizer, name)) is not None:
            return int(token)
    return 0


def windows(tokenizer: Any, text: str, positions: int) -> list[Pair]:
    """Return what is to be weighed for the log-prob of a whole text, which may be longer than `positions`.

    Each token is predicted once. A further window has the tokens before it as context, as far as there is room.
    """
    tokens = ids(tokenizer, [text])[0]
    first = tokens[:positions]
    found = [Pair([beginning(tokenizer)], first)] if first else []
    for start in range(positions, len(tokens), positions):
        after = tokens[start : start + positions]
        found.append(Pair(tokens[start + len(after) - positions - 1 : start], after))
    return found


def _bare(tokenizer: Any, continuation: str, begins: int) -> list[int]:
    found: list[int] = tokenizer(continuation, add_special_tokens=False, verbose=False)["input_ids"]
    return found[1:] if found[:1] == [begins] else found


def _moved(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation
