"""Reference-free scores in three ways: said outright, implied by a yes, or by comparing two texts."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Literal

from kilter.errors import KilterError
from kilter.evaluation.given import rate_all, texts
from kilter.evaluation.judging import Way, evaluated
from kilter.evaluation.options import spread
from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import Row
from kilter.evaluation.scoring import scored
from kilter.feedback.judge import Case, Judge, Judgement, case_of
from kilter.feedback.labels import yes
from kilter.models.each import each
from kilter.models.protocol import Model
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Prompt
from kilter.registry import method

PROMPTS = Prompts(__file__)


@method("explicit", wing="evaluation", paper="arXiv:2304.00723", survey="S1 §8.4", aliases=("explicit-score",))
@spread(judge_tokens=64, probes=4)
async def explicit(
    records: list[Prompt | Demonstration | Group],
    model: Model | None = None,
    *,
    by: Literal["explicit", "implicit", "pairwise"] = "explicit",
    quality: str = "overall quality",
    way: Way,
) -> Evaluation:
    """Score texts without a reference, in one of three ways (Chen et al. 2023).

    explicit: the judge says a score of 0 to 100; a number beyond is held to the nearer end, and no number is no score.
    implicit: P(yes) / (P(yes) + P(no)) of the question whether the text is good, for which the judge has to give
    log-probs. pairwise: of every two responses with different scores of people the judge says which is the better, or
    that neither is; accuracy is the share in which it says what people say, ties counting one half. The study found
    the explicit score the most reliable.

    The texts are the responses in the records, or with --model its answers. Where responses have people's scores,
    spearman and kendall are the correlations with them, averaged over the records.

    Options:
        by: explicit, implicit or pairwise
        quality: what is scored, in words
    """
    judge = way.opened(quality)
    if by == "pairwise":
        return await _pairwise(records, judge, way)
    rate = _implicit if by == "implicit" else _explicit

    async def one(case: Case, response: str, claim: str) -> list[Judgement]:
        return await rate(judge, quality, case, response, claim)

    about: Row = {"scale": [0, 1 if by == "implicit" else 100]}
    return await rate_all(texts(records, model), one, way, suite="explicit", model=model, about=about)


async def _explicit(judge: Judge, quality: str, case: Case, response: str, claim: str) -> list[Judgement]:
    asked = PROMPTS("score", **_slots(quality, case, response, claim), least=0, most=100)
    return await judge.judgements("points", asked, parser="explicit", labels=[str(n) for n in range(0, 101, 10)])


async def _implicit(judge: Judge, quality: str, case: Case, response: str, claim: str) -> list[Judgement]:
    asked = PROMPTS("good", **_slots(quality, case, response, claim))
    p = await yes(judge.model, asked)
    text = json.dumps({"1": p, "0": 1 - p})
    return [Judgement("good", judge.name, text, "label-mean@1", p, True, asked.version)]


def _slots(quality: str, case: Case, response: str, claim: str) -> dict[str, str]:
    told = {"question": case.question, "history": case.history, "response": response}
    return told | {"claim": claim, "quality": quality}


async def _pairwise(records: list[Prompt | Demonstration | Group], judge: Judge, way: Way) -> Evaluation:
    groups = [record for record in records if isinstance(record, Group) and record.pairs()]
    if not groups:
        raise KilterError("Comparing two texts needs responses that people have scored or ranked; give such groups.")
    pairs = [
        (group, a, b)
        for group in groups
        for a, b in combinations(range(len(group.responses)), 2)
        if _apart(group, a, b)
    ]

    async def one(item: tuple[Group, int, int]) -> Row:
        group, a, b = item
        told = await judge.compare(case_of(group.prompt), group.responses[a], group.responses[b])
        sample: Row = {
            "id": f"{group.id}/{a}-{b}",
            "prompt": [m.to_json() for m in group.prompt],
            "response": group.responses[a],
            "baseline": [group.responses[b]],
            "given": True,
            "family": "",
            "language": "",
            "cluster": group.id,
            "scoring": "compared",
            "merge": way.merge,
            "judgements": [judgement.to_json() for judgement in told],
        }
        scored(sample)
        share, order = sample["outcomes"].pop("win_rate", None), group.order() or []
        if share is not None:
            sample["outcomes"]["accuracy"] = share if order[a] > order[b] else 1 - share
        return sample

    samples = await each(pairs[: way.n], one, label="explicit")
    return evaluated("", samples, suite="explicit", seed=way.seed)


def _apart(group: Group, a: int, b: int) -> bool:
    order = group.order() or []
    return order[a] != order[b]
