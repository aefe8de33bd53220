"""CMMLU: 67 subjects in Chinese, four choices each."""

from __future__ import annotations

from typing import Literal

from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import shipped
from kilter.evaluation.tasks.suite import Way, measure
from kilter.models.protocol import Model
from kilter.registry import Count, Whole, method


@method("cmmlu", wing="evaluation", paper="arXiv:2306.09212", survey="S1 §8.1, S2 §4.1")
async def cmmlu(
    model: Model,
    *,
    data: str | None = None,
    shots: Whole = 5,
    n: Count | None = None,
    subjects: str = "",
    way: Way = "likelihood",
    fit: Literal["cut", "shots"] = "cut",
    chat: bool = False,
) -> Evaluation:
    """Measure knowledge in Chinese over CMMLU's 67 subjects (Li et al. 2023).

    As MMLU, with a Chinese header and 答案： before the letter. acc_norm divides each choice's log-prob by its
    characters. By generation acc counts answers without a letter as wrong and acc_valid leaves them out, as the
    authors' code does for chat models: acc <= acc_valid.

    Rows: Question, A, B, C, D, Answer.

    Options:
        data: folder with the data; without, it comes from the hub
        shots: worked examples before each question
        n: of each subject only the first so many questions
        subjects: names of subjects, with commas; all that are there where empty
        way: compare the log-probs of the letters (likelihood), or read the letter that the model writes (generation)
        fit: of a context that is too long cut the left, as the harness does, or the last shots
        chat: ask through the model's chat template instead of in plain text
    """
    return await measure(
        model,
        [shipped("cmmlu")],
        suite="cmmlu",
        data=data,
        shots=shots,
        n=n,
        subjects=subjects,
        way=way,
        fit=fit,
        chat=chat,
    )
