"""SummaC: a summary is consistent where each of its sentences is entailed by some sentence of the document."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, number, read, sample
from kilter.evaluation.statistics import interval
from kilter.registry import method

Floats = NDArray[np.float64]


@method("summac", wing="evaluation", paper="arXiv:2111.09525", survey="S2 §4.2")
def summac(
    *,
    data: str,
    use: Literal["entailment", "difference"] = "entailment",
    kernel: list[float] | None = None,
    bias: float = 0.0,
) -> Evaluation:
    """Score consistency from stored entailments of sentence pairs (Laban et al. 2022).

    Zero-shot: of each summary sentence the largest value over the document's sentences, the mean of these over the
    summary. With a `kernel` (SummaC-Conv) a sentence's values are put into a histogram of as many bins over 0..1 and
    their score is kernel . histogram + bias, a learned one. score: the mean over items; where rows have a label, auc is
    the probability that a consistent item scores above an inconsistent one.

    Rows: entailment, a matrix [document sentences][summary sentences] of probabilities, and contradiction, another, for
    `difference`; perhaps label (1 consistent).

    Options:
        data: file, folder or hub id of matrices
        use: the probability of entailment, or that less the one of contradiction
        kernel: weights of the histogram's bins, from low to high
        bias: what is added to the weighted histogram
    """
    rows, notes = read(data, ("entailment",))
    left_out = LeftOut()
    samples = []
    scores: list[float] = []
    labels: list[float | None] = []
    for at, row in enumerate(rows):
        matrix = matrix_of(row, use)
        if matrix is None:
            left_out.add("its matrix is empty, uneven or not of numbers", row.get("id", at))
            continue
        value = convolved(matrix, kernel, bias) if kernel else zero_shot(matrix)
        scores.append(value)
        labels.append(number(float(row["label"]) if isinstance(row.get("label"), bool) else row.get("label")))
        samples.append(sample(str(row.get("id", at)), {"score": value}))
    if not scores:
        raise KilterError(f"{data} holds no matrix that can be used; {' '.join(left_out.notes('items', len(rows)))}")
    measures = {"score": interval(scores)} | auc_of(scores, labels)
    return Evaluation("", measures, samples, suite="summac", notes=[*notes, *left_out.notes("items", len(rows))])


def zero_shot(matrix: Floats) -> float:
    """Return the mean over summary sentences (columns) of the largest value of the document's sentences (rows)."""
    return float(matrix.max(0).mean())


def convolved(matrix: Floats, kernel: list[float], bias: float = 0.0) -> float:
    """Return the mean over summary sentences of kernel . histogram + bias, the histogram over 0..1 of its column."""
    edges = np.linspace(0, 1, len(kernel) + 1)
    counts = np.stack([np.histogram(column, edges)[0] for column in matrix.T])
    return float((counts @ np.asarray(kernel) + bias).mean())


def matrix_of(row: Row, use: str) -> Floats | None:
    """Return a row's matrix [document sentences, summary sentences], None where it is not one of numbers."""
    parts = []
    for name in ("entailment",) if use == "entailment" else ("entailment", "contradiction"):
        try:
            found = np.asarray(row.get(name), dtype=np.float64)
        except (TypeError, ValueError):
            return None
        if found.ndim != 2 or not found.size or not np.isfinite(found).all():
            return None
        parts.append(found)
    if len(parts) == 2 and parts[0].shape != parts[1].shape:
        return None
    return parts[0] if len(parts) == 1 else parts[0] - parts[1]


def auc_of(scores: list[float], labels: list[float | None]) -> dict[str, Measure]:
    """Return the measure auc of the items that have a label, nothing where there are not both kinds."""
    from kilter.evaluation.factual_cons import area

    known = [(score, label) for score, label in zip(scores, labels, strict=True) if label in (0, 1)]
    if len({label for _, label in known}) < 2:
        return {}
    return {"auc": area([score for score, _ in known], [bool(label) for _, label in known])}
