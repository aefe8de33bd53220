"""Known prompts, answered by a stronger model: in English, in Chinese, beside other models' answers with grades."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from kilter.data.drafts import sound
from kilter.data.languages import language_of
from kilter.data.replies import asked_of, model_of, together
from kilter.data.translation import is_in, translated
from kilter.errors import KilterError, SetAside
from kilter.models.each import Each, each
from kilter.models.mixed import members
from kilter.models.protocol import Answer, Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Message, Origin, Prompt
from kilter.registry import Amount, Count, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2304.03277"
_LINE = re.compile(
    r"^[ \t*]*(?:answer[ \t]*)?(\d{1,2})[ \t*]*[:.)][ \t*]*(10|[1-9])(?!\d|\.\d)", re.IGNORECASE | re.MULTILINE
)


@method("gpt4llm", wing="data", paper=PAPER, survey="S1 §4.3.1, S3 §imitation", aliases=("gpt-4-llm",))
def gpt4llm(
    model: Model,
    records: Iterable[Prompt],
    *,
    what: Literal["answers", "chinese", "comparisons"] = "answers",
    translator: str = "",
    judge: str = "",
    max_tokens: Count = 1024,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> Each[Demonstration] | Each[Group]:
    """Instruction data of a strong model (Peng et al. 2023): known prompts, new answers.

        answers       every prompt, unchanged, with the model's answer (the paper: Alpaca's 52,002 and 9k of Unnatural
                      Instructions, by GPT-4)
        chinese       the prompts in Chinese, by the translator, answered in Chinese
        comparisons   the model is a mixture; each member answers, the judge grades the answers from 1 to 10 at once; a
                      group with the grades as scores comes back, from which every pair s_a > s_b is read

    Options:
        what: answers, chinese or comparisons
        translator: model that translates prompts; without it the model does
        judge: model that grades; without it the model does
        max_tokens: longest answer
        temperature: sampling temperature of the answers; translations and grades are greedy
        seed: seed of the answers
    """
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    greedy = Sampling(max_tokens=max_tokens, seed=seed)
    several = members(model)
    if what == "comparisons" and len(several) < 2:
        raise KilterError("One model alone gives no comparison; name several, as in --model A,B.")
    engine, rater = model_of(translator, model), model_of(judge, model)

    async def answer(prompt: Prompt) -> Demonstration:
        text = asked_of(prompt.messages)
        turns = list(prompt.messages)
        if what == "chinese":
            if language_of(text) != "zh":
                text = (await translated(engine, text, "zh", greedy)).text
            turns = [*prompt.messages[:-1], Message("user", text)]
        reply = await sound(model, turns, sampling, of=text)
        if what == "chinese" and not is_in(reply.text, "zh"):
            raise SetAside(f"The answer is in '{language_of(reply.text)}', not in Chinese.", "wrong language")
        origin = Origin("gpt4llm", PAPER, reply.model, (prompt.id,), seed)
        # An input in its own column belongs to the prompt that was translated.
        meta = prompt.meta if what == "answers" else {k: v for k, v in prompt.meta.items() if k != "input"}
        return Demonstration([*turns, Message("assistant", reply.text.strip())], origin=origin, meta=meta)

    async def compare(prompt: Prompt) -> Group:
        replies: list[Answer] = await together(sound(who, prompt.messages, sampling) for who in several)
        responses = [reply.text.strip() for reply in replies]
        asked = PROMPTS("compare", question=asked_of(prompt.messages), responses=responses, most=10)
        scores = grades((await sound(rater, asked, greedy)).text, len(responses))
        names = [reply.model or who.name for reply, who in zip(replies, several, strict=True)]
        return Group(
            list(prompt.messages),
            responses,
            scores=scores,
            origin=Origin("gpt4llm", PAPER, rater.name, (prompt.id,), seed, asked.version),
            meta={**prompt.meta, "models": names},
        )

    if what == "comparisons":
        return each(records, compare, label=f"comparisons · {model.name}")
    return each(records, answer, label=f"answers · {model.name}")


def grades(text: str, count: int) -> list[float]:
    """Return the grade of each of `count` answers; raise SetAside unless each has one line."""
    found = _LINE.findall(text)
    if [int(n) for n, _ in found] != list(range(1, count + 1)):
        raise SetAside(f"The judge's reply does not grade {count} answers on a line each.", "no grade")
    return [float(value) for _, value in found]
