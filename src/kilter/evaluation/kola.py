"""KoLA's standard scores: data sets of different difficulty on one scale, so that models can be ranked over all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, number, read, sample
from kilter.evaluation.statistics import interval
from kilter.registry import method

LEVELS = ("memorisation", "understanding", "applying", "creating")


@method("kola", wing="evaluation", paper="arXiv:2306.09296", survey="S1 §8.1")
def kola(*, data: str) -> Evaluation:
    """Standardise models' scores over data sets (Yu et al. 2024).

    z = (score - mean) / sd over the models of a data set; a model's level is the mean of its z there, overall:MODEL the
    mean of its levels; scaled:MODEL the mean of its z brought to 0..100 by the least and the largest z of all. A model
    that lacks a data set is averaged over the others and noted; a data set that does not tell models apart is left out.
    Intervals of overall and scaled are those of the mean over data sets.

    Rows: model, dataset, level (memorisation, understanding, applying or creating), score.

    Options:
        data: file, folder or hub id of scores
    """
    rows, notes = read(data, ("model", "dataset", "level", "score"))
    left_out = LeftOut()
    table: dict[str, dict[str, float]] = {}
    levels: dict[str, str] = {}
    for row in rows:
        value = number(row.get("score"))
        if value is None:
            left_out.add("its score is no number", f"{row.get('model')} on {row.get('dataset')}")
            continue
        table.setdefault(str(row["dataset"]), {})[str(row["model"])] = value
        levels[str(row["dataset"])] = str(row["level"])
    standard = {name: z for name, scores in table.items() if (z := z_scores(scores))}
    for name in sorted(set(table) - set(standard)):
        notes.append(f"{name} does not tell models apart and is left out.")
    if not standard:
        raise KilterError(f"No data set in {data} has two models with different scores; give more models.")
    models = sorted({model for z in standard.values() for model in z})
    lowest = min(value for z in standard.values() for value in z.values())
    highest = max(value for z in standard.values() for value in z.values())
    measures: dict[str, Measure] = {}
    for model in sorted(models, key=lambda m: -overall(standard, levels, m)):
        mine = {name: z[model] for name, z in standard.items() if model in z}
        spread = interval(list(mine.values()))
        value = overall(standard, levels, model)
        shift = value - spread.value
        measures[f"overall:{model}"] = Measure(value, spread.low + shift, spread.high + shift, len(mine))
        scaled = [100 * (z - lowest) / (highest - lowest) for z in mine.values()]
        measures[f"scaled:{model}"] = interval(scaled)
        for level in dict.fromkeys([*LEVELS, *levels.values()]):
            part = [z for name, z in mine.items() if levels[name] == level]
            if part:
                measures[f"{level}:{model}"] = interval(part)
        if len(mine) < len(standard):
            notes.append(f"{model} has scores on {len(mine)} of {len(standard)} data sets.")
    samples = [
        sample(f"{model}/{name}", {"z": value}, family=levels[name])
        for name, z in standard.items()
        for model, value in z.items()
    ]
    return Evaluation("", measures, samples, suite="kola", notes=[*notes, *left_out.notes("scores", len(rows))])


def z_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """Return (score - mean) / sd over models, of population kind; nothing where all models are alike."""
    values = np.array(list(scores.values()))
    spread = float(values.std())
    if spread == 0:
        return {}
    return {model: float((value - values.mean()) / spread) for model, value in scores.items()}


def overall(standard: Mapping[str, Mapping[str, float]], levels: Mapping[str, str], model: str) -> float:
    """Return the mean over levels of the mean of a model's z there."""
    by: dict[str, list[float]] = {}
    for name, z in standard.items():
        if model in z:
            by.setdefault(levels[name], []).append(z[model])
    return sum(sum(v) / len(v) for v in by.values()) / len(by) if by else math.nan


def self_contrast(contrast_1: Sequence[float], contrast_2: Sequence[float]) -> float:
    """Return the creating score as KoLA's code has it: 2 * mean ROUGE-L of contrast 1 - mean ROUGE-L of contrast 2.

    The paper speaks of an average of three similarities; code and paper differ.
    """
    return 2 * sum(contrast_1) / len(contrast_1) - sum(contrast_2) / len(contrast_2)
