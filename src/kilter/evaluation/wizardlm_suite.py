"""WizardLM's test set: 29 skills on several levels of difficulty, scored side by side with a baseline."""

from __future__ import annotations

from kilter.evaluation.judging import Way, evaluated, run
from kilter.evaluation.options import spread
from kilter.evaluation.questions import from_file
from kilter.evaluation.result import Evaluation
from kilter.models.protocol import Model
from kilter.registry import method


@method("wizardlm", wing="evaluation", paper="arXiv:2304.12244", survey="S1 §8.4, S2 §4.1")
@spread(max_tokens=1024, judge_tokens=1024)
async def wizardlm(model: Model, *, questions: str, way: Way) -> Evaluation:
    """Score answers to WizardLM's evolved instructions by skill and by difficulty (Xu et al. 2023).

    With a baseline the judge scores both answers from 1 to 10 in both orders: relative is the sum of the model's scores
    over that of the baseline's, win_rate who has the higher mean score. Without one each answer is rated. category:NAME
    is a skill, difficulty:N a level (1, the easiest, to 10). The judge's biases stand beside them.

    Rows of the questions: idx, Skill, Difficulty, Instruction.

    Options:
        questions: the file of the questions
    """
    items, notes = from_file(questions, way.n, way.seed)
    levels = {item.id: item.meta.get("Difficulty", item.meta.get("difficulty")) for item in items}
    found = await run(model, items, way, suite="wizardlm", notes=notes, judge=way.opened(form="scores"))
    for sample in found.samples:
        level, outcomes = levels[sample["id"]], sample["outcomes"]
        value = outcomes.get("win_rate", outcomes.get("score"))
        if level is not None and value is not None:
            outcomes[f"difficulty:{level}"] = value
    return evaluated(found.model, found.samples, suite=found.suite, seed=found.seed, notes=found.notes)
