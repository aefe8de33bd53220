"""More of what a student still gets wrong: exercises like its failed seeds, round after round."""

from __future__ import annotations

import re

from kilter.data.answers import due_of, right
from kilter.data.drafts import sound
from kilter.data.replies import answer_of, asked_of, model_of
from kilter.data.sieve import leave_out
from kilter.errors import KilterError, SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin
from kilter.registry import Amount, Count, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2403.15042"
_PART = re.compile(r"^[ \t*#]*(?:\d+[.)][ \t]*)?(question|answer)[ \t*]*[:：][ \t*]*", re.IGNORECASE | re.MULTILINE)


@method("llm2llm", wing="data", paper=PAPER, survey="S3 §imitation")
async def llm2llm(
    model: Model,
    records: list[Demonstration],
    *,
    student: str,
    n: Count = 1,
    round: Count = 1,
    max_tokens: Count = 512,
    temperature: Amount = 0.7,
    seed: int = 0,
) -> Each[list[Demonstration]]:
    """One round of iterative augmentation of the seeds that a student fails (Lee et al. 2024, LLM2LLM).

        student_t trained from scratch on D_0 and all A_1 .. A_{t-1} -> W_t = {seeds of D_0 it gets wrong}
        -> A_t = the teacher's `n` exercises like each of W_t

    The records are seeds, or the seeds with what earlier rounds added. Only seeds are asked and only seeds are
    augmented: what an earlier round made is passed over (meta["seed"] names the seed that it came from), so that errors
    of the teacher do not breed. The student answers greedily; its answer is right where it comes to the seed's, as a
    number or word for word. What comes back is A_t alone; train the next student on the seeds and all of them.

    meta: seed (its id), round. Every parent is a seed that failed in this round.

    Options:
        student: the model that was trained on what there is so far
        n: exercises a failed seed
        round: number of this round
        max_tokens: longest answer
        temperature: sampling temperature of the teacher
        seed: seed of the teacher's exercises
    """
    pupil = model_of(student, model)
    seeds = [record for record in records if "seed" not in record.meta]
    if not seeds:
        raise KilterError("All records were made from others; give the seeds, with or without what was made of them.")

    async def examine(record: Demonstration) -> tuple[Demonstration, bool]:
        due = due_of(record)
        if not due:
            raise SetAside("It has no answer that the student's could be compared with.", "no answer")
        reply = await sound(pupil, record.messages[:-1], Sampling(max_tokens), cut=True, empty=True)
        return record, right(due, reply.text)

    examined = await each(seeds, examine, label=f"examining · {pupil.name}")
    for record, passed in examined:
        if passed:
            leave_out(record, "right", "The student gets it right, so that it needs no more of its kind.")

    async def one(record: Demonstration) -> list[Demonstration]:
        question, answer = asked_of(record.messages), answer_of(record.messages)
        asked = PROMPTS("similar", question=question, answer=answer, n=n)
        reply = await sound(model, asked, Sampling(max_tokens * n, temperature, seed=seed + round), of=question)
        origin = Origin("llm2llm", PAPER, reply.model, (record.id,), seed, asked.version)
        return [
            Demonstration(
                [Message("user", new), Message("assistant", solution)],
                origin=origin,
                meta={"seed": record.id, "round": round},
            )
            for new, solution in exercises(reply.text, n, known=question)
        ]

    return each([record for record, passed in examined if not passed], one, label=f"exercises · {model.name}")


def exercises(text: str, most: int, known: str = "") -> list[tuple[str, str]]:
    """Return at most so many (question, answer) of a reply, without `known`; raise SetAside where there is none."""
    parts = _PART.split(text)
    found: dict[str, str] = {}
    question = ""
    for name, said in zip(parts[1::2], parts[2::2], strict=True):
        if name.lower() == "question":
            question = said.strip()
        elif question and said.strip() and question != known.strip():
            found.setdefault(question, said.strip())
            question = ""
    if not found:
        raise SetAside("The reply holds no new exercise with its answer.", "no exercise")
    return list(found.items())[:most]
