"""What the page's templates read: tables as rows of cells, each with its words and its class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kilter.evaluation.result import Dimension, Measure, dimension, group_of
from kilter.evaluation.statistics import Difference
from kilter.report import numbers
from kilter.report.findings import Findings, Verdict, judged
from kilter.report.read import Run
from kilter.report.worst import Category, Example

LONGEST = 1200  # characters of a response or a prompt's turn that the page shows


@dataclass(frozen=True, slots=True)
class Delta:
    """A change beside a value: `word` is better, worse or unclear."""

    text: str
    against: str
    word: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One model's number in a table."""

    label: str
    place: int
    value: str
    span: str
    deltas: list[Delta] = field(default_factory=list)
    runs: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table of numbers by model."""

    label: str
    note: str
    cells: list[Cell]
    targets: list[tuple[str, str, bool]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Badge:
    """What one sample counted in one dimension; `good` is None for a number that is neither."""

    label: str
    text: str
    good: bool | None


@dataclass(frozen=True, slots=True)
class Answer:
    """One model's response in an example."""

    label: str
    place: int
    text: str
    badges: list[Badge]


@dataclass(frozen=True, slots=True)
class Card:
    """An example as the page shows it: `text` where all models were scored on the same one."""

    head: list[str]
    note: str
    language: str
    turns: list[tuple[str, str]]
    expected: str
    rejected: str
    text: str
    answers: list[Answer]


def results(findings: Findings, runs: Sequence[Findings] = (), groups: Sequence[str] = ("",)) -> list[Line]:
    """Return a row a dimension of `groups`; with `runs`, each cell also tells every seed's own value."""
    lines = []
    for about in findings.dimensions:
        if group_of(about.name) not in groups:
            continue
        cells = []
        for place, label in enumerate(findings.labels):
            measure = findings.results[label].get(about.name)
            steps = [(model, against) for model, against in findings.steps() if model == label]
            found = [findings.comparison(about.name, model, against) for model, against in steps]
            deltas = [_delta(c.difference, about, c.against, c.verdict) for c in found if c is not None]
            each = [run.results[label][about.name].value for run in runs if about.name in run.results.get(label, {})]
            shown = " · ".join(numbers.value(value, about).removesuffix("%").removesuffix(" pp") for value in each)
            cells.append(_cell(label, place, measure, about, deltas, shown))
        sizes = sorted({m.n for m in (findings.results[label].get(about.name) for label in findings.labels) if m})
        counted = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
        targets = [
            ((f"{t.model} " if t.model != findings.final else "") + t.text, t.word, t.met)
            for t in findings.targets
            if t.dimension == about.name
        ]
        note = f"{about.meaning} {about.better[:1].upper()}{about.better[1:]}; n = {counted}."
        lines.append(Line(about.label, note.strip(), cells, targets))
    return lines


def lost(found: Sequence[Category], findings: Findings) -> list[Line]:
    """Return a row a category: each model's number, and under the last one its changes with their intervals."""
    lines = []
    for category in found:
        about = dimension(category.dimension)
        cells = []
        for place, label in enumerate(findings.labels):
            changes = category.changes if label == findings.final else {}
            deltas = [_delta(c, about, against, judged(c, about, c.p)) for against, c in changes.items()]
            cells.append(_cell(label, place, category.measures.get(label), about, deltas))
        lines.append(Line(category.name, f"{about.label}; n = {len(category.keys):,}", cells))
    return lines


def comparisons(findings: Findings) -> list[dict[str, str]]:
    """Return every comparison in words, for a table."""
    rows = []
    for c in findings.comparisons:
        about = dimension(c.dimension)
        rows.append(
            {
                "dimension": about.label,
                "models": f"{c.model} vs {c.against}",
                "change": numbers.change(c.difference.value, about),
                "interval": numbers.span(c.difference, about, signed=True),
                "p": numbers.probability(c.difference.p),
                "adjusted": numbers.probability(c.adjusted),
                "n": f"{c.difference.n:,}" + ("" if c.paired else " (unpaired)"),
                "detectable": numbers.size(c.difference.detectable, about),
                "verdict": c.verdict,
            }
        )
    return rows


