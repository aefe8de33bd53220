"""StrategyQA: yes or no, by steps that the question does not name."""

from __future__ import annotations

from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import Generation, shipped
from kilter.evaluation.tasks.suite import Way, measure
from kilter.models.protocol import Model
from kilter.registry import Count, Whole, method


@method("strategyqa", wing="evaluation", paper="arXiv:2101.02235", survey="S1 §8.1")
async def strategyqa(
    model: Model,
    *,
    data: str | None = None,
    shots: Whole = 0,
    n: Count | None = None,
    way: Way = "likelihood",
    chat: bool = False,
) -> Evaluation:
    """Measure reasoning in several unnamed steps over StrategyQA (Geva et al. 2021).

    The model picks the likelier of " yes" and " no" after the question; by generation the first yes or no that it
    writes counts, and an answer without either is wrong.

    Rows: input and target_scores (BIG-bench), or question and answer (true or false).

    Options:
        data: folder or file with the data; without, it comes from the hub
        shots: worked examples before each question
        n: only the first so many questions
        way: compare the log-probs of yes and no (likelihood), or read what the model writes (generation)
        chat: ask through the model's chat template instead of in plain text
    """
    task = shipped("strategyqa")
    if way == "generation":
        reading = {"output_type": "generate_until", "process_results": "yes-or-no"}
        task = task.model_copy(update={**reading, "generation_kwargs": Generation(until=["\n\n"], max_gen_toks=128)})
    return await measure(model, [task], suite="strategyqa", data=data, shots=shots, n=n, chat=chat)
