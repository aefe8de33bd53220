"""Programming tasks grown from a few seeds, many in one call."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kilter.data.alpaca import Grown
from kilter.data.drafts import fault
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration
from kilter.registry import Amount, Count, method

PAPER = "github.com/sahil280114/codealpaca"
PROMPTS = Prompts(__file__)


@method("codealpaca", wing="data", paper=PAPER, survey="S2 §2.2", aliases=("code-alpaca",))
async def codealpaca(
    model: Model,
    records: list[Demonstration],
    *,
    n: Count = 20_000,
    examples: Count = 3,
    per_request: Count = 20,
    novelty: Annotated[float, Field(gt=0, le=1)] = 0.7,
    temperature: Amount = 1.0,
    max_tokens: Count = 3072,
    seed: int = 0,
) -> list[Demonstration]:
    """Let a model write programming tasks after seeds of code (Chaudhary 2023).

    `alpaca` with other requirements: tasks to write, mend, explain and improve code. Of Self-Instruct's filters those
    stay that are about length and form: a task of code may begin with "Write a program" and be about files and graphs.
    The original has 21 seeds of code and 20,000 tasks of davinci-003. meta: input.

    Options:
        n: tasks that are wanted
        examples: seeds that the model reads in one request
        per_request: tasks in one request, the seeds among them
        novelty: highest ROUGE-L F with an earlier instruction
        temperature: of the model's samples
        max_tokens: longest reply
        seed: seed of the draws and of the model's samples
    """
    grown = Grown(PROMPTS, "codealpaca", PAPER, lambda text: fault(text, code=True))
    return await grown.tasks(
        model, records, n, examples=examples, per_request=per_request, novelty=novelty,
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature), seed=seed,
    )  # fmt: skip