def cost(run: Run) -> list[dict[str, Any]]:
    """Return a row a stage: its time, tokens, speed and memory."""
    return [
        {
            "name": stage.name,
            "method": f"{stage.kind} · {stage.method}",
            "seconds": stage.seconds or 0.0,
            "time": numbers.duration(stage.seconds),
            "records": numbers.amount(stage.records),
            "tokens": numbers.amount(stage.tokens),
            "speed": numbers.amount(stage.tokens / stage.seconds if stage.tokens and stage.seconds else None),
            "memory": numbers.memory(stage.memory),
            "status": stage.status,
        }
        for stage in run.stages
    ]


def total(runs: Sequence[Run]) -> dict[str, str]:
    """Return what all stages of `runs` cost together."""
    stages = [stage for run in runs for stage in run.stages]
    memory = max((stage.memory for stage in stages if stage.memory), default=None)
    return {
        "time": numbers.duration(sum(stage.seconds or 0.0 for stage in stages)),
        "tokens": numbers.amount(sum(stage.tokens or 0 for stage in stages)),
        "memory": numbers.memory(memory),
    }


def machine(run: Run) -> str:
    """Return the machine in a line."""
    about = run.machine
    parts = [
        str(about.get("processor") or ""),
        f"{about['cores']} cores" if about.get("cores") else "",
        f"{numbers.memory(about['memory_bytes'])} memory" if about.get("memory_bytes") else "",
        ", ".join(about.get("accelerators") or []) or "no accelerator",
        str(about.get("system") or ""),
    ]
    return " · ".join(part for part in parts if part)


def when(moment: str | None) -> str:
    """Return an ISO 8601 moment as `2026-01-31 12:00 UTC`."""
    if not moment:
        return ""
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    return parsed.strftime("%Y-%m-%d %H:%M") + (f" {parsed.tzname()}" if parsed.tzinfo else "")


def card(example: Example, labels: Sequence[str]) -> Card:
    """Return an example ready to be shown, with long texts cut."""
    sample = example.sample
    language = str(sample.get("language") or "")
    head = [dimension(example.dimension).label] if example.dimension else []
    head += [part for part in (str(sample.get("family") or "").replace("_", " "), language) if part]
    return Card(
        head=head,
        note=example.note,
        language=language if re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]{2,4})?", language) else "",
        turns=[(str(turn["role"]), cut(str(turn["content"]))) for turn in sample.get("prompt") or []],
        expected=cut(str(sample.get("expected") or "")),
        rejected=cut(str(sample.get("rejected") or "")),
        text=cut(str(sample["response"])) if example.alike else "",
        answers=[
            Answer(
                label,
                place,
                cut(str(example.responses[label]["response"])),
                badges(example.responses[label]["outcomes"], example.dimension),
            )
            for place, label in enumerate(labels)
            if label in example.responses
        ],
    )


def badges(outcomes: Mapping[str, float], name: str = "") -> list[Badge]:
    """Return the outcomes of a sample as marks: that of the dimension `name`, or all of them."""
    shown = []
    for key, outcome in outcomes.items():
        about = dimension(key)
        if name not in ("", key) or about.follows:
            continue
        if about.unit == "number":
            shown.append(Badge(about.label, numbers.plain(outcome), None))
        elif about.unit == "share" and outcome not in (0, 1):
            shown.append(Badge(about.label, numbers.value(outcome, about), None))
        else:
            good = outcome == 1 if about.direction == "higher" else outcome == 0
            shown.append(Badge(about.label, "good" if good else "bad", good))
    return shown


def cut(text: str) -> str:
    """Return `text`, or its beginning and how much more there is."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … [{len(text) - LONGEST:,} more characters]"


def _cell(
    label: str, place: int, measure: Measure | None, about: Dimension, deltas: list[Delta], runs: str = ""
) -> Cell:
    if measure is None:
        return Cell(label, place, numbers.NOTHING, "")
    return Cell(label, place, numbers.value(measure.value, about), numbers.span(measure, about), deltas, runs)


def _delta(change: Difference, about: Dimension, against: str, verdict: Verdict) -> Delta:
    return Delta(numbers.change(change.value, about), against, verdict)
