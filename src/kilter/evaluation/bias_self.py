"""Self-preference: does a judge rate its own answers higher than others do?"""

from __future__ import annotations

from kilter.errors import KilterError
from kilter.evaluation.battles import sides, verdict
from kilter.evaluation.result import DIMENSIONS, Dimension, Evaluation, Measure
from kilter.evaluation.rows import LeftOut, read, sample
from kilter.evaluation.statistics import interval, unpaired
from kilter.registry import method

DIMENSIONS["self_preference"] = Dimension(
    "self_preference", "Self-preference", "zero", "gap", "A judge's win rate for its own answers less that by others."
)
PEOPLE = ("human", "people")


@method("bias-self", wing="evaluation", paper="arXiv:2306.05685", survey="S1 §8.4")
def bias_self(*, data: str, reference: str = "human") -> Evaluation:
    """Measure self-enhancement from stored verdicts of several judges (Zheng et al. 2023).

    self_preference:JUDGE is the win rate that a judge gives its own answers less the one that the reference gives them
    (people, or `others`: all other judges), with Newcombe's interval; own:JUDGE and reference:JUDGE are the two rates.
    The difference holds the judge's bias and its quality as a judge: it is no proof by itself.

    Rows: judge, model_a, model_b, winner; a judge's own answers are those of the model of its name.

    Options:
        data: file, folder or hub id of verdicts
        reference: the judge that the others are held against, or others
    """
    rows, notes = read(data, ("judge",))
    left_out = LeftOut()
    given: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        pair, share = sides(row), verdict(row)
        if pair is None or share is None or not row.get("judge"):
            left_out.add("a model, the judge or the verdict is missing", row.get("winner"))
            continue
        by = given.setdefault(str(row["judge"]), {})
        by.setdefault(str(pair[0]), []).append(share)
        by.setdefault(str(pair[1]), []).append(1 - share)
    judges = [name for name in given if name in given[name] and name != reference]
    measures: dict[str, Measure] = {}
    samples = []
    for name in sorted(judges):
        others = [who for who in given if (who == reference if reference != "others" else who != name)]
        theirs = [share for who in others for share in given[who].get(name, [])]
        if not theirs:
            notes.append(f"Nobody but {name} has judged its answers, so its self-preference is not known.")
            continue
        own, held = interval(given[name][name]), interval(theirs)
        gap = unpaired(held, own)
        measures[f"self_preference:{name}"] = Measure(gap.value, gap.low, gap.high, gap.n)
        measures[f"own:{name}"], measures[f"reference:{name}"] = own, held
        samples.append(sample(name, {"self_preference": gap.value}))
    if not measures:
        raise KilterError(
            f"{data} has no judge that judged its own answers beside {reference}; judges: {', '.join(sorted(given))}."
        )
    notes += left_out.notes("verdicts", len(rows))
    return Evaluation("", measures, samples, suite="bias-self", notes=notes)
