"""What a stage depends on, as one short hash: when it is the same, the stage need not run again."""

from __future__ import annotations

import functools
import hashlib
import inspect
from pathlib import Path
from typing import Any

import kilter
from kilter.recipe.plan import Reference, Step
from kilter.records import identify
from kilter.registry import Method
from kilter.store import hash_path

SOURCES = ("*.py", "*.jinja")
BELOW = ("feedback", "models", "engine", "world")


def of_step(step: Step, earlier: dict[str, str], files: Files) -> str:
    """Return the fingerprint of `step`: method and its source, options, what it reads, Kilter's version.

    `earlier` holds the fingerprints of the stages before it.
    """
    return identify(
        [step.kind, step.method.wing, step.method.id, source(step.method), kilter.__version__],
        {name: str(value) for name, value in step.options.items()},
        {label: _read(reference, earlier, files.model) for label, reference in step.models.items()},
        _read(step.records, earlier, files.data) if step.records else None,
        *[[name, _read(reference, earlier, files.model)] for name, reference in step.named.items()],
    )


def _read(reference: Reference, earlier: dict[str, str], of_file: Any) -> list[str]:
    return ["stage", earlier[reference.name]] if reference.stage else ["file", of_file(reference.name)]


@functools.cache
def source(method: Method) -> str:
    """Return a hash of the method's module, its wing and the floors that wings stand on.

    Between releases this changes nothing; who edits a method, the engine or the world sees what it touches run again.
    """
    package = Path(kilter.__file__).parent
    own = inspect.getsourcefile(method.function)
    parts = [package / part for part in (method.wing, *BELOW)]
    files = [file for part in parts for suffix in SOURCES for file in sorted(part.rglob(suffix))]
    digest = hashlib.sha256()
    for file in [*files, *([Path(own)] if own else [])]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


class Files:
    """Content hashes of the files and models outside the run, each computed once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def data(self, name: str) -> str:
        """Return the hash of a data file or folder; a hub id stands for itself."""
        return self._content(Path(name)) if Path(name).exists() else name

    def model(self, name: str) -> str:
        """Return the hash of a checkpoint's files, an adapter's with its base's; what has none stands for itself."""
        from kilter.models.load import VLLM, folders, has_weights
        from kilter.models.mixed import is_mixture, parts

        if is_mixture(name):
            return " ".join([name, *map(self.model, parts(name))])
        if not has_weights(name):
            return name
        if name.startswith(VLLM):
            return VLLM + self.model(name.removeprefix(VLLM))
        return " ".join(self._content(folder) for folder in folders(name))

    def _content(self, path: Path) -> str:
        path = path.resolve()
        if path not in self._known:
            self._known[path] = hash_path(path)
        return self._known[path]
