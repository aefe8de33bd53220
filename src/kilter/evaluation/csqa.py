"""CommonsenseQA: what everybody knows, five choices."""

from __future__ import annotations

from typing import Literal

from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import shipped
from kilter.evaluation.tasks.suite import Way, measure
from kilter.models.protocol import Model
from kilter.registry import Count, Whole, method


@method("csqa", wing="evaluation", paper="arXiv:1811.00937", survey="S1 §8.1")
async def csqa(
    model: Model,
    *,
    data: str | None = None,
    shots: Whole = 0,
    n: Count | None = None,
    way: Way = "likelihood",
    fit: Literal["cut", "shots"] = "cut",
    chat: bool = False,
) -> Evaluation:
    """Measure common sense over CommonsenseQA (Talmor et al. 2019).

    The model picks argmax_c log p(" c" | question and choices) over c in A to E; of the development split,
    whose answers are public. By generation the letter is read from what the model writes.

    Rows: question (stem and choices) or question and choices, answerKey.

    Options:
        data: folder with the data; without, it comes from the hub
        shots: worked examples before each question
        n: only the first so many questions
        way: compare the log-probs of the letters (likelihood), or read the letter that the model writes (generation)
        fit: of a context that is too long cut the left, as the harness does, or the last shots
        chat: ask through the model's chat template instead of in plain text
    """
    return await measure(
        model, [shipped("csqa")], suite="csqa", data=data, shots=shots, n=n, way=way, fit=fit, chat=chat
    )
