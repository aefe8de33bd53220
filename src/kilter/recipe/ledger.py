"""`run.json`: what was asked, by which command, with which versions, on what machine, and how far each stage is.

The report is built from it. It is written anew, whole and atomically, whenever a stage starts or ends.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kilter.errors import KilterError
from kilter.files import write_json
from kilter.recipe.account import machine, versions
from kilter.recipe.plan import Step
from kilter.recipe.schema import Recipe


class Ledger:
    """The open `run.json` of one run folder. Raises KilterError if the folder holds a run of another recipe."""

    def __init__(self, folder: Path, recipe: Recipe, command: str | None) -> None:
        self._path = folder / "run.json"
        before = read(folder) if self._path.exists() else {}
        if before.get("name", recipe.name) != recipe.name:
            raise KilterError(
                f"{folder} holds a run of the recipe '{before['name']}';"
                f" give '{recipe.name}' a folder of its own with --out."
            )
        self._before = {entry["name"]: entry for entry in before.get("stages", [])}
        self._facts: dict[str, Any] = {
            "name": recipe.name,
            "description": recipe.description,
            "recipe": recipe.model_dump(mode="json", exclude_unset=True),
            "seed": recipe.seed,
            "command": command,
            "versions": versions(),
            "machine": machine(),
            "started": before.get("started") or _now(),
            "finished": None,
            "stages": [],
        }
        self._write()

    def stage(self, step: Step, folder: Path, status: str, facts: dict[str, Any]) -> None:
        """Enter how the stage stands: running, done, kept, interrupted (Ctrl-C) or failed."""
        entry: dict[str, Any] = {
            "name": step.name,
            "kind": step.kind,
            "method": step.method.id,
            "folder": folder.relative_to(self._path.parent).as_posix(),
            "status": status,
            **facts,
        }
        if step.kind == "eval":
            entry["models"] = {label: reference.name for label, reference in step.models.items()}
        others = [e for e in self._facts["stages"] if e["name"] != step.name]
        self._facts["stages"] = [*others, entry]
        self._write()

    def spent(self, name: str, fingerprint: str) -> float:
        """Return the seconds that an interrupted run has already put into this very stage."""
        entry = self._before.get(name, {})
        return float(entry.get("seconds") or 0.0) if entry.get("fingerprint") == fingerprint else 0.0

    def notes(self, name: str) -> list[str]:
        """Return what there is to say of the stage's data: lines that could not be read, records left out."""
        return next((list(e.get("notes") or []) for e in self._facts["stages"] if e["name"] == name), [])

    def finish(self) -> None:
        self._facts["finished"] = _now()
        self._write()

    def _write(self) -> None:
        write_json(self._path, self._facts)


def read(folder: Path) -> dict[str, Any]:
    """Return a run folder's `run.json`."""
    path = folder / "run.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KilterError(
            f"{folder} is not a run (it has no run.json); name a folder that `kilter run` made."
        ) from None
    except ValueError:
        raise KilterError(
            f"{path} is damaged; delete it and give the run's command again, finished stages are kept."
        ) from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
