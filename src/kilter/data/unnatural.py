"""Tasks that a model writes after three of a person's, and the same tasks in other words."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from kilter.data.drafts import Batch, grow, seeds_of, settled, sound, task, together
from kilter.data.sieve import said
from kilter.errors import SetAside
from kilter.formats.instructions import joined
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin
from kilter.registry import Count, Whole, method

PAPER = "arXiv:2212.09689"
PROMPTS = Prompts(__file__)
SLOT = "{INPUT}"
_FIELD = re.compile(r"^[ \t*#]*(Instruction|Input|Constraints)[ \t*]*[:：][ \t*]*", re.MULTILINE | re.IGNORECASE)
Example = dict[str, str]


@method("unnatural", wing="data", paper=PAPER, survey="S2 §2.1")
async def unnatural(
    model: Model,
    records: list[Demonstration],
    *,
    n: Count = 68_478,
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.99,
    reformulations: Whole = 2,
    max_tokens: Count = 1024,
    seed: int = 0,
) -> list[Demonstration]:
    """Let a model write tasks after three examples, answer them, and say them in other ways (Honovich et al. 2022).

    1. Three of the seeds (15 in the paper) are shown with instruction, input and constraints, and the model writes the
       next one, sampled with `top_p`. It is left out if a field is missing, if it is one of the examples, or if the
       same instruction and input were written before.
    2. The output is asked for by itself, greedily.
    3. Up to `reformulations` other wordings of the instruction are asked for, with a slot for the input. One without
       the slot, and one that is there already, is left out. Input and output stay as they are.

    meta: input, constraints, and of a reformulation `core`, the id of the task that it rewords. The constraints of
    seeds are read from their meta. The paper has 68,478 tasks of davinci-002, and 240,670 with the reformulations.

    Options:
        n: tasks that are wanted, reformulations not counted
        top_p: of the tasks, which are sampled at temperature 1; outputs are greedy
        reformulations: most other wordings of a task
        max_tokens: longest reply
        seed: seed of the draws and of the model's samples
    """
    seeds = seeds_of(records)

    async def request(k: int, _: Sequence[tuple[Example, Origin]]) -> Batch[tuple[Example, Origin]]:
        draw = random.Random(f"unnatural {seed} {k}")
        chosen = draw.sample(seeds, min(3, len(seeds)))
        shown = [
            {
                "instruction": said(one, "instruction"),
                "input": one.meta.get("input") or "",
                "constraints": ({**(one.meta.get("extra") or {}), **one.meta}).get("constraints") or "None.",
            }
            for one in chosen
        ]
        examples = [one["instruction"] for one in shown]
        asked = PROMPTS("task", shown=shown, examples=examples, number=len(shown) + 1)
        sampling = Sampling(max_tokens=max_tokens, temperature=1.0, top_p=top_p, seed=seed * 1_000_003 + k)
        answer = await sound(model, asked, sampling, of=together(examples))
        found = fields(answer.text)
        batch: Batch[tuple[Example, Origin]] = Batch()
        if any(found["instruction"] == one["instruction"] and found["input"] == one["input"] for one in shown):
            batch.drop(found, "is an example", "It is one of the examples that were shown.")
        else:
            parents = tuple(one.id for one in chosen)
            batch.items.append((found, Origin("unnatural", PAPER, answer.model, parents, seed, asked.version)))
        return batch

    def text_of(item: tuple[Example, Origin]) -> str:
        return joined(item[0]["instruction"], item[0]["input"])

    made = await grow(request, text_of, n=n, pool=None, label=f"tasks · {model.name}")

    async def one(item: tuple[Example, Origin]) -> Batch[Demonstration]:
        found, origin = item
        greedy = Sampling(max_tokens=max_tokens)
        asked = PROMPTS("output", **found)
        output = (await sound(model, asked, greedy, of=text_of(item))).text.strip()
        core = task(found["instruction"], found["input"], output, origin, constraints=found["constraints"])
        batch = Batch([core])
        wordings = {found["instruction"]}
        for k in range(reformulations):
            asked = PROMPTS("reword", instruction=found["instruction"], slot=SLOT, number=k)
            sampling = Sampling(max_tokens=max_tokens, temperature=1.0, seed=seed * 1_000_003 + k)
            text = (await sound(model, asked, sampling, of=found["instruction"], empty=True)).text.strip()
            if SLOT not in text:
                batch.drop(text, "no slot", f"The other wording has no {SLOT}.")
            elif text in wordings or text.replace(SLOT, "").strip(" :：\n") in wordings:
                batch.drop(text, "same wording", "The other wording is there already.")
            else:
                wordings |= {text, text.replace(SLOT, "").strip(" :：\n")}
                batch.items.append(_reworded(core, text, asked.version))
        return batch

    return settled(await each(made, one, label=f"outputs · {model.name}"))


def fields(text: str) -> Example:
    """Return instruction, input and constraints of a reply; raise SetAside where one of the first two is missing."""
    parts = _FIELD.split("\n" + text)
    found = dict(zip([name.lower() for name in parts[1::2]], [part.strip() for part in parts[2::2]], strict=True))
    missing = [name for name in ("instruction", "input", "constraints") if not found.get(name)]
    if missing:
        raise SetAside(f"The reply lacks the field {missing[0]}.", "missing field")
    return {name: found[name] for name in ("instruction", "input", "constraints")}


def _reworded(core: Demonstration, wording: str, version: str) -> Demonstration:
    given = core.meta["input"]
    messages = [Message("user", wording.replace(SLOT, given)), core.messages[-1]]
    origin = Origin("unnatural", PAPER, core.origin.model if core.origin else None, (core.id,), None, version)
    return Demonstration(messages, origin=origin, meta={**core.meta, "core": core.id})
