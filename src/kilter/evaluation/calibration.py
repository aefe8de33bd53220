"""Calibration: whether a model that says 80 % is right in eight cases of ten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kilter.errors import KilterError
from kilter.evaluation.kappa import Ints, many_over_items
from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import LeftOut, number, read, sample
from kilter.evaluation.statistics import interval
from kilter.registry import method

Floats = NDArray[np.float64]
Bins = Literal["width", "mass"]


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of similar confidence: how many, their mean confidence, the share of them that is right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@method("calibration", wing="evaluation", paper="arXiv:1706.04599", survey="S1 §8.1")
def calibration(
    *,
    data: str,
    confidence: str = "confidence",
    correct: str = "correct",
    bins: int = 15,
    binning: Bins = "width",
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Measure the calibration of stated confidences (Guo et al. 2017; Naeini et al. 2015).

    ece: sum over bins of n_b / n |accuracy_b - confidence_b|; mce: the largest of those differences; brier: the mean
    squared difference of confidence and outcome; log_loss: mean negative log-likelihood (nats), confidences held off 0
    and 1 by 1e-6; accuracy, confidence: their means; overconfidence: the second less the first. Intervals are
    percentile ones; noise within a bin only ever adds to ece, so that its interval reaches higher than lower.

    Rows: confidence in 0..1 and correct (0 or 1).

    Options:
        data: file, folder or hub id of predictions
        confidence: name of the confidence's column
        correct: name of the outcome's column
        bins: how many bins
        binning: bins of the same width, or of the same number of items
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    rows, notes = read(data, (confidence, correct))
    left_out = LeftOut()
    p: list[float] = []
    y: list[float] = []
    for row in rows:
        said = number(row.get(confidence))
        truth = row.get(correct)
        right = number(float(truth) if isinstance(truth, bool) else truth)
        if said is None or not 0 <= said <= 1:
            left_out.add("the confidence is not a number from 0 to 1", row.get(confidence))
        elif right not in (0, 1):
            left_out.add("the outcome is not 0 or 1", truth)
        else:
            p.append(said)
            y.append(float(right))
    if not p:
        raise KilterError(f"{data} holds no usable prediction; {' '.join(left_out.notes('predictions', len(rows)))}")
    confidences, outcomes = np.array(p), np.array(y)

    def numbers(at: Ints) -> Floats:
        return _numbers(confidences[at], outcomes[at], bins, binning)

    names = ("ece", "mce", "brier", "log_loss", "overconfidence")
    found = many_over_items(numbers, len(p), resamples=resamples, seed=seed)
    measures = dict(zip(names, found, strict=True)) | {"accuracy": interval(y), "confidence": interval(p)}
    for part in table(confidences, outcomes, bins, binning):
        notes.append(f"Confidence {part.low:.2f} to {part.high:.2f}: {part.n:,} items, right {part.accuracy:.1%}.")
    pairs = enumerate(zip(p, y, strict=True))
    samples = [sample(str(at), {"accuracy": right, "brier": (said - right) ** 2}) for at, (said, right) in pairs]
    notes += left_out.notes("predictions", len(rows))
    return Evaluation("", measures, samples, suite="calibration", seed=seed, notes=notes)


def table(p: Floats, y: Floats, bins: int = 15, binning: Bins = "width") -> list[Bin]:
    """Return the bins that hold something, from low to high."""
    edges, place = _placed(p, bins, binning)
    found = []
    for b in range(len(edges) - 1):
        there = place == b
        if there.any():
            found.append(Bin(edges[b], edges[b + 1], int(there.sum()), float(p[there].mean()), float(y[there].mean())))
    return found


def ece(p: Sequence[float] | Floats, y: Sequence[float] | Floats, bins: int = 15, binning: Bins = "width") -> float:
    """Return the expected calibration error: the mean over items of how far their bin is from the truth."""
    return float(_numbers(np.asarray(p, dtype=np.float64), np.asarray(y, dtype=np.float64), bins, binning)[0])


def _placed(p: Floats, bins: int, binning: Bins) -> tuple[Floats, Ints]:
    """The edges, and the bin of each prediction; an edge belongs to the bin below it, 0 to the first."""
    if binning == "width":
        edges = np.linspace(0, 1, bins + 1)
    else:
        edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)))
        edges = edges if len(edges) > 1 else np.array([edges[0], edges[0]])
    return edges, np.clip(np.searchsorted(edges, p, side="left") - 1, 0, len(edges) - 2)


def _numbers(p: Floats, y: Floats, bins: int, binning: Bins) -> Floats:
    edges, place = _placed(p, bins, binning)
    size = len(edges) - 1
    count = np.bincount(place, minlength=size)
    off = np.abs(np.bincount(place, weights=p, minlength=size) - np.bincount(place, weights=y, minlength=size))
    apart = np.divide(off, count, out=np.zeros(size), where=count > 0)
    held = np.clip(p, 1e-6, 1 - 1e-6)
    loss = -(y * np.log(held) + (1 - y) * np.log(1 - held)).mean()
    return np.array([off.sum() / len(p), apart.max(), ((p - y) ** 2).mean(), loss, p.mean() - y.mean()])
