"""MATH: competition problems with one boxed answer."""

from __future__ import annotations

from typing import Literal

from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import shipped
from kilter.evaluation.tasks.suite import measure
from kilter.models.protocol import Model
from kilter.registry import Count, Whole, method


@method("math", wing="evaluation", paper="arXiv:2103.03874", survey="S1 §8.1, S2 §4.1")
async def math(
    model: Model,
    *,
    data: str | None = None,
    shots: Whole = 4,
    n: Count | None = None,
    subjects: str = "",
    fit: Literal["cut", "shots"] = "cut",
    max_tokens: Count = 512,
    chat: bool = False,
) -> Evaluation:
    """Measure competition mathematics over MATH's seven subjects (Hendrycks et al. 2021).

    The model goes on from worked problems. Its answer is the last \\boxed{...} of what it writes, else what
    stands between the first and the last $; right is an answer that is the same text as the solution's boxed
    one once units, spaces, layout and ways of writing fractions and roots are made alike. Nothing is computed:
    2/4 is not 1/2.

    Rows: problem, solution.

    Options:
        data: folder with the data; without, it comes from the hub
        shots: worked problems before each one
        n: of each subject only the first so many problems
        subjects: names of subjects, with commas; all that are there where empty
        fit: of a context that is too long cut the left, or the last shots
        max_tokens: longest answer in tokens
        chat: ask through the model's chat template instead of in plain text
    """
    task = shipped("math")
    task.generation_kwargs.max_gen_toks = max_tokens
    return await measure(
        model, [task], suite="math", data=data, shots=shots, n=n, subjects=subjects, fit=fit, chat=chat
    )
