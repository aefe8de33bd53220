"""Reads what a run left in its folder. A run that is going on, or was stopped, has less to tell; that is no error."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kilter.errors import KilterError
from kilter.evaluation import result
from kilter.evaluation.result import Measure
from kilter.report.settings import Settings
from kilter.store import read_metrics

Sample = dict[str, Any]
Key = tuple[str, str]  # The stage that made a sample, and its id.


@dataclass(slots=True)
class Stage:
    """One stage of a run, and what it cost."""

    name: str
    kind: str
    method: str
    folder: Path
    status: str
    seconds: float | None
    tokens: int | None
    memory: int | None
    records: int | None
    models: dict[str, str]
    notes: list[str]

    @property
    def finished(self) -> bool:
        return self.status in ("done", "kept")


@dataclass(slots=True)
class Run:
    """A run as its run.json tells it."""

    folder: Path
    name: str
    description: str
    recipe: dict[str, Any]
    seed: int | None
    command: str
    versions: dict[str, str]
    machine: dict[str, Any]
    started: str | None
    finished: str | None
    stages: list[Stage]
    settings: Settings

    @property
    def title(self) -> str:
        return self.settings.title or self.name


@dataclass(slots=True)
class Evidence:
    """What all evaluation stages found, by model label: measures by dimension, samples by (stage, id)."""

    labels: list[str] = field(default_factory=list)
    results: dict[str, dict[str, Measure]] = field(default_factory=dict)
    samples: dict[str, dict[Key, Sample]] = field(default_factory=dict)
    notes: list[tuple[str, str, str]] = field(default_factory=list)  # stage, label, sentence
    files: dict[str, Path] = field(default_factory=dict)

    @property
    def dimensions(self) -> list[str]:
        return result.ordered(name for measures in self.results.values() for name in measures)


def run(folder: Path) -> Run:
    """Return the run in `folder`; raise KilterError where there is none."""
    path = folder / "run.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        stages = [_stage(folder, entry) for entry in data["stages"]]
        name = str(data["name"])
    except OSError:
        raise KilterError(f"There is no run in {folder}; give the folder that `kilter run` wrote (--out).") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise KilterError(f"{path} cannot be read as a run; run the recipe again into another folder.") from None
    recipe = data.get("recipe") or {}
    try:
        settings = Settings.model_validate(recipe.get("report") or {})
    except ValidationError as error:
        found = error.errors()[0]
        place = ".".join(str(part) for part in found["loc"])
        raise KilterError(f"The recipe in {path} is wrong at 'report.{place}': {found['msg']}.") from None
    return Run(
        folder=folder,
        name=name,
        description=str(data.get("description") or recipe.get("description") or ""),
        recipe=recipe,
        seed=data.get("seed"),
        command=str(data.get("command") or ""),
        versions={key: str(version) for key, version in (data.get("versions") or {}).items()},
        machine=data.get("machine") or {},
        started=data.get("started"),
        finished=data.get("finished"),
        stages=stages,
        settings=settings,
    )


def evidence(run: Run) -> Evidence:
    """Return what the finished evaluations of `run` found.

    A dimension that several stages measured is told apart as `stage:dimension`.
    """
    found = [
        (stage, label, stage.folder / f"{label}.json")
        for stage in run.stages
        if stage.kind == "eval"
        for label in stage.models
        if (stage.folder / f"{label}.json").is_file()
    ]
    evaluations = [(stage, label, path, result.read(path)) for stage, label, path in found]
    measured: dict[str, set[str]] = {}
    for stage, _, _, evaluation in evaluations:
        for name in evaluation.measures:
            measured.setdefault(name, set()).add(stage.name)
    gathered = Evidence()
    for stage, label, path, evaluation in evaluations:
        names = {n: f"{stage.name}:{n}" for n, stages in measured.items() if len(stages) > 1}
        if label not in gathered.labels:
            gathered.labels.append(label)
        gathered.files.setdefault(label, path)
        measures = gathered.results.setdefault(label, {})
        measures.update({names.get(name, name): measure for name, measure in evaluation.measures.items()})
        samples = gathered.samples.setdefault(label, {})
        for sample in evaluation.samples:
            samples[stage.name, str(sample["id"])] = _renamed(sample, names)
        gathered.notes += [(stage.name, label, note) for note in evaluation.notes]
    return gathered


def metrics(stage: Stage) -> dict[str, list[tuple[float, float]]]:
    """Return the (step, value) points of each number that the training stage logged; a resumed step counts once."""
    rows: dict[float, dict[str, float]] = {}
    for row in read_metrics(stage.folder / "metrics.jsonl"):
        numbers = {k: float(v) for k, v in row.items() if isinstance(v, int | float) and math.isfinite(v)}
        if "step" in numbers:
            rows.setdefault(numbers.pop("step"), {}).update(numbers)
    series: dict[str, list[tuple[float, float]]] = {}
    for step in sorted(rows):
        for name, number in rows[step].items():
            series.setdefault(name, []).append((step, number))
    return series


def _stage(folder: Path, entry: dict[str, Any]) -> Stage:
    name = str(entry["name"])
    models = entry.get("models") or {}
    return Stage(
        name=name,
        kind=str(entry["kind"]),
        method=str(entry.get("method") or ""),
        folder=folder / str(entry.get("folder") or f"stages/{name}"),
        status=str(entry.get("status") or ""),
        seconds=entry.get("seconds"),
        tokens=entry.get("tokens"),
        memory=entry.get("peak_memory_bytes"),
        records=entry.get("records"),
        models=dict(models) if isinstance(models, dict) else {str(label): str(label) for label in models},
        notes=[str(note) for note in entry.get("notes") or []],
    )


def _renamed(sample: Sample, names: dict[str, str]) -> Sample:
    if not names:
        return sample
    keyed = [key for key in ("outcomes", "weights") if key in sample]
    return sample | {key: {names.get(n, n): value for n, value in sample[key].items()} for key in keyed}
