"""Charts as inline SVG, drawn in percentages of their width, so that text keeps its size from phone to printed page.

Colours and line widths come from the page's style sheet (classes m0, m1 ... for the models), so that a chart follows
light, dark and print. Every chart has a title for those who cannot see it; its numbers also stand in a table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from kilter.evaluation.result import Dimension, Measure, group_of
from kilter.report import numbers
from kilter.report.findings import Findings

Points = Sequence[tuple[float, float]]
LANE = 16  # px for each model's line in a row of the dot chart
SHAPES = ("circle", "square", "diamond", "triangle", "ring", "cross")
_PATHS = {
    "square": "M-4.2-4.2h8.4v8.4h-8.4z",
    "diamond": "M0-5.8 5.8 0 0 5.8-5.8 0z",
    "triangle": "M0-5.5 5.2 4h-10.4z",
    "cross": "M-4.5-4.5 4.5 4.5M4.5-4.5-4.5 4.5",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One dimension of the dot chart; `ticks` are drawn under the last row of a group that shares a scale."""

    dimension: Dimension
    drawing: Markup
    ticks: list[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Curve:
    """One logged number over the steps of a training stage."""

    name: str
    label: str
    first: str
    last: str
    drawing: Markup
    ticks: list[tuple[float, str]]
    start: int
    steps: int


# What is worth a curve: the logged name, what to call it, a level to compare with and what that level means.
CURVES: dict[str, tuple[str, float | None, str]] = {
    "loss": ("Loss", None, ""),
    "eval_loss": ("Held-out loss", None, ""),
    "reward": ("Reward of samples", None, ""),
    "reward_margin": ("Reward margin", 0.0, ""),
    "accuracy": ("Reward accuracy", 0.5, "chance"),
    "kl": ("KL to reference", 0.0, ""),
}


def dots(findings: Findings) -> list[Row]:
    """Return one row a dimension with each model's value and interval; shares come first, on one scale."""
    plain = [d for d in findings.dimensions if not group_of(d.name)]
    shares = [d for d in plain if d.unit == "share"]
    rows = []
    for about in [*shares, *(d for d in plain if d.unit != "share")]:
        measures = {label: findings.results[label].get(about.name) for label in findings.labels}
        known = [m for m in measures.values() if m is not None and math.isfinite(m.value)]
        if not known:
            continue
        low, high = (0.0, 1.0) if about.unit == "share" else _domain(known, about)
        ticks = [] if about in shares[:-1] else _scale(low, high, about)
        steps = [i / 4 for i in range(5)] if about.unit == "share" else _steps(low, high)
        grid = [_at(step, low, high) for step in steps if low <= step <= high]
        rows.append(Row(about, _dots(about, measures, low, high, grid), ticks))
    return rows


def marker(place: int) -> Markup:
    """Return the mark of the model at `place`, for a legend."""
    frame = Markup('<svg class="key m{0}" width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true">{1}</svg>')
    return frame.format(place % len(SHAPES), _shape(place))


def curves(series: dict[str, list[tuple[float, float]]]) -> list[Curve]:
    """Return a curve for each number of `CURVES` that was logged at least twice."""
    return [_curve(name, series[name]) for name in CURVES if len(series.get(name, [])) > 1]


def share(part: float, whole: float) -> Markup:
    """Return a thin bar that shows which share of `whole` the `part` is."""
    width = 100 * part / whole if whole > 0 else 0
    return Markup(
        '<svg class="bar" width="100%" height="6" aria-hidden="true">'
        '<rect class="rail" width="100%" height="6" rx="3"/><rect width="{0}%" height="6" rx="3"/></svg>'
    ).format(f"{width:.1f}")


def _dots(
    about: Dimension, measures: dict[str, Measure | None], low: float, high: float, lines: Sequence[float]
) -> Markup:
    height = LANE * len(measures) + 10
    said, parts = [], [f'<line class="grid" x1="{_pc(x)}" x2="{_pc(x)}" y1="0" y2="{height}"/>' for x in lines]
    for place, (label, measure) in enumerate(measures.items()):
        if measure is None or not math.isfinite(measure.value):
            continue
        y = LANE * place + LANE / 2 + 5
        ends = [_pc(_at(end, low, high)) for end in (measure.low, measure.high)]
        parts.append(
            f'<g class="m{place % len(SHAPES)}"><line class="reach" x1="{ends[0]}" x2="{ends[1]}" y1="{y}" y2="{y}"/>'
            f'<svg x="{_pc(_at(measure.value, low, high))}" y="{y}" width="1" height="1" overflow="visible">'
            f"{_shape(place)}</svg></g>"
        )
        said.append(f"{label} {numbers.value(measure.value, about)} ({numbers.span(measure, about)})")
    return Markup('<svg width="100%" height="{0}" role="img" aria-label="{1}">{2}</svg>').format(
        height, f"{about.label}: {'; '.join(said)}", Markup("".join(parts))
    )


def _curve(name: str, points: Points) -> Curve:
    label, level, meaning = CURVES[name]
    values = [y for _, y in points]
    about = Dimension(name, label, "lower", "share" if name == "accuracy" else "number", "")
    low, high = min(values), max(values)
    if level is not None:
        low, high = min(low, level), max(high, level)
    ticks = _steps(low, high, about=3)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    height = 116
    thin, smooth = _thinned(points, 300), _smoothed(points)
    parts = []
    for tick in ticks:
        y = _y(tick, low, high, height)
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{y}" y2="{y}"/>')
    if level is not None:
        y = _y(level, low, high, height)
        parts.append(f'<line class="level" x1="0" x2="100%" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="100%" y="{y - 3:.1f}" text-anchor="end">{escape(meaning)}</text>')
    first, last = points[0][0], points[-1][0]
    lines = [("raw" if smooth else "line", thin), *([("line", smooth)] if smooth else [])]
    drawn = "".join(
        f'<polyline class="{kind}" points="{_polyline(line, first, last, low, high, height)}"/>' for kind, line in lines
    )
    parts.append(
        f'<svg width="100%" height="{height}" viewBox="0 0 1000 {height}" preserveAspectRatio="none">{drawn}</svg>'
    )
    ends = [numbers.value(y, about) for y in (points[0][1], (smooth or points)[-1][1])]
    said = f"{label} over {last:.0f} steps, from {ends[0]} to {ends[1]}"
    drawing = Markup('<svg width="100%" height="{0}" role="img" aria-label="{1}">{2}</svg>').format(
        height, said, Markup("".join(parts))
    )
    scale = [(_y(tick, low, high, height), _short(numbers.value(tick, about))) for tick in ticks]
    return Curve(name, label, ends[0], ends[1], drawing, scale, int(first), int(last))


def _shape(place: int) -> Markup:
    shape = SHAPES[place % len(SHAPES)]
    if shape in ("circle", "ring"):
        return Markup('<circle class="{0}" r="4.6"/>').format(shape)
    return Markup('<path class="{0}" d="{1}"/>').format(shape, _PATHS[shape])


def _domain(measures: Sequence[Measure], about: Dimension) -> tuple[float, float]:
    """A scale that holds every finite end; that of a gap holds zero too."""
    ends = [e for m in measures for e in (m.low, m.value, m.high) if math.isfinite(e)]
    ends += [0.0] if about.unit == "gap" else []
    steps = _steps(min(ends), max(ends))
    return min(steps[0], *ends), max(steps[-1], *ends)


def _steps(low: float, high: float, about: int = 4) -> list[float]:
    """Return round numbers, about as many as asked, the first at or below `low` and the last at or above `high`."""
    if high <= low:
        low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
    rough = (high - low) / about
    unit = 10 ** math.floor(math.log10(rough))
    step = unit * next((m for m in (1, 2, 2.5, 5) if m * unit >= rough), 10)
    return [round(i * step, 12) for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def _scale(low: float, high: float, about: Dimension) -> list[tuple[float, str]]:
    """Return the (position in percent, text) of each tick."""
    if about.unit == "share":
        return [(25.0 * i, f"{25 * i}%") for i in range(5)]
    shown = [t for t in _steps(low, high) if low <= t <= high]
    return [(100 * _at(t, low, high), _short(numbers.value(t, about))) for t in shown]


def _short(text: str) -> str:
    """A round number needs no zeros after the point."""
    return re.sub(r"(\.\d*?)0+(?!\d)", r"\1", text).replace(".%", "%").replace(". ", " ").removesuffix(".")


def _at(value: float, low: float, high: float) -> float:
    return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5


def _pc(position: float) -> str:
    return f"{100 * position:.2f}%"


def _y(value: float, low: float, high: float, height: float) -> float:
    # Half a line's width is left above and below.
    return round(2 + (1 - _at(value, low, high)) * (height - 4), 1)


def _polyline(points: Points, first: float, last: float, low: float, high: float, height: float) -> str:
    wide = last - first or 1.0
    return " ".join(f"{1000 * (x - first) / wide:.1f},{_y(y, low, high, height)}" for x, y in points)


def _thinned(points: Points, most: int) -> list[tuple[float, float]]:
    """Return at most about `most` points, keeping each bucket's lowest and highest."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / (most / 2))
    kept = []
    for start in range(0, len(points), size):
        bucket = points[start : start + size]
        kept += sorted({min(bucket, key=lambda p: p[1]), max(bucket, key=lambda p: p[1])})
    return kept


def _smoothed(points: Points) -> list[tuple[float, float]]:
    """Return a centred moving average, or nothing where there are too few points to need one."""
    if len(points) < 40:
        return []
    widest = max(2, len(points) // 30)
    averaged = []
    for i in range(0, len(points), max(1, len(points) // 150)):
        # Narrower near the first point, so that the curve starts where training did.
        reach = min(widest, i)
        window = points[i - reach : i + reach + 1]
        averaged.append((points[i][0], sum(y for _, y in window) / len(window)))
    last = points[-widest - 1 :]
    averaged.append((points[-1][0], sum(y for _, y in last) / len(last)))
    return averaged
