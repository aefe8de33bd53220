"""Calling a data or evaluation method: what it reads is found and loaded, what it leaves out is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kilter import registry
from kilter.errors import KilterError
from kilter.formats import Stream
from kilter.models.desk import attended
from kilter.models.load import load
from kilter.models.protocol import Model, Usage, cuts, used
from kilter.recipe import options as known_options
from kilter.store.rejects import Rejects


@dataclass
class Call:
    """One call of a method, ready to be made: `method(*inputs, **options)`. `read` counts the records it has taken."""

    method: registry.Method
    options: dict[str, Any]
    model: Model | None
    records: Any
    read: int = 0
    _stream: Stream | None = field(default=None, repr=False)
    _before: Usage = field(default_factory=Usage, repr=False)

    def made(self) -> Any:
        """Call the method and return what it gives: records, an evaluation, or what resolves to it."""
        given = {"model": self.model, "records": self.records}
        return self.method.function(*(given.get(name) for name in self.method.inputs), **self.options)

    def notes(self) -> list[str]:
        """Return what there is to say of the records, and of prompts that were cut, once the method is done."""
        return [*(self._stream.notes if self._stream else []), *cuts(self.usage)]

    @property
    def usage(self) -> Usage:
        """What was asked of the model for this, in an interrupted run before it as well where there is a journal."""
        return used(self.model) - self._before

    def _counted(self, records: Iterable[Any]) -> Iterator[Any]:
        for record in records:
            self.read += 1
            yield record


def call(
    method: registry.Method,
    options: dict[str, Any],
    *,
    model: str | Path | Model | None,
    records: Any,
    rejects: Rejects,
) -> Call:
    """Return the call of `method` on a model and records, each by its name or as it is.

    Lines of a file that cannot be read go to `rejects`. Raises KilterError for an input that is missing, and for one
    that the method would not look at.
    """
    given = known_options.complete(method, options)
    for name, value in (("model", model), ("records", records)):
        if value is None and name in known_options.required(method):
            raise KilterError(f"Method '{method.id}' reads {name}; give it one.")
        if value is not None and name not in method.inputs:
            raise KilterError(f"Method '{method.id}' reads no {name}; leave it out.")
    found = Call(method, given, None, records)
    if isinstance(records, str | Path):
        found._stream = records = Stream(records, want=known_options.wanted(method), reject=rejects.unreadable)
    if records is not None and known_options.streams(method):
        found.records = found._counted(records)
    elif isinstance(records, Stream):
        found.records = list(records)
        found.read = len(found.records)
    # After the records: a file of the wrong kind is told before a large model is read.
    if model is not None:
        found.model = load(str(model)) if isinstance(model, str | Path) else attended(model)
        if found.model is model:  # the caller's own, who may have asked it before
            found._before = used(model)
    return found
