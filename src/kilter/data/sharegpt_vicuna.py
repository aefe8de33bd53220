"""Shared conversations, cleaned and cut into windows that fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

from pydantic import Field

from kilter.data.languages import language_of
from kilter.data.markdown import to_markdown
from kilter.data.sieve import leave_out
from kilter.data.tokens import tokenise
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import method

# Refusals of the server, which it gave in the place of an answer.
_BOILERPLATE = re.compile(
    r"\A!?(too many requests in 1 hour|an error occurred\. if this issue persists)", re.IGNORECASE
)
_BROKEN_LIST = re.compile(r"\n1\. [^2]*\n1\. ")
_DIGITS = re.compile(r"(\d)\1{8}")
_PER_TURN = 6  # tokens that a template puts round a turn
_SHORTEST = 16  # characters of a conversation

Fault = tuple[str, str]


@method(
    "sharegpt-vicuna", wing="data", paper="lmsys.org/blog/2023-03-30-vicuna", survey="S2 §2.1", aliases=("sharegpt",)
)
def sharegpt_vicuna(
    records: Iterable[Demonstration | Prompt],
    *,
    max_tokens: Annotated[int, Field(gt=0)] = 2048,
    tokenizer: str = "",
    blocked: str = "openai,chatgpt",
    keep: str = "",
    digits: bool = False,
) -> Iterator[Demonstration]:
    """Clean shared conversations and cut them into windows, as Vicuna's data were (Chiang et al. 2023; FastChat).

    In this order: HTML becomes Markdown; a turn that is empty, or a refusal of the server, ends the conversation; an
    answer at the beginning and a question at the end go; what does not take turns then, holds a blocked word, has fewer
    than 16 characters, is of another language, repeats an id or the first question with its answer, has a list with a
    second item 1, or (with `digits`) nine times the same digit, is left out. What is longer than `max_tokens`, six a
    turn included, is cut between an answer and the next question into windows, as few as follow one another; each gets
    the system's turn. A pair of question and answer that is too long by itself is left out, and the next window begins
    after it. (The original lost the last pair of some conversations, and made empty ones of others.)

    Options:
        max_tokens: longest window
        tokenizer: model whose tokens are counted; without it words, and characters where there are no spaces
        blocked: words for which a conversation is left out, with commas between
        keep: languages that are kept, as en,zh; without it all are
        digits: whether nine equal digits in a row are a fault
    """
    count = _counter(tokenizer)
    words = [word.strip().lower() for word in blocked.split(",") if word.strip()]
    languages = {name.strip() for name in keep.split(",") if name.strip()}
    ids: set[str] = set()
    openings: set[tuple[str, str]] = set()
    for record in records:
        system, turns = _cleaned(record.messages)
        fault = _fault(turns, words, languages, digits)
        if fault is None and (record.id in ids or (turns[0].content, turns[1].content) in openings):
            fault = "duplicate", "Its id, or its first question and answer, were there before."
        if fault is not None:
            leave_out(record, *fault)
            continue
        ids.add(record.id)
        openings.add((turns[0].content, turns[1].content))
        yield from _windows(record, system, turns, count, max_tokens)


def _counter(tokenizer: str) -> Callable[[list[str]], list[int]]:
    """Return what counts the tokens of texts."""
    if not tokenizer:
        return lambda texts: [int(length) for length in tokenise(texts).lengths]
    from transformers import AutoTokenizer

    from kilter.models.load import checkpoint

    loaded = AutoTokenizer.from_pretrained(checkpoint(tokenizer))
    return lambda texts: [len(loaded(text, add_special_tokens=False)["input_ids"]) for text in texts]


def _cleaned(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """Return the system's turn and the others, as Markdown, from the first question to the last answer."""
    system = [m for m in messages[:1] if m.role == "system" and m.content.strip()]
    turns: list[Message] = []
    for message in messages[1:] if messages and messages[0].role == "system" else messages:
        content = to_markdown(message.content)
        if not content.strip() or (message.role == "assistant" and _BOILERPLATE.match(content.strip())):
            break
        turns.append(Message(message.role, content))
    while turns and turns[0].role != "user":
        turns.pop(0)
    while turns and turns[-1].role != "assistant":
        turns.pop()
    return system, turns


def _fault(turns: list[Message], words: list[str], languages: set[str], digits: bool) -> Fault | None:
    if len(turns) < 2 or sum(len(turn.content) for turn in turns) < _SHORTEST:
        return "empty", "Nothing is left of it, or too little."
    if any(turn.role != ("user", "assistant")[i % 2] for i, turn in enumerate(turns)):
        return "turns", "User and assistant do not take turns."
    text = "\n".join(turn.content for turn in turns)
    found = next((word for word in words if word in text.lower()), None)
    if found is not None:
        return "blocked word", f"It holds '{found}'."
    if languages and language_of(text) not in languages:
        return "language", f"Its language is {language_of(text) or 'unknown'}."
    if any(turn.role == "assistant" and _BROKEN_LIST.search(turn.content) for turn in turns):
        return "broken list", "A list in it has a second item 1."
    if digits and _DIGITS.search(text):
        return "digits", "It has nine times the same digit."
    return None


def _windows(
    record: Demonstration | Prompt,
    system: list[Message],
    turns: list[Message],
    count: Callable[[list[str]], list[int]],
    most: int,
) -> Iterator[Demonstration]:
    sizes = [size + _PER_TURN for size in count([turn.content for turn in turns])]
    room = most - sum(size + _PER_TURN for size in count([turn.content for turn in system]))
    start = end = used = 0
    spans: list[tuple[int, int]] = []
    for place in range(0, len(turns), 2):
        pair = sizes[place] + sizes[place + 1]
        if used + pair > room:
            spans.append((start, end))
            start, used = place, 0
        if pair > room:
            leave_out(
                Prompt(turns[place : place + 1], f"{record.id}_{place}"),
                "pair too long",
                f"Question and answer have {pair} tokens, more than the {room} that there is room for.",
            )
            start = end = place + 2
            continue
        used, end = used + pair, place + 2
    for first, last in [*spans, (start, end)]:
        if last > first:
            whole = (first, last) == (0, len(turns))
            identity = record.id if whole else f"{record.id}_{first}"
            origin = record.origin or Origin("sharegpt-vicuna", parents=(record.id,))
            meta = {k: v for k, v in record.meta.items() if k != "turns"}
            yield Demonstration([*system, *turns[first:last]], identity, origin, meta)
