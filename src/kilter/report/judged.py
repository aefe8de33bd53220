"""What a page says of judged runs: the parts of a score, drawn as a radar, and what the judge's biases come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from kilter.evaluation.result import JUDGE, PARTS, dimension, group_of
from kilter.report import numbers, view
from kilter.report.findings import Findings

NAMES = {
    "category": "Categories",
    "skill": "Skills",
    "ability": "Abilities",
    "level": "Levels",
    "difficulty": "Difficulty",
    "domain": "Domains",
}
FEWEST, MOST = 3, 16  # spokes of a radar that can be read
RADIUS, WIDTH, HEIGHT = 110.0, 440, 300
# What a bias is in words, where it is beyond chance: for a positive gap, for a negative one.
WORDS = {
    "position": ("prefers what it is shown first", "prefers what it is shown second"),
    "verbosity": ("prefers an answer that says everything twice", "marks down an answer that says everything twice"),
    "format": ("prefers an answer laid out as a list", "marks down an answer laid out as a list"),
    "self": ("prefers what it is told is its own", "marks down what it is told is its own"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One way of dividing a score: its name, a radar where there are enough parts, and the rows of its table."""

    name: str
    radar: Markup
    lines: list[view.Line]


def parts(findings: Findings) -> list[Part]:
    """Return the divisions that were measured."""
    found = []
    for group in PARTS:
        lines = view.results(findings, groups=(group,))
        if lines:
            names = [d.name for d in findings.dimensions if group_of(d.name) == group]
            found.append(Part(NAMES[group], radar(findings, names), lines))
    return found


def radar(findings: Findings, names: Sequence[str]) -> Markup:
    """Return a radar with a spoke for each of the dimensions `names` and a line a model; nothing for too few or many.

    All spokes have one scale, from 0 to the largest value. A model that lacks one of them is not drawn.
    """
    values = {
        label: [findings.results[label][name].value for name in names]
        for label in findings.labels
        if all(name in findings.results[label] for name in names)
    }
    known = [value for row in values.values() for value in row]
    if not FEWEST <= len(names) <= MOST or not known or not all(math.isfinite(x) and x >= 0 for x in known):
        return Markup()
    top = max(known) or 1.0
    drawn = [f'<polygon class="web" points="{_points([part] * len(names))}"/>' for part in (0.25, 0.5, 0.75, 1.0)]
    for place, label in enumerate(findings.labels):
        if label in values:
            points = _points([value / top for value in values[label]])
            drawn.append(f'<polygon class="area m{place % 6}" points="{points}"/>')
    for at, name in enumerate(names):
        x, y = _point(1.12, at, len(names))
        anchor = "middle" if abs(x - WIDTH / 2) < 20 else "start" if x > WIDTH / 2 else "end"
        text = escape(name.rpartition(":")[2].replace("_", " "))
        drawn.append(f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{text}</text>')
    told = "; ".join(f"{label}: {_listed(names, row)}" for label, row in values.items())
    return Markup('<svg viewBox="0 0 {0} {1}" role="img" aria-label="{2}">{3}</svg>').format(
        WIDTH, HEIGHT, f"0 to {top:.3g}. {told}", Markup("".join(drawn))
    )


def verdicts(findings: Findings) -> list[str]:
    """Return a sentence on each bias of the judge: beyond chance, or how large it may be without having been seen."""
    told = []
    for about in findings.dimensions:
        plain = about.name.rpartition(":")[2]
        if group_of(about.name) != JUDGE or plain not in WORDS:
            continue
        for label in findings.labels:
            measure = findings.results[label].get(about.name)
            if measure is None or not math.isfinite(measure.low + measure.high):
                continue
            size, span = numbers.value(measure.value, dimension(about.name)), numbers.span(measure, about)
            who, what = f"Over {label}'s answers the judge", about.label.lower().partition(" (")[0]
            if measure.low > 0 or measure.high < 0:
                told.append(f"{who} {WORDS[plain][measure.value < 0]} ({size}, {span}).")
            else:
                told.append(f"{who} shows no {what} beyond chance ({span}).")
    return told


def _listed(names: Sequence[str], values: Sequence[float]) -> str:
    return ", ".join(f"{name.rpartition(':')[2]} {value:.3g}" for name, value in zip(names, values, strict=True))


def _points(shares: Sequence[float]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in (_point(s, at, len(shares)) for at, s in enumerate(shares)))


def _point(share: float, at: int, of: int) -> tuple[float, float]:
    angle = 2 * math.pi * at / of - math.pi / 2
    return WIDTH / 2 + RADIUS * share * math.cos(angle), HEIGHT / 2 + RADIUS * share * math.sin(angle)
