"""Four-level ratings, A to D, by people: their distribution, and whether two people would give the same."""

from __future__ import annotations

from functools import partial
from itertools import combinations

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation import kappa
from kilter.evaluation.agreement import split
from kilter.evaluation.kappa import Ints, over_items
from kilter.evaluation.ratings_table import Table, table
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import Row, read, sample
from kilter.evaluation.statistics import interval
from kilter.registry import method

LEVELS = "A,B,C,D"


@method("ordinal", wing="evaluation", paper="arXiv:2212.10560", survey="S1 §8.3, S2 §4.2")
def ordinal(
    *,
    data: str,
    levels: str = LEVELS,
    model: str = "model",
    item: str = "item",
    rater: str = "rater",
    label: str = "rating",
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Summarise ratings by level, as Self-Instruct and LaMini rate responses (Wang et al. 2023; Wu et al. 2023).

    A: valid and satisfying, B: acceptable with minor flaws, C: on the topic with major errors, D: irrelevant or
    invalid. For each model LEVEL:MODEL is the share of its ratings, grade:MODEL their mean with A as 1. Ratings of one
    item are one cluster. How far they can be trusted: kappa (quadratic weights), kappa_nominal, spearman, the means
    over pairs of raters, and krippendorff (ordinal).

    Rows: item, rater, rating, and model where there are several.

    Options:
        data: file, folder or hub id of ratings
        levels: the levels from best to worst, with commas
        model: name of the model's column
        item: name of the item's column
        rater: name of the rater's column
        label: name of the rating's column
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    rows, notes = read(data, (item, rater, label))
    order = split(levels)
    if len(order) < 2:
        raise KilterError(f"Ratings need at least two levels, not '{levels}'; write --levels A,B,C,D.")
    # One item may be answered by several models: each answer is a thing that is rated.
    keyed = [row | {item: f"{row.get(model, '')}\n{row[item]}"} for row in rows]
    ratings = table(keyed, item=item, rater=rater, label=label, order=order, where=str(data))
    measures = distributions(ratings)
    measures |= reliability(ratings, resamples=resamples, seed=seed)
    notes = [*notes, *ratings.notes]
    if "kappa" not in measures:
        notes.append("No item was rated by two people, so nothing is known of how far the ratings can be trusted.")
    return Evaluation("", measures, samples_of(ratings), suite="ordinal", seed=seed, notes=notes)


def distributions(ratings: Table) -> dict[str, Measure]:
    """Return the share of each level and the mean grade of each model, ratings of one item being one cluster."""
    owner = [name.partition("\n")[0] for name in ratings.items]
    found: dict[str, Measure] = {}
    for who in sorted(set(owner)):
        mine = ratings.codes[[i for i, name in enumerate(owner) if name == who]]
        place, _ = np.nonzero(mine >= 0)
        codes = mine[mine >= 0]
        clusters = place.tolist() if len(set(place.tolist())) < len(place) else None
        end = f":{who}" if who else ""
        for level, name in enumerate(ratings.labels):
            found[f"{name}{end}"] = interval((codes == level).astype(float).tolist(), clusters=clusters)
        found[f"grade{end}"] = interval((codes + 1.0).tolist(), clusters=clusters)
    return found


def reliability(ratings: Table, *, resamples: int = 1000, seed: int = 0) -> dict[str, Measure]:
    """Return the agreement of the raters on an ordered scale; nothing where no item has two ratings."""
    several = np.flatnonzero((ratings.codes >= 0).sum(1) > 1)
    if not len(several):
        return {}
    codes, k = ratings.codes[several], len(ratings.labels)
    counts = ratings.counts()[several]
    over = partial(over_items, resamples=resamples, seed=seed)
    values = np.arange(k, dtype=np.float64)
    return {
        "kappa": over(partial(_mean, "quadratic", codes, k), len(codes)),
        "kappa_nominal": over(partial(_mean, "none", codes, k), len(codes)),
        "spearman": over(partial(_mean, "spearman", codes, k), len(codes)),
        "krippendorff": over(lambda at: kappa.krippendorff(counts[at], values, "ordinal"), len(codes)),
    }


def _mean(what: str, codes: Ints, k: int, at: Ints) -> float:
    """The mean over pairs of raters, each on the items that both rated."""
    found = []
    for first, second in combinations(range(codes.shape[1]), 2):
        a, b = codes[at, first], codes[at, second]
        both = (a >= 0) & (b >= 0)
        if both.sum() > 1:
            a, b = a[both], b[both]
            value = kappa.spearman(a.tolist(), b.tolist()) if what == "spearman" else kappa.cohen(a, b, k, what)  # type: ignore[arg-type]
            found += [value] if np.isfinite(value) else []
    return float(np.mean(found)) if found else float("nan")


def samples_of(ratings: Table) -> list[Row]:
    """Return one sample an item: the mean grade of its raters, so that two models can be compared on the same items."""
    samples = []
    for name, codes in zip(ratings.items, ratings.codes, strict=True):
        who, _, item = name.partition("\n")
        grade = float(codes[codes >= 0].mean()) + 1
        samples.append(sample(f"{who}/{item}" if who else item, {"grade": grade}, family=who))
    return samples
