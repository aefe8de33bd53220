"""Instructions after examples, and after examples and topics, with answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kilter.data.drafts import Batch, grow, seeds_of, sound, together
from kilter.data.self_instruct import written
from kilter.data.sieve import said
from kilter.errors import KilterError
from kilter.files import explaining
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, Whole, method

PAPER = "arXiv:2304.14402"
PROMPTS = Prompts(__file__)
Written = tuple[str, Origin, tuple[str, ...]]


@method("lamini", wing="data", paper=PAPER, survey="S2 §2.2")
async def lamini(
    model: Model,
    records: list[Prompt],
    *,
    n: Count = 270_000,
    n_topics: Whole = 280_000,
    topics: str = "",
    examples: Count = 3,
    per_request: Count = 20,
    temperature: Amount = 1.0,
    max_tokens: Count = 1024,
    seed: int = 0,
) -> Each[Demonstration]:
    """Grow instructions by examples, and by examples and topics, and let the model answer them (Wu et al. 2023).

    One generator reads `examples` instructions at random and writes `per_request` more. The other reads three topics
    beside them, and its instructions are about these. Topics are lines of a file, a category of Wikipedia each; those
    of three words and more are left out, and where a number follows after a tab (pages and subcategories), those of
    fewer than ten. Instructions pass Self-Instruct's filters and are there once; then all are answered, greedily.
    meta: instruction_source (self_instruct or self_instruct_topic), topics. The paper has 2.58 M pairs of gpt-3.5-turbo
    in all, with those on instructions of Alpaca, P3 and FLAN, for which give `community-seeds` these instructions.

    Options:
        n: instructions after examples alone
        n_topics: instructions after examples and topics; none without a file of topics
        topics: file of topics, one a line
        examples: instructions that are shown in one request
        per_request: instructions that are asked for in one request
        temperature: of the instructions; answers are greedy
        max_tokens: longest reply
        seed: seed of the draws and of the model's samples
    """
    seeds = seeds_of(records)
    told = [said(record, "instruction") for record in seeds]
    named = read_topics(topics) if topics else []
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature)

    def asking(guided: bool):  # type: ignore[no-untyped-def]
        async def request(k: int, _: Sequence[Written]) -> Batch[Written]:
            draw = random.Random(f"lamini {guided} {seed} {k}")
            chosen = draw.sample(range(len(told)), min(examples, len(told)))
            shown = [told[i] for i in chosen]
            about = draw.sample(named, 3) if guided else []
            asked = PROMPTS("instructions", examples=shown, topics=about, count=per_request, start=1)
            drawn = replace(sampling, seed=2 * (seed * 1_000_003 + k) + guided)
            answer = await sound(model, asked, drawn, of=together(shown), cut=True)
            found = written(answer)
            origin = Origin("lamini", PAPER, answer.model, tuple(seeds[i].id for i in chosen), seed, asked.version)
            return Batch([(text, origin, tuple(about)) for text, _ in found.items], found.dropped)

        return request

    made: list[Written] = []
    for guided, many in ((False, n), (True, n_topics if named else 0)):
        label = f"instructions{' on topics' if guided else ''} · {model.name}"
        made += await grow(asking(guided), lambda item: item[0], n=many, pool=None, label=label)

    async def one(item: Written) -> Demonstration:
        instruction, origin, about = item
        answer = await sound(model, PROMPTS("answer", instruction=instruction), Sampling(max_tokens), of=instruction)
        meta = {"instruction_source": "self_instruct_topic" if about else "self_instruct"}
        return Demonstration(
            [Message("user", instruction), Message("assistant", answer.text.strip())],
            origin=origin, meta=meta | ({"topics": list(about)} if about else {}),
        )  # fmt: skip

    return each(made, one, label=f"answers · {model.name}")


def read_topics(path: str) -> list[str]:
    """Return the topics of a file that are short and, where it says how many pages they have, have ten.

    Raises KilterError where fewer than three are left.
    """
    with explaining(Path(path), "read"):
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    found = []
    for line in lines:
        name, _, members = line.strip().partition("\t")
        many = int(members) if members.strip().isdigit() else 10
        if name and len(name.split()) < 3 and many >= 10:
            found.append(name)
    found = list(dict.fromkeys(found))
    if len(found) < 3:
        raise KilterError(f"{path} has {len(found)} topics of fewer than three words, and three are shown at a time.")
    return found
