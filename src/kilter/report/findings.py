"""What the numbers say: which model is better than which, beyond chance; which targets are met; the verdict.

A model is compared with the baseline and with the model before it. All comparisons of a page are one family, whose
p-values are adjusted together (Holm), so that a page with many numbers does not find what is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from kilter.errors import KilterError, nearest
from kilter.evaluation import statistics
from kilter.evaluation.result import Dimension, Measure, dimension
from kilter.evaluation.statistics import Difference
from kilter.report import numbers
from kilter.report.read import Evidence, Key, Sample
from kilter.report.settings import Settings, Target

LEVEL = 0.05
Verdict = Literal["better", "worse", "unclear"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How `model` differs from `against` in one dimension (of a gap: how its size differs)."""

    dimension: str
    model: str
    against: str
    difference: Difference
    adjusted: float
    paired: bool

    @property
    def verdict(self) -> Verdict:
        return judged(self.difference, dimension(self.dimension), self.adjusted)


def judged(change: Difference, about: Dimension, p: float) -> Verdict:
    """Return what a change is: more than `unclear` only where both its interval and its p-value say so."""
    if p >= LEVEL or change.low <= 0 <= change.high:
        return "unclear"
    return "better" if (change.value > 0) == (about.direction == "higher") else "worse"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One target and whether it is met: `sure` where the whole interval is on one side of the bound."""

    dimension: str
    model: str
    text: str
    met: bool
    sure: bool

    @property
    def word(self) -> str:
        return ("met" if self.met else "missed") + ("" if self.sure else ", narrowly")


@dataclass(slots=True)
class Findings:
    """Everything that a page says in numbers."""

    labels: list[str]
    baseline: str
    dimensions: list[Dimension]
    results: dict[str, dict[str, Measure]]
    comparisons: list[Comparison]
    targets: list[Outcome] = field(default_factory=list)

    @property
    def final(self) -> str:
        return self.labels[-1] if self.labels else ""

    def comparison(self, name: str, model: str, against: str) -> Comparison | None:
        keys = (name, model, against)
        return next((c for c in self.comparisons if (c.dimension, c.model, c.against) == keys), None)

    def steps(self) -> list[tuple[str, str]]:
        """Return the (model, against) pairs that are compared, each model with the baseline first."""
        return pairs(self.labels, self.baseline)


def pairs(labels: Sequence[str], baseline: str) -> list[tuple[str, str]]:
    """Return each model with the baseline and, where that is another one, with the model before it."""
    found = []
    for place, label in enumerate(labels):
        before = [baseline, labels[place - 1]] if place else []
        found += [(label, against) for against in dict.fromkeys(before) if against != label]
    return found


def find(evidence: Evidence, settings: Settings) -> Findings:
    """Compare the models in `evidence`, check the targets. Raises KilterError for a baseline that was not measured."""
    baseline = settings.baseline or (evidence.labels[0] if evidence.labels else "")
    if evidence.labels and baseline not in evidence.labels:
        hint = nearest(baseline, evidence.labels) or f" Measured were: {', '.join(evidence.labels)}."
        raise KilterError(f"The report's baseline '{baseline}' was not measured.{hint}")
    names = evidence.dimensions
    comparisons = []
    for model, against in pairs(evidence.labels, baseline):
        for name in names:
            before, after = evidence.results[against].get(name), evidence.results[model].get(name)
            if before is None or after is None or dimension(name).follows:
                continue
            rows = matched(evidence, name, against, model)
            change = difference(name, list(rows.values())) if len(rows) > 1 else _unpaired(name, before, after)
            comparisons.append(Comparison(name, model, against, change, 1.0, len(rows) > 1))
    findings = Findings(evidence.labels, baseline, [dimension(n) for n in names], evidence.results, adjust(comparisons))
    findings.targets = check(findings, settings)
    return findings


def adjust(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with their p-values adjusted together."""
    adjusted = statistics.holm([c.difference.p for c in comparisons])
    return [replace(c, adjusted=p) for c, p in zip(comparisons, adjusted, strict=True)]


