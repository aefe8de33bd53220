"""Conditions said in words at the end of a user's turn, and a chat template that says the good one by itself.

A model that learned what "An unhelpful answer:" and "A helpful answer:" are followed by is asked under the latter. So
that every evaluation, sampler and later stage does so without knowing of it, the condition becomes part of the chat
template that is saved with the checkpoint: a user's turn that says no condition is given the good one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from kilter.engine.turns import ensure_template
from kilter.records import Message

SEPARATOR = "\n\n"
_HEAD = (
    "{%- set marked = namespace(turns=[]) -%}{%- for turn in messages -%}"
    "{%- set said = namespace(any=turn['role'] != 'user' or turn['content'] is not string) -%}"
    "{%- for mark in MARKS -%}{%- if not said.any and turn['content'].endswith(mark) -%}{%- set said.any = true -%}"
    "{%- endif -%}{%- endfor -%}{%- if said.any -%}{%- set marked.turns = marked.turns + [turn] -%}{%- else -%}"
    "{%- set marked.turns = marked.turns + [{'role': 'user', 'content': turn['content'] + GOOD}] -%}"
    "{%- endif -%}{%- endfor -%}{%- set messages = marked.turns -%}"
)


def under(messages: Sequence[Message], mark: str, separator: str = SEPARATOR) -> list[Message]:
    """Return a prompt asked under the condition `mark`: at the end of its last turn, or as a turn behind it."""
    *before, last = messages
    if last.role != "user":
        return [*messages, Message("user", mark)]
    return [*before, Message("user", last.content + separator + mark)]


def mark_template(
    tokenizer: PreTrainedTokenizerBase, good: str, others: Sequence[str], separator: str = SEPARATOR
) -> None:
    """Let the chat template end every user's turn with `good`, unless it ends so already or with one of `others`.

    A template that does so stays as it is.
    """
    ensure_template(tokenizer)
    marks = json.dumps([good, *others], ensure_ascii=False)
    head = _HEAD.replace("MARKS", marks).replace("GOOD", json.dumps(separator + good, ensure_ascii=False))
    if not str(tokenizer.chat_template).startswith(head):
        tokenizer.chat_template = head + str(tokenizer.get_chat_template())
