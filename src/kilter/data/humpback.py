"""Instructions for texts of the web, induced by a model that was trained backwards, and its own choice among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from kilter.data.drafts import sound
from kilter.data.replies import answer_of, asked_of, grade
from kilter.data.sieve import leave_out
from kilter.errors import KilterError, SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2308.06259"
SEED_SENTENCE = "Answer in the style of an AI assistant."
WEB_SENTENCE = "Answer with knowledge from web search."


@method("humpback", wing="data", paper=PAPER, survey="S3 §imitation", aliases=("backtranslation",))
def humpback(
    records: Iterable[Demonstration | Prompt],
    model: Model | None = None,
    *,
    step: Literal["flip", "augment", "curate", "mix"],
    least: Annotated[int, Field(ge=1, le=5)] = 5,
    iteration: Count = 1,
    trained: bool = False,
    max_tokens: Count = 256,
    temperature: Amount = 0.7,
    seed: int = 0,
) -> Iterator[Demonstration] | Each[Demonstration]:
    """Instruction back-translation, step by step (Li et al. 2023, Humpback).

        flip      seed pairs (x, y) become y -> x: to train the backward model p(x | y)
        augment   the backward model writes an instruction x^ for every text y (a record's last turn)
        curate    the model M_{t-1}, of the iteration before, rates pairs (x^, y) from 1 to 5; those with `least` (5) or
                  more stay, and meta["score_iter"] gets the grade, meta["kept_iter"] the number of the iteration. An
                  unreadable grade keeps nothing
        mix       what M_t is trained on: the seeds, and with them what was kept, each under its system sentence, one
                  for seeds and one for texts of the web (records with kept_iter)

    The paper: 3,200 seeds (OpenAssistant's first turns of highest rank), 502k segments of the web, two iterations: M_0
    is trained on the seeds, M_1 on what M_0 kept, M_2 on what M_1 kept of all candidates.

    Options:
        step: flip, augment, curate or mix
        least: lowest grade that is kept
        iteration: which iteration's choice this is; the model has to be the one of the iteration before
        trained: whether the backward model was trained by `flip`: it is then given the text alone, without a prompt
        max_tokens: longest instruction and longest reply with a grade
        temperature: sampling temperature of instructions; grades are greedy
        seed: seed of instructions
    """
    if step in ("flip", "mix"):
        return _flipped(records) if step == "flip" else _mixed(records)
    if model is None:
        raise KilterError(f"The step '{step}' asks a model; give it one.")
    return each(
        records,
        _augment(model, trained, Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed))
        if step == "augment"
        else _curate(model, least, iteration, Sampling(max_tokens=max_tokens, seed=seed)),
        label=f"{step} · {model.name}",
    )


def _flipped(records: Iterable[Demonstration | Prompt]) -> Iterator[Demonstration]:
    for record in records:
        try:
            asked, answer = asked_of(record.messages), answer_of(record.messages)
        except SetAside as why:
            leave_out(record, why.rule, str(why))
            continue
        yield Demonstration(
            [Message("user", answer), Message("assistant", asked)],
            origin=Origin("humpback", PAPER, None, (record.id,)),
            meta={"step": "flip"},
        )


def _mixed(records: Iterable[Demonstration | Prompt]) -> Iterator[Demonstration]:
    for record in records:
        try:
            answer_of(record.messages)
        except SetAside as why:
            leave_out(record, why.rule, str(why))
            continue
        sentence = WEB_SENTENCE if "kept_iter" in record.meta else SEED_SENTENCE
        turns = [Message("system", sentence), *(m for m in record.messages if m.role != "system")]
        origin = record.origin or Origin("humpback", PAPER, None, (record.id,))
        yield Demonstration(turns, origin=origin, meta=record.meta)


def _augment(model: Model, trained: bool, sampling: Sampling):  # type: ignore[no-untyped-def]
    async def one(record: Demonstration | Prompt) -> Demonstration:
        text = record.messages[-1].content if record.messages else ""
        if not text.strip():
            raise SetAside("Its text is empty.", "empty text")
        asked = [Message("user", text)] if trained else PROMPTS("instruct", text=text)
        reply = await sound(model, asked, sampling, of=text)
        instruction = reply.text.strip()
        if instruction in text or text.strip() in instruction:
            raise SetAside("The instruction is a part of the text, or holds all of it.", "echo")
        version = None if trained else PROMPTS.version("instruct")
        origin = Origin("humpback", PAPER, reply.model, (record.id,), sampling.seed, version)
        meta = {**record.meta, "step": "augment", "score_iter": []}
        return Demonstration([Message("user", instruction), Message("assistant", text)], origin=origin, meta=meta)

    return one


def _curate(model: Model, least: int, iteration: int, sampling: Sampling):  # type: ignore[no-untyped-def]
    async def one(record: Demonstration | Prompt) -> Demonstration:
        response = answer_of(record.messages)
        asked = PROMPTS("rate", instruction=asked_of(record.messages), input="", response=response, most=5)
        reply = await sound(model, asked, sampling)
        score = grade(reply.text, 1, 5)
        if score < least:
            raise SetAside(f"Its grade is {score:g}.", f"grade under {least}")
        scores = [*record.meta.get("score_iter", []), score]
        meta = {**record.meta, "score_iter": scores, "kept_iter": iteration, "rated_by": reply.model or model.name}
        return Demonstration(list(record.messages), record.id, record.origin, meta)

    return one
