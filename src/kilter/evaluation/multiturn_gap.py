"""What a label of a single sentence misses: how often it is another one once the dialogue before it is seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation.kappa import cohen, over_items
from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import LeftOut, read, sample
from kilter.evaluation.statistics import interval, paired
from kilter.registry import method

NONE = ("", None)


@method("multiturn-gap", wing="evaluation", survey="S1 §8.5")
def multiturn_gap(*, data: str, positive: str | None = None, resamples: int = 1000, seed: int = 0) -> Evaluation:
    """Measure how labels change with the context (survey S1: hate and bias are labelled a sentence at a time).

    flip_rate: share of items labelled otherwise with their dialogue than without; kappa: agreement of the two beyond
    chance; where there are two labels (or `positive` names one), gained and lost: shares that became positive and that
    ceased to be, whose difference is tested by McNemar's exact test, told in the notes. flips by the number of turns
    (turns_2:flip_rate ...) where rows have turns.

    Rows: alone (label of the sentence), in_context (label with the dialogue), perhaps turns.

    Options:
        data: file, folder or hub id of items
        positive: the label that counts as positive
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    rows, notes = read(data, ("alone", "in_context"))
    left_out = LeftOut()
    kept = []
    for at, row in enumerate(rows):
        if row.get("alone") in NONE or row.get("in_context") in NONE:
            left_out.add("one of its labels is missing", row.get("id", at))
        else:
            kept.append((str(row.get("id", at)), str(row["alone"]), str(row["in_context"]), row.get("turns")))
    if not kept:
        raise KilterError(f"{data} holds no item with both labels; {' '.join(left_out.notes('items', len(rows)))}")
    alone, seen = [x for _, x, _, _ in kept], [x for _, _, x, _ in kept]
    flips = flipped(alone, seen)
    names = sorted({*alone, *seen})
    place = {name: at for at, name in enumerate(names)}
    a, b = np.array([place[x] for x in alone]), np.array([place[x] for x in seen])
    k = len(names)
    measures = {
        "flip_rate": interval(flips),
        "kappa": over_items(lambda at: cohen(a[at], b[at], k), len(kept), resamples=resamples, seed=seed),
    }
    chosen = positive or (names[-1] if k == 2 else None)
    if chosen is not None:
        if chosen not in names:
            raise KilterError(f"No item has the label '{chosen}'; the labels are {', '.join(names)}.")
        before, after = [float(x == chosen) for x in alone], [float(x == chosen) for x in seen]
        measures["gained"] = interval([float(y > x) for x, y in zip(before, after, strict=True)])
        measures["lost"] = interval([float(y < x) for x, y in zip(before, after, strict=True)])
        change = paired(before, after)
        notes.append(f"With the dialogue '{chosen}' is {change.value:+.1%} as frequent (p = {change.p:.3g}, McNemar).")
    turns = Counter(str(t) for *_, t in kept if t is not None)
    for count in sorted(turns) if len(turns) > 1 else []:
        part = [flip for flip, (*_, t) in zip(flips, kept, strict=True) if str(t) == count]
        measures[f"turns_{count}:flip_rate"] = interval(part)
    samples = [sample(name, {"flip_rate": flip}) for (name, *_), flip in zip(kept, flips, strict=True)]
    notes += left_out.notes("items", len(rows))
    return Evaluation("", measures, samples, suite="multiturn-gap", seed=seed, notes=notes)


def flipped(alone: Sequence[Hashable], seen: Sequence[Hashable]) -> list[float]:
    """Return 1 for each item whose two labels differ, else 0."""
    return [float(x != y) for x, y in zip(alone, seen, strict=True)]