def matched(evidence: Evidence, name: str, before: str, after: str) -> dict[Key, tuple[Sample, Sample]]:
    """Return the samples that both models have and that count in the dimension `name`, in the order of the first."""
    other = evidence.samples.get(after, {})
    return {
        key: (sample, other[key])
        for key, sample in evidence.samples.get(before, {}).items()
        if key in other and name in sample["outcomes"] and name in other[key]["outcomes"]
    }


def difference(name: str, rows: Sequence[tuple[Sample, Sample]]) -> Difference:
    """Return the paired change of the dimension `name`; where nearer to 0 is better, that of the distance from 0."""
    before = np.array([a["outcomes"][name] for a, _ in rows], dtype=float)
    after = np.array([b["outcomes"][name] for _, b in rows], dtype=float)
    first, second = [a for a, _ in rows], [b for _, b in rows]
    weights = statistics.weights_of(first, name), statistics.weights_of(second, name)
    columns = None if weights == (None, None) else tuple(w or [1.0] * len(rows) for w in weights)
    if dimension(name).direction == "zero":
        before, after = before * _side(before, weights[0]), after * _side(after, weights[1])
    clusters = statistics.clusters_of(first)
    return statistics.paired(before.tolist(), after.tolist(), clusters, weights=columns)  # type: ignore[arg-type]


def check(findings: Findings, settings: Settings) -> list[Outcome]:
    """Return every target of a dimension that was measured, and whether it is met."""
    outcomes = []
    for name in [d.name for d in findings.dimensions]:
        for target in settings.targets_of(name):
            label = target.model or findings.final
            measure = findings.results.get(label, {}).get(name)
            outcome = _outcome(name, label, measure, target, findings) if measure else None
            outcomes += [outcome] if outcome else []
    return outcomes


def verdict(findings: Findings) -> str:
    """Return what became better, what worse and what did not change beyond the interval, in one sentence."""
    if not findings.labels:
        return "Nothing has been measured yet."
    final, baseline = findings.final, findings.baseline
    if len(findings.labels) == 1 or final == baseline:
        return _alone(findings, final)
    judged = [c for c in findings.comparisons if (c.model, c.against) == (final, baseline)]
    groups = {word: [c.dimension for c in judged if c.verdict == word] for word in ("better", "worse", "unclear")}
    better, worse, unclear = groups["better"], groups["worse"], groups["unclear"]
    if not judged:
        return f"{final} and {baseline} were not measured on anything that could be compared."
    rest = _setback(findings) + _promise(findings)
    if not better and not worse:
        return f"{final} and {baseline} do not differ beyond chance on {_labels(unclear, 3)}{rest}."
    if len(better) == len(judged) > 2:
        return f"{final} is better than {baseline} on all {len(judged)} dimensions{rest}."
    gains = _moves(better, findings) if len(better) <= 2 else f"{len(better)} of {len(judged)} dimensions"
    # A loss is always named, with its size.
    parts = [f"better than {baseline} on {gains}"] if better else []
    parts += [f"worse {'' if better else f'than {baseline} '}on {_moves(worse, findings)}"] if worse else []
    parts += [f"{'worse' if better else 'better'} on none"] if not (better and worse) else []
    parts += [f"not clearly different on {_labels(unclear, 3)}"] if unclear else []
    return f"{final} is {numbers.several(parts)}{rest}."


def story(findings: Findings) -> list[tuple[str, str, dict[Verdict, list[str]]]]:
    """Return, for each (model, against), the labels of what is better, worse and unclear."""
    told = []
    for model, against in findings.steps():
        judged = [c for c in findings.comparisons if (c.model, c.against) == (model, against)]
        words: tuple[Verdict, ...] = ("better", "worse", "unclear")
        groups = {word: [dimension(c.dimension).label for c in judged if c.verdict == word] for word in words}
        told.append((model, against, groups))
    return told


