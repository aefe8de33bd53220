"""What the ways of decoding share: which function steers, the experts that are trained for it, the folder it leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from kilter.engine import finished
from kilter.engine.loop import METRICS, TrainResult
from kilter.engine.steered import Steering
from kilter.errors import KilterError
from kilter.models import steered
from kilter.models.load import DECODING, checkpoint
from kilter.records import Demonstration, Group, Message, Record
from kilter.training.course import Task

Function = TypeVar("Function", bound=Callable[..., Any])


def steers(steer: Callable[..., Any]) -> Callable[[Function], Function]:
    """Mark a method as a way of decoding, of which `steer(own, others, *, options)` makes the distribution."""

    def mark(function: Function) -> Function:
        setattr(function, "steers", steer)  # noqa: B010 - a function has no such attribute for the type checker
        return function

    return mark


def examples(records: Sequence[Record], good: bool, method: str) -> list[Demonstration]:
    """Return the responses that are labelled (or, where all have scores only, scored) as good, or as bad, to imitate.

    Of groups with scores alone the bad are those below the best, and the good those that are the best. Raises
    KilterError where there is none.
    """
    found = []
    for group in records:
        if not isinstance(group, Group):
            continue
        order = group.order() or []
        labels = group.labels if group.labels is not None else [value == max(order) for value in order]
        for response, label in zip(group.responses, labels, strict=True):
            if label == good and response.strip():
                found.append(Demonstration([*group.prompt, Message("assistant", response)], meta=group.meta))
    if not found:
        kind = "good" if good else "bad"
        raise KilterError(f"'{method}' learns from {kind} responses, and no record has one; give labels or scores.")
    return found


def leave(
    task: Task,
    options: Mapping[str, Any],
    *,
    experts: Mapping[str, Sequence[Demonstration]] | None = None,
    prefixes: Sequence[str] = (),
) -> TrainResult:
    """Train the experts, each by `sft` on what it imitates, into folders of task.out, and say there how to decode.

    What is finished is kept, as in every training. Raises KilterError for a folder that holds something else.
    """
    known = task.out / DECODING
    told = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}
    if told.get("mark") == task.mark() and not task.overwrite:
        return TrainResult(task.out, task.out / METRICS, 0, [], 0, 0.0, 0, list(task.notes), kept=True)
    if told and not task.overwrite:
        raise KilterError(
            f"{task.out} holds another way of decoding; choose another folder, or say --overwrite (overwrite=True)."
        )
    checkpoint(task.model)
    finished.admit(task.out, task.mark(), task.settings(), overwrite=task.overwrite)
    known.unlink(missing_ok=True)
    begun, done = time.perf_counter(), []
    given = task.loop()
    for name, some in (experts or {}).items():
        done.append(task.part("sft", list(some), task.out / name, given, say=task.say))
    task.out.mkdir(parents=True, exist_ok=True)
    steered.write(
        task.out,
        task.method,
        task.model,
        dict(options),
        experts=list(experts or {}),
        prefixes=prefixes,
        mark=task.mark(),
    )
    return TrainResult(
        task.out,
        done[0].metrics if done else task.out / METRICS,
        sum(one.steps for one in done),
        [loss for one in done for loss in one.losses],
        sum(one.tokens for one in done),
        time.perf_counter() - begun,
        max((one.peak_memory for one in done), default=0),
        [*task.notes, *(note for one in done for note in one.notes)],
    )


__all__ = ["Steering", "examples", "leave", "steers"]
