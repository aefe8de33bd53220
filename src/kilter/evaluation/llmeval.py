"""LLM-Eval: several dimensions of a reply in one call, by a schema."""

from __future__ import annotations

from typing import Literal

from kilter.errors import KilterError
from kilter.evaluation.given import rate_all, texts
from kilter.evaluation.judging import Way
from kilter.evaluation.options import spread
from kilter.evaluation.result import Evaluation
from kilter.evaluation.task_judges import rate_by_table
from kilter.models.protocol import Model
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Prompt
from kilter.registry import method

PROMPTS = Prompts(__file__)
DIMENSIONS = ("appropriateness", "content", "grammar", "relevance")
SCALES = {"0-5": (0, 5), "0-100": (0, 100)}


@method("llmeval", wing="evaluation", paper="arXiv:2305.13711", survey="S1 §8.4", aliases=("llm-eval",))
@spread(judge_tokens=128, probes=4)
async def llmeval(
    records: list[Prompt | Demonstration | Group],
    model: Model | None = None,
    *,
    scale: Literal["0-5", "0-100"] = "0-5",
    way: Way,
) -> Evaluation:
    """Score replies in several dimensions with one question each (LLM-Eval, Lin & Chen 2023).

    The judge is shown the conversation, the reply, the reference where there is one, and a schema, and answers with one
    JSON object: appropriateness, content, grammar and relevance, all at once, greedily. skill:NAME is each of them and
    score their mean. An answer that does not keep to the schema, in its keys or its range, has no score and is counted.

    The texts are the responses in the records, or with --model its answers. Where responses have people's scores,
    spearman and kendall are the correlations with them, averaged over the records.

    Options:
        scale: 0-5 or 0-100
    """
    if way.verdict != "text":
        raise KilterError("LLM-Eval asks for all dimensions in one text; leave --verdict as it is.")
    least, most = SCALES[scale]
    judge = way.opened()
    rate = rate_by_table(judge, PROMPTS, "schema", DIMENSIONS, least, most)
    about = {"scoring": "skills", "scale": [least, most], "skills": list(DIMENSIONS)}
    return await rate_all(texts(records, model), rate, way, suite="llmeval", model=model, about=about)
