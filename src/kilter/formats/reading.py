"""Reading records out of whatever there is, without being told its shape."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kilter.errors import KilterError
from kilter.files import explaining, one_line, write_text
from kilter.formats.kinds import as_kind
from kilter.formats.shape import KINDS, Losses, Row, Shape, Unreadable, Want
from kilter.formats.sources import Line, Table, tables
from kilter.formats.table import SHAPES, detect
from kilter.notes import ended
from kilter.records import Record

_SAMPLE = 200  # rows that are looked at to find a file's shape


@dataclass
class Reading:
    """What a source held. `shape` names its shape (several, joined by a comma, for a mixed folder).

    `rejected` lines could not be read; `notes` are sentences for the user: how many and why, what `want` left out.
    """

    records: list[Record]
    shape: str
    rejected: int = 0
    notes: list[str] = field(default_factory=list)


class Records(list[Record]):
    """Records as a plain list that also knows its `shape`, how many lines were `rejected`, and the `notes` on them."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading.records)
        self.shape, self.rejected, self.notes = reading.shape, reading.rejected, reading.notes


def rejects_beside(out: str | Path) -> Path:
    """Return where the lines go that cannot be read on the way to `out`, a file or a folder: `<out>.rejects.jsonl`."""
    out = Path(out)
    if out.name in ("", ".."):  # "." and the like, which only the system can name
        out = out.resolve()
    return out.with_name(f"{out.name}.rejects.jsonl")


@dataclass(frozen=True)
class Reject:
    """A line that could not be read, with the file that it is in."""

    file: str
    line: Line

    def to_json(self) -> dict[str, object]:
        return {"file": self.file, "line": self.line.number, "reason": self.line.reason, "text": self.line.raw}


def read(source: str | Path, *, want: Want | None = None, rejects: str | Path | None = None) -> Reading:
    """Read `source`: a file (JSON, JSONL, gzip, Parquet), a folder, a LLaMA-Factory index, or a hub id.

    With `want`, every record is of that kind: groups become demonstrations by their best response, and both become
    prompts; what cannot be made so is left out and noted. Lines that cannot be read go to the file `rejects`, with
    number and reason, and the reading goes on. Raises KilterError where nothing can be read at all.
    """
    if want not in (None, *KINDS):
        raise KilterError(f"'{want}' is no kind of record; want one of {', '.join(KINDS)}.")
    reading = read_natural(source, prefer=want, rejects=rejects)
    if want is None:
        return reading
    losses = Losses()
    kept = (as_kind(record, (KINDS[want],), losses) for record in reading.records)
    held = [record for record in kept if record is not None]
    if not held:
        raise KilterError(wrong_kind(str(source), reading, want))
    return Reading(held, reading.shape, reading.rejected, [*reading.notes, *map(ended, losses.sentences())])


def read_natural(source: str | Path, *, prefer: Want | None, rejects: str | Path | None) -> Reading:
    """Read `source` as `read` does, each record as the kind it is; `prefer` decides where a row could give several."""
    records: list[Record] = []
    rejected: list[Reject] = []
    shapes: list[str] = []
    failures: list[KilterError] = []
    parts = tables(source)
    for table in parts:
        try:
            shape, found, broken = _read_table(table, prefer)
        except KilterError as error:
            if len(parts) == 1:
                raise
            failures.append(error)
            continue
        shapes.append(shape)
        records += found
        rejected += broken
    _keep(rejected, rejects)
    if not records:
        raise failures[0] if failures else KilterError(nothing(rejected, str(source)))
    notes = [*_notes(rejected, rejects), *(f"Left out: {error}" for error in failures)]
    return Reading(records, ", ".join(dict.fromkeys(shapes)), len(rejected), notes)


def _read_table(table: Table, want: Want | None) -> tuple[str, list[Record], list[Reject]]:
    shape, outcomes = open_table(table, want)
    records: list[Record] = []
    rejected: list[Reject] = []
    for outcome in outcomes:
        if isinstance(outcome, Reject):
            rejected.append(outcome)
        else:
            records += outcome
    return shape, records, rejected


