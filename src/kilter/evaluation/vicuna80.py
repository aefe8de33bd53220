"""Vicuna's 80 questions: a judge scores two models' answers side by side, and the scores are added up."""

from __future__ import annotations

from kilter.evaluation.judging import Way, run
from kilter.evaluation.options import spread
from kilter.evaluation.questions import from_file
from kilter.evaluation.result import Evaluation
from kilter.models.protocol import Model
from kilter.registry import method

# How many questions of each category the benchmark has.
CATEGORIES = dict.fromkeys(
    ("generic", "knowledge", "roleplay", "common-sense", "fermi", "counterfactual", "writing"), 10
) | {"coding": 7, "math": 3}


@method("vicuna80", wing="evaluation", paper="arXiv:2306.05685", survey="S1 §8.4, S2 §4.1", aliases=("vicuna-80",))
@spread(reason=False, max_tokens=1024, judge_tokens=1024)
async def vicuna80(model: Model, *, questions: str, way: Way) -> Evaluation:
    """Score answers to Vicuna's questions as its authors did (Chiang et al. 2023).

    With a baseline the judge gives both answers a score of 1 to 10 on its first line, then its reasons (`--reason`
    turns that round, as FairEval found better), in both orders. relative is the sum of the model's scores over the sum
    of the baseline's, score and baseline_score are the means, and win_rate is who has the higher mean score of a
    question. Without a baseline each answer is rated by itself. category:NAME are the same by category, and the judge's
    biases stand beside them (`kilter show judge`).

    Rows of the questions: question_id, category, turns (or text).

    Options:
        questions: the file of the questions
    """
    items, notes = from_file(questions, way.n, way.seed)
    notes += counted({name: sum(item.category == name for item in items) for name in CATEGORIES}, way.n)
    return await run(model, items, way, suite="vicuna80", notes=notes, judge=way.opened(form="scores"))


def counted(found: dict[str, int], n: int | None) -> list[str]:
    """Return a sentence where the questions are not the benchmark's 80 in its nine categories."""
    if n is not None or found == CATEGORIES:
        return []
    return [
        f"The benchmark has 80 questions in {len(CATEGORIES)} categories; this file has {sum(found.values())} of them."
    ]
