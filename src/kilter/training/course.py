"""Methods that are no single run of the loop: they take their own course from records to a checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel

from kilter.engine import checkpoint, finished
from kilter.engine.loop import METRICS, LoopOptions, TrainResult
from kilter.engine.meter import peak_memory
from kilter.files import make_folder, replacing, write_json
from kilter.records import Record
from kilter.store import fingerprint
from kilter.training.objective import Kind, Role, learns_from

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Course:
    """What such a method shares with others: options of these models, with its own `defaults`."""

    shared: Sequence[type[BaseModel]] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What the function of such a method is given: a model by its name, records, and where the result goes.

    `given` are all options by name, `notes` the sentences on the data so far; `say` tells more.
    """

    method: str
    model: str
    records: list[Record]
    out: Path
    given: Mapping[str, Any]
    notes: list[str]
    overwrite: bool
    say: Callable[[Sequence[str]], None]

    def settings(self) -> dict[str, Any]:
        """Return the method and its options, as JSON can hold them."""
        return {"method": self.method, **self.given}

    def loop(self) -> dict[str, Any]:
        """Return those of its options that are the training loop's."""
        return {name: self.given[name] for name in LoopOptions.model_fields if name in self.given}

    def judging(self, epochs: float, learning_rate: float | None) -> dict[str, Any]:
        """Return the loop's options for a judge that is trained on the way: all of its weights, its own course."""
        given = self.loop()
        own = {"epochs": epochs, "steps": None, "learning_rate": learning_rate or given["learning_rate"]}
        return given | own | {"adapter": "none", "merge": False}

    def part(
        self, method: str, data: Sequence[Record], out: Path, options: Mapping[str, Any], *, model: str | None = None,
        say: Callable[[Sequence[str]], None] = lambda notes: None,
    ) -> TrainResult:  # fmt: skip
        """Run a training that this one is made of, from `model` (default: its own); a finished one is not run again."""
        from kilter.training.run import train  # which knows the methods

        start = model or self.model
        return train(method, model=start, data=data, out=out, overwrite=self.overwrite, say=say, **options)

    def mark(self) -> str:
        """Return a hash of what decides the result."""
        return fingerprint(self.settings(), self.model, [asdict(record) for record in self.records])

    def admit(self) -> TrainResult | None:
        """Return what was found where this very task is finished; None where it may start.

        Raises KilterError where the folder holds something else.
        """
        make_folder(self.out)
        told = finished.admit(self.out, self.mark(), self.settings(), overwrite=self.overwrite)
        if told is None:
            return None
        known = {name: told[name] for name in TrainResult.__dataclass_fields__ if name in told}
        return TrainResult(**known | {"out": self.out, "metrics": self.out / METRICS, "kept": True})

    def finish(
        self, model: Any, tokenizer: Any, *, losses: Sequence[float], tokens: int, started: float, lines: Sequence[Any]
    ) -> TrainResult:
        """Leave `model` in the folder with what is to be said of it; `lines` are those of metrics.jsonl."""
        with replacing(self.out / METRICS) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        seconds = time.perf_counter() - started
        memory = peak_memory(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        notes = list(self.notes)
        result = TrainResult(self.out, self.out / METRICS, len(losses), list(losses), tokens, seconds, memory, notes)
        told = {key: value for key, value in asdict(result).items() if key not in ("out", "metrics", "kept")}
        write_json(self.out / finished.FILE, told | {"mark": self.mark(), "options": self.settings()})
        checkpoint.save_model(model, tokenizer, self.out)
        return result


def takes_its_course(
    kind: Kind, *, trains: Role = "policy", shared: Sequence[type[BaseModel]] = (), **defaults: Any
) -> Callable[[Function], Function]:
    """Mark a method `function(task, *, options) -> TrainResult` that reads records of this kind; see `Course`."""

    def mark(function: Function) -> Function:
        setattr(function, "course", Course(shared, defaults))  # noqa: B010 - no such attribute for the type checker
        return learns_from(kind, trains=trains)(function)

    return mark


def course_of(function: Callable[..., Any]) -> Course | None:
    """Return what a method that takes its own course shares with others; None where it is an objective."""
    found: Course | None = getattr(function, "course", None)
    return found