def _setback(findings: Findings) -> str:
    """What the last stage lost again, though the whole way may have been a gain."""
    before = findings.labels[-2]
    lost = [
        c.dimension
        for c in findings.comparisons
        if (c.model, c.against) == (findings.final, before) and before != findings.baseline and c.verdict == "worse"
    ]
    return f"; it is worse than {before} on {_moves(lost, findings, before)}" if lost else ""


def _promise(findings: Findings) -> str:
    if not findings.targets:
        return ""
    missed = [outcome.dimension for outcome in findings.targets if not outcome.met]
    if not missed:
        return "; every target is met"
    names = f" ({_labels(list(dict.fromkeys(missed)))} missed)" if len(missed) < 4 else ""
    return f"; {len(findings.targets) - len(missed)} of {len(findings.targets)} targets are met{names}"


def _alone(findings: Findings, label: str) -> str:
    shown = [
        f"{numbers.value(findings.results[label][d.name].value, d)} on {numbers.lower(d.label)}"
        for d in findings.dimensions
        if d.name in findings.results[label]
    ]
    rest = f" and {len(shown) - 4} more dimensions" if len(shown) > 4 else ""
    return f"{label} reaches {numbers.several(shown) if not rest else ', '.join(shown[:4]) + rest}{_promise(findings)}."


def _labels(names: Sequence[str], most: int = 99) -> str:
    if len(names) > most:
        return f"{len(names)} dimensions"
    return numbers.several([numbers.lower(dimension(name).label) for name in names])


def _moves(names: Sequence[str], findings: Findings, before: str = "") -> str:
    """Return the labels of the dimensions and what each was before (else: with the baseline) and is with the last."""
    moves = []
    for name in names:
        about = dimension(name)
        values = [findings.results[label][name].value for label in (before or findings.baseline, findings.final)]
        ends = [numbers.value(value, about) for value in values]
        moves.append(f"{numbers.lower(about.label)} ({' → '.join(ends)})")
    return numbers.several(moves)


def _unpaired(name: str, before: Measure, after: Measure) -> Difference:
    if dimension(name).direction == "zero":
        before, after = _distance(before), _distance(after)
    return statistics.unpaired(before, after)


def _distance(measure: Measure) -> Measure:
    if measure.value >= 0:
        return measure
    return Measure(-measure.value, -measure.high, -measure.low, measure.n)


def _side(values: np.ndarray, weights: list[float] | None) -> float:
    return -1.0 if np.average(values, weights=weights) < 0 else 1.0


def _outcome(name: str, label: str, measure: Measure, target: Target, findings: Findings) -> Outcome | None:
    about = dimension(name)
    if about.direction == "zero":
        measure = _distance(measure)
    ceilings = [] if target.maximum is None else [(target.maximum, "")]
    base = findings.results[findings.baseline].get(name)
    if target.maximum_of_base is not None and base is not None:
        note = f" ({target.maximum_of_base:g} × {findings.baseline})"
        ceilings.append((target.maximum_of_base * abs(base.value), note))
    bounds = [f"≤ {_bound(ceiling, about)}{note}" for ceiling, note in ceilings]
    met = all(measure.value <= ceiling for ceiling, _ in ceilings)
    sure = not any(measure.low <= ceiling < measure.high for ceiling, _ in ceilings)
    if target.minimum is not None:
        bounds.insert(0, f"≥ {_bound(target.minimum, about)}")
        met = met and measure.value >= target.minimum
        sure = sure and not measure.low < target.minimum <= measure.high
    return Outcome(name, label, " and ".join(bounds), met, sure) if bounds else None


def _bound(number: float, about: Dimension) -> str:
    if about.unit == "number":
        return numbers.plain(number)
    text = f"{100 * number:.1f}".removesuffix(".0")
    return f"{text}%" if about.unit == "share" else f"{text} pp"
