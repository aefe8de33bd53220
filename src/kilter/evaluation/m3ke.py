"""M3KE: 71 subjects of Chinese education, four choices each."""

from __future__ import annotations

from typing import Literal

from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import shipped
from kilter.evaluation.tasks.suite import Way, measure
from kilter.models.protocol import Model
from kilter.registry import Count, Whole, method


@method("m3ke", wing="evaluation", paper="arXiv:2305.10263", survey="S1 §8.1, S2 §4.1")
async def m3ke(
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
    """Measure knowledge in Chinese over M3KE's 71 subjects, from primary school to university (Liu et al. 2023).

    As CMMLU. The subjects are those that there are files of: test/SUBJECT.jsonl and dev/SUBJECT.jsonl.

    Rows: question, A, B, C, D, answer.

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
        [shipped("m3ke")],
        suite="m3ke",
        data=data,
        shots=shots,
        n=n,
        subjects=subjects,
        way=way,
        fit=fit,
        chat=chat,
    )
