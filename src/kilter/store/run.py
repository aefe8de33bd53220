"""A run is a folder: `run.json`, one folder a stage, and a lock so that two processes do not share it.

    RUN/.lock            who is at work here
    RUN/run.json         what the run is (written by the recipe)
    RUN/stages/NAME/     a stage's files; `stage.json` is there only when the stage finished
    RUN/stages/.aside/   finished stages that a changed recipe no longer wants, by fingerprint

A stage is known by its fingerprint, a hash of everything it depends on. The same fingerprint finds it finished, or
resumes it in the same folder; another one starts it in an empty folder. Nothing that was finished is ever deleted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kilter.errors import KilterError
from kilter.files import explaining, make_folder, write_json
from kilter.store import lock

_FINISHED = "stage.json"
_STARTED = ".started.json"
_ASIDE = ".aside"


@dataclass
class Stage:
    """One stage of a run. `facts` is what `finish` was given (seconds, tokens, records ...), empty before that."""

    name: str
    folder: Path
    fingerprint: str
    done: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def finish(self, facts: dict[str, Any] | None = None) -> None:
        """Mark the stage finished, atomically; `facts` must be JSON values."""
        self.facts = dict(facts or {})
        content = {"name": self.name, "fingerprint": self.fingerprint, "finished": _now(), "facts": self.facts}
        write_json(self.folder / _FINISHED, content)
        self.done = True


class Run:
    """A run folder that belongs to this process until `close`, the end of a `with` block, or the process's end."""

    def __init__(self, folder: str | Path) -> None:
        """Make `folder` if it is new and lock it; raise KilterError where it is in use, read-only or a file."""
        self.folder = make_folder(folder).absolute()
        lock.acquire(self.folder)
        self._release = weakref.finalize(self, lock.release, self.folder, os.getpid())
        self._sweep()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the folder up; closing twice does no harm."""
        self._release()

    def describe(self, **facts: Any) -> None:
        """Merge `facts` into `run.json`, atomically."""
        write_json(self.folder / "run.json", {**self.description, **facts})

    @property
    def description(self) -> dict[str, Any]:
        """What `run.json` says, empty where there is none yet."""
        return _load(self.folder / "run.json") or {}

    def stage(self, name: str, fingerprint: str) -> Stage:
        """Return the stage `name`: finished (`done`) or to be resumed if `fingerprint` is the same, else empty."""
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise KilterError(f"'{name}' cannot name a stage; use letters, digits, '-', '_' and '.'.")
        folder = self.folder / "stages" / name
        finished = _finished(folder)
        if finished is not None and finished.fingerprint != fingerprint:
            self._set_aside(finished)
            finished = None
        if finished is None:
            finished = self._bring_back(name, fingerprint)
        if finished is not None:
            return finished
        started = _load(folder / _STARTED) or {}
        if folder.exists() and started.get("fingerprint") != fingerprint:
            self._discard(folder)
        make_folder(folder)
        if not (folder / _STARTED).exists():
            write_json(folder / _STARTED, {"name": name, "fingerprint": fingerprint, "started": _now()})
        return Stage(name, folder, fingerprint)

    def _set_aside(self, stage: Stage) -> None:
        place = self._aside(stage.name, stage.fingerprint)
        if place.exists():
            self._discard(place)
        make_folder(place.parent)
        with explaining(stage.folder, "move"):
            os.rename(stage.folder, place)

    def _bring_back(self, name: str, fingerprint: str) -> Stage | None:
        place = self._aside(name, fingerprint)
        if _finished(place) is None:
            return None
        folder = self.folder / "stages" / name
        if folder.exists():
            self._discard(folder)
        with explaining(place, "move"):
            os.rename(place, folder)
        return _finished(folder)

    def _aside(self, name: str, fingerprint: str) -> Path:
        return self.folder / "stages" / _ASIDE / f"{name}-{fingerprint}"

    def _discard(self, folder: Path) -> None:
        """Remove an unfinished folder. It is renamed first: a kill half-way never leaves a half-emptied stage."""
        doomed = folder.with_name(f".tmp-{os.getpid()}-{folder.name}")
        with explaining(folder, "remove"):
            os.rename(folder, doomed)
            shutil.rmtree(doomed)

    def _sweep(self) -> None:
        """Remove what a killed process left half-written; nobody else writes here, since the lock is ours."""
        for path in [*self.folder.glob(".tmp-*"), *self.folder.glob("stages/**/.tmp-*")]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def stages(folder: str | Path) -> list[Stage]:
    """Return the finished stages of a run, by name; reading needs no lock."""
    found = [_finished(path) for path in sorted(Path(folder).glob("stages/*")) if path.name != _ASIDE]
    return [stage for stage in found if stage is not None]


def _finished(folder: Path) -> Stage | None:
    content = _load(folder / _FINISHED)
    if content is None or "fingerprint" not in content:
        return None
    return Stage(content.get("name", folder.name), folder, content["fingerprint"], True, content.get("facts", {}))


def _load(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise KilterError(f"Cannot read {path}: {error.strerror}; check its permissions.") from error
    return content if isinstance(content, dict) else None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
