"""Instructions of people in many roles, in several languages."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from kilter.data.drafts import Batch, grow, seeds_of, sound
from kilter.data.languages import language_of
from kilter.data.novelty import Novel
from kilter.data.replies import listed
from kilter.data.self_instruct import written
from kilter.data.sieve import said
from kilter.errors import KilterError
from kilter.files import explaining
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, Whole, method

PAPER = "arXiv:2304.10453"
PROMPTS = Prompts(__file__)
Written = tuple[str, str, Origin]


@method("phoenix", wing="data", paper=PAPER, survey="S2 §2.2")
async def phoenix(
    model: Model,
    records: list[Prompt],
    *,
    n: Count = 1000,
    roles: str = "",
    n_roles: Whole = 50,
    examples: Count = 3,
    per_request: Count = 5,
    novelty: Annotated[float, Field(gt=0, le=1)] = 0.7,
    temperature: Amount = 1.0,
    max_tokens: Count = 1024,
    seed: int = 0,
) -> Each[Demonstration]:
    """Let people in roles ask, and let a model answer as that role (Chen et al. 2023).

    Roles are lines of a file and `n_roles` more that the model names (a teacher, a nurse ...). For each role in turn
    the model reads `examples` of the seeds and writes instructions that such a person would be asked; they pass
    Self-Instruct's filters and a ROUGE-L F of at most `novelty`. Then the role is taken and the instruction answered.
    The paper's other two sources are methods of their own: `post-answer` and `post-translate` make the instructions
    multilingual, `sharegpt-vicuna` reads conversations that users share; `mix` brings them together. meta: role,
    role_id, lang.

    Options:
        n: instructions that are wanted
        roles: file of roles, one a line
        n_roles: roles that the model names beside those of the file
        examples: seeds that are shown in one request
        per_request: instructions in one request
        novelty: highest ROUGE-L F with an earlier instruction
        temperature: of roles and instructions; answers are greedy
        max_tokens: longest reply
        seed: seed of the draws and of the model's samples
    """
    seeds = seeds_of(records)
    told = [said(record, "instruction") for record in seeds]
    hot = Sampling(max_tokens, temperature)
    named = await _roles(model, roles, n_roles, replace(hot, seed=seed))
    pool = Novel(novelty)
    pool.add(told)

    async def request(k: int, _: Sequence[Written]) -> Batch[Written]:
        draw = random.Random(f"phoenix {seed} {k}")
        chosen = draw.sample(range(len(told)), min(examples, len(told)))
        role = named[k % len(named)]
        shown = [told[i] for i in chosen]
        asked = PROMPTS("instructions", role=role, examples=shown, count=per_request, start=1)
        answer = await sound(model, asked, replace(hot, seed=seed * 1_000_003 + k), cut=True)
        origin = Origin("phoenix", PAPER, answer.model, tuple(seeds[i].id for i in chosen), seed, asked.version)
        found = written(answer)
        return Batch([(text, role, origin) for text, _ in found.items], found.dropped)

    made = await grow(request, lambda item: item[0], n=n, pool=pool, label=f"instructions · {model.name}")

    async def one(item: Written) -> Demonstration:
        instruction, role, origin = item
        asked = PROMPTS("answer", role=role, instruction=instruction)
        answer = await sound(model, asked, Sampling(max_tokens), of=instruction)
        meta = {"role": role, "role_id": named.index(role), "lang": language_of(instruction)}
        messages = [Message("user", instruction), Message("assistant", answer.text.strip())]
        return Demonstration(messages, origin=origin, meta=meta)

    return each(made, one, label=f"answers · {model.name}")


async def _roles(model: Model, path: str, n: int, sampling: Sampling) -> list[str]:
    """Return the roles of a file and those that the model names; raise KilterError where there is none."""
    found: list[str] = []
    if path:
        with explaining(Path(path), "read"):
            found = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    if n:

        async def one(_: int) -> list[str]:
            return listed((await sound(model, PROMPTS("roles", count=n), sampling)).text, n)

        for these in await each([0], one, label=f"roles · {model.name}"):
            found += [role.strip(" .。") for role in these]
    found = list(dict.fromkeys(found))
    if not found:
        raise KilterError("There is no role to ask for; give a file of roles, or a model that names some.")
    return found