def open_table(table: Table, want: Want | None) -> tuple[str, Iterator[list[Record] | Reject]]:
    """Return the name of a table's shape, and line by line what it holds; raise KilterError where no line is a row."""
    lines = table.lines()
    sample = list(itertools.islice(lines, _SAMPLE))
    rows = [line.row for line in sample if line.row is not None]
    if not sample:
        raise KilterError(f"{table.name} is empty; give at least one record.")
    if not rows:  # the first lines are all broken: look on until one is not
        for line in lines:
            sample.append(line)
            if line.row is not None:
                rows = [line.row]
                break
    if not rows:
        raise KilterError(nothing([Reject(table.name, line) for line in sample], table.name))
    shape = SHAPES[detect(rows, want=want, where=table.name)]
    return shape.name, _outcomes(table.name, itertools.chain(sample, lines), shape, want)


def _outcomes(name: str, lines: Iterable[Line], shape: Shape, want: Want | None) -> Iterator[list[Record] | Reject]:
    for line in _gathered(lines, shape):
        try:
            if line.row is None:
                raise Unreadable(line.reason)
            yield records_of(line.row, shape, want)
        except Unreadable as reason:
            yield Reject(name, Line(line.number, None, str(reason), _shown(line)))


def _shown(line: Line) -> str:
    if line.raw or line.row is None:
        return line.raw
    return one_line(line.row)


def _gathered(lines: Iterable[Line], shape: Shape) -> Iterator[Line]:
    """Where a shape's rows do not stand alone, put them together first; broken lines stay what they are."""
    if shape.gather is None:
        yield from lines
        return
    rows = []
    for line in lines:
        if line.row is None:
            yield line
        else:
            rows.append(line.row)
    yield from (Line(number, row) for number, row in enumerate(shape.gather(rows), 1))


def records_of(row: Row, shape: Shape, want: Want | None = None) -> list[Record]:
    """Return the records of one row, with the columns that `shape` does not know in `meta["extra"]`."""
    try:
        records = shape.to_records(row, want)
    except UnicodeEncodeError as error:
        raise Unreadable("a text holds half of a surrogate pair, which is no character") from error
    except KilterError as error:
        raise Unreadable(str(error)) from error
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise Unreadable(f"not built like {shape.name}: {error}") from error
    if shape.whole:
        return records
    identity = row.get("id")
    named = isinstance(identity, str) and identity != ""
    extra = {k: v for k, v in row.items() if k not in (*shape.needs, *shape.knows) and not (k == "id" and named)}
    for k, record in enumerate(records):
        if extra:
            record.meta["extra"] = {**extra, **record.meta.get("extra", {})}
        if named:
            record.id = str(identity) if len(records) == 1 else f"{identity}/{k}"
    return records


def _keep(rejected: list[Reject], path: str | Path | None) -> None:
    """Write the rejects; where there are none, an older file of that name would tell of a reading that is past."""
    if path is None:
        return
    if rejected:
        write_text(path, "".join(one_line(r.to_json()) + "\n" for r in rejected))
    else:
        with explaining(path, "remove"):
            Path(path).unlink(missing_ok=True)


def _notes(rejected: list[Reject], path: str | Path | None) -> list[str]:
    if not rejected:
        return []
    first = rejected[0]
    lines = "1 line" if len(rejected) == 1 else f"{len(rejected)} lines"
    kept = [f"What could not be read is in {path}."] if path else []
    told = f"{lines} could not be read, the first is line {first.line.number} of {first.file}: {first.line.reason}"
    return [" ".join([ended(told), *kept])]


def nothing(rejected: list[Reject], source: str, count: int | None = None) -> str:
    """Return why nothing could be read of `source`, and what to do."""
    if not rejected:
        return f"{source} is empty; give at least one record."
    first = rejected[0]
    where = ended(f"line {first.line.number}: {first.line.reason}")
    lines = count or len(rejected)
    none = f"The one line of {source} cannot" if lines == 1 else f"None of the {lines} lines of {source} can"
    return f"{none} be read; mend the file, starting at {where}"


def wrong_kind(source: str, reading: Reading, want: Want) -> str:
    """Return that `source` holds records, but none of the kind that is wanted, and what to do."""
    held = ", ".join(sorted({f"{type(record).__name__.lower()}s" for record in reading.records}))
    remedy = {
        "groups": "give a file with several responses a prompt, or with a verdict on each",
        "demonstrations": "give a file with answers",
        "prompts": "give a file with questions",
    }[want]
    return f"{source} ({reading.shape}) holds {held} and {want} are needed; {remedy}."
