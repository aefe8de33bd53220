"""Dynamically generated hate: four rounds in which people wrote what the last detector got wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from kilter.evaluation.labelled import Task, classify, text_of, word
from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import Row, read
from kilter.evaluation.statistics import interval
from kilter.models.protocol import Model
from kilter.registry import method

SAID = {"yes": "hate", "no": "nothate", "1": "hate", "0": "nothate"}
TASK = Task(
    "dynahate", ("hate", "nothate"), ("text",), word("label", {"hate": "hate", "nothate": "nothate"}),
    'Does this text hold hate? Answer with "yes" or "no".\n\n{text}', ("yes", "no"), SAID,
    ("round.base", "round", "type"),
)  # fmt: skip


@method("dynahate", wing="evaluation", paper="arXiv:2012.15761", survey="S1 §8.5")
async def dynahate(
    model: Model | None = None,
    *,
    data: str,
    prediction: str = "prediction",
    n: int | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> Evaluation:
    """Detect hate written to deceive detectors (Vidgen et al. 2021).

    accuracy, macro_f1, and both by round: what later rounds lose shows how much of a detector's skill was in words.
    contrast: share of texts and their perturbations, whose gold labels differ, that are both labelled rightly. Pairs
    whose labels do not differ, and texts that stand in two splits, are counted in the notes: a leak makes any score
    doubtful.

    Rows: text, label (hate, nothate), round, acl.id and acl.id.matched (the text that this one perturbs), split;
    without a model also `prediction`.

    Options:
        data: file, folder or hub id of texts
        prediction: name of the column of stored labels
        n: only the first so many texts
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    found = await classify(TASK, model, data, prediction=prediction, n=n, resamples=resamples, seed=seed)
    rows = [row for row in read(data)[0][:n] if text_of(row, TASK.text) and TASK.gold(row)]
    hits = [s["outcomes"]["accuracy"] for s in found.samples]
    both, same = contrasts(rows, hits)
    if both:
        found.measures["contrast"] = interval(both)
    if same:
        found.notes.append(f"{same:,} perturbations have the label of the text that they perturb.")
    leaks = leaked(rows)
    if leaks:
        found.notes.append(f"{leaks:,} texts stand in more than one split.")
    return found


def contrasts(rows: Sequence[Row], hits: Sequence[float]) -> tuple[list[float], int]:
    """Return for each pair of a text and its perturbation of another label whether both are right; and pairs of one."""
    place = {str(row["acl.id"]): at for at, row in enumerate(rows) if row.get("acl.id")}
    both: list[float] = []
    same = 0
    for at, row in enumerate(rows):
        other = place.get(str(row.get("acl.id.matched")))
        if other is None or other == at or str(row.get("level", "perturbation")) == "original":
            continue
        if row["label"] == rows[other]["label"]:
            same += 1
        else:
            both.append(hits[at] * hits[other])
    return both, same


def leaked(rows: Sequence[Row]) -> int:
    """Return how many texts stand in more than one split."""
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.get("split"):
            splits[" ".join(str(row["text"]).lower().split())].add(str(row["split"]))
    return sum(len(names) > 1 for names in splits.values())
