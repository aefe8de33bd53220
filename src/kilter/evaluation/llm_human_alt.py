"""A model in the place of people who rate: the same instructions, the same sample, the same question."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from kilter.errors import KilterError
from kilter.evaluation.given import Text, rate_all, texts
from kilter.evaluation.judging import Way
from kilter.evaluation.options import spread
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, number, read
from kilter.evaluation.statistics import Difference, interval
from kilter.feedback.judge import Case, Judgement
from kilter.files import write_text
from kilter.models.protocol import Model
from kilter.prompts import Asked, Prompts
from kilter.records import Demonstration, Group, Prompt
from kilter.registry import method

PROMPTS = Prompts(__file__)
QUESTIONS = {
    "grammaticality": "How grammatically correct is the text? (1 = not at all, 5 = perfectly)",
    "cohesiveness": "How well do the sentences of the text fit together? (1 = not at all, 5 = perfectly)",
    "likability": "How much do you enjoy the text? (1 = not at all, 5 = very much)",
    "relevance": "How relevant is the text to what was asked for? (1 = not at all, 5 = entirely)",
}


@method("llm-human-alt", wing="evaluation", paper="arXiv:2305.01937", survey="S2 §4.2", aliases=("llm-human",))
@spread(evidences=3, judge_temperature=1.0, judge_tokens=128, probes=4)
async def llm_human_alt(
    records: list[Prompt | Demonstration | Group],
    model: Model | None = None,
    *,
    attribute: str = "grammaticality",
    question: str = "",
    people: str | None = None,
    sheet: str | None = None,
    way: Way,
) -> Evaluation:
    """Have a model rate texts by the very sheet that people are given (Chiang & Lee 2023).

    The judge is shown what a person is shown, letter for letter: instructions, what was asked, the text, one question
    with a scale of 1 to 5; three samples at T = 1. score is the mean rating. `--sheet FILE` writes the sheets for
    people. With people's ratings: people is their mean, difference the model's mean less theirs by Welch's test, and
    spearman and kendall the correlations over the texts that both rated. A sample without one number is left out.

    Rows of people's ratings: id (the sheet's), rating, perhaps rater.

    Options:
        attribute: what is rated: grammaticality, cohesiveness, likability or relevance
        question: the question in other words, or of another attribute
        people: file of people's ratings of the same sheets
        sheet: write the sheets here, one a text, for people to fill in
    """
    asked = question or QUESTIONS.get(attribute.lower(), "")
    if not asked:
        raise KilterError(
            f"There is no question for '{attribute}'; ask it with --question, or use {', '.join(QUESTIONS)}."
        )
    found = texts(records, model)
    if sheet is not None:
        if model is not None:
            raise KilterError("Sheets are written of texts that are there; leave --model out, or give its answers.")
        write_text(Path(sheet), sheets(found, asked))
    judge = way.opened()

    async def rate(case: Case, response: str, claim: str) -> list[Judgement]:
        told = await judge.judgements("points", filled(case, response, asked, claim), parser="likert", labels="12345")
        return [replace(one, kind="likert") for one in told]

    about = {"scale": [1, 5]}
    evaluation = await rate_all(found, rate, way, suite="llm-human-alt", model=model, about=about)
    if people is not None:
        against(evaluation, people)
    return evaluation


def filled(case: Case, response: str, question: str, claim: str = "") -> Asked:
    """Return the sheet of one text: what the model is asked, and what a person reads."""
    told = {"question": case.question, "history": case.history, "response": response}
    return PROMPTS("sheet", **told, ask=question, claim=claim, least=1, most=5)


def sheets(found: list[Text], question: str) -> str:
    """Return the sheets for people, each under the id that its rating is to be given for."""
    parts = [f"# {text.id}\n\n{filled(text.case, text.response or '', question)[-1].content}\n" for text in found]
    return "\n".join(parts)


def against(evaluation: Evaluation, people: str) -> None:
    """Enter what people's ratings say beside the model's. Raises KilterError where they rated none of the texts."""
    rows, notes = read(people, ("id", "rating"))
    left_out = LeftOut()
    theirs: dict[str, list[float]] = {}
    for row in rows:
        value = number(row.get("rating"))
        if value is None or not 1 <= value <= 5:
            left_out.add("the rating is no number from 1 to 5", row.get("rating"))
        else:
            theirs.setdefault(str(row["id"]), []).append(value)
    mine = {sample["id"]: sample["outcomes"]["score"] for sample in evaluation.samples if "score" in sample["outcomes"]}
    both = [name for name in mine if name in theirs]
    if not both:
        raise KilterError(f"{people} rates none of these texts; its ids are to be those of the sheets.")
    a = [mine[name] for name in both]
    b = [sum(theirs[name]) / len(theirs[name]) for name in both]
    gap = welch(a, b)
    found = {"people": interval(b), "difference": Measure(gap.value, gap.low, gap.high, gap.n)}
    if len({*a}) > 1 and len({*b}) > 1:
        for name, value in (
            ("spearman", stats.spearmanr(a, b).statistic),
            ("kendall", stats.kendalltau(a, b).statistic),
        ):
            found[name] = Measure(float(value), *_fisher(float(value), len(a)), len(a))
    first = {name: m for name, m in evaluation.measures.items() if not name.startswith("judge:")}
    last = {name: m for name, m in evaluation.measures.items() if name.startswith("judge:")}
    evaluation.measures = first | found | last
    word = "differ" if gap.p < 0.05 else "do not differ beyond chance"
    told = f"The model's ratings and people's {word} in their means ({gap.value:+.2f}, p = {gap.p:.3g})."
    evaluation.notes += [*notes, *left_out.notes("ratings", len(rows)), told]


def welch(a: list[float], b: list[float]) -> Difference:
    """Return mean(a) - mean(b) by Welch's unequal variances t-test, with its 95 % interval."""
    value = float(np.mean(a) - np.mean(b))
    if len(a) < 2 or len(b) < 2:
        return Difference(value, -np.inf, np.inf, 1.0, min(len(a), len(b)))
    if np.var(a) == 0 and np.var(b) == 0:
        return Difference(value, value, value, float(value == 0), min(len(a), len(b)))
    test = stats.ttest_ind(a, b, equal_var=False)
    ends = test.confidence_interval(0.95)
    return Difference(value, float(ends.low), float(ends.high), float(test.pvalue), min(len(a), len(b)))


def _fisher(rho: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a correlation by Fisher's transformation."""
    if n < 4 or abs(rho) >= 1:
        return (-1.0, 1.0) if n < 4 else (rho, rho)
    reach = float(stats.norm.ppf(0.975)) / np.sqrt(n - 3)
    return float(np.tanh(np.arctanh(rho) - reach)), float(np.tanh(np.arctanh(rho) + reach))
