"""Records one at a time, out of files that need not fit into memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kilter.errors import KilterError
from kilter.formats.kinds import as_kind
from kilter.formats.reading import Reading, Reject, nothing, open_table, wrong_kind
from kilter.formats.shape import KINDS, Losses, Want
from kilter.formats.sources import tables
from kilter.notes import ended
from kilter.records import Record


class Stream(Iterator[Record]):
    """The records of a source, in order, each read when it is its turn. `notes` are complete at the end.

    What `formats.read` says of sources and `want` holds here as well. A file that is one JSON value is read whole, as
    are message trees, whose rows do not stand alone; JSONL and Parquet are not.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        want: Want | None = None,
        reject: Callable[[dict[str, Any]], None] = lambda line: None,
    ) -> None:
        """`reject` is given each line that cannot be read: its file, number, reason and text.

        Raises KilterError where nothing can be read at all, or nothing of the kind that is wanted.
        """
        self.source, self.want, self._reject = str(source), want, reject
        self.rejected = 0
        self._failures: list[KilterError] = []
        self._losses = Losses()
        self._records = self._all()
        first = next(self._records)  # raises at once what would be wrong with all of it
        self._records = itertools.chain([first], self._records)

    @property
    def notes(self) -> list[str]:
        """Sentences on what was left out so far, but for the lines that could not be read."""
        return [*(f"Left out: {error}" for error in self._failures), *map(ended, self._losses.sentences())]

    def __next__(self) -> Record:
        return next(self._records)

    def _all(self) -> Iterator[Record]:
        """Yield the records of the wanted kind; raise KilterError where there is none."""
        unread: list[Reject] = []  # the first one, for the sentence
        other: Record | None = None
        found = False
        parts = tables(self.source)
        for table in parts:
            try:
                _, outcomes = open_table(table, self.want)
            except KilterError as error:
                if len(parts) == 1:
                    raise
                self._failures.append(error)
                continue
            for outcome in outcomes:
                if isinstance(outcome, Reject):
                    self.rejected += 1
                    unread = unread or [outcome]
                    self._reject(outcome.to_json())
                    continue
                for record in outcome:
                    kept = as_kind(record, (KINDS[self.want],), self._losses) if self.want else record
                    if kept is None:
                        other = other or record
                    else:
                        found = True
                        yield kept
        if found:
            return
        if other is not None and self.want is not None:
            raise KilterError(wrong_kind(self.source, Reading([other], "", 0), self.want))
        raise self._failures[0] if self._failures else KilterError(nothing(unread, self.source, self.rejected))
