"""BELLE's evaluation: a judge's scores of 0 to 1, asked for three times, by class of instruction."""

from __future__ import annotations

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import LeftOut, number, read, sample
from kilter.evaluation.statistics import interval
from kilter.evaluation.verdicts import parse
from kilter.registry import method


@method("belle-eval", wing="evaluation", paper="arXiv:2304.07854", survey="S1 §8.4")
def belle_eval(*, data: str, column: str = "judgements", category: str = "class") -> Evaluation:
    """Score stored judgements of BELLE's Chinese instructions (Ji et al. 2023).

    score: mean over instructions of the mean of their samples, each held between 0 and 1; class:NAME by class; macro:
    the mean over classes, which count the same, as BELLE reports it. A sample in which no score is found is left out;
    an instruction without any is counted.

    Rows: judgements (one or several, as numbers or as the judge's texts), class.

    Options:
        data: file, folder or hub id of judgements
        column: name of the judgements' column
        category: name of the class' column
    """
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


def score(item: object) -> float | None:
    """Return a judgement's score in 0..1, from a number or from a text; None where there is none."""
    value = number(item)
    if value is None and isinstance(item, str):
        value = parse("belle", item).value
    return None if value is None else min(1.0, max(0.0, value))
