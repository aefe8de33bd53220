"""A recipe checked whole, before anything runs: every method, option, reference, model and file of every stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kilter import formats, registry
from kilter.errors import KilterError, nearest
from kilter.recipe import options
from kilter.recipe.schema import WING, Kind, Recipe, Stage, within

PRODUCES: dict[Kind, str] = {"data": "records", "train": "a model", "eval": "measures"}


@dataclass(frozen=True)
class Reference:
    """What a stage reads: an earlier stage's product, or a model or file by its own name."""

    name: str
    stage: bool


@dataclass(frozen=True)
class Step:
    """One stage, ready to run: the method found, its options complete, its references told apart."""

    name: str
    kind: Kind
    method: registry.Method
    options: dict[str, Any]
    models: dict[str, Reference] = field(default_factory=dict)
    records: Reference | None = None
    named: dict[str, Reference] = field(default_factory=dict)  # earlier stages that options name, by that name


def plan(recipe: Recipe) -> list[Step]:
    """Return the steps of a resolved recipe; raise KilterError for the first thing in it that could not work."""
    steps: list[Step] = []
    for name, stage in recipe.stages.items():
        with within(name):
            method = registry.find(stage.method, WING[stage.kind])
            given = options.complete(method, _told(name, stage, method), recipe.seed)
        models = _models(name, stage, steps, recipe)
        records = _records(name, stage, steps, recipe)
        _supplied(name, stage, method, models, records)
        named = _named(name, given, steps, recipe) if stage.kind == "train" else {}
        steps.append(Step(name, stage.kind, method, given, models, records, named))
    recipe.report.check([label for step in steps if step.kind == "eval" for label in step.models])
    return steps


def _told(name: str, stage: Stage, method: registry.Method) -> dict[str, Any]:
    """Return the options of a stage, with the feedback that stands beside them among them."""
    if stage.feedback is None:
        return stage.options
    if "feedback" not in options.names(method):
        raise KilterError(f"method '{method.id}' takes no feedback; take that key out of the stage.")
    if "feedback" in stage.options:
        raise KilterError("it has feedback twice, in the stage and in its options; leave one of them.")
    return {**stage.options, "feedback": stage.feedback}


def _named(name: str, given: dict[str, Any], steps: list[Step], recipe: Recipe) -> dict[str, Reference]:
    """Return the stages whose models a training's feedback, critic or black box are."""
    from kilter.feedback.named import is_own

    wanted = [judge for judge in _judges(given) if not is_own(judge)]
    wanted += [given.get(option) or "" for option in ("critic", "box")]
    return {judge: _reference(name, judge, "train", steps, recipe) for judge in wanted if judge in recipe.stages}


def _judges(given: dict[str, Any]) -> list[str]:
    told = [given.get(name) or () for name in ("feedback", "gold", "cost")]
    return [name for judges in told for name in ([judges] if isinstance(judges, str) else judges)]


def check_literals(steps: list[Step]) -> None:
    """Raise KilterError for a model or a file that the steps name and that is not there or cannot be read."""
    from kilter.models.load import admit, checkpoint
    from kilter.models.mixed import parts

    seen: set[str] = set()
    for step in steps:
        with within(step.name):
            for reference in step.models.values():
                if not reference.stage and reference.name not in seen:
                    seen.add(reference.name)
                    if step.kind == "train":
                        checkpoint(reference.name)
                    else:
                        for name in parts(reference.name):
                            admit(name)
            _check_feedback(step)
            if step.records is not None and not step.records.stage:
                formats.Stream(step.records.name, want=options.wanted(step.method))


def _check_feedback(step: Step) -> None:
    """Raise KilterError for feedback of a step that is neither an earlier stage's model nor there by itself."""
    from kilter.feedback.named import admit

    for name in _judges(step.options) if step.kind == "train" else ():
        if name not in step.named:
            admit(name)


def _models(name: str, stage: Stage, steps: list[Step], recipe: Recipe) -> dict[str, Reference]:
    if stage.models is not None:
        return {label: _reference(name, model, "train", steps, recipe) for label, model in stage.models.items()}
    if stage.model is None:
        return {}
    reference = _reference(name, stage.model, "train", steps, recipe)
    # An eval stage of one model: the model's own name is its label, as far as it can be a file's name.
    label = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(stage.model).name) or "model"
    return {label if stage.kind == "eval" else "model": reference}


def _records(name: str, stage: Stage, steps: list[Step], recipe: Recipe) -> Reference | None:
    return None if stage.records is None else _reference(name, stage.records, "data", steps, recipe)


def _reference(name: str, target: str, kind: Kind, steps: list[Step], recipe: Recipe) -> Reference:
    """Tell an earlier stage from a name of its own; refuse a later stage and one that makes something else."""
    for step in steps:
        if step.name == target:
            if step.kind != kind:
                raise KilterError(
                    f"Stage '{name}' reads '{target}' as {PRODUCES[kind]}, but that stage makes {PRODUCES[step.kind]};"
                    f" name {_these(kind, steps)}."
                )
            return Reference(target, True)
    if target in recipe.stages:
        raise KilterError(f"Stage '{name}' reads '{target}', which does not run before it; move '{target}' up.")
    if not target:
        raise KilterError(f"Stage '{name}' reads an empty name; give it a stage, a path or a hub id.")
    looks_like_a_stage = "/" not in target and "." not in target and not Path(target).exists()
    earlier = [step.name for step in steps if step.kind == kind]
    if looks_like_a_stage and nearest(target, earlier):
        raise KilterError(
            f"Stage '{name}' reads '{target}', which no earlier stage is called.{nearest(target, earlier)}"
        )
    return Reference(target, False)


def _these(kind: Kind, steps: list[Step]) -> str:
    found = [f"'{step.name}'" for step in steps if step.kind == kind]
    return f"a {kind} stage ({', '.join(found)})" if found else f"a {kind} stage, a path or a hub id"


def _supplied(
    name: str, stage: Stage, method: registry.Method, models: dict[str, Reference], records: Reference | None
) -> None:
    """Refuse a stage that lacks what its method reads, or that names what its method would not look at."""
    have = {"model": bool(models), "records": records is not None}
    if stage.kind == "train":
        required = taken = {"model", "records"}
    else:
        required, taken = options.required(method), set(method.inputs)
    for missing in sorted(i for i in required if not have.get(i)):
        if missing not in have:
            raise KilterError(
                f"Stage '{name}': method '{method.id}' needs '{missing}', which recipes cannot give; use Python."
            )
        key = "models: {LABEL: MODEL}" if stage.kind == "eval" and missing == "model" else f"{missing}: NAME"
        raise KilterError(f"Stage '{name}': method '{method.id}' reads {missing}; add '{key}' to the stage.")
    for extra in sorted(i for i, given in have.items() if given and i not in taken):
        raise KilterError(f"Stage '{name}': method '{method.id}' reads no {extra}; take that key out of the stage.")
