"""A model as the judge of open-ended answers: ratings, comparisons, with a reference or without."""

from __future__ import annotations

from kilter.evaluation.judging import Way, run
from kilter.evaluation.options import spread
from kilter.evaluation.questions import from_records
from kilter.evaluation.result import Evaluation
from kilter.models.protocol import Model
from kilter.records import Demonstration, Group, Prompt
from kilter.registry import method


@method("judge", wing="evaluation", paper="arXiv:2306.05685", survey="S1 §8.4, S2 §4.2", aliases=("llm-judge",))
@spread()
async def llm_judge(
    model: Model,
    records: list[Prompt | Demonstration | Group],
    *,
    criterion: str = "",
    reference: bool = True,
    way: Way,
) -> Evaluation:
    """Have a model judge another's answers to any prompts (LLM-as-a-judge, Zheng et al. 2023).

    Without a baseline each answer is rated: score is the mean rating, 1 to 10. With one it is compared with the
    baseline's answer in both orders: win_rate counts wins, and ties one half; by default a win is one in both orders.
    category:NAME are the same by the records' category. A prompt that comes with a right answer (a reference, the last
    turn of a demonstration, the best response of a group) is judged beside it.

    The judge's biases stand beside the score, as gaps from -1 to 1 with their intervals: judge:position, judge:longer
    and judge:conflict from the comparisons themselves; judge:verbosity, judge:format and judge:self from what the judge
    says to answers that are changed in nothing else (probes.py). judge:parsed is the share of its texts in which a
    verdict was found; one without is left out, and is no tie. Every text is kept: `kilter eval rescore` reads it again.

    Options:
        criterion: what the judge is to weigh, in words
        reference: show the judge the right answer where there is one
    """
    items = from_records(records, way.n, way.seed)
    judge = way.opened(criterion)
    return await run(model, items, way, suite="judge", judge=judge, referenced=lambda item: reference)
