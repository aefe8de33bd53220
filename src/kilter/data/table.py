"""Rows of a file that are no records yet: questions of an exam, facts, functions, a data set with its columns."""

from __future__ import annotations

from collections.abc import Iterator

from kilter.errors import KilterError
from kilter.formats.shape import Row
from kilter.formats.sources import tables
from kilter.store import rejects


def rows(source: str) -> Iterator[tuple[str, Row]]:
    """Yield (file and number, row) of each row in `source`; lines that cannot be read go to the run's rejects.

    Raises KilterError where there is no such file, and where it holds no row at all.
    """
    if not source.strip():
        raise KilterError("The name of the file of rows is empty; name a file, a folder or a hub id.")
    kept = rejects.current()
    none = True
    for table in tables(source):
        for line in table.lines():
            if line.row is not None:
                none = False
                yield f"{table.name.rsplit('/', 1)[-1]}:{line.number}", line.row
            elif kept is not None:
                kept.unreadable(
                    {"file": table.name, "line": line.number, "reason": line.reason, "text": line.raw[:500]}
                )
    if none:
        raise KilterError(f"'{source}' holds no rows; give a file of JSON objects.")


def cell(row: Row, *names: str) -> str:
    """Return the first of these columns that holds something, as text; "" where none does."""
    found = next((row[name] for name in names if row.get(name) not in (None, "")), "")
    return found.strip() if isinstance(found, str) else str(found)
