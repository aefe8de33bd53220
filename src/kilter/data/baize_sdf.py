"""Self-distillation with feedback: a model's own answers, of which a judge names the best to be learned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from kilter.data.cyclealign import ranking
from kilter.data.drafts import sound
from kilter.data.replies import asked_of, model_of, together
from kilter.errors import SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Message, Origin, Prompt
from kilter.registry import Amount, Count, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2304.01196"
METHOD = "baize-sdf"


@method(METHOD, wing="data", paper=PAPER, survey="S2 §2.3", aliases=("sdf", "self-distillation"))
def baize_sdf(
    model: Model,
    records: Iterable[Prompt],
    *,
    judge: str,
    what: Literal["best", "ranked"] = "best",
    samples: Annotated[int, Field(ge=2)] = 4,
    max_tokens: Count = 512,
    judge_tokens: Count = 64,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> Each[Demonstration] | Each[Group]:
    """Self-distillation with feedback (Xu et al. 2023, §3.3), the second step of Baize.

    The model, which has learned from `baize`'s conversations, answers each request four times; the judge (the paper:
    ChatGPT) puts the answers in an order, and the best is what the model is fine-tuned on next. The paper trains new
    LoRA modules on all linear layers for that: `kilter train sft --adapter lora` on what comes out here. With `what`
    ranked it is all answers, best first, as a group for methods that learn from rankings.

    Equal answers are shown to the judge once; answers that are cut off, empty or repeat the request are not shown.
    Left out are requests with fewer than two answers to choose from, and those to which the judge's reply does not name
    each answer once. meta: ranking, the answers that were shown, by number, best first; shown, how many.

    records: the requests; the model is given the whole conversation up to its turn.

    Options:
        judge: model that ranks
        what: the best answers as demonstrations (best), or all of them as groups (ranked)
        samples: answers to each request
        max_tokens: longest answer
        judge_tokens: longest reply of the judge
        temperature: sampling temperature of the answers; the judge is greedy
        seed: seed of the first answer; each further one has the next
    """
    ranker = model_of(judge, model)

    async def draft(prompt: Prompt, question: str, k: int, bad: dict[int, SetAside]) -> str:
        """Return an answer, an empty text for one that cannot be used, which `bad` then says why."""
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed + k)
        try:
            return (await sound(model, prompt.messages, sampling, of=question)).text.strip()
        except SetAside as why:
            bad[k] = why
            return ""

    async def one(prompt: Prompt) -> Demonstration | Group:
        question = asked_of(prompt.messages)
        bad: dict[int, SetAside] = {}
        drafts = await together(draft(prompt, question, k, bad) for k in range(samples))
        texts = list(dict.fromkeys(filter(None, drafts)))
        if len(texts) < 2:
            raise (
                bad[min(bad)] if bad else SetAside(f"All {samples} answers are the same, so none is best.", "all alike")
            )
        asked = PROMPTS("rank", question=question, responses=texts)
        reply = await sound(ranker, asked, Sampling(max_tokens=judge_tokens, seed=seed))
        order = ranking(reply.text, len(texts))
        origin = Origin(METHOD, PAPER, model.name, (prompt.id,), seed, asked.version)
        meta = {**prompt.meta, "ranking": [k + 1 for k in order], "shown": len(texts)}
        if what == "ranked":
            ranked = [texts[k] for k in order]
            return Group(list(prompt.messages), ranked, ranking=list(range(len(ranked))), origin=origin, meta=meta)
        return Demonstration([*prompt.messages, Message("assistant", texts[order[0]])], origin=origin, meta=meta)

    found: Each[Demonstration] | Each[Group] = each(records, one, label=f"self-distillation · {model.name}")  # type: ignore[assignment]
    return found
