"""The report as plain data: what report.json holds, for programs to read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from kilter.evaluation.statistics import Difference
from kilter.report.findings import Comparison, Findings
from kilter.report.notes import Note
from kilter.report.read import Run
from kilter.report.worst import Category, worse


def run(
    run: Run, found: Findings, categories: Sequence[Category], notes: Sequence[Note], verdict: str
) -> dict[str, Any]:
    """Return the report of one run; `results[model][dimension]` is {value, low, high, n}."""
    return {
        **_findings(found, run, verdict),
        "seed": run.seed,
        "command": run.command,
        "started": run.started,
        "finished": run.finished,
        "worst": [_category(category) for category in worse(categories)],
        "notes": [note.to_json() for note in notes],
        "cost": cost(run),
    }


def seeds(
    runs: Sequence[Run], found: Findings, each: Sequence[Findings], notes: Sequence[Note], verdict: str
) -> dict[str, Any]:
    """Return the report of several runs: the means, and every run's own results."""
    return {
        **_findings(found, runs[0], verdict),
        "seeds": [run.seed for run in runs],
        "commands": [run.command for run in runs],
        "runs": [{"seed": run.seed, "results": _results(one)} for run, one in zip(runs, each, strict=True)],
        "notes": [note.to_json() | {"seeds": note.seeds} for note in notes],
        "cost": [cost(run) for run in runs],
    }


def cost(run: Run) -> dict[str, Any]:
    """Return what the stages cost, each and together."""
    stages = [
        {
            "name": stage.name,
            "kind": stage.kind,
            "method": stage.method,
            "status": stage.status,
            "seconds": stage.seconds,
            "records": stage.records,
            "tokens": stage.tokens,
            "peak_memory_bytes": stage.memory,
        }
        for stage in run.stages
    ]
    return {
        "seconds": round(sum(stage.seconds or 0.0 for stage in run.stages), 3),
        "tokens": sum(stage.tokens or 0 for stage in run.stages),
        "peak_memory_bytes": max((stage.memory for stage in run.stages if stage.memory), default=None),
        "stages": stages,
    }


def _findings(found: Findings, run: Run, verdict: str) -> dict[str, Any]:
    return {
        "name": run.name,
        "title": run.title,
        "description": run.description,
        "verdict": verdict,
        "models": found.labels,
        "baseline": found.baseline,
        "dimensions": {
            about.name: {
                "label": about.label,
                "direction": about.direction,
                "unit": about.unit,
                "meaning": about.meaning,
            }
            for about in found.dimensions
        },
        "results": _results(found),
        "comparisons": [_comparison(comparison) for comparison in found.comparisons],
        "targets": [
            {
                "dimension": target.dimension,
                "model": target.model,
                "target": target.text,
                "met": target.met,
                "beyond_interval": target.sure,
            }
            for target in found.targets
        ],
        "versions": run.versions,
        "machine": run.machine,
        "recipe": run.recipe,
    }


def _results(found: Findings) -> dict[str, dict[str, Any]]:
    return {
        label: {name: measure.to_json() for name, measure in measures.items()}
        for label, measures in found.results.items()
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "dimension": comparison.dimension,
        "model": comparison.model,
        "against": comparison.against,
        **_difference(comparison.difference),
        "p_adjusted": comparison.adjusted,
        "paired": comparison.paired,
        "verdict": comparison.verdict,
    }


def _difference(difference: Difference) -> dict[str, Any]:
    ends = {"value": difference.value, "low": difference.low, "high": difference.high}
    finite = {name: number if math.isfinite(number) else None for name, number in ends.items()}
    return {**finite, "n": difference.n, "p": difference.p}


def _category(category: Category) -> dict[str, Any]:
    return {
        "dimension": category.dimension,
        "family": category.family,
        "language": category.language,
        "n": len(category.keys),
        "beyond_interval": category.sure,
        "results": {label: measure.to_json() for label, measure in category.measures.items()},
        "changes": {against: _difference(change) for against, change in category.changes.items()},
    }
