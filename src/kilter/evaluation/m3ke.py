"""M3KE: 71 subjects of Chinese education, four choices each."""

from __future__ import annotations

from kilter.evaluation.options import spread
from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import shipped
from kilter.evaluation.tasks.suite import Exam, measure
from kilter.models.protocol import Model
from kilter.registry import method


@method("m3ke", wing="evaluation", paper="arXiv:2305.10263", survey="S1 §8.1, S2 §4.1")
@spread()
async def m3ke(model: Model, *, exam: Exam) -> Evaluation:
    """Measure knowledge in Chinese over M3KE's 71 subjects, from primary school to university (Liu et al. 2023).

    As CMMLU. The subjects are those that there are files of: test/SUBJECT.jsonl and dev/SUBJECT.jsonl.

    Rows: question, A, B, C, D, answer.
    """
    return await measure(model, [shipped("m3ke")], suite="m3ke", **vars(exam))
