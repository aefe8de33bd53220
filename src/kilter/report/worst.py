"""Where a model got worse, category by category, and the samples that show it.

A category is a dimension in one family of prompts and one language. Categories are ranked by the near end of the
interval of their loss, so that a sure small loss comes before a large one that may be chance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kilter.evaluation import statistics
from kilter.evaluation.result import Measure, dimension
from kilter.evaluation.statistics import Difference
from kilter.report.findings import Findings, difference, judged, matched
from kilter.report.read import Evidence, Key, Sample

LEAST = 5  # The interval of a category with fewer samples says nothing.


@dataclass(frozen=True, slots=True)
class Category:
    """One dimension in one family and language: each model's measure, and how the last one differs from the others."""

    dimension: str
    family: str
    language: str
    keys: frozenset[Key]
    measures: dict[str, Measure]
    changes: dict[str, Difference]

    @property
    def name(self) -> str:
        return " · ".join(part for part in (self.family.replace("_", " "), self.language) if part) or "all samples"

    @property
    def worst(self) -> tuple[float, float]:
        """How much worse the last model got than one before it: at least (the interval's near end), and as measured.

        A number without a unit counts as a share of what it was, so that it can stand in one list with the others.
        """
        about = dimension(self.dimension)
        losses = []
        for against, change in self.changes.items():
            was = abs(self.measures[against].value)
            scale = was if about.unit == "number" and was > 0 else 1.0
            ends = (-change.high, -change.value) if about.direction == "higher" else (change.low, change.value)
            losses.append((ends[0] / scale, ends[1] / scale))
        return max(losses)

    @property
    def sure(self) -> bool:
        """Whether it is worse beyond chance, taken by itself: not adjusted for how many categories there are."""
        about = dimension(self.dimension)
        return any(judged(change, about, change.p) == "worse" for change in self.changes.values())


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with every model's response, and the dimension for whose sake it is shown ("" for none)."""

    dimension: str
    note: str
    sample: Sample
    responses: dict[str, Sample]

    @property
    def alike(self) -> bool:
        """The text is the same for all models: they were scored on it, they did not write it."""
        return bool(self.sample.get("given"))


def categories(evidence: Evidence, findings: Findings) -> list[Category]:
    """Return every category in which the last model can be compared with those before it, the surest losses first."""
    earlier = [against for model, against in findings.steps() if model == findings.final]
    found = []
    for about in findings.dimensions:
        if about.follows or not earlier:
            continue
        groups: dict[tuple[str, str], list[Key]] = {}
        for key, sample in evidence.samples[findings.final].items():
            if about.name in sample["outcomes"]:
                groups.setdefault((sample.get("family") or "", sample.get("language") or ""), []).append(key)
        for (family, language), keys in groups.items():
            changes = {against: _change(evidence, about.name, against, findings.final, keys) for against in earlier}
            known = {against: change for against, change in changes.items() if change is not None}
            if len(known) == len(earlier):
                measures = _measures(evidence, about.name, keys)
                found.append(Category(about.name, family, language, frozenset(keys), measures, known))
    return sorted(found, key=lambda category: category.worst, reverse=True)


def worse(found: Sequence[Category]) -> list[Category]:
    """Return the categories that lost anything, the surest first."""
    return [category for category in found if category.worst[1] > 0]


def weakest(found: Sequence[Category], findings: Findings, limit: int) -> list[Category]:
    """Return those of the categories `found`, of shares, in which the last model is furthest from perfect."""

    def distance(category: Category) -> float:
        value = category.measures[findings.final].value
        return 1 - value if dimension(category.dimension).direction == "higher" else abs(value)

    shares = [c for c in found if c.family and dimension(c.dimension).unit != "number" and distance(c) > 0]
    return sorted(shares, key=distance, reverse=True)[:limit]


def regressions(evidence: Evidence, findings: Findings, found: Sequence[Category], limit: int) -> list[Example]:
    """Return samples that an earlier model did better than the last, at most two a category, worst category first."""
    examples: list[Example] = []
    shown: set[Key] = set()
    for category in found:
        if len(examples) >= limit:
            break
        falls = []
        for against in category.changes:
            moves = _moves(evidence, category.dimension, against, findings.final)
            falls += [
                (gain, _shuffle(key), key, against) for key, gain in moves.items() if gain < 0 and key in category.keys
            ]
        fresh = {key: against for _, _, key, against in sorted(falls, reverse=True) if key not in shown}
        for key in list(reversed(fresh))[: min(2, limit - len(examples))]:
            shown.add(key)
            examples.append(_example(evidence, key, category.dimension, f"worse than {fresh[key]}"))
    return examples


def improvements(evidence: Evidence, findings: Findings, limit: int) -> list[Example]:
    """Return one sample a dimension that the last model does better than the baseline, from its largest gains."""
    examples: list[Example] = []
    shown: set[Key] = set()
    for about in findings.dimensions:
        if about.follows or len(examples) >= limit or findings.final == findings.baseline:
            continue
        moves = _moves(evidence, about.name, findings.baseline, findings.final)
        rises = [(-gain, _shuffle(key), key) for key, gain in moves.items() if gain > 0 and key not in shown]
        if rises:
            key = min(rises)[2]
            shown.add(key)
            examples.append(_example(evidence, key, about.name, f"better than {findings.baseline}"))
    return examples


def drawn(evidence: Evidence, findings: Findings, limit: int, without: Iterable[Example]) -> list[Example]:
    """Return samples drawn without looking at their outcomes, the same ones each time."""
    used = {example.sample["id"] for example in without}
    samples = evidence.samples.get(findings.final, {})
    keys = [key for key in sorted(samples, key=_shuffle) if samples[key]["id"] not in used]
    return [_example(evidence, key, "", "") for key in keys[:limit]]


def _change(evidence: Evidence, name: str, before: str, after: str, keys: Sequence[Key]) -> Difference | None:
    rows = matched(evidence, name, before, after)
    inside = [rows[key] for key in keys if key in rows]
    return difference(name, inside) if len(inside) >= LEAST else None


def _measures(evidence: Evidence, name: str, keys: Sequence[Key]) -> dict[str, Measure]:
    measures = {}
    for label, samples in evidence.samples.items():
        rows = [samples[key] for key in keys if key in samples and name in samples[key]["outcomes"]]
        if rows:
            measures[label] = statistics.measure(rows, name)
    return measures


def _moves(evidence: Evidence, name: str, before: str, after: str) -> dict[Key, float]:
    """Return how much each sample gained."""
    gain = dimension(name).gain
    rows = matched(evidence, name, before, after)
    return {key: gain(a["outcomes"][name], b["outcomes"][name]) for key, (a, b) in rows.items()}


def _example(evidence: Evidence, key: Key, name: str, note: str) -> Example:
    responses = {label: samples[key] for label, samples in evidence.samples.items() if key in samples}
    return Example(name, note, next(iter(responses.values())), responses)


def _shuffle(key: Key) -> str:
    """An order that has nothing to do with how good a response is, and that is the same each time."""
    return hashlib.sha256("\n".join(key).encode()).hexdigest()
