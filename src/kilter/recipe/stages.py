"""What a stage of each kind does, given what it reads and the folder that is its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kilter import formats
from kilter.errors import KilterError
from kilter.evaluation import result
from kilter.models.load import load
from kilter.models.protocol import cuts, used
from kilter.recipe.options import wanted
from kilter.recipe.plan import Reference, Step
from kilter.recipe.schema import Kind
from kilter.recipe.wait import wait

RECORDS = "records.jsonl"


def _path(reference: Reference, run: Path) -> str:
    """Where a stage's product is, or the name as it stands."""
    return str(run / "stages" / reference.name) if reference.stage else reference.name


def _records(step: Step, folder: Path, run: Path) -> tuple[Any, list[str]]:
    """The records that the step reads, or None, and what to say of them; broken lines go to rejects.jsonl."""
    if step.records is None:
        return None, []
    source = Path(_path(step.records, run)) / RECORDS if step.records.stage else step.records.name
    reading = formats.read(source, want=wanted(step.method), rejects=folder / "rejects.jsonl")
    return reading.records, reading.notes


def make(step: Step, folder: Path, run: Path) -> dict[str, Any]:
    """A data stage: call the method, keep its records as `records.jsonl`."""
    given, notes = _records(step, folder, run)
    model = load(_path(step.models["model"], run)) if step.models else None
    have = {"model": model, "records": given}
    records = wait(step.method.function(*(have[name] for name in step.method.inputs), **step.options))
    if not records:
        raise KilterError(f"Method '{step.method.id}' made no records at all; look at its options and at what it read.")
    formats.write(records, folder / RECORDS)
    return {"records": len(records), "tokens": getattr(model, "tokens", None), "notes": [*notes, *cuts(used(model))]}


def fit(step: Step, folder: Path, run: Path) -> dict[str, Any]:
    """A train stage: the folder becomes an ordinary Hugging Face checkpoint."""
    from kilter.training.run import train

    records, notes = _records(step, folder, run)
    model = _path(step.models["model"], run)
    # The runner says the notes when the stage is done, with those on reading.
    done = train(step.method.id, model=model, data=records, out=folder, say=lambda notes: None, **step.options)
    return {"steps": done.steps, "tokens": done.tokens, "notes": [*notes, *done.notes]}


def measure(step: Step, folder: Path, run: Path) -> dict[str, Any]:
    """An eval stage: one `LABEL.json` a model. What an interrupted run has already measured is not measured again."""
    records, notes = _records(step, folder, run)
    tokens = 0
    for label, reference in step.models.items():
        page = folder / f"{label}.json"
        if page.exists():
            tokens += result.read(page).tokens or 0
            continue
        model = load(_path(reference, run))
        have = {"model": model, "records": records}
        evaluation = wait(step.method.function(*(have[name] for name in step.method.inputs), **step.options))
        evaluation.notes = [*evaluation.notes, *cuts(used(model))]
        evaluation.tokens = getattr(model, "tokens", None)
        result.write(evaluation, page)
        tokens += evaluation.tokens or 0
        del model, have  # one model in memory at a time
    return {"models": len(step.models), "tokens": tokens or None, "notes": notes}


RUNNERS: dict[Kind, Callable[[Step, Path, Path], dict[str, Any]]] = {"data": make, "train": fit, "eval": measure}
