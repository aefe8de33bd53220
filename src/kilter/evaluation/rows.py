"""Judgements, votes and scores that were stored: read as plain rows, one at a time, with a word on what was left out.

JSON, JSONL, gzip, Parquet, a folder of them or a hub id, as `kilter.formats` finds them; and CSV or TSV, in which
everything is text. A row that cannot be used is counted, never taken for a loss, a tie or a zero.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kilter.errors import KilterError, nearest
from kilter.feedback.numbers import number as number
from kilter.files import explaining
from kilter.formats import sources

Row = dict[str, Any]
SEPARATORS = {".csv": ",", ".tsv": "\t"}


@dataclass(slots=True)
class LeftOut:
    """Counts rows that could not be used, by reason, with the first of each to show."""

    reasons: Counter[str] = field(default_factory=Counter)
    shown: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, example: object = "") -> None:
        self.reasons[reason] += 1
        self.shown.setdefault(reason, str(example)[:80])

    @property
    def total(self) -> int:
        return self.reasons.total()

    def notes(self, what: str, of: int) -> list[str]:
        """Return one sentence a reason: `3 of 100 battles count for nobody: the verdict is unknown (first: 'x').`"""
        told = []
        for reason, count in self.reasons.most_common():
            first = f" (first: {self.shown[reason]})" if self.shown[reason] else ""
            told.append(f"{count:,} of {of:,} {what} left out: {reason}{first}.")
        return told


def stream(data: str | Path, left_out: LeftOut) -> Iterator[Row]:
    """Yield the rows of a file, folder or hub id; lines that are no row are counted in `left_out`.

    Raises KilterError where nothing is there or nothing can be read.
    """
    path = Path(data)
    if path.suffix.lower() in SEPARATORS and path.is_file():
        yield from _separated(path, SEPARATORS[path.suffix.lower()])
        return
    if path.suffix.lower() == ".jsonl" and path.is_file() and _starts_with_a_row(path):
        yield from _lines(path, left_out)
        return
    for table in sources.tables(data):
        for line in table.lines():
            if line.row is None:
                left_out.add("a line is no JSON object", f"line {line.number} of {table.name}, {line.reason}")
            else:
                yield line.row


def read(data: str | Path, needs: Sequence[str] = ()) -> tuple[list[Row], list[str]]:
    """Return the rows of `data`, and sentences on lines that are none. `needs` are columns that the rows must have.

    Raises KilterError where there is no row, or where no row has the columns, naming those that are there.
    """
    left_out = LeftOut()
    rows = list(stream(data, left_out))
    if not rows:
        raise KilterError(f"{data} holds no rows; give a file with at least one.")
    need(rows, needs, str(data))
    return rows, left_out.notes("lines", len(rows) + left_out.total)


def need(rows: Sequence[Row], columns: Iterable[str], where: str) -> None:
    """Raise KilterError unless each of `columns` occurs in some row."""
    there = list(dict.fromkeys(str(name) for row in rows for name in row))
    for name in columns:
        if name not in there:
            shown = ", ".join(there[:12])
            raise KilterError(f"{where} lacks the column '{name}'; it has {shown}.{nearest(name, there)}")


def _starts_with_a_row(path: Path) -> bool:
    with explaining(path, "read"), path.open("rb") as file:
        try:
            return isinstance(json.loads(file.readline().decode("utf-8-sig")), dict)
        except (ValueError, RecursionError):
            return False


def _lines(path: Path, left_out: LeftOut) -> Iterator[Row]:
    """The rows of a JSONL file by the shortest way: there may be millions of them."""
    decode = json.JSONDecoder().decode
    with explaining(path, "read"), path.open("rb") as file:
        for at, raw in enumerate(file, 1):
            try:
                row = decode(raw.decode("utf-8-sig" if at == 1 else "utf-8"))
            except (ValueError, RecursionError) as error:
                if raw.strip():
                    left_out.add("a line is no JSON object", f"line {at} of {path}, {error}")
                continue
            if isinstance(row, dict):
                yield row
            else:
                left_out.add("a line is no JSON object", f"line {at} of {path}")


def _separated(path: Path, separator: str) -> Iterator[Row]:
    csv.field_size_limit(2**27)  # some cells hold whole documents
    with explaining(path, "read"), path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file, delimiter=separator):
            yield {str(name): value for name, value in row.items() if name is not None}


def sample(name: str, outcomes: dict[str, float], **more: Any) -> Row:
    """Return a sample of an evaluation (see result.py) that has no prompt and response of its own."""
    return {"id": name, "prompt": [], "response": "", "family": "", "language": "", "outcomes": outcomes} | more
