"""BELLE's evaluation: a judge's scores of 0 to 1, asked for three times, by class of instruction."""

from __future__ import annotations

from collections.abc import Awaitable

from kilter.errors import KilterError
from kilter.evaluation.judging import Way, run
from kilter.evaluation.options import spread
from kilter.evaluation.probes import Rate
from kilter.evaluation.questions import Item, from_file
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, number, read, sample
from kilter.evaluation.statistics import interval
from kilter.evaluation.verdicts import parse
from kilter.feedback.judge import Case, Judge, Judgement
from kilter.models.protocol import Model
from kilter.prompts import Prompts
from kilter.registry import method

PROMPTS = Prompts(__file__)
ITEMS = 1000


@method("belle-eval", wing="evaluation", paper="arXiv:2304.07854", survey="S1 §8.4")
@spread(judge=None, evidences=3)
def belle_eval(
    model: Model | None = None,
    *,
    questions: str | None = None,
    data: str | None = None,
    column: str = "judgements",
    category: str = "class",
    way: Way,
) -> Evaluation | Awaitable[Evaluation]:
    """Score answers to BELLE's Chinese instructions from 0 to 1, by a judge or as they are stored (Ji et al. 2023).

    A judge is asked three times for each answer, with the reference and by what the class asks of an answer.
    score: mean over instructions of the mean of their samples, each held between 0 and 1; class:NAME by class; macro:
    the mean over classes, which count the same, as BELLE reports it. A sample in which no score is found is left out;
    an instruction without any is counted. The biases of a judge that is asked stand beside them.

    Rows of the questions: question, std_answer, class. Rows of stored judgements: judgements (one or several, as
    numbers or as the judge's texts), class.

    Options:
        questions: the file of the instructions, which the model is to answer
        data: file, folder or hub id of stored judgements, in the place of a model and a judge
        column: name of the judgements' column
        category: name of the class' column
    """
    if model is not None or data is None:
        return _asked(model, questions, way)
    rows, notes = read(data, (column,))
    left_out = LeftOut()
    kept: list[tuple[str, str, float]] = []
    lost = 0
    for at, row in enumerate(rows):
        given = row.get(column)
        items = given if isinstance(given, list) else [given]
        values = [value for item in items if (value := score(item)) is not None]
        lost += len(items) - len(values)
        if values:
            kept.append((str(row.get("id", at)), str(row.get(category) or ""), sum(values) / len(values)))
        else:
            left_out.add("no score is found in its judgements", row.get("id", at))
    if not kept:
        raise KilterError(f"{data} holds no score; {' '.join(left_out.notes('instructions', len(rows)))}")
    measures = {"score": interval([value for _, _, value in kept])}
    classes = sorted({name for _, name, _ in kept} - {""})
    for name in classes:
        measures[f"class:{name}"] = interval([value for _, c, value in kept if c == name])
    if classes:
        measures["macro"] = interval([measures[f"class:{name}"].value for name in classes])
    if lost:
        notes.append(f"{lost:,} judgements hold no score and are left out of their instruction's mean.")
    notes += left_out.notes("instructions", len(rows))
    samples = [sample(name, {"score": value}, family=c, language="zh") for name, c, value in kept]
    return Evaluation("", measures, samples, suite="belle-eval", notes=notes)


async def _asked(model: Model | None, questions: str | None, way: Way) -> Evaluation:
    if model is None or questions is None:
        raise KilterError("Give a model and --questions to be judged, or --data with stored judgements.")
    items, notes = from_file(questions, way.n, way.seed)
    if way.n is None and len(items) != ITEMS:
        notes.append(f"The benchmark has {ITEMS:,} instructions; this file has {len(items):,}.")
    found = await run(model, items, way, suite="belle-eval", notes=notes, rate=by_class, about=scale)
    classes = [m.value for name, m in found.measures.items() if name.startswith("category:")]
    if classes:
        told: dict[str, Measure] = {}
        for name, measure in found.measures.items():
            if name.startswith("judge:"):
                told.setdefault("macro", interval(classes))
            told[name] = measure
        found.measures = told
    return found


def by_class(judge: Judge, item: Item) -> Rate:
    """Return how an answer is scored, by what its class asks."""

    async def rate(case: Case, response: str, claim: str) -> list[Judgement]:
        told = {"question": case.question, "response": response, "reference": case.reference, "claim": claim}
        return await judge.judgements("share", PROMPTS("score", **told, kind=item.category), parser="belle")

    return rate


def scale(item: Item) -> dict[str, object]:
    return {"scale": [0, 1]}


def score(item: object) -> float | None:
    """Return a judgement's score in 0..1, from a number or from a text; None where there is none."""
    value = number(item)
    if value is None and isinstance(item, str):
        value = parse("belle", item).value
    return None if value is None else min(1.0, max(0.0, value))
