"""One rubric a task over the same judge: summaries, their facts, code, answers to open questions, dialogues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kilter.evaluation.given import rate_all, texts
from kilter.evaluation.judging import Way
from kilter.evaluation.options import spread
from kilter.evaluation.probes import Rate
from kilter.evaluation.result import Evaluation
from kilter.feedback.judge import Case, Judge, Judgement
from kilter.models.protocol import Model
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Prompt
from kilter.registry import method

PROMPTS = Prompts(__file__)
Task = Literal["summary", "summary-facts", "code", "question", "dialogue"]


@dataclass(frozen=True, slots=True)
class Rubric:
    """What texts of a task are scored for: the dimensions with their meaning, and the ends of the scale."""

    about: str
    dimensions: dict[str, str]
    least: int
    most: int


RUBRICS: dict[str, Rubric] = {
    # Gao et al. 2023, human-like evaluation of summaries.
    "summary": Rubric(
        "a summary of a document",
        {
            "coherence": "its sentences form a whole",
            "consistency": "it says nothing that the document does not",
            "fluency": "it is well written",
            "relevance": "it has what matters and nothing else",
        },
        1,
        5,
    ),
    "summary-facts": Rubric(
        "a summary of a document", {"factuality": "1 where every statement follows from the document, else 0"}, 0, 1
    ),
    # ICE-Score (Zhuo 2023).
    "code": Rubric(
        "a program written for a problem",
        {
            "usefulness": "0: of no use for the problem, 4: solves it as it stands",
            "correctness": "0: fails every test, 4: would pass all",
        },
        0,
        4,
    ),
    "question": Rubric(
        "an answer to an open question",
        {
            "accuracy": "what it says is right",
            "coherence": "it is clear and well ordered",
            "factuality": "its facts can be checked and hold",
            "comprehensiveness": "it covers what the question asks",
        },
        1,
        5,
    ),
    "dialogue": Rubric(
        "a reply in a dialogue",
        {
            "appropriateness": "it fits what was said before",
            "content": "it has something to say",
            "grammar": "it is well formed",
            "relevance": "it keeps to the topic",
        },
        0,
        5,
    ),
}


@method("task-judges", wing="evaluation", paper="arXiv:2304.14317", survey="S2 §4.2", aliases=("ice-score",))
@spread(probes=4)
async def task_judges(
    records: list[Prompt | Demonstration | Group], model: Model | None = None, *, task: Task = "summary", way: Way
) -> Evaluation:
    """Score texts by the rubric of their task (after Gao et al. 2023; Zhuo 2023; Bai et al. 2023; Lin & Chen 2023).

    summary: coherence, consistency, fluency, relevance, 1 to 5; summary-facts: whether all of it follows, 0 or 1; code:
    usefulness and correctness, 0 to 4 (ICE-Score); question: accuracy, coherence, factuality, comprehensiveness, 1 to
    5; dialogue: appropriateness, content, grammar, relevance, 0 to 5. The judge answers with one JSON object.
    skill:NAME is each dimension, score their mean. Another task changes the prompt and nothing else.

    The texts are the responses in the records, or with --model its answers. Where responses have people's scores,
    spearman and kendall are the correlations with them, averaged over the records.

    Options:
        task: summary, summary-facts, code, question or dialogue
    """
    rubric = RUBRICS[task]
    told = "\n".join(f"- {name}: {meaning}" for name, meaning in rubric.dimensions.items())
    names = list(rubric.dimensions)
    rate = rate_by_table(
        way.opened(), PROMPTS, "table", names, rubric.least, rubric.most, about=rubric.about, rubric=told
    )
    about = {"scoring": "skills", "scale": [rubric.least, rubric.most], "skills": names}
    return await rate_all(texts(records, model), rate, way, suite=f"task-judges {task}", model=model, about=about)


def rate_by_table(
    judge: Judge, prompts: Prompts, name: str, names: Sequence[str], least: float, most: float, **more: str
) -> Rate:
    """Return how a text is scored in several dimensions with one question, whose answer is a JSON object."""

    async def rate(case: Case, response: str, claim: str) -> list[Judgement]:
        told = {"question": case.question, "history": case.history, "reference": case.reference, "claim": claim}
        asked = prompts(name, **told, **more, response=response, names=list(names), least=least, most=most)
        found = await judge.judgements("table", asked, parser="scores-table")
        return [in_schema(one, names, least, most) for one in found]

    return rate


def in_schema(judgement: Judgement, names: Sequence[str], least: float, most: float) -> Judgement:
    """Return a table that lacks a dimension, or is out of range in one, as one that could not be read."""
    if not judgement.ok:
        return judgement
    table = {name: judgement.value.get(name) for name in names}
    if any(value is None or not least <= value <= most for value in table.values()):
        return replace(judgement, value=None, ok=False)
    return replace(judgement, value=table)
