"""Grading of reasoning: how often a judge is wrong about sums that it could do, and what helps it."""

from __future__ import annotations

from collections.abc import Sequence

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, number, read, sample
from kilter.evaluation.statistics import holm, interval, paired
from kilter.registry import method

WRONG, RIGHT = ("false", "0", "no", "wrong", "incorrect"), ("true", "1", "yes", "right", "correct")


@method("bias-math", wing="evaluation", paper="arXiv:2306.05685", survey="S1 §8.4")
def bias_math(*, data: str, baseline: str = "default") -> Evaluation:
    """Measure a judge's errors on answers whose correctness is known (Zheng et al. 2023).

    failure:PROMPT: share of answers graded wrongly under a way of asking (default, cot, reference ...), an unread grade
    being a failure and counted; misled:PROMPT: share of wrong answers that were taken for right. gain:PROMPT: the
    failures of `baseline` less those of the other, on the same answers, by McNemar's exact test, p-values after Holm in
    the notes.

    Rows: id, prompt (the way of asking), gold and graded (right or wrong).

    Options:
        data: file, folder or hub id of grades
        baseline: the way of asking that the others are compared with
    """
    rows, notes = read(data, ("gold", "graded"))
    left_out = LeftOut()
    by: dict[str, dict[str, tuple[bool, bool | None]]] = {}
    for at, row in enumerate(rows):
        gold = truth(row.get("gold"))
        if gold is None:
            left_out.add("it is not known whether the answer is right", row.get("id", at))
        else:
            name, key = str(row.get("prompt", baseline)), str(row.get("id", at))
            by.setdefault(name, {})[key] = (gold, truth(row.get("graded")))
    if not by:
        raise KilterError(f"{data} holds no graded answer; {' '.join(left_out.notes('grades', len(rows)))}")
    measures: dict[str, Measure] = {}
    for name, grades in by.items():
        measures[f"failure:{name}"] = interval([float(said != gold) for gold, said in grades.values()])
        wrong = [float(said is True) for gold, said in grades.values() if not gold]
        if wrong:
            measures[f"misled:{name}"] = interval(wrong)
        unread = sum(said is None for _, said in grades.values())
        if unread:
            notes.append(f"{name}: {unread:,} of {len(grades):,} grades could not be read and count as failures.")
    notes += gains(by, baseline, measures)
    samples = [
        sample(f"{name}/{key}", {"failure": float(said != gold)}, family=name)
        for name, grades in by.items()
        for key, (gold, said) in grades.items()
    ]
    notes += left_out.notes("grades", len(rows))
    return Evaluation("", measures, samples, suite="bias-math", notes=notes)


def gains(
    by: dict[str, dict[str, tuple[bool, bool | None]]], baseline: str, measures: dict[str, Measure]
) -> Sequence[str]:
    """Enter what each way of asking gains over the baseline, and return a sentence each."""
    found = []
    for name, grades in by.items():
        shared = [key for key in by.get(baseline, {}) if key in grades]
        if name == baseline or not shared:
            continue
        before = [float(by[baseline][key][1] != by[baseline][key][0]) for key in shared]
        after = [float(grades[key][1] != grades[key][0]) for key in shared]
        change = paired(after, before)
        measures[f"gain:{name}"] = Measure(change.value, change.low, change.high, change.n)
        found.append((name, change))
    adjusted = holm([change.p for _, change in found])
    return [
        f"{name} has {c.value:+.1%} fewer failures than {baseline} on {c.n:,} answers (p = {p:.3g})."
        for (name, c), p in zip(found, adjusted, strict=True)
    ]


def truth(value: object) -> bool | None:
    """Return whether something is right, from a truth value, a number or a word; None for anything else."""
    if isinstance(value, bool):
        return value
    said = number(value)
    if said is not None:
        return bool(said) if said in (0, 1) else None
    word = str(value).strip().lower()
    return True if word in RIGHT else False if word in WRONG else None
