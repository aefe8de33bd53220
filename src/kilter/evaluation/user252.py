"""User-oriented instructions: 252 tasks that people would set, each answer put on one of four levels."""

from __future__ import annotations

from kilter.evaluation.judging import Way, run
from kilter.evaluation.options import spread
from kilter.evaluation.probes import Rate
from kilter.evaluation.questions import Item, from_file
from kilter.evaluation.result import Evaluation
from kilter.feedback.judge import Case, Judge, Judgement
from kilter.models.protocol import Model
from kilter.prompts import Prompts
from kilter.registry import method

PROMPTS = Prompts(__file__)
TASKS = 252


@method("user252", wing="evaluation", paper="arXiv:2212.10560", survey="S1 §8.4, S2 §4.1", aliases=("user-252",))
@spread()
async def user252(model: Model, *, questions: str, way: Way) -> Evaluation:
    """Put answers to Self-Instruct's user-oriented tasks on its four levels (Wang et al. 2023).

    A: valid and satisfying, B: acceptable with minor flaws, C: on the topic with major errors, D: irrelevant or
    invalid. level:A to level:D are the shares of the levels, score the mean with A as 4 and D as 1. The judge sees the
    expert's answer beside the model's. With a baseline the two answers are compared instead. For the same ratings by
    people see `kilter show ordinal`. The judge's biases stand beside them.

    Rows of the questions: id, motivation_app, instruction, instances of input and output; each instance is an item.

    Options:
        questions: the file of the tasks
    """
    items, notes = from_file(questions, way.n, way.seed)
    tasks = len({item.id.split("/")[0] for item in items})
    if way.n is None and tasks != TASKS:
        notes.append(f"The benchmark has {TASKS} tasks; this file has {tasks}.")
    return await run(model, items, way, suite="user252", notes=notes, rate=by_level, about=scale)


def by_level(judge: Judge, item: Item) -> Rate:
    """Return how an answer is put on a level."""

    async def rate(case: Case, response: str, claim: str) -> list[Judgement]:
        told = {"question": case.question, "response": response, "reference": case.reference, "claim": claim}
        asked = PROMPTS("level", **told, by=judge.by, reason=judge.reason, levels="ABCD")
        return await judge.judgements("level", asked, parser="level")

    return rate


def scale(item: Item) -> dict[str, object]:
    return {"scoring": "level", "scale": [1, 4]}
