"""What a stage of each kind does, given what it reads and the folder that is its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kilter import formats
from kilter.evaluation import result
from kilter.models.desk import Desk
from kilter.recipe.calling import call
from kilter.recipe.making import make_file
from kilter.recipe.options import wanted
from kilter.recipe.plan import Reference, Step
from kilter.recipe.schema import Kind
from kilter.recipe.wait import wait
from kilter.store.rejects import Rejects

RECORDS = "records.jsonl"
JUDGES = {"feedback", "gold", "cost", "critic", "box"}  # options of training that may name an earlier stage
JOURNAL = "journal.sqlite"  # of all stages together: a stage that begins anew finds the answers that still hold


def _path(reference: Reference, run: Path) -> str:
    """Where a stage's product is, or the name as it stands."""
    return str(run / "stages" / reference.name) if reference.stage else reference.name


def _source(reference: Reference, run: Path) -> str:
    """The file, folder or hub id of the records that a stage reads."""
    return str(Path(_path(reference, run)) / RECORDS) if reference.stage else reference.name


def _records(step: Step, folder: Path, run: Path) -> tuple[Any, list[str]]:
    """The records that the step reads, or None, and what to say of them; broken lines go to rejects.jsonl."""
    if step.records is None:
        return None, []
    reading = formats.read(_source(step.records, run), want=wanted(step.method), rejects=folder / "rejects.jsonl")
    return reading.records, reading.notes


def make(step: Step, folder: Path, run: Path) -> dict[str, Any]:
    """A data stage: call the method, keep its records as `records.jsonl`, its models' answers in the run's journal."""
    desk = Desk(run / JOURNAL, local=True, purpose=step.name)
    made = make_file(
        step.method,
        step.options,
        out=folder / RECORDS,
        rejects=folder / "rejects.jsonl",
        desk=desk,
        model=_path(step.models["model"], run) if step.models else None,
        records=_source(step.records, run) if step.records else None,
    )
    asked = {"account": made.account} if made.account["requests"] else {}
    return {"records": made.records, "tokens": desk.usage.tokens or None, "notes": made.notes, **asked}


def fit(step: Step, folder: Path, run: Path) -> dict[str, Any]:
    """A train stage: the folder becomes an ordinary Hugging Face checkpoint."""
    from kilter.training.run import train

    records, notes = _records(step, folder, run)
    model = _path(step.models["model"], run)
    # The runner says the notes when the stage is done, with those on reading.
    given = {**step.options}
    for name in JUDGES & given.keys():
        given[name] = _named(given[name], step, run)
    done = train(step.method.id, model=model, data=records, out=folder, say=lambda notes: None, **given)
    return {"steps": done.steps, "tokens": done.tokens, "notes": [*notes, *done.notes]}


def _named(value: Any, step: Step, run: Path) -> Any:
    """Put the path in the place of the name of an earlier stage, which an option may be or weigh."""
    if isinstance(value, dict):
        return {_named(name, step, run): weight for name, weight in value.items()}
    return _path(step.named[value], run) if isinstance(value, str) and value in step.named else value


def measure(step: Step, folder: Path, run: Path) -> dict[str, Any]:
    """An eval stage: one `LABEL.json` a model. What an interrupted run has already measured is not measured again."""
    records, notes = _records(step, folder, run)
    tokens = 0
    for label, reference in step.models.items():
        page = folder / f"{label}.json"
        if page.exists():
            tokens += result.read(page).tokens or 0
            continue
        # One model in memory at a time: all that holds it is gone before the next is loaded.
        with Desk(run / JOURNAL, purpose=f"{step.name} {label}"), Rejects(folder / f"{label}.rejects.jsonl") as kept:
            begun = call(step.method, step.options, model=_path(reference, run), records=records, rejects=kept)
            evaluation = wait(begun.made())
            evaluation.notes = [*evaluation.notes, *begun.notes(), *kept.sentences()]
            evaluation.tokens = begun.usage.tokens or None
            result.write(evaluation, page)
            tokens += evaluation.tokens or 0
            del begun
    return {"models": len(step.models), "tokens": tokens or None, "notes": notes}


RUNNERS: dict[Kind, Callable[[Step, Path, Path], dict[str, Any]]] = {"data": make, "train": fit, "eval": measure}
