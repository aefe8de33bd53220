"""One round of adversarial distillation: where the student fails, and new instructions like those."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from kilter.data.drafts import Batch, alone, fault, grow, settled, sound, tidied
from kilter.data.novelty import Novel
from kilter.data.replies import asked_of, model_of
from kilter.errors import KilterError, SetAside
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, Whole, method

PAPER = "arXiv:2305.12870"
PROMPTS = Prompts(__file__)
_SCORE = re.compile(
    r"(?:score of (?:the )?)?(?:assistant )?\b(first|second|1|2)\b[^:：\n]*[:：]\s*\**(\d+(?:\.\d+)?)", re.IGNORECASE
)
TRIES = 3  # how often a verdict that cannot be read is asked for


@dataclass(frozen=True, slots=True)
class Judged:
    """An instruction with both answers, their mean scores over both orders, and its pool, "hard" or "easy"."""

    prompt: Prompt
    teacher: str
    student: str
    score_teacher: float
    score_student: float

    @property
    def gap(self) -> float:
        return self.score_teacher - self.score_student

    def pool(self, threshold: float) -> str:
        return "hard" if self.gap >= threshold else "easy"


@method("lion", wing="data", paper=PAPER, survey="S2 §2.2")
async def lion(
    model: Model,
    records: list[Prompt],
    *,
    student: str = "",
    referee: str = "",
    n: Whole = 6000,
    threshold: Annotated[float, Field(gt=0, le=9)] = 1.0,
    novelty: Annotated[float, Field(gt=0, le=1)] = 0.7,
    round: Count = 1,
    temperature: Amount = 1.0,
    max_tokens: Count = 1024,
    seed: int = 0,
) -> list[Demonstration]:
    """Find what the student does badly, write more of it, and let the teacher answer (Jiang et al. 2023).

    One round. Teacher (the model) and `student` answer each instruction. The referee compares the answers, with reasons
    first and a score of 1 to 10 each, in both orders; the mean counts, so that the order does not. An instruction is
    hard if the teacher leads by `threshold` or more, else easy. New instructions: for a hard one another of the same
    domain and task, for an easy one another of the same domain that is rarer; as many of one as of the other, `n` in
    all. One is left out that has three words or fewer, speaks of an "instruction", begins with punctuation or a strange
    character, or has a ROUGE-L F over `novelty` with an earlier one. The records are the teacher's answers to the
    instructions of this round and to the new ones. Train the student on them and begin the next round with the new
    ones; the paper has three rounds of 6,000 and 70,000 records. A verdict without scores is asked for three times.
    meta: teacher, student, score_t, score_s, gap, pool, round; of a new one pool (of its parent) and round.

    Options:
        student: model that is trained, by its name
        referee: model that compares; without it the teacher does
        n: new instructions, half after hard ones and half after easy ones
        threshold: lead of the teacher from which an instruction is hard
        novelty: highest ROUGE-L F with an earlier instruction
        round: number of this round, for meta
        temperature: of new instructions; answers and verdicts are greedy at the first try
        max_tokens: longest answer
        seed: seed of the draws and of the model's samples
    """
    if not student:
        raise KilterError("Lion compares a student with its teacher; name the student with student=NAME.")
    pupil, judge = model_of(student, model), model_of(referee, model)
    greedy = Sampling(max_tokens)

    async def one(prompt: Prompt) -> Judged:
        question = alone(prompt.messages)
        asked = PROMPTS("answer", question=question)
        best = (await sound(model, asked, greedy, of=question)).text.strip()
        own = (await sound(pupil, asked, greedy, cut=True, empty=True)).text.strip()
        scores = await compared(judge, question, best, own)
        return Judged(prompt, best, own, *scores)

    judged = await each(records, one, label=f"comparing · {model.name} and {pupil.name}")
    pool = Novel(novelty)
    pool.add([asked_of(item.prompt.messages) for item in judged])
    made = [_record(item, threshold, round, model.name, seed) for item in judged]
    for kind in ("hard", "easy"):
        these = [item.prompt for item in judged if item.pool(threshold) == kind]
        if these and n:
            made += await _new(model, these, kind, n // 2, pool, round, temperature, max_tokens, seed)
    return made


async def compared(judge: Model, question: str, teacher: str, student: str) -> tuple[float, float]:
    """Return the scores (teacher's, student's), each the mean over both orders; raise SetAside where none is read."""
    first = await _scores(judge, question, teacher, student)
    second = await _scores(judge, question, student, teacher)
    return (first[0] + second[1]) / 2, (first[1] + second[0]) / 2


async def _scores(judge: Model, question: str, first: str, second: str) -> tuple[float, float]:
    asked = PROMPTS("compare", question=question, first=first, second=second)
    for k in range(TRIES):
        reply = await sound(judge, asked, Sampling(512, 1.0 if k else 0.0, seed=k), cut=True, empty=True)
        try:
            return scores_in(reply.text)
        except SetAside as error:
            why = error
    raise why


def scores_in(reply: str) -> tuple[float, float]:
    """Return the two scores of a verdict, from 1 to 10: the last line for each; else raise SetAside."""
    ordinal = {"1": "first", "2": "second"}
    found = {ordinal.get(name.lower(), name.lower()): float(value) for name, value in _SCORE.findall(reply)}
    if set(found) != {"first", "second"} or not all(1 <= value <= 10 for value in found.values()):
        raise SetAside("The verdict has not two scores from 1 to 10.", "no verdict")
    return found["first"], found["second"]


def _record(item: Judged, threshold: float, number: int, model: str, seed: int) -> Demonstration:
    meta = {
        "teacher": item.teacher, "student": item.student, "score_t": item.score_teacher, "score_s": item.score_student,
        "gap": item.gap, "pool": item.pool(threshold), "round": number,
    }  # fmt: skip
    origin = Origin("lion", PAPER, model, (item.prompt.id,), seed)
    return Demonstration([*item.prompt.messages, Message("assistant", item.teacher)], origin=origin, meta=meta)


async def _new(
    model: Model, parents: list[Prompt], kind: str, n: int, pool: Novel, number: int, temperature: float,
    max_tokens: int, seed: int,
) -> list[Demonstration]:  # fmt: skip
    order = random.Random(f"lion {seed} {number} {kind}").sample(parents, len(parents))

    async def request(k: int, _: Sequence[tuple[str, Prompt]]) -> Batch[tuple[str, Prompt]]:
        parent = order[k % len(order)]
        text = asked_of(parent.messages)
        asked = PROMPTS("new", instruction=text, rare=kind == "easy")
        sampling = Sampling(max_tokens, temperature, seed=seed * 1_000_003 + k)
        found = tidied((await sound(model, asked, sampling, of=text)).text)
        wrong = fault(found)
        if re.search(r"\binstructions?\b|指令", found, re.IGNORECASE):
            wrong = ("speaks of an instruction", "It speaks of the instruction instead of being one.")
        return Batch([], [(found, *wrong)]) if wrong else Batch([(found, parent)])

    new = await grow(request, lambda item: item[0], n=n, pool=pool, label=f"{kind} ones · {model.name}")

    async def one(item: tuple[str, Prompt]) -> Batch[Demonstration]:
        text, parent = item
        answer = await sound(model, PROMPTS("answer", question=text), Sampling(max_tokens), of=text)
        origin = Origin("lion", PAPER, answer.model, (parent.id,), seed)
        messages = [Message("user", text), Message("assistant", answer.text.strip())]
        return Batch([Demonstration(messages, origin=origin, meta={"pool": kind, "round": number, "new": True})])

    return settled(await each(new, one, label=f"answers · {model.name}"))
