"""Numbers as a reader wants them: shares as percentages, changes with their sign, durations, sizes."""

from __future__ import annotations

import math

from kilter.evaluation.result import Dimension, Measure
from kilter.evaluation.statistics import Difference

NOTHING = "–"


def value(number: float, dimension: Dimension) -> str:
    """Return `number` in the dimension's unit: 0.873 of a share is `87.3%`, 0.12 of a gap `+12.0 pp`."""
    if not math.isfinite(number):
        return NOTHING if math.isnan(number) else _minus("∞" if number > 0 else "-∞")
    if dimension.unit == "share":
        return _minus(f"{100 * number:.1f}%").replace("−0.0%", "0.0%")
    if dimension.unit == "gap":
        return f"{change(number, dimension)} pp"
    return _minus(plain(number))


def span(measure: Measure | Difference, dimension: Dimension, *, signed: bool = False) -> str:
    """Return the interval of `measure`, without the unit that stands beside its value."""
    show = change if signed else value
    low, high = (show(end, dimension).removesuffix("%").removesuffix(" pp") for end in (measure.low, measure.high))
    return f"{low} to {high}" if "−" in low + high or signed or dimension.unit == "gap" else f"{low}–{high}"


def change(number: float, dimension: Dimension) -> str:
    """Return a change with its sign; of shares and gaps in percentage points, without the unit."""
    if not math.isfinite(number):
        return value(number, dimension)
    if dimension.unit == "number":
        return _minus(f"{number:+.3f}" if abs(number) < 10 else f"{number:+,.1f}")
    text = f"{100 * number:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else _minus(text)


def size(number: float, dimension: Dimension) -> str:
    """Return the magnitude of a change, with its unit."""
    if not math.isfinite(number):
        return NOTHING
    return plain(number) if dimension.unit == "number" else f"{100 * number:.1f} pp"


def plain(number: float) -> str:
    """Return a number of no unit, with about four digits that mean something."""
    if not math.isfinite(number):
        return NOTHING
    magnitude = abs(number)
    if magnitude and magnitude < 0.001:
        return _minus(f"{number:.1e}")
    digits = 3 if magnitude < 10 else 2 if magnitude < 100 else 1 if magnitude < 1000 else 0
    return _minus(f"{number:,.{digits}f}")


def probability(p: float) -> str:
    """Return a p-value, never rounded down to nothing."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def duration(seconds: float | None) -> str:
    """Return `42 s`, `3 min 05 s` or `2 h 07 min`."""
    if seconds is None:
        return NOTHING
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def amount(number: float | None) -> str:
    """Return a count such as `950`, `12.3 k` or `4.56 M`."""
    if number is None:
        return NOTHING
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= unit:
            scaled = number / (1e3 if name == "k" else unit)
            return f"{scaled:.3g} {name}" if scaled < 1000 else f"{scaled:.0f} {name}"
    return f"{number:,.0f}"


def memory(size_bytes: float | None) -> str:
    """Return a size in MiB or GiB."""
    if size_bytes is None:
        return NOTHING
    mebi = size_bytes / 2**20
    return f"{mebi:.0f} MiB" if mebi < 1024 else f"{mebi / 1024:.2f} GiB"


def several(words: list[str]) -> str:
    """Join words as in a sentence: `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"


def lower(label: str) -> str:
    """Return a label as it stands inside a sentence."""
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]


def _minus(text: str) -> str:
    return text.replace("-", "−") if "e-" not in text else text
