"""GSM8K: sums told in words, with the number at the end."""

from __future__ import annotations

from typing import Literal

from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import shipped
from kilter.evaluation.tasks.suite import measure
from kilter.models.protocol import Model
from kilter.registry import Count, Whole, method


@method("gsm8k", wing="evaluation", paper="arXiv:2110.14168", survey="S1 §8.1, S2 §4.1")
async def gsm8k(
    model: Model,
    *,
    data: str | None = None,
    shots: Whole = 5,
    n: Count | None = None,
    fixed: bool = False,
    fit: Literal["cut", "shots"] = "cut",
    max_tokens: Count = 256,
    chat: bool = False,
) -> Evaluation:
    """Measure sums told in words over GSM8K's test split (Cobbe et al. 2021).

    The model goes on from worked examples. exact_match takes the number after "#### ", exact_match_flexible_extract the
    last number there is; commas, $ and a final full stop are taken out, then the texts have to be the same. An answer
    without a number equals nothing. The shots are drawn from the training split anew for each question, by the seed
    1234, which is how the Language Model Evaluation Harness does it; with --fixed they are the first ones for all.

    Rows: question, answer (which ends with #### and the number).

    Options:
        data: folder or file with the data; without, it comes from the hub
        shots: worked examples before each question
        n: only the first so many questions
        fixed: the same shots before all questions, which is faster
        fit: of a context that is too long cut the left, as the harness does, or the last shots
        max_tokens: longest answer in tokens
        chat: ask through the model's chat template instead of in plain text
    """
    task = shipped("gsm8k")
    task.generation_kwargs.max_gen_toks = max_tokens
    if fixed:
        task.fewshot_config.sampler = "first_n"
    return await measure(model, [task], suite="gsm8k", data=data, shots=shots, n=n, fit=fit, chat=chat)
