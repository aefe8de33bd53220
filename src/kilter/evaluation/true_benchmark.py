"""TRUE: one consistency score on eleven data sets, each by the area under its ROC curve."""

from __future__ import annotations

from kilter.errors import KilterError
from kilter.evaluation.factual_cons import area, item_of, means
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, read, sample
from kilter.registry import method

SETS = ("frank", "summeval", "mnbm", "qags_cnndm", "qags_xsum", "begin", "q2", "dialfact", "fever", "vitc", "paws")


@method("true", wing="evaluation", paper="arXiv:2204.04991", survey="S2 §4.2")
def true(*, data: str, resamples: int = 1000, seed: int = 0) -> Evaluation:
    """Measure a consistency score over TRUE's data sets (Honovich et al. 2022).

    DATASET:auc: the probability that a grounded item scores above one that is not, ties counting half; auc: the mean
    over data sets. The benchmark leaves VitaminC and FEVER out of its mean for models trained on them; here the mean is
    over what is in the file, and the sets of the benchmark that are not there are told.

    Rows: dataset, score, label (1 grounded).

    Options:
        data: file, folder or hub id of scored items
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    rows, notes = read(data, ("dataset", "score", "label"))
    left_out = LeftOut()
    items = [found for row in rows if (found := item_of(row, left_out)) is not None]
    measures: dict[str, Measure] = {}
    for name in sorted({item[0] for item in items}):
        part = [item for item in items if item[0] == name]
        if len({item[3] for item in part}) == 2:
            scores, truth = [item[2] for item in part], [item[3] for item in part]
            measures[f"{name}:auc"] = area(scores, truth, resamples=resamples, seed=seed)
        else:
            notes.append(f"{name} has only one kind of items and no auc.")
    if not measures:
        raise KilterError(f"{data} holds no data set with items of both kinds; check label, 0 and 1.")
    there = {name.partition(":")[0].lower() for name in measures}
    missing = [name for name in SETS if name not in there]
    if missing and len(missing) < len(SETS):
        notes.append(f"Not in the file: {', '.join(missing)}.")
    notes += left_out.notes("items", len(rows))
    samples = [sample(str(at), {"score": score}, family=name) for at, (name, _, score, _) in enumerate(items)]
    return Evaluation("", means(measures), samples, suite="true", seed=seed, notes=notes)
