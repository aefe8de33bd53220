"""A data method as an author would write one: a prompt's answer, short for even rows and long for odd ones.

As a program it is Kilter's command line with this method in the catalogue: `python answering_rows.py data ...`.
"""

from __future__ import annotations

from collections.abc import Iterable

from kilter.models.each import Each, answered, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import method

PROMPTS = Prompts(__file__)


@method("answering-rows", wing="data")
def answering_rows(
    model: Model, records: Iterable[Prompt], *, max_tokens: int = 32, concurrency: int = 16, seed: int = 0
) -> Each[Demonstration]:
    """Answers to prompts, for tests.

    Options:
        max_tokens: longest answer in tokens
        concurrency: how many at a time
        seed: seed of the answers
    """

    async def one(prompt: Prompt) -> Demonstration:
        request = prompt.messages[-1].content
        asked = PROMPTS("long" if int(request.split()[-1]) % 2 else "short", request=request)
        answer = await answered(model, asked, Sampling(max_tokens=max_tokens, seed=seed))
        origin = Origin("answering-rows", None, answer.model, (prompt.id,), seed, asked.version)
        return Demonstration([*prompt.messages, Message("assistant", answer.text)], origin=origin)

    return each(records, one, concurrency=concurrency, label="answers")


if __name__ == "__main__":
    from kilter.cli import main

    main()
