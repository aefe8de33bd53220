"""G-Eval: a model fills in a form whose steps it wrote itself, and its probabilities are the score."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kilter.errors import KilterError
from kilter.evaluation.given import Text, rate_all, texts
from kilter.evaluation.judging import Way
from kilter.evaluation.options import spread
from kilter.evaluation.result import Evaluation
from kilter.feedback.judge import Case, Judge, Judgement
from kilter.models.each import answered
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Prompt
from kilter.registry import Count, method

PROMPTS = Prompts(__file__)
CRITERIA = {
    "coherence": "the text is well structured: its sentences belong together and lead from one to the next",
    "consistency": "everything that the text says is borne out by what it was given",
    "fluency": "grammar, spelling, punctuation and choice of words are right",
    "relevance": "what matters is there, and nothing that does not",
    "engagingness": "the text is interesting to read for whom it is meant",
    "naturalness": "a person could have written the text in this place",
}


@method("geval", wing="evaluation", paper="arXiv:2303.16634", survey="S1 §8.4", aliases=("gpteval",))
@spread(evidences=20, judge_temperature=1.0, judge_tokens=8, probes=4)
async def geval(
    records: list[Prompt | Demonstration | Group],
    model: Model | None = None,
    *,
    criterion: str = "coherence",
    definition: str = "",
    task: str = "",
    low: int = 1,
    high: int = 5,
    steps: str | None = None,
    steps_tokens: Count = 512,
    way: Way,
) -> Evaluation:
    """Score texts by a form that the judge first works out for itself (G-Eval, Liu et al. 2023).

    The judge writes the steps of the evaluation once, from the task and the criterion. Then it is shown each text with
    these steps and says one number. score = sum_s s p(s), s from `low` to `high`: p is the share of `evidences` samples
    that say s, or with `--verdict logprobs` the judge's own probability of s among them, which takes one question.
    (The paper samples 20 times at T = 1, its code at T = 2, see --judge-temperature.) A sample without a number in
    range is left out of p and counted in judge:parsed; the authors' code takes it for 0.

    The texts are the responses in the records, or with --model its answers. Where responses have people's scores,
    spearman and kendall are the correlations with them, averaged over the records.

    Options:
        criterion: what is scored; known are coherence, consistency, fluency, relevance, engagingness, naturalness
        definition: what the criterion means, for one that is not known
        task: what the texts are for, in a sentence
        low: the lowest score (1)
        high: the highest score (5; the paper has 3 for fluency)
        steps: the steps of the evaluation, where the judge is not to write them
        steps_tokens: longest text of the steps in tokens
    """
    if low >= high:
        raise KilterError(f"The scores go from {low} to {high}; give a lowest one below the highest.")
    meaning = definition or CRITERIA.get(criterion.lower(), "")
    if not meaning:
        raise KilterError(
            f"What '{criterion}' means is not known; say it with --definition, or use {', '.join(CRITERIA)}."
        )
    judge = way.opened()
    form: dict[str, Any] = {"criterion": criterion, "definition": meaning, "task": task, "low": low, "high": high}
    if steps is None:
        asked = PROMPTS("steps", **form)
        steps = (await answered(judge.model, asked, Sampling(max_tokens=steps_tokens, seed=way.seed), cut=True)).text
    found: list[Text] = texts(records, model)
    about = {"scale": [low, high]}
    return await rate_all(
        found, _rate(judge, form | {"steps": steps.strip()}), way, suite="geval", model=model, about=about
    )


def _rate(judge: Judge, form: dict[str, Any]) -> Any:
    low, high = form["low"], form["high"]

    async def rate(case: Case, response: str, claim: str) -> list[Judgement]:
        told = {"question": case.question, "history": case.history, "reference": case.reference}
        asked = PROMPTS("form", **form, **told, response=response, claim=claim, least=low, most=high)
        labels = [str(s) for s in range(low, high + 1)]
        found = await judge.judgements("points", asked, parser="geval", labels=labels)
        return [within(one, low, high) for one in found]

    return rate


def within(judgement: Judgement, low: float, high: float) -> Judgement:
    """Return a judgement whose number is out of range as one that could not be read."""
    if judgement.ok and not low <= float(judgement.value) <= high:
        return replace(judgement, value=None, ok=False)
    return judgement
