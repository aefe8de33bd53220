"""Expert review: two experts label each item by a guideline, a third decides where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation.agreement import measured, split
from kilter.evaluation.ratings_table import Table, table
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import Row, read, sample
from kilter.evaluation.statistics import interval
from kilter.registry import method


@method("expert", wing="evaluation", survey="S1 §8.5")
def expert(
    *,
    data: str,
    adjudicator: str | None = None,
    item: str = "item",
    rater: str = "rater",
    label: str = "label",
    order: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Settle experts' labels: what most of them say, or what the adjudicator says where they are divided.

    share:LABEL: share of items with that final label. agreed: items on which the experts were of one mind before the
    adjudication, adjudicated: those that the adjudicator settled, open: those that nobody did, which have no label. The
    experts' agreement is measured without the adjudicator: cohen and krippendorff, ordinal where `order` is given.

    Rows: item, rater, label; the adjudicator's rows are those of the rater of that name.

    Options:
        data: file, folder or hub id of labels
        adjudicator: the rater whose word decides where the others are divided
        item: name of the item's column
        rater: name of the rater's column
        label: name of the label's column
        order: the labels from low to high, with commas, where they have an order
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    rows, notes = read(data, (item, rater, label))
    ratings = table(rows, item=item, rater=rater, label=label, order=split(order), where=str(data))
    if adjudicator is not None and adjudicator not in ratings.raters:
        raise KilterError(
            f"The adjudicator '{adjudicator}' has labelled nothing; the raters are {_list(ratings.raters)}."
        )
    experts = [i for i, name in enumerate(ratings.raters) if name != adjudicator]
    if len(experts) < 2:
        raise KilterError("Expert review needs two experts beside the adjudicator; give the labels of both.")
    judge = ratings.raters.index(adjudicator) if adjudicator is not None else None
    settled = [settle(codes[experts], int(codes[judge]) if judge is not None else -1) for codes in ratings.codes]
    known = [(name, *found) for name, found in zip(ratings.items, settled, strict=True)]
    labels = [code for _, code, _ in known if code >= 0]
    measures: dict[str, Measure] = {}
    for at, name in enumerate(ratings.labels if labels else []):
        measures[f"share:{name}"] = interval([float(code == at) for code in labels])
    for how in ("agreed", "adjudicated", "open"):
        measures[how] = interval([float(found == how) for _, _, found in known])
    among = Table(ratings.items, [ratings.raters[i] for i in experts], ratings.labels, ratings.codes[:, experts])
    agreed, more = measured(among, "ordinal" if order else "nominal", resamples=resamples, seed=seed)
    measures |= {name: agreed[name] for name in ("cohen", "krippendorff")}
    unsettled = sum(found == "open" for _, _, found in known)
    if unsettled:
        notes.append(
            f"{unsettled:,} of {len(known):,} items have no final label: the experts are divided and nobody decided."
        )
    notes = [*notes, *ratings.notes, *[note for note in more if "Fleiss" not in note]]
    return Evaluation("", measures, samples(known, ratings.labels), suite="expert", seed=seed, notes=notes)


def settle(codes: np.ndarray, decided: int) -> tuple[int, str]:
    """Return the final label's code (-1 for none) and how it came about, from the experts' codes (-1: no label).

    One expert alone settles nothing: an item that only one has labelled waits for the adjudicator.
    """
    said = codes[codes >= 0]
    counts = Counter(said.tolist()).most_common(2)
    if len(said) > 1 and len(counts) == 1:
        return counts[0][0], "agreed"
    if decided >= 0:
        return decided, "adjudicated"
    if len(counts) > 1 and counts[0][1] > len(said) / 2:
        return counts[0][0], "majority"
    return -1, "open"


def samples(known: Sequence[tuple[str, int, str]], labels: Sequence[str]) -> list[Row]:
    """Return one sample an item, with its final label and how it was found."""
    return [
        sample(name, {"settled": float(code >= 0)}, label=labels[code] if code >= 0 else None, how=how)
        for name, code, how in known
    ]


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
