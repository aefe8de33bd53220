"""CMMLU: 67 subjects in Chinese, four choices each."""

from __future__ import annotations

from kilter.evaluation.options import spread
from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import shipped
from kilter.evaluation.tasks.suite import Exam, measure
from kilter.models.protocol import Model
from kilter.registry import method


@method("cmmlu", wing="evaluation", paper="arXiv:2306.09212", survey="S1 §8.1, S2 §4.1")
@spread()
async def cmmlu(model: Model, *, exam: Exam) -> Evaluation:
    """Measure knowledge in Chinese over CMMLU's 67 subjects (Li et al. 2023).

    As MMLU, with a Chinese header and 答案： before the letter. acc_norm divides each choice's log-prob by its
    characters. By generation acc counts answers without a letter as wrong and acc_valid leaves them out, as the
    authors' code does for chat models: acc <= acc_valid.

    Rows: Question, A, B, C, D, Answer.
    """
    return await measure(model, [shipped("cmmlu")], suite="cmmlu", **vars(exam))
