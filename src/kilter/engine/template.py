"""From messages to token ids: prompts to answer, and trees that say which tokens were the assistant's.

A conversation is rendered by the tokenizer's chat template and cut where the model takes over: after the generation
prompt, and after the token that ends its turn. Each piece is tokenised by itself, so that no token reaches across a
cut and a response is exactly what the model would have to produce. Which pieces are the assistant's is read from the
template's `{% generation %}` marks, else found by comparing the renderings of the conversation up to each turn.

A base model's tokenizer has no chat template. It is given `FALLBACK`, which is then saved with its checkpoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

from transformers import PreTrainedTokenizerBase

from kilter.engine.batch import Tree
from kilter.engine.turns import TemplateRefusal, Turns, ensure_template, special_ids
from kilter.errors import KilterError
from kilter.records import Demonstration, Group, Message, Record

__all__ = [
    "Dropped",
    "demonstration_tree",
    "end_ids",
    "ensure_template",
    "group_tree",
    "prompt_ids",
    "render",
    "trees",
]

# A tokenizer may put a space before the first word of a text. A piece from the middle of a conversation has something
# before it, so it is tokenised after one of these, which is then taken off again.
ANCHORS = ("\n", ".")
# Of a prompt that is cut to make room for a response, this share of max_length has to remain.
LEAST_PROMPT = 1 / 8
LONG = "over"  # begins the reason why a response that does not fit is left out
CHUNK = 1024  # conversations tokenised in one call


@dataclass(slots=True)
class Dropped:
    """Counts what could not become a tree, by reason, and prompts that were `cut` for their responses' sake."""

    reasons: Counter[str] = field(default_factory=Counter)
    cut: int = 0

    def add(self, reason: str) -> None:
        """Count one response that was left out because of `reason` ("over 256 tokens")."""
        self.reasons[reason] += 1

    @property
    def total(self) -> int:
        """The number of responses left out."""
        return self.reasons.total()

    def split(self) -> tuple[Dropped, Dropped]:
        """Return apart those that were too long, which more tokens would mend, and the others."""
        parts = Dropped(), Dropped()
        for reason, count in self.reasons.items():
            parts[not reason.startswith(LONG)].reasons[reason] = count
        return parts

    def __str__(self) -> str:
        """Return one sentence part, such as `3 responses left out (2 over 256 tokens, 1 with no assistant turn)`."""
        told = ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common())
        return f"{self.total} response{'s' * (self.total != 1)} left out" + (f" ({told})" if told else "")


