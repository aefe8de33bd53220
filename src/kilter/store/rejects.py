"""What a run leaves out: a line each in `<out>.rejects.jsonl`, and a count a rule.

Two kinds of lines: what could not be read ({"file", "line", "reason", "text"}) and what was set aside on the way
({"rule", "reason", "item"}), the first before the second and each in the order of the input. The file is there, whole,
when the run has ended; where nothing was left out, there is none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextvars import ContextVar, Token
from pathlib import Path
from typing import IO, Any

from kilter.errors import KilterError, SetAside
from kilter.files import explaining, make_folder, one_line, replacing
from kilter.notes import ended

LONGEST = 2000  # characters of an item's text that are worth keeping; a ten-megabyte answer is not


class Rejects:
    """The rejects of one run. Within `with Rejects(path):` it is what `current` returns; the end writes the file.

    `counts` are the items set aside by rule, `unread` the lines that could not be read. Without a path it only counts.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else None
        self.counts: Counter[str] = Counter()
        self.unread = 0
        self._first: dict[str, str] = {}
        # Kept on disk as they come, apart from each other, for they come in whatever order the reading is ahead.
        self._parts: dict[str, IO[str]] = {}
        self._token: Token[Rejects | None] | None = None

    def set_aside(self, item: Any, why: SetAside) -> None:
        """Enter an item that could not be done."""
        self.counts[why.rule] += 1
        self._first.setdefault(why.rule, str(why))
        self._keep("aside", {"rule": why.rule, "reason": str(why), "item": _plain(item)})

    def unreadable(self, line: Mapping[str, Any]) -> None:
        """Enter a line of the input that could not be read: its file, number, reason and text."""
        self.unread += 1
        self._first.setdefault("", f"line {line.get('line')} of {line.get('file')}: {line.get('reason')}")
        self._keep("unread", dict(line))

    @property
    def total(self) -> int:
        """How many items were set aside; unreadable lines never were items."""
        return self.counts.total()

    def sentences(self) -> list[str]:
        """Return what to tell the user: how many were left out by which rule, and why the first of each was."""
        where = f" See {self.path}." if self.path else ""
        told = []
        if self.unread:
            told.append(
                f"{_lines(self.unread)} could not be read, the first is {ended(self._first[''])}{where}",
            )
        for rule, count in self.counts.most_common():
            items = "item was" if count == 1 else "items were"
            told.append(f"{count:,} {items} set aside ({rule}), the first because: {ended(self._first[rule])}{where}")
        return told

    def __enter__(self) -> Rejects:
        self._token = _current.set(self)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._token is not None:
            with contextlib.suppress(ValueError):  # closed in another context than it was opened in
                _current.reset(self._token)
            self._token = None
        try:
            if kind is None:
                self._write()
        finally:
            for part in self._parts.values():
                part.close()
            self._parts = {}

    def _keep(self, part: str, line: dict[str, Any]) -> None:
        if self.path is None:
            return
        with explaining(self.path, "write"):
            if part not in self._parts:
                # Nameless: whatever ends the process, nothing half written stays behind.
                folder = make_folder(self.path.parent)
                self._parts[part] = tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)  # noqa: SIM115
            self._parts[part].write(one_line(line) + "\n")

    def _write(self) -> None:
        if self.path is None:
            return
        if not self._parts:
            # An older file of that name would tell of a run that is past.
            with explaining(self.path, "remove"):
                self.path.unlink(missing_ok=True)
            return
        with replacing(self.path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as whole:
            for name in ("unread", "aside"):
                if name in self._parts:
                    self._parts[name].seek(0)
                    shutil.copyfileobj(self._parts[name], whole)


def current() -> Rejects | None:
    """Return the rejects of the run that this code is part of, None outside of one."""
    return _current.get()


def set_aside(item: Any, reason: str, rule: str) -> None:
    """Enter `item` in the rejects of the run; for code that looks at many items at once (a filter, a deduplicator).

    Raises KilterError outside of a run, where it would be lost without a word.
    """
    rejects = current()
    if rejects is None:
        raise KilterError("Items are set aside here and nobody keeps them; call this within `with Rejects(path):`.")
    rejects.set_aside(item, SetAside(reason, rule))


_current: ContextVar[Rejects | None] = ContextVar("rejects", default=None)


def _plain(value: Any) -> Any:
    """Return `value` as JSON values: data classes as objects, long texts cut."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST else value[:LONGEST] + f"… ({len(value):,} characters)"
    if value is None or isinstance(value, bool | int | float):
        return value
    if hasattr(value, "to_json"):
        return _plain(value.to_json())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: _plain(inner) for name, inner in fields if inner not in (None, {}, [])}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return _plain(str(value))


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count:,} lines"
