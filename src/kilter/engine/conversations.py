"""Whole conversations as trees, for a model that reads one and says a number.

A reward model is given a conversation as the chat template writes it with nothing after it, end of turn and all, made
into tokens in one piece: so that `tokenizer.apply_chat_template(messages)` and transformers' own classes give the same
score. What the renderings of a prompt's responses have in common is computed once, and where steps are judged the
tokens that complete a step are marked. template.py cuts for a model that writes; here nothing is cut out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from kilter.engine.batch import Tree
from kilter.engine.template import CHUNK, Dropped, fitted, judgements
from kilter.engine.turns import TemplateRefusal, Turns, name_of
from kilter.errors import KilterError
from kilter.records import Group, Message

SEPARATOR = "\n"  # what stands between two steps of a response

# For each response of a group the places in its text where a step ends.
Cuts = Sequence[Sequence[int]]


def conversation_trees(
    tokenizer: PreTrainedTokenizerBase,
    groups: Sequence[Group],
    *,
    cuts: Sequence[Cuts | None] | None = None,
    max_length: int | None = None,
    dropped: Dropped | None = None,
) -> list[Tree | None]:
    """Return the tree of each group, None where nothing of it is left.

    The prompt is what all renderings begin with, at most up to the generation prompt; all tokens after it are scored.
    `max_length`, `dropped` and `info` are as in `template.trees`. With `cuts` (parallel to `groups`) info has "marks":
    for each response the tokens that complete its steps. That is the token behind the step, a separator or the end of
    the turn, for a model has read the whole step only there.

    Raises KilterError where steps are asked for and the tokenizer does not tell where in the text a token is.
    """
    turns = Turns(tokenizer)
    dropped = dropped if dropped is not None else Dropped()
    built: list[Tree | None] = []
    for start in range(0, len(groups), CHUNK):
        chunk = groups[start : start + CHUNK]
        drafts = [_draw(turns, group, dropped) for group in chunk]
        texts = [text for draft in drafts if draft for text in (draft.before, *draft.whole)]
        rows = iter(_encode(tokenizer, texts, offsets=cuts is not None))
        for i, (group, draft) in enumerate(zip(chunk, drafts, strict=True)):
            places = cuts[start + i] if cuts is not None else None
            built.append(_tree(tokenizer, group, draft, rows, places, max_length, dropped) if draft else None)
    return built


def step_cuts(steps: Sequence[str], separator: str = SEPARATOR) -> list[int]:
    """Return where in `separator.join(steps)` each step ends."""
    ends, at = [], 0
    for step in steps:
        ends.append(at + len(step))
        at = ends[-1] + len(separator)
    return ends


@dataclass(slots=True)
class _Drawn:
    """A group as text: the prompt with its generation prompt, and every whole conversation."""

    before: str
    whole: list[str]


@dataclass(slots=True)
class _Row:
    """A text's tokens, and the place in the text where each begins, where that was asked for."""

    ids: list[int]
    starts: list[int]


def _draw(turns: Turns, group: Group, dropped: Dropped) -> _Drawn | None:
    try:
        before = turns.draw(group.prompt, prompt=True)
        return _Drawn(before, [turns.draw([*group.prompt, Message("assistant", r)]) for r in group.responses])
    except TemplateRefusal as refusal:
        for _ in group.responses:
            dropped.add(f"refused by the chat template: {refusal.why}")
        return None


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], *, offsets: bool) -> list[_Row]:
    if offsets and not tokenizer.is_fast:
        raise KilterError(
            f"The tokenizer of {name_of(tokenizer)} does not tell where in the text its tokens are, so that steps "
            "cannot be marked; use one with a tokenizer.json."
        )
    if not texts:
        return []
    found: Any = tokenizer(
        texts,
        add_special_tokens=False,
        return_attention_mask=False,
        return_offsets_mapping=offsets,
        verbose=False,
    )
    starts = [[first for first, _ in row] for row in found["offset_mapping"]] if offsets else [[] for _ in texts]
    return [_Row(list(ids), begun) for ids, begun in zip(found["input_ids"], starts, strict=True)]


def _tree(
    tokenizer: PreTrainedTokenizerBase,
    group: Group,
    draft: _Drawn,
    rows: Any,
    cuts: Cuts | None,
    max_length: int | None,
    dropped: Dropped,
) -> Tree | None:
    """Take the rows of one group from `rows` and put them together, as far as they fit."""
    before, whole = next(rows), [next(rows) for _ in draft.whole]
    if not whole:
        return None
    fork = min(_shared(before.ids, row.ids) for row in whole)
    lengths = [len(row.ids) - fork for row in whole]
    marks: list[list[int]] = [[] for _ in whole]
    if cuts is not None:
        for k, row in enumerate(whole):
            found = _marks(draft.before, draft.whole[k], group.responses[k], cuts[k], row.starts)
            lengths[k] = lengths[k] if found else 0  # counted as empty: there is no step to be seen
            marks[k] = [at - fork for at in found]
    prompt, kept = fitted(tokenizer, before.ids[:fork], lengths, max_length, dropped)
    if not kept:
        return None
    responses = [whole[k].ids[fork:] for k in kept]
    info = {"id": group.id, **judgements(group, kept)}
    if cuts is not None:
        info["marks"] = [marks[k] for k in kept]
    return Tree(prompt, responses, [[True] * len(response) for response in responses], info=info)


def _marks(before: str, text: str, response: str, cuts: Sequence[int], starts: Sequence[int]) -> list[int]:
    """Return the tokens of `text` that complete the steps; none where the template does not write the response."""
    content = response.strip()
    at = text.find(content, _shared(before, text))
    if not content or at < 0:
        return []
    lead = len(response) - len(response.lstrip())
    ends = [at + min(max(cut - lead, 0), len(content)) for cut in cuts]
    # Of the tokens that begin no later than the character behind the step the last: it holds that character.
    return [bisect_right(starts, end) - 1 for end in ends]


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return the length of what both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
