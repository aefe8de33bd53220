"""Pairs for direct preference optimisation out of rated answers: the best one, and one of the others by chance."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from typing import Literal

from kilter.data.sieve import leave_out
from kilter.records import Demonstration, Group, Message, Origin
from kilter.registry import method

PAPER = "arXiv:2310.16944"
_NO_PERSON = re.compile(
    r"\bI (do not|don't) have (personal )?(emotions|opinions|feelings|preferences)\b", re.IGNORECASE
)
_START = re.compile(r"(^|[.!?]\s+|\n\s*)([a-z])")
_I = re.compile(r"\bi\b(?=[\s'’,.!?]|$)")


@method("zephyr", wing="data", paper=PAPER, survey="S1 §4.3.2, S3 §imitation", aliases=("binarise",))
def zephyr(
    records: Iterable[Demonstration | Group],
    *,
    rejected: Literal["random", "worst"] = "random",
    truecase: bool = True,
    seed: int = 0,
) -> Iterator[Demonstration | Group]:
    """Data as Zephyr was trained on it (Tunstall et al. 2023): pairs out of groups, cleaned conversations.

    A group of scored (ranked, labelled) answers becomes one pair: chosen is the one of highest score, the first of
    equals; rejected is drawn uniformly from the others, which makes harder pairs than the worst would. Others that are
    just as good are not drawn, for such a pair teaches nothing; a group whose answers are all equal is left out. A
    conversation (for the supervised step before) is kept unless the
    assistant says that it has no emotions or opinions; with `truecase`, sentences that begin with a small letter and
    "i" alone are mended, as they are frequent in UltraChat.

    Then: `kilter train dpo` with beta 0.1, at most 3 epochs (the paper's; the authors' later recipe has beta 0.01 and
    one epoch).

    Options:
        rejected: what is rejected, one of the others by chance or the worst
        truecase: whether capital letters are put where sentences begin
        seed: seed of the draws
    """
    for record in records:
        if isinstance(record, Demonstration):
            yield from _cleaned(record, truecase)
            continue
        order = record.order()
        worse = [] if not order else [k for k, value in enumerate(order) if value < max(order)]
        if order is None or not worse:
            reason = "has no scores" if order is None else "has answers that are all equally good"
            leave_out(record, "no preference", f"The group {reason}, so that nothing is preferred.")
            continue
        best = order.index(max(order))
        draw = random.Random(f"zephyr {seed} {record.id}")
        other = draw.choice(worse) if rejected == "random" else min(worse, key=lambda k: order[k])
        yield Group(
            list(record.prompt),
            [record.responses[best], record.responses[other]],
            scores=[record.scores[best], record.scores[other]] if record.scores else None,
            ranking=None if record.scores else [0, 1],
            origin=Origin("zephyr", PAPER, None, (record.id,), seed),
            meta={key: value for key, value in record.meta.items() if key != "completions"},
        )


def _cleaned(record: Demonstration, truecase: bool) -> Iterator[Demonstration]:
    if any(m.role == "assistant" and _NO_PERSON.search(m.content) for m in record.messages):
        leave_out(record, "boilerplate", "The assistant says that it has no emotions or opinions.")
        return
    if truecase:
        messages = [Message(m.role, cased(m.content)) for m in record.messages]
        if messages != record.messages:
            origin = record.origin or Origin("zephyr", PAPER, None, (record.id,))
            record = Demonstration(messages, record.id, origin, record.meta)
    yield record


def cased(text: str) -> str:
    """Return `text` with a capital letter at the beginning of each sentence, and in "I"; code is left as it is."""
    parts = re.split(r"(```.*?```|`[^`]*`)", text, flags=re.DOTALL)
    for i in range(0, len(parts), 2):
        begun = _START.sub(lambda found: found[1] + found[2].upper(), parts[i])
        # After code a sentence goes on.
        parts[i] = _I.sub("I", parts[i][:1] + begun[1:] if i else begun)
    return "".join(parts)
