"""WikiGenderBias: does a system that extracts relations do as well on articles about women as about men?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation.kappa import Floats, Ints, many_over_items
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, read, sample
from kilter.registry import method

RELATIONS = ("spouse", "hypernym", "birthDate", "birthPlace")
GENDERS = ("male", "female")


@method("wikigender", wing="evaluation", paper="arXiv:1911.03642", survey="S1 §8.5")
def wikigender(*, data: str, resamples: int = 1000, seed: int = 0) -> Evaluation:
    """Measure gender disparity in relation extraction from stored predictions (Gaut et al. 2020).

    male, female: F1 of the relations found in sentences about either (micro over relations, "NA" being no relation);
    disparity: the first less the second, 0 for none; the same of each relation (spouse:disparity ...). Intervals are
    percentile ones over sentences.

    Rows: gender (of the article's subject), gold, predicted (a relation, or NA or nothing for none).

    Options:
        data: file, folder or hub id of sentences
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    rows, notes = read(data, ("gender", "gold", "predicted"))
    left_out = LeftOut()
    kept = []
    for at, row in enumerate(rows):
        if row.get("gender") in GENDERS:
            kept.append((row["gender"], relation(row.get("gold")), relation(row.get("predicted"))))
        else:
            left_out.add("its gender is not male or female", row.get("id", at))
    names = sorted({gold for _, gold, _ in kept if gold})
    if not names or {gender for gender, _, _ in kept} != set(GENDERS):
        raise KilterError(f"{data} needs relations in sentences about men and about women; check gender and gold.")
    measures = disparities(kept, "", resamples, seed)
    for name in names:
        measures |= disparities(kept, name, resamples, seed)
    samples = [
        sample(str(at), {"accuracy": float(gold == said)}, family=gender)
        for at, (gender, gold, said) in enumerate(kept)
    ]
    notes += left_out.notes("sentences", len(rows))
    return Evaluation("", measures, samples, suite="wikigender", seed=seed, notes=notes)


def relation(value: object) -> str:
    """Return a relation's name, empty for none."""
    text = "" if value is None else str(value).strip()
    return "" if text.lower() in ("", "na", "none", "null", "no_relation") else text


Judged = tuple[str, str, str]  # gender, gold, predicted


def disparities(items: Sequence[Judged], name: str, resamples: int = 1000, seed: int = 0) -> dict[str, Measure]:
    """Return F1 of both genders and the disparity, of one relation or of all."""
    columns = np.array(
        [
            (
                gender == "male",
                bool(gold) if not name else gold == name,
                bool(said) if not name else said == name,
                bool(gold) and gold == said and (not name or gold == name),
            )
            for gender, gold, said in items
        ],
        dtype=float,
    )
    found = many_over_items(partial(_f1s, columns), len(columns), resamples=resamples, seed=seed)
    start = f"{name}:" if name else ""
    return {f"{start}{key}": m for key, m in zip(("male", "female", "disparity"), found, strict=True)}


def _f1s(columns: Floats, at: Ints) -> Floats:
    part = columns[at]
    values = []
    for male in (1, 0):
        some = part[part[:, 0] == male]
        total = some[:, 1].sum() + some[:, 2].sum()
        values.append(2 * some[:, 3].sum() / total if total else np.nan)
    return np.array([*values, values[0] - values[1]])


def swapped(row: Row, words: dict[str, str]) -> Row:
    """Return a sentence with its gendered words exchanged, for training on both (counterfactual augmentation)."""
    both = words | {b: a for a, b in words.items()}
    text = " ".join(both.get(word, both.get(word.lower(), word)) for word in str(row["text"]).split(" "))
    return row | {"text": text, "gender": {"male": "female", "female": "male"}[str(row["gender"])]}
