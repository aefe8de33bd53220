"""MMLU: 57 subjects of school, university and profession, four choices each."""

from __future__ import annotations

from typing import Literal

from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import shipped
from kilter.evaluation.tasks.suite import Way, measure
from kilter.models.protocol import Model
from kilter.registry import Count, Whole, method


@method("mmlu", wing="evaluation", paper="arXiv:2009.03300", survey="S1 §8.1, S2 §4.1")
async def mmlu(
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
    """Measure knowledge over MMLU's 57 subjects (Hendrycks et al. 2021).

    A question stands behind shots of its subject and a header that names it; the model picks argmax_c
    log p(" c" | text) over c in A to D. acc is over all questions, so that a subject counts by its size; each category
    (stem, humanities, social_sciences, other) and each subject has its own. By generation a letter is read from
    what the model writes: without one the answer is wrong in acc and left out of acc_valid.

    Rows: question, choices (or A, B, C, D), answer (a letter, or its place from 0).

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
        [shipped("mmlu")],
        suite="mmlu",
        data=data,
        shots=shots,
        n=n,
        subjects=subjects,
        way=way,
        fit=fit,
        chat=chat,
    )
