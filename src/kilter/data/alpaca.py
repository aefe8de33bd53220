"""Whole tasks, many in one call."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field

from kilter.data.drafts import Batch, fault, grow, seeds_of, sound, task, tidied, together
from kilter.data.novelty import Novel
from kilter.data.sieve import said
from kilter.errors import SetAside
from kilter.models.protocol import Answer, Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Origin
from kilter.registry import Amount, Count, method

PAPER = "github.com/tatsu-lab/stanford_alpaca"
PROMPTS = Prompts(__file__)
_PIECE = re.compile(r"^[ \t]*#{3,}[ \t]*$", re.MULTILINE)
_FIELD = re.compile(
    r"^[ \t]*\d+[ \t]*[.．、)][ \t]*(Instruction|Input|Output)[ \t]*[:：]", re.MULTILINE | re.IGNORECASE
)
NO_INPUT = re.compile(r"<?\s*no\s?input\s*>?\.?", re.IGNORECASE)


@method("alpaca", wing="data", paper=PAPER, survey="S1 §4.2, S2 §2.2")
async def alpaca(
    model: Model,
    records: list[Demonstration],
    *,
    n: Count = 52_000,
    examples: Count = 3,
    per_request: Count = 20,
    novelty: Annotated[float, Field(gt=0, le=1)] = 0.7,
    temperature: Amount = 1.0,
    max_tokens: Count = 3072,
    seed: int = 0,
) -> list[Demonstration]:
    """Let a model write whole tasks, up to 20 in one call (Taori et al. 2023).

    The model reads requirements and `examples` seeds, numbered and parted by ###, and goes on: instruction, input
    (<noinput> where there is none) and output of each. A task is kept that has all three fields, passes Self-Instruct's
    filters and has a ROUGE-L F of at most `novelty` with every instruction before it; the last one of a reply that was
    cut off is not. Unlike Self-Instruct the model's own tasks are never shown to it, classifications are nothing of
    their own, and a task has one instance. meta: input. The paper has 52,002 tasks of davinci-003.

    Options:
        n: tasks that are wanted
        examples: seeds that the model reads in one request
        per_request: tasks in one request, the seeds among them
        novelty: highest ROUGE-L F with an earlier instruction
        temperature: of the model's samples
        max_tokens: longest reply
        seed: seed of the draws and of the model's samples
    """
    grown = Grown(PROMPTS, "alpaca", PAPER, fault)
    return await grown.tasks(
        model, records, n, examples=examples, per_request=per_request, novelty=novelty,
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature), seed=seed,
    )  # fmt: skip


class Grown:
    """Tasks grown from seeds, many a call: what Alpaca and Code Alpaca have in common."""

    def __init__(self, prompts: Prompts, name: str, paper: str, wrong: Callable[[str], tuple[str, str] | None]) -> None:
        """`wrong` returns the rule that an instruction breaks, with a sentence, or None."""
        self.prompts, self.name, self.paper, self.wrong = prompts, name, paper, wrong

    async def tasks(
        self, model: Model, records: Sequence[Demonstration], n: int, *, examples: int, per_request: int,
        novelty: float, sampling: Sampling, seed: int,
    ) -> list[Demonstration]:  # fmt: skip
        """Return `n` tasks, or as many as the model has to give."""
        seeds = seeds_of(records)
        pool = Novel(novelty)
        pool.add([said(record, "instruction") for record in seeds])

        async def request(k: int, _: Sequence[Demonstration]) -> Batch[Demonstration]:
            draw = random.Random(f"{self.name} {seed} {k}")
            shown = draw.sample(seeds, min(examples, len(seeds)))
            asked = self.prompts(
                "tasks",
                examples=[said(one, "instruction") for one in shown],
                inputs=[one.meta.get("input") or "<noinput>" for one in shown],
                outputs=[one.messages[-1].content for one in shown],
                count=max(1, per_request - len(shown)),
                start=len(shown) + 1,
            )
            drawn = Sampling(sampling.max_tokens, sampling.temperature, seed=seed * 1_000_003 + k)
            answer = await sound(model, asked, drawn, of=together([said(one) for one in shown]), cut=True)
            parents = tuple(one.id for one in shown)
            origin = Origin(self.name, self.paper, answer.model, parents, seed, asked.version)
            return tasks_in(answer, origin, self.wrong)

        return await grow(request, lambda one: said(one, "instruction"), n=n, pool=pool, label=f"tasks · {model.name}")


def tasks_in(
    answer: Answer, origin: Origin, wrong: Callable[[str], tuple[str, str] | None] = fault
) -> Batch[Demonstration]:
    """Return the tasks of a reply: pieces between lines of ###, each with an instruction, an input and an output.

    Raises SetAside where there is no such piece.
    """
    pieces = [piece for piece in _PIECE.split(answer.text) if piece.strip()]
    if not any(_FIELD.search(piece) for piece in pieces):
        raise SetAside("The reply holds no task with its three fields.", "no task")
    batch: Batch[Demonstration] = Batch()
    for k, piece in enumerate(pieces):
        parts = _FIELD.split("\n" + piece)
        names = [name.lower() for name in parts[1::2]]
        if k == len(pieces) - 1 and answer.finish_reason == "length":
            batch.drop(piece.strip(), "cut off", "The reply was cut off here.")
            continue
        if names != ["instruction", "input", "output"]:
            batch.drop(piece.strip(), "broken task", f"It has the fields {', '.join(names) or 'none'}.")
            continue
        instruction, given, output = (part.strip() for part in parts[2::2])
        instruction = tidied(instruction)
        given = "" if NO_INPUT.fullmatch(given) else given
        found = wrong(instruction) if instruction else ("empty", "The task has no instruction.")
        if not output:
            found = found or ("empty output", "The task has no output.")
        if found:
            batch.drop(piece.strip(), *found)
        else:
            batch.items.append(task(instruction, given, output, origin))
    return batch
