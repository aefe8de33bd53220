"""Two result files side by side: what one model does better than the other on the items that both were asked."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kilter.errors import KilterError, nearest
from kilter.evaluation.result import Evaluation, dimension, ordered
from kilter.evaluation.statistics import Difference, holm
from kilter.report import numbers
from kilter.report.findings import Verdict, difference, judged

Sample = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Versus:
    """How the second model differs from the first in one dimension, on `difference.n` items that both answered.

    `adjusted` is the p-value after Holm's correction for all dimensions compared; `alone` counts the items that only
    the first or only the second has, `unusable` those whose outcome is no number in one of them.
    """

    name: str
    first: str
    second: str
    before: float
    after: float
    difference: Difference
    adjusted: float
    compared: int
    alone: tuple[int, int]
    unusable: int

    @property
    def verdict(self) -> Verdict:
        return judged(self.difference, dimension(self.name), self.adjusted)

    @property
    def sentence(self) -> str:
        """The verdict with the change, its interval, its p-value and the number of shared items."""
        about, change = dimension(self.name), self.difference
        moved = numbers.change(change.value, about) + ("" if about.unit == "number" else " pp")
        p = numbers.probability(self.adjusted)
        said = f"p {p}" if p.startswith("<") else f"p = {p}"
        if self.compared > 1:
            said += f" after correction for {self.compared} dimensions"
        ends = f"{numbers.value(self.before, about)} → {numbers.value(self.after, about)}"
        facts = f"{moved} ({ends}), 95% interval {numbers.span(change, about, signed=True)}, {said}"
        label = numbers.lower(about.label)
        shared = f"paired over {change.n:,} shared items{self._others()}"
        if self.verdict == "unclear":
            least = numbers.size(change.detectable, about)
            hint = f"; {least} would have been found four times in five" if math.isfinite(change.detectable) else ""
            return f"{self.second} and {self.first} do not differ beyond chance on {label}: {facts}, {shared}{hint}."
        return f"{self.second} is {self.verdict} than {self.first} on {label}: {facts}, {shared}."

    def _others(self) -> str:
        parts = [f"{n:,} only in {who}" for n, who in zip(self.alone, (self.first, self.second), strict=True) if n]
        parts += [f"{self.unusable:,} without a number"] if self.unusable else []
        return f" ({', '.join(parts)})" if parts else ""

    def to_json(self) -> dict[str, Any]:
        change = self.difference
        return {
            "dimension": self.name, "first": self.first, "second": self.second, "verdict": self.verdict,
            "before": self.before, "after": self.after, "difference": change.value, "low": change.low,
            "high": change.high, "p": change.p, "p_adjusted": self.adjusted, "shared": change.n,
            "only_first": self.alone[0], "only_second": self.alone[1], "unusable": self.unusable,
            "detectable": change.detectable, "sentence": self.sentence,
        }  # fmt: skip


def versus(first: Evaluation, second: Evaluation, labels: tuple[str, str], only: str | None = None) -> list[Versus]:
    """Return the comparison in each dimension that both have outcomes in (or in the one called `only`).

    Raises KilterError where the two are of different suites, or share no item.
    """
    if first.suite and second.suite and first.suite != second.suite:
        raise KilterError(
            f"{labels[0]} was measured by '{first.suite}' and {labels[1]} by '{second.suite}'; "
            "compare two evaluations of one suite."
        )
    here, there = by_id(first, labels[0]), by_id(second, labels[1])
    shared = [key for key in here if key in there]
    if not shared:
        raise KilterError(
            f"{labels[0]} ({len(here):,} items) and {labels[1]} ({len(there):,}) share no item, "
            "so nothing can be paired; evaluate both on the same items."
        )
    names = ordered(name for key in shared for name in here[key]["outcomes"] if name in there[key]["outcomes"])
    names = [name for name in names if not dimension(name).follows]
    if only is not None:
        if only not in names:
            raise KilterError(
                f"The two files share no dimension '{only}'.{nearest(only, names) or ' ' + _known(names)}"
            )
        names = [only]
    if not names:
        raise KilterError(f"{labels[0]} and {labels[1]} have no dimension in common; evaluate both by one suite.")
    return _adjusted([_one(name, here, there, labels) for name in names])


def by_id(evaluation: Evaluation, label: str) -> dict[str, Sample]:
    """Return the samples by their ids; raise KilterError where there are none, or where two have one id."""
    if not evaluation.samples:
        raise KilterError(f"{label} holds measures but no items, so nothing can be paired; evaluate again with items.")
    counts = Counter(str(sample["id"]) for sample in evaluation.samples)
    twice, times = counts.most_common(1)[0]
    if times > 1:
        raise KilterError(
            f"{label} has {times} items with the id '{twice}', which cannot be paired; give each its own."
        )
    return {str(sample["id"]): sample for sample in evaluation.samples}


def names_of(first: Evaluation, second: Evaluation, paths: tuple[Path, Path]) -> tuple[str, str]:
    """Return what to call the two: their models, or their files where the models are one."""
    if first.model and second.model and first.model != second.model:
        return first.model, second.model
    if paths[0].stem != paths[1].stem:
        return paths[0].stem, paths[1].stem
    return str(paths[0]), str(paths[1])


def _one(name: str, here: dict[str, Sample], there: dict[str, Sample], labels: tuple[str, str]) -> Versus:
    rows = [
        (sample, there[key])
        for key, sample in here.items()
        if key in there and name in sample["outcomes"] and name in there[key]["outcomes"]
    ]
    good = [(a, b) for a, b in rows if _number(a, name) and _number(b, name)]
    if not good:
        raise KilterError(f"No shared item has a number in the dimension '{name}' in both files; evaluate again.")
    change = difference(name, good)
    ends = [float(np.average([s["outcomes"][name] for s in side], weights=[_weight(s, name) for s in side]))
            for side in zip(*good, strict=True)]  # fmt: skip
    counted = [sum(name in sample["outcomes"] for sample in side.values()) for side in (here, there)]
    alone = (counted[0] - len(rows), counted[1] - len(rows))
    return Versus(name, *labels, ends[0], ends[1], change, change.p, 1, alone, len(rows) - len(good))


def _adjusted(found: list[Versus]) -> list[Versus]:
    adjusted = holm([one.difference.p for one in found])
    return [
        Versus(v.name, v.first, v.second, v.before, v.after, v.difference, p, len(found), v.alone, v.unusable)
        for v, p in zip(found, adjusted, strict=True)
    ]


def _number(sample: Sample, name: str) -> bool:
    value = sample["outcomes"][name]
    return isinstance(value, int | float) and math.isfinite(value)


def _weight(sample: Sample, name: str) -> float:
    return float(sample.get("weights", {}).get(name, 1.0))


def _known(names: list[str]) -> str:
    return f"Shared are: {', '.join(names)}." if names else "They share none."
