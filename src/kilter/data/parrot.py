"""A model that asks as people do, longer conversations by it, and answers that miss what was said before."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Literal

from kilter.data.drafts import sound
from kilter.data.replies import answer_of, asked_of, model_of
from kilter.data.safer_instruct import says_yes
from kilter.data.sieve import leave_out
from kilter.errors import KilterError, SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Message, Origin, Prompt
from kilter.registry import Amount, Count, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2310.07301"
Cause = Literal["neglect", "hallucination", "misunderstanding"]
CAUSES: tuple[Cause, ...] = ("neglect", "hallucination", "misunderstanding")


@method("parrot", wing="data", paper=PAPER, survey="S3 §imitation")
def parrot(
    records: Iterable[Demonstration | Prompt],
    model: Model | None = None,
    *,
    step: Literal["ask", "dialogues", "negatives"],
    asker: str = "",
    rounds: Count = 8,
    causes: str = ",".join(CAUSES),
    max_tokens: Count = 512,
    temperature: Amount = 0.7,
    seed: int = 0,
) -> Iterator[Demonstration] | Each[Demonstration] | Each[list[Group]]:
    """Multi-turn data in three steps (Sun et al. 2023, Parrot).

        ask         real conversations with the sides exchanged, to train a model that asks: what the person said is the
                    assistant's turn there, so that the loss is on the person's turns and on nothing else
        dialogues   the `asker` (such a model) begins with a record's request and goes on asking, the model answers,
                    `rounds` times
        negatives   CaPO: of each conversation whose last question needs what was said before it, groups of the real
                    answer over a bad one, one for each cause: neglect (the model answers the last question without its
                    history), hallucination (it refers to what was never said), misunderstanding (it takes a reference
                    for something else); for `kilter train dpo`. meta["cause"]

    Options:
        step: ask, dialogues or negatives
        asker: the model that asks; without it the model itself does
        rounds: questions of a dialogue
        causes: which negatives are made, with commas
        max_tokens: longest turn
        temperature: sampling temperature
        seed: seed of the turns
    """
    if step == "ask":
        return _exchanged(records)
    if model is None:
        raise KilterError(f"The step '{step}' asks a model; give it one.")
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    if step == "dialogues":
        return _dialogues(records, model, model_of(asker, model), rounds, sampling)
    wanted = [cause.strip() for cause in causes.split(",") if cause.strip()]
    unknown = [cause for cause in wanted if cause not in CAUSES]
    if unknown or not wanted:
        raise KilterError(f"There is no cause '{', '.join(unknown)}'; causes are {', '.join(CAUSES)}.")
    return _negatives(records, model, wanted, sampling)


def exchanged(messages: list[Message]) -> list[Message]:
    """Return a conversation from the other side, after what `asker` is asked with; it ends with the person's turn."""
    turns = [m for m in messages if m.role in ("user", "assistant")]
    while turns and turns[-1].role != "user":
        turns.pop()
    if not turns or turns[0].role != "user":
        raise SetAside("It does not begin with a turn of the person.", "no prompt")
    return [*PROMPTS("asker", history=turns, topic="")]


def _exchanged(records: Iterable[Demonstration | Prompt]) -> Iterator[Demonstration]:
    for record in records:
        try:
            turns = exchanged(record.messages)
        except SetAside as why:
            leave_out(record, why.rule, str(why))
            continue
        yield Demonstration(turns, origin=Origin("parrot", PAPER, None, (record.id,)), meta={"step": "ask"})


def _dialogues(
    records: Iterable[Demonstration | Prompt], model: Model, asker: Model, rounds: int, sampling: Sampling
) -> Each[Demonstration]:
    async def one(record: Demonstration | Prompt) -> Demonstration:
        turns = [Message("user", asked_of([m for m in record.messages if m.role == "user"][:1]))]
        while True:
            reply = await sound(model, turns, sampling, of=turns[-1].content)
            turns.append(Message("assistant", reply.text.strip()))
            if len(turns) >= 2 * rounds:
                break
            question = await sound(asker, PROMPTS("asker", history=turns, topic=""), sampling)
            turns.append(Message("user", question.text.strip()))
        origin = Origin("parrot", PAPER, reply.model, (record.id,), sampling.seed, PROMPTS.version("asker"))
        return Demonstration(turns, origin=origin, meta={"step": "dialogues", "rounds": rounds})

    return each(records, one, label=f"dialogues · {model.name}")


def _negatives(
    records: Iterable[Demonstration | Prompt], model: Model, causes: list[str], sampling: Sampling
) -> Each[list[Group]]:
    async def one(record: Demonstration | Prompt) -> list[Group]:
        good = answer_of(record.messages)
        history = record.messages[:-1]
        if sum(m.role == "user" for m in history) < 2:
            raise SetAside("It has a single question, so that there is no context to miss.", "no context")
        if not await says_yes(model, PROMPTS("depends", history=history, question=history[-1].content), sampling.seed):
            raise SetAside("Its last question does not need what was said before.", "no context")
        made = []
        for cause in random.Random(f"parrot {sampling.seed} {record.id}").sample(causes, len(causes)):
            if cause == "neglect":
                bad = await sound(model, [history[-1]], sampling)
            else:
                asked = PROMPTS("negative", history=history, cause=cause, question=history[-1].content, response=good)
                bad = await sound(model, asked, sampling)
            text = bad.text.strip()
            if text == good.strip():
                continue
            origin = Origin("parrot", PAPER, bad.model, (record.id,), sampling.seed, PROMPTS.version("negative"))
            made.append(Group(list(history), [good, text], ranking=[0, 1], origin=origin, meta={"cause": cause}))
        if not made:
            raise SetAside("Every bad answer is the good one.", "same answer")
        return made

    return each(records, one, label=f"negatives · {model.name}")
