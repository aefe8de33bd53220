"""Preferences out of bad answers: what asked for them is induced, and an expert answers it as it should be."""

from __future__ import annotations

from kilter.data.drafts import sound
from kilter.data.replies import answer_of, model_of
from kilter.data.sieve import leave_out
from kilter.errors import SetAside
from kilter.feedback.parsers import parse
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Message, Origin
from kilter.registry import Amount, Count, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2311.08685"


@method("safer-instruct", wing="data", paper=PAPER, survey="S3 §imitation", aliases=("saferinstruct",))
async def safer_instruct(
    model: Model,
    records: list[Demonstration],
    *,
    reverse: str = "",
    judge: str = "",
    max_tokens: Count = 512,
    temperature: Amount = 0.7,
    seed: int = 0,
) -> Each[Group]:
    """Preference data without people, from texts that nobody should get (Shi et al. 2024, Safer-Instruct).

    1. Reversed induction: from the answer y of each record (hate, harm ...) the model `reverse`, which was trained to,
       or the expert itself, induces the instruction x that asks for it.
    2. Filter: the judge says whether y answers x at all; equal instructions are kept once.
    3. The expert, `--model`, writes the preferred answer; the judge says whether that is safe, else the record is left
       out.

    A group comes back: the prompt x, the expert's answer over y. meta: source of y where the record says it.

    Options:
        reverse: model that induces instructions; without it the expert does
        judge: model that filters; without it the expert does
        max_tokens: longest answer
        temperature: sampling temperature of the expert; induction and judge are greedy
        seed: seed of the answers
    """
    inducer, filter_ = model_of(reverse, model), model_of(judge, model)
    greedy = Sampling(max_tokens=max_tokens, seed=seed)

    async def induce(record: Demonstration) -> tuple[Demonstration, str]:
        text = answer_of(record.messages)
        instruction = (await sound(inducer, PROMPTS("reverse", text=text), greedy)).text.strip()
        if not await says_yes(filter_, PROMPTS("fits", question=instruction, response=text), seed):
            raise SetAside("The text is no answer to the instruction that was induced from it.", "does not fit")
        return record, instruction

    induced = await each(records, induce, label=f"instructions · {inducer.name}")
    new = []
    seen: set[str] = set()
    for record, instruction in induced:
        key = " ".join(instruction.casefold().split())
        if key in seen:
            leave_out(record, "duplicate", "Another text led to the same instruction.")
        else:
            new.append((record, instruction))
        seen.add(key)

    async def one(item: tuple[Demonstration, str]) -> Group:
        record, instruction = item
        asked = PROMPTS("expert", question=instruction)
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
        reply = await sound(model, asked, sampling, of=instruction)
        text = reply.text.strip()
        if not await says_yes(filter_, PROMPTS("safe", question=instruction, response=text), seed):
            raise SetAside("The expert's answer is not safe.", "unsafe")
        bad = record.messages[-1].content
        if text == bad.strip():
            raise SetAside("The expert's answer is the bad one once more.", "same answer")
        origin = Origin("safer-instruct", PAPER, reply.model, (record.id,), seed, asked.version)
        meta = {name: record.meta[name] for name in ("source",) if name in record.meta}
        return Group([Message("user", instruction)], [text, bad], ranking=[0, 1], origin=origin, meta=meta)

    return each(new, one, label=f"answers · {model.name}")


async def says_yes(model: Model, asked: list[Message], seed: int = 0) -> bool:
    """Ask a question of yes or no; raise SetAside where the reply is neither."""
    reply = await sound(model, asked, Sampling(max_tokens=64, seed=seed), cut=True)
    found = parse("yes-no", reply.text)
    if not found.ok:
        raise SetAside(f"The reply is neither yes nor no: {reply.text[:60]!r}.", "no verdict")
    return bool(found.value)
