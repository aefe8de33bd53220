"""Several runs of one recipe, alike but for their seed, as one finding: means over the runs with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kilter.errors import KilterError
from kilter.evaluation import statistics
from kilter.evaluation.result import Measure, dimension
from kilter.report import findings as found
from kilter.report import read
from kilter.report.findings import Comparison, Findings
from kilter.report.read import Evidence, Run


def gather(folders: Sequence[Path]) -> tuple[list[Run], list[Evidence], list[Findings]]:
    """Return the runs by seed. Raises KilterError where they cannot be put together."""
    if not folders:
        raise KilterError("There are no runs to combine; name at least one run's folder.")
    runs = sorted((read.run(folder) for folder in folders), key=lambda run: run.seed or 0)
    names = sorted({run.name for run in runs})
    if len(names) > 1:
        raise KilterError(f"These runs are of different recipes ({', '.join(names)}); combine runs of one.")
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise KilterError(f"Two of these runs have the same seed ({seeds}); combine runs that differ in their seed.")
    evidence = [read.evidence(run) for run in runs]
    if any(one.labels != evidence[0].labels for one in evidence):
        odd = next(run for run, one in zip(runs, evidence, strict=True) if one.labels != evidence[0].labels)
        raise KilterError(f"The run in {odd.folder} did not measure the same models as the others; finish it first.")
    return runs, evidence, [found.find(one, run.settings) for run, one in zip(runs, evidence, strict=True)]


def mean(runs: Sequence[Run], evidence: Sequence[Evidence], each: Sequence[Findings]) -> Findings:
    """Return the findings of all runs as one: means over the seeds, targets and verdict judged on those."""
    first = each[0]
    names = [d for d in first.dimensions if all(d in one.dimensions for one in each)]
    shared = {d.name: _shared(d.name, first.final, evidence) for d in names}
    results: dict[str, dict[str, Measure]] = {label: {} for label in first.labels}
    for label in first.labels:
        for about in names:
            measures = [one.results[label].get(about.name) for one in each]
            known = [measure for measure in measures if measure is not None]
            if len(known) == len(each):
                total = statistics.over_seeds(known, shared=shared[about.name])
                results[label][about.name] = _inside(total) if about.unit == "share" else total
    comparisons = []
    for c in first.comparisons:
        alike = [one.comparison(c.dimension, c.model, c.against) for one in each]
        known_changes = [other.difference for other in alike if other is not None]
        if len(known_changes) == len(each):
            change = statistics.differences_over_seeds(known_changes, shared=shared[c.dimension])
            comparisons.append(Comparison(c.dimension, c.model, c.against, change, 1.0, c.paired))
    total_findings = replace(
        first, dimensions=names, results=results, comparisons=found.adjust(comparisons), targets=[]
    )
    total_findings.targets = found.check(total_findings, runs[0].settings)
    return total_findings


def _shared(name: str, label: str, evidence: Sequence[Evidence]) -> bool:
    """Whether the runs were measured on the same prompts, by and large."""
    counted = dimension(name).follows or name
    keys = [{key for key, s in one.samples.get(label, {}).items() if counted in s["outcomes"]} for one in evidence]
    everything, common = set.union(*keys), set.intersection(*keys)
    return not everything or len(common) > len(everything) / 2


def _inside(measure: Measure) -> Measure:
    """A share has no more than all and no less than nothing."""
    return replace(measure, low=max(measure.low, 0.0), high=min(measure.high, 1.0))