def end_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the tokens that end an answer: the template's end of turn and the tokenizer's end of sequence."""
    ends = {tokenizer.eos_token_id} - {None}
    conversation = [Message("user", "a"), Message("assistant", "b")]
    tree = group_tree(tokenizer, Group(conversation[:1], ["b"]))
    last = tree.responses[0][-1] if tree and tree.responses[0] else None
    if last in special_ids(tokenizer):
        ends.add(last)
    return ends


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> list[int]:
    """Return the ids of a whole conversation as the chat template writes it."""
    text = Turns(tokenizer).draw(messages, prompt=add_generation_prompt)
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Message]],
    *,
    max_length: int | Sequence[int] | None = None,
) -> list[list[int]]:
    """Return the ids of each prompt with its generation prompt, cut from the left to `max_length` tokens (each).

    Raises KilterError where the chat template refuses a prompt.
    """
    turns = Turns(tokenizer)
    ids = _encode(tokenizer, [(turns.draw(prompt, prompt=True), False) for prompt in prompts])
    if max_length is None:
        return ids
    rooms = [max_length] * len(ids) if isinstance(max_length, int) else max_length
    return [cut_left(tokenizer, row, room) for row, room in zip(ids, rooms, strict=True)]


def demonstration_tree(
    tokenizer: PreTrainedTokenizerBase,
    demonstration: Demonstration,
    *,
    max_length: int | None = None,
    dropped: Dropped | None = None,
) -> Tree | None:
    """Return the tree of one demonstration; see `trees`."""
    return trees(tokenizer, [demonstration], max_length=max_length, dropped=dropped)[0]


def group_tree(
    tokenizer: PreTrainedTokenizerBase,
    group: Group,
    *,
    max_length: int | None = None,
    dropped: Dropped | None = None,
) -> Tree | None:
    """Return the tree of one group; see `trees`."""
    return trees(tokenizer, [group], max_length=max_length, dropped=dropped)[0]


def trees(
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[Record],
    *,
    max_length: int | None = None,
    dropped: Dropped | None = None,
) -> list[Tree | None]:
    """Return the tree of each demonstration or group, None where nothing of it can be learned.

    A demonstration becomes a prompt and one response, its last assistant turn; the earlier ones are in `prompt_mask`.
    A group becomes its prompt and its responses, each with the token that ends its turn. `max_length` tokens have to
    hold the prompt and any one response: a longer prompt loses tokens from the left (never its first token, if that
    is the tokenizer's bos), a response that does not leave an eighth of `max_length` (or all of a shorter prompt)
    to the prompt is left out and counted in `dropped`, which also counts the prompts that were
    cut. `info` has "id"; for a group also "kept" (indices of the
    responses that are in the tree), "order", "pairs" and "labels" of those.

    Raises KilterError if the chat template does not let the assistant's tokens be told from the others.
    """
    turns = Turns(tokenizer)
    dropped = dropped if dropped is not None else Dropped()
    built: list[Tree | None] = []
    for start in range(0, len(records), CHUNK):
        drafts = [_draft(turns, record, dropped) for record in records[start : start + CHUNK]]
        pieces = [piece for draft in drafts if draft for piece in draft.pieces()]
        ids = iter(_encode(tokenizer, pieces))
        built += [draft.tree(tokenizer, ids, max_length, dropped) if draft else None for draft in drafts]
    return built


@dataclass(slots=True)
class _Draft:
    """A record as text: pieces of the prompt and of each response, each with whether it is scored."""

    prompt: list[tuple[str, bool]]
    responses: list[list[tuple[str, bool]]]
    info: dict[str, Any]
    group: Group | None = None

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """Yield every piece with whether something stands before it."""
        for i, (text, _) in enumerate(chain(self.prompt, *self.responses)):
            yield text, i > 0

    def tree(
        self,
        tokenizer: PreTrainedTokenizerBase,
        ids: Iterator[list[int]],
        max_length: int | None,
        dropped: Dropped,
    ) -> Tree | None:
        """Take the ids of the pieces from `ids` and put them together, as far as they fit."""
        prompt, scored = _joined(self.prompt, ids)
        responses = [_joined(response, ids) for response in self.responses]
        prompt, kept = fitted(tokenizer, prompt, [len(tokens) for tokens, _ in responses], max_length, dropped)
        scored = scored[len(scored) - len(prompt) :]
        if not kept:
            return None
        if self.group:
            self.info.update(judgements(self.group, kept))
        return Tree(
            prompt=prompt,
            responses=[responses[k][0] for k in kept],
            masks=[responses[k][1] for k in kept],
            prompt_mask=scored if any(scored) else None,
            info=self.info,
        )


def _draft(turns: Turns, record: Record, dropped: Dropped) -> _Draft | None:
    if isinstance(record, Group):
        wanted = len(record.responses)
    elif isinstance(record, Demonstration):
        wanted = 1
    else:
        raise KilterError(f"Record {record.id} is a prompt without a response; give demonstrations or groups instead.")
    try:
        found = _cut_group(turns, record) if isinstance(record, Group) else _cut_demonstration(turns, record)
    except TemplateRefusal as refusal:
        found, reason = None, f"refused by the chat template: {refusal.why}"
    else:
        reason = "with no assistant turn"
    if found is None:
        for _ in range(wanted):
            dropped.add(reason)
    return found


def _cut_demonstration(turns: Turns, record: Demonstration) -> _Draft | None:
    """Cut a conversation at its assistant turns; what follows the last of them is left away."""
    last = max((i for i, message in enumerate(record.messages) if message.role == "assistant"), default=None)
    if last is None:
        return None
    text, fork, spans = turns.demonstration(record.messages[: last + 1])
    prompt: list[tuple[str, bool]] = []
    response: list[tuple[str, bool]] = []
    for start, end in pairwise(sorted({0, fork, *chain(*spans)})):
        scored = any(first <= start < behind for first, behind in spans)
        (prompt if end <= fork else response).append((text[start:end], scored))
    return _Draft(prompt, [response], {"id": record.id})


def _cut_group(turns: Turns, record: Group) -> _Draft:
    """Cut each response of a group behind the generation prompt they share."""
    before, responses = turns.answers(record.prompt, record.responses)
    return _Draft([(before, False)], [[(text, True)] for text in responses], {"id": record.id}, record)


def _encode(tokenizer: PreTrainedTokenizerBase, pieces: Sequence[tuple[str, bool]]) -> list[list[int]]:
    """Return the ids of each (text, whether something stands before it)."""
    # Byte-level tokenizers put nothing before the first word; what they are given is what it is anywhere.
    spaced = tokenizer.tokenize("x")[:1] != ["x"]
    inner = [i for i, (_, inside) in enumerate(pieces) if inside and spaced]
    ids: list[list[int]] = [[] for _ in pieces]
    for anchor in ANCHORS:
        head = _batch(tokenizer, [anchor])[0]
        anchored = _batch(tokenizer, [anchor + pieces[i][0] for i in inner])
        for i, row in zip(inner, anchored, strict=True):
            if row[: len(head)] == head:  # otherwise the anchor became one token with the text
                ids[i] = row[len(head) :]
        inner = [i for i in inner if pieces[i][0] and not ids[i]]
    alone = [i for i, (text, _) in enumerate(pieces) if text and not ids[i]]
    for i, row in zip(alone, _batch(tokenizer, [pieces[i][0] for i in alone]), strict=True):
        ids[i] = row
    return ids


def _batch(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
    return [list(row) for row in encoded["input_ids"]]


def _joined(pieces: list[tuple[str, bool]], ids: Iterator[list[int]]) -> tuple[list[int], list[bool]]:
    tokens: list[int] = []
    mask: list[bool] = []
    for _, scored in pieces:
        row = next(ids)
        tokens += row
        mask += [scored] * len(row)
    return tokens, mask


def fitted(
    tokenizer: PreTrainedTokenizerBase,
    prompt: list[int],
    lengths: Sequence[int],
    max_length: int | None,
    dropped: Dropped,
) -> tuple[list[int], list[int]]:
    """Return the prompt, cut to make room, and which of the responses of these lengths stay; count the others.

    The rule is that of `trees`.
    """
    kept = [k for k, length in enumerate(lengths) if length]
    for _ in range(len(lengths) - len(kept)):
        dropped.add("empty")
    if max_length is None:
        return prompt, kept
    room = max_length - min(len(prompt), max(1, int(max_length * LEAST_PROMPT)))
    short = [k for k in kept if lengths[k] <= room]
    for _ in range(len(kept) - len(short)):
        dropped.add(f"{LONG} {max_length} tokens")
    longest = max((lengths[k] for k in short), default=0)
    left = cut_left(tokenizer, prompt, max_length - longest)
    dropped.cut += bool(short) and len(left) < len(prompt)
    return left, short


def cut_left(tokenizer: PreTrainedTokenizerBase, ids: list[int], room: int) -> list[int]:
    """Return the last `room` ids; a leading bos stays, for many models attend to it always."""
    if len(ids) <= room:
        return ids
    if room > 1 and ids[0] == tokenizer.bos_token_id:
        return [ids[0], *ids[len(ids) - room + 1 :]]
    return ids[len(ids) - room :] if room > 0 else []


def judgements(group: Group, kept: list[int]) -> dict[str, Any]:
    """Return what the group says about the responses that were kept, by their new indices."""
    order, row = group.order(), {k: i for i, k in enumerate(kept)}
    return {
        "kept": kept,
        "order": order and [order[k] for k in kept],
        "pairs": [(row[w], row[l]) for w, l in group.pairs() if w in row and l in row],
        "labels": group.labels and [group.labels[k] for k in kept],
    }
