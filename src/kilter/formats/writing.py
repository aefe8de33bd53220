"""Writing records in any shape, saying what the shape cannot hold, and converting from one shape to another."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilter.errors import KilterError
from kilter.files import due, one_line, replacing
from kilter.formats.cells import pruned
from kilter.formats.kinds import as_kind, made
from kilter.formats.reading import read_natural, rejects_beside
from kilter.formats.shape import Losses, Row, Shape, Want
from kilter.formats.sources import JSON_COLUMNS
from kilter.formats.table import find_shape
from kilter.records import Demonstration, Group, Record

# What readers put into meta beside the extra columns; every shape that can writes it back in its own way.
_READERS_META = {
    "extra",
    "input",
    "tools",
    "turns",
    "responses",
    "completions",
    "steps",
    "step_labels",
    "tree",
    "language",
}


def write(records: Iterable[Record], path: str | Path, shape: str = "kilter") -> list[str]:
    """Write `records` to `path` in `shape` and return one sentence for each thing that it could not hold.

    The suffix chooses the file: .json (one list), .parquet, and else JSONL; .gz after it packs. The file is replaced
    whole. Raises KilterError where no record can be held or the disk refuses.
    """
    target = find_shape(shape, written=True)
    losses = Losses()
    rows = _rows(records, target, losses)
    # The first row is made before the file is opened: where nothing can be held, nothing is touched.
    first = next(rows, None)
    if first is None:
        raise KilterError(_nothing_held(target, losses))
    path = Path(path)
    with replacing(path) as temporary:
        notes = _WRITERS.get(path.suffix, _write_lines)(temporary, _chained(first, rows))
    return losses.sentences() + notes


def _chained(first: Row, rows: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rows


def _rows(records: Iterable[Record], shape: Shape, losses: Losses) -> Iterator[Row]:
    assert shape.from_record is not None
    for record in records:
        held = as_kind(record, shape.holds, losses)
        if held is None:
            continue
        rows = shape.from_record(held, losses)
        if rows and not shape.whole:
            _count_losses(held, shape, losses)
        for row in rows:
            yield row if shape.whole else _with_extra(row, held, len(rows))


def _with_extra(row: Row, record: Record, siblings: int) -> Row:
    """Put the columns that came with the record, and an id that somebody gave it, beside those of the shape."""
    identity = {} if made(record) or siblings > 1 else {"id": record.id}
    return {**identity, **{k: v for k, v in record.meta.get("extra", {}).items() if k not in row}, **row}


def _count_losses(record: Record, shape: Shape, losses: Losses) -> None:
    if record.origin is not None:
        losses.add(record, f"the origin is not kept by {shape.name}")
    other = sorted(set(record.meta) - _READERS_META)
    if other:
        losses.add(record, f"meta ({', '.join(other)}) is not kept by {shape.name}")


def _nothing_held(shape: Shape, losses: Losses) -> str:
    reasons = "; ".join(losses.sentences())
    if not reasons:
        return "There are no records to write; check what was read."
    return f"None of the records can be held by {shape.name} ({reasons}); choose another shape, such as kilter."


def _write_lines(path: Path, rows: Iterable[Row]) -> list[str]:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(one_line(row) + "\n" for row in rows)
    return []


def _write_packed(path: Path, rows: Iterable[Row]) -> list[str]:
    inner = _WRITERS.get(Path(path.stem).suffix, _write_lines)
    if inner is not _write_lines:
        raise KilterError("Only JSONL is packed; name the file .jsonl.gz.")
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as stream:
        stream.writelines((one_line(row) + "\n").encode() for row in rows)
    return []


def _write_list(path: Path, rows: Iterable[Row]) -> list[str]:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for number, row in enumerate(rows):
            stream.write((",\n" if number else "[\n") + one_line(row))
        stream.write("\n]\n")
    return []


def _write_parquet(path: Path, rows: Iterable[Row]) -> list[str]:
    """Write columns; one whose values differ in type from row to row is written as JSON text, and said so."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    listed = list(rows)
    columns: dict[str, Any] = {}
    packed = []
    for name in dict.fromkeys(name for row in listed for name in row):
        values = [row.get(name) for row in listed]
        array = None if name in _OWN else _column(values)
        if array is None:
            packed.append(name)
            array = pa.array([None if value is None else one_line(value) for value in values], pa.string())
        columns[name] = array
    table = pa.table(columns).replace_schema_metadata({JSON_COLUMNS: json.dumps(packed).encode()})
    try:
        pq.write_table(table, path)
    except pa.ArrowException as error:
        raise KilterError(f"Parquet cannot hold these records ({error}); write .jsonl instead.") from error
    mixed = [name for name in packed if name not in _OWN]
    return [f"column {name}: its values differ from row to row, so Parquet holds it as JSON text" for name in mixed]


def _column(values: list[Any]) -> Any:
    """Return `values` as a column of one type, None where that would change more than leave out nulls."""
    import pyarrow as pa

    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None
    same = pruned(array.to_pylist()) == pruned(values)
    return array if same and not _empty(array.type) else None


def _empty(kind: Any) -> bool:
    """Whether a type has an object without keys somewhere, which Parquet cannot write."""
    import pyarrow as pa

    if pa.types.is_struct(kind) and kind.num_fields == 0:
        return True
    return any(_empty(kind.field(k).type) for k in range(kind.num_fields))


_OWN = ("meta", "origin")  # objects with keys of their own in every row
_WRITERS = {".json": _write_list, ".parquet": _write_parquet, ".gz": _write_packed}


@dataclass(frozen=True)
class Conversion:
    """What a conversion did: shapes in and out, records written, lines rejected (kept in `rejects`), what was lost."""

    shape_in: str
    shape_out: str
    records: int
    rejected: int
    rejects: Path | None
    notes: list[str]
    lost: list[str]


def convert(source: str | Path, target: str | Path, to: str = "kilter") -> Conversion:
    """Read `source`, whatever its shape, and write it to `target` in the shape `to`.

    Lines that cannot be read go to `<target>.rejects.jsonl`. Raises KilterError as `read` and `write` do.
    """
    shape = find_shape(to, written=True)
    rejects = rejects_beside(due(target))
    reading = read_natural(source, prefer=_preferred(shape), rejects=rejects)
    lost = write(reading.records, target, shape.name)
    return Conversion(
        reading.shape,
        shape.name,
        len(reading.records),
        reading.rejected,
        rejects if reading.rejected else None,
        reading.notes,
        lost,
    )


def _preferred(shape: Shape) -> Want | None:
    """What a source that could give several kinds (a tree) is asked for: what the target holds."""
    if Group not in shape.holds:
        return "demonstrations" if Demonstration in shape.holds else "prompts"
    return "groups" if shape.holds == (Group,) else None
