"""Answers that explain, as one of sixteen system messages asks."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

from kilter.data.drafts import sound
from kilter.data.replies import asked_of
from kilter.data.sieve import leave_out
from kilter.errors import KilterError
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, method

PAPER = "arXiv:2306.02707"
PROMPTS = Prompts(__file__)
# Sixteen voices in our words; which of them a sub-collection gets, is below.
SYSTEM = (
    "",
    "Answer in detail, so that nobody has to look anything up to understand you.",
    "Answer as fully as you can.",
    "Help the person, and always explain what you say.",
    "Help the person to understand; say it so that a child of five can follow.",
    "Do the task as faithfully as you can. Go step by step while you do it, and justify the steps.",
    "Explain how you came to your answer.",
    "Think like somebody who answers questions of several choices: say why yours is right and the others are not.",
    "You know where facts are found; say what you rely on and then answer.",
    "Read the definition of the task first, say in simple words what it asks, then do it.",
    "Describe the task step by step, then give the answer.",
    "Break the question down, answer its parts, and put them together.",
    "Teach: give the answer with the reasons that a student needs.",
    "Say what is given, what is asked, and how one leads to the other; answer at the end.",
    "Answer shortly, with the one reason that decides.",
    "Explain the task to somebody who has never seen one like it, with the answer.",
)
OF_COLLECTION = {
    "cot": (5, 10, 15),
    "niv2": (0, 1, 4, 6, 9, 11, 12, 13),
    "flan2021": (2, 6, 7, 9, 13, 14),
    "t0": (0, 1, 3, 4, 6),
}
CAPS = {"cot": 150_000, "niv2": 440_000, "flan2021": 2_500_000, "t0": 2_000_000}


@method("orca", wing="data", paper=PAPER, survey="S2 §2.2")
def orca(
    model: Model,
    records: list[Prompt],
    *,
    collection: str = "collection",
    share: float = 1.0,
    temperature: Amount = 0.7,
    max_tokens: Count = 1024,
    seed: int = 0,
) -> Each[Demonstration]:
    """Let a strong model answer under one of sixteen system messages (explanation tuning, Mukherjee et al. 2023).

    Of each sub-collection (meta[`collection`]: cot, niv2, flan2021, t0; anything else has no cap and all sixteen) as
    many questions are drawn as the paper has: 150,000 (cot: all), 440,000, 2.5 M and 2 M, times `share`. Each gets one
    of the system messages of its sub-collection (the table OF_COLLECTION), with equal chances. Questions that come with
    worked examples (several turns) are left out: Orca is zero-shot. First train on the answers of the weaker
    teacher (5 M of ChatGPT), then on those of the stronger (1 M of GPT-4): run this twice and train in two stages.
    meta: system_id, sub_collection. The system messages are our wording; the paper's are in its table 2.

    Options:
        collection: name in the records' meta of the sub-collection
        share: share of the paper's caps
        temperature: of the answers
        max_tokens: longest answer
        seed: seed of the draws and of the model's samples
    """
    if not 0 < share <= 1:
        raise KilterError(f"share is {share}; give a share above 0, up to 1.")
    drawn = sample(records, collection, share, seed)

    async def one(item: tuple[Prompt, str]) -> Demonstration:
        prompt, name = item
        number = system_of(prompt, name, seed)
        question = asked_of(prompt.messages)
        asked = PROMPTS("answer", system=SYSTEM[number], question=question)
        answer = await sound(model, asked, Sampling(max_tokens, temperature, seed=seed), of=question)
        turns = [Message("system", SYSTEM[number])] if SYSTEM[number] else []
        origin = Origin("orca", PAPER, answer.model, (prompt.id,), seed, asked.version)
        return Demonstration(
            [*turns, Message("user", question), Message("assistant", answer.text.strip())],
            origin=origin, meta={**prompt.meta, "system_id": number, "sub_collection": name},
        )  # fmt: skip

    return each(drawn, one, label=f"explaining · {model.name}")


def sample(records: list[Prompt], collection: str, share: float, seed: int) -> list[tuple[Prompt, str]]:
    """Return the questions that are asked, in the order of `records`, with the names of their sub-collections."""
    of: dict[str, list[int]] = defaultdict(list)
    names: dict[int, str] = {}
    for k, record in enumerate(records):
        if len(record.messages) != 1:
            leave_out(record, "not zero-shot", "It has examples, earlier turns or a system message; Orca asks without.")
            continue
        name = str(record.meta.get(collection, (record.meta.get("extra") or {}).get(collection)) or "other").lower()
        of[name].append(k)
        names[k] = name
    kept: set[int] = set()
    for name, these in of.items():
        most = max(1, round(CAPS[name] * share)) if name in CAPS else len(these)
        kept |= set(random.Random(f"orca {seed} {name}").sample(these, min(most, len(these))))
    for k in sorted(set(names) - kept):
        leave_out(records[k], f"over the cap of {names[k]}", "Chance did not draw it.")
    return [(records[k], names[k]) for k in sorted(kept)]


def system_of(prompt: Prompt, name: str, seed: int) -> int:
    """Return the number of the system message that a question gets."""
    return random.Random(f"orca {seed} {name} {prompt.id}").choice(OF_COLLECTION.get(name, tuple(range(len(SYSTEM)))))


def marginal(records: list[Demonstration]) -> dict[str, Counter[int]]:
    """Return how often each system message stands in each sub-collection."""
    found: dict[str, Counter[int]] = defaultdict(Counter)
    for record in records:
        found[record.meta["sub_collection"]][record.meta["system_id"]] += 1
    return dict(found)
