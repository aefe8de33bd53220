"""MMLU: 57 subjects of school, university and profession, four choices each."""

from __future__ import annotations

from kilter.evaluation.options import spread
from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import shipped
from kilter.evaluation.tasks.suite import Exam, measure
from kilter.models.protocol import Model
from kilter.registry import method


@method("mmlu", wing="evaluation", paper="arXiv:2009.03300", survey="S1 §8.1, S2 §4.1")
@spread()
async def mmlu(model: Model, *, exam: Exam) -> Evaluation:
    """Measure knowledge over MMLU's 57 subjects (Hendrycks et al. 2021).

    A question stands behind shots of its subject and a header that names it; the model picks argmax_c
    log p(" c" | text) over c in A to D. acc is over all questions, so that a subject counts by its size; each category
    (stem, humanities, social_sciences, other) and each subject has its own. By generation a letter is read from
    what the model writes: without one the answer is wrong in acc and left out of acc_valid.

    Rows: question, choices (or A, B, C, D), answer (a letter, or its place from 0).
    """
    return await measure(model, [shipped("mmlu")], suite="mmlu", **vars(exam))
