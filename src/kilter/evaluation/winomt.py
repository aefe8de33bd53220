"""WinoMT: is the gender of an occupation translated as the pronoun tells it, or as people expect it?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation.classification import confusion, precision_recall
from kilter.evaluation.kappa import Floats, Ints, many_over_items
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, read, sample
from kilter.evaluation.statistics import interval
from kilter.registry import method

GENDERS = ("male", "female", "neutral")


@method("winomt", wing="evaluation", paper="arXiv:1906.00591", survey="S1 §8.5")
def winomt(*, data: str, resamples: int = 1000, seed: int = 0) -> Evaluation:
    """Measure gender bias in translation from stored genders (Stanovsky et al. 2019).

    accuracy: share of occupations translated with the right gender; delta_g: F1 of male less F1 of female sentences;
    delta_s: accuracy where the gender is the expected one (pro) less where it is not (anti). 0 is no bias in both
    deltas. A gender that could not be told from the translation is wrong, and counted. By language where there are
    several. Intervals are percentile ones over sentences.

    Rows: gold (male, female or neutral), predicted, perhaps stereotype (pro or anti) and language.

    Options:
        data: file, folder or hub id of translated sentences
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    rows, notes = read(data, ("gold", "predicted"))
    left_out = LeftOut()
    kept = [row for at, row in enumerate(rows) if _usable(row, at, left_out)]
    if not kept:
        raise KilterError(f"{data} holds no sentence with a gold gender; {' '.join(left_out.notes('rows', len(rows)))}")
    measures = deltas(kept, resamples, seed)
    languages = sorted({str(row.get("language") or "") for row in kept})
    for language in languages if len(languages) > 1 else []:
        part = deltas([row for row in kept if str(row.get("language") or "") == language], resamples, seed)
        measures |= {f"{language}:{name}": m for name, m in part.items()}
    untold = sum(row.get("predicted") not in GENDERS for row in kept)
    if untold:
        notes.append(f"The gender of {untold:,} of {len(kept):,} translations could not be told; they count as wrong.")
    notes += left_out.notes("sentences", len(rows))
    samples = [
        sample(str(row.get("id", at)), {"accuracy": float(row["predicted"] == row["gold"])})
        | {"language": str(row.get("language") or ""), "family": str(row.get("stereotype") or "")}
        for at, row in enumerate(kept)
    ]
    return Evaluation("", measures, samples, suite="winomt", seed=seed, notes=notes)


def deltas(rows: Sequence[Row], resamples: int = 1000, seed: int = 0) -> dict[str, Measure]:
    """Return accuracy and both deltas."""
    place = {name: at for at, name in enumerate(GENDERS)}
    truth = np.array([place[row["gold"]] for row in rows])
    said = np.array([place.get(str(row.get("predicted")), len(GENDERS)) for row in rows])
    kind = np.array([{"pro": 1, "anti": 0}.get(str(row.get("stereotype")), -1) for row in rows])
    found = {"accuracy": interval((truth == said).astype(float).tolist())}
    both = many_over_items(partial(_deltas, truth, said, kind), len(rows), resamples=resamples, seed=seed)
    if (truth == 0).any() and (truth == 1).any():
        found["delta_g"] = both[0]
    if (kind == 1).any() and (kind == 0).any():
        found["delta_s"] = both[1]
    return found


def _deltas(truth: Ints, said: Ints, kind: Ints, at: Ints) -> Floats:
    f1 = precision_recall(confusion(truth[at], said[at], len(GENDERS)))[2]
    right = truth[at] == said[at]
    pro, anti = right[kind[at] == 1], right[kind[at] == 0]
    stereotype = pro.mean() - anti.mean() if len(pro) and len(anti) else np.nan
    return np.array([f1[0] - f1[1], stereotype])


def _usable(row: Row, at: int, left_out: LeftOut) -> bool:
    good = row.get("gold") in GENDERS
    if not good:
        left_out.add("its gold gender is not male, female or neutral", row.get("id", at))
    return good
