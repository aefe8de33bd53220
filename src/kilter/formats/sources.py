"""From a path or a hub id to rows: JSON, JSONL, gzip, Parquet, folders, LLaMA-Factory's index, the Hugging Face hub.

What a file is follows from its first bytes, not from its name. A line that is no JSON object comes out as a `Line` with
a reason instead of a row; a file that cannot be read at all is a KilterError.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kilter.errors import KilterError, nearest
from kilter.files import explaining, one_line
from kilter.formats import hub, llamafactory
from kilter.formats.cells import noun, pruned
from kilter.formats.shape import Row

JSON_COLUMNS = b"kilter.json"  # Parquet metadata: names of the columns that hold JSON texts
_SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet")
_ENCODINGS = ("gb18030", "shift_jis", "cp1252")
_WRAPPERS = ("data", "rows", "train", "examples", "records", "samples")


@dataclass(frozen=True)
class Line:
    """One row with its number (from 1, counted in lines, items or rows), or the reason why there is none."""

    number: int
    row: Row | None
    reason: str = ""
    raw: str = ""


@dataclass(frozen=True)
class Table:
    """The rows of one file (or of one split of a hub data set). `lines()` reads from the start, every time."""

    name: str
    lines: Callable[[], Iterator[Line]]


def tables(source: str | Path) -> list[Table]:
    """Return what `source` consists of: one table for a file, several for a folder; raise KilterError if nothing is."""
    with explaining(source, "read"):
        return _tables(str(source))


def _tables(name: str) -> list[Table]:
    if not name.strip():
        raise KilterError("The name of a file is empty; name a file, a folder or a hub id.")
    path, _, entry = name.partition("#")
    here = Path(name) if Path(name).exists() else Path(path)
    if here.is_dir():
        return _of_folder(here, entry)
    if here.name == llamafactory.INDEX and here.is_file():
        return _indexed(here.parent, entry)
    if here.exists():
        return [Table(str(here), lambda: _of_file(here))]
    if hub.looks_like_id(name):
        return [Table(name, lambda: _numbered(hub.rows(name)))]
    raise KilterError(f"{name} does not exist; check the path.{_neighbour(Path(path))}")


def _neighbour(path: Path) -> str:
    parent = path.parent
    return nearest(path.name, [p.name for p in parent.iterdir()]) if parent.is_dir() else ""


def _of_folder(folder: Path, entry: str) -> list[Table]:
    if (folder / "state.json").exists() or (folder / "dataset_dict.json").exists():
        return [Table(str(folder), lambda: _numbered(hub.saved_rows(folder, entry)))]
    if (folder / llamafactory.INDEX).exists():
        return _indexed(folder, entry)
    files = [f for f in sorted(folder.rglob("*")) if f.is_file() and _is_data(f.relative_to(folder))]
    if not files:
        raise KilterError(f"The folder {folder} holds no data; put .json, .jsonl or .parquet files in it.")
    return [Table(str(f), lambda f=f: _of_file(f)) for f in files]  # type: ignore[misc]


def _is_data(path: Path) -> bool:
    if any(part.startswith(".") for part in path.parts) or path.name.endswith(".rejects.jsonl"):
        return False
    return path.name.removesuffix(".gz").endswith(_SUFFIXES)


def _indexed(folder: Path, entry: str) -> list[Table]:
    """Return the local files that LLaMA-Factory's `dataset_info.json` names, each row under the shape's own columns."""

    def renamed(file: Path, mapping: Callable[[Row], Row]) -> Iterator[Line]:
        for line in _of_file(file):
            try:
                yield line if line.row is None else Line(line.number, mapping(line.row), raw=line.raw)
            except KeyError as missing:
                columns = ", ".join(line.row or {})
                reason = f"there is no column {missing}, which {llamafactory.INDEX} names, only {columns}"
                yield Line(line.number, None, reason, line.raw)

    found = llamafactory.entries(folder, entry)
    return [Table(str(file), lambda f=file, m=mapping: renamed(f, m)) for file, mapping in found]  # type: ignore[misc]


def _of_file(path: Path) -> Iterator[Line]:
    if path.is_dir():
        raise KilterError(f"{path} is a directory and a file is due; name a file in it.")
    with explaining(path, "read"), path.open("rb") as stream:
        head = stream.read(4)
    if not head:
        raise KilterError(f"{path} is empty; give a file with at least one record.")
    if head == b"PAR1":
        return _numbered(_parquet(path))
    return _json(path, gzip.open if head[:2] == b"\x1f\x8b" else open)


def _numbered(rows: Iterable[Row]) -> Iterator[Line]:
    return (Line(number, row) for number, row in enumerate(rows, 1))


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            packed = json.loads((file.schema_arrow.metadata or {}).get(JSON_COLUMNS, b"[]"))
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    row = pruned(row)
                    yield {**row, **{name: json.loads(row[name]) for name in packed if name in row}}
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise KilterError(f"{path} is not a whole Parquet file ({first}); download or write it again.") from error


def _json(path: Path, opened: Callable[..., Any]) -> Iterator[Line]:
    """Yield the lines of a JSONL file, or the items of one JSON value that spans the file."""
    try:
        with explaining(path, "read"), opened(path, "rb") as file:
            stream = _as_utf8(file)
            start = stream.tell()
            first = next((line.strip() for line in stream if line.strip()), b"")
            if not first:
                raise KilterError(f"{path} is empty; give a file with at least one record.")
            stream.seek(start)
            if _is_object(first):
                yield from _of_lines(stream)
                return
            try:
                value = json.load(stream)
            except (ValueError, RecursionError) as error:
                stream.seek(start)
                lines = list(_of_lines(stream))
                if all(line.row is None for line in lines):
                    raise KilterError(_hopeless(path, error, lines)) from None
                yield from lines
                return
        yield from _of_value(value)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise KilterError(f"{path} is not a whole gzip file ({error}); download or write it again.") from error


def _as_utf8(stream: IO[bytes]) -> IO[bytes]:
    """Return the stream after its byte order mark; UTF-16, which only the mark tells, is converted."""
    mark = stream.read(3)
    if mark[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return io.BytesIO((mark + stream.read()).decode("utf-16", "replace").encode())
    stream.seek(3 if mark == b"\xef\xbb\xbf" else 0)
    return stream


def _is_object(line: bytes) -> bool:
    try:
        return line.startswith(b"{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _of_lines(stream: Iterable[bytes]) -> Iterator[Line]:
    for number, raw in enumerate(stream, 1):
        if not raw.strip():
            continue
        shown = raw.decode("utf-8", "replace").rstrip("\r\n")
        try:
            value = json.loads(raw.strip().decode("utf-8"))
        except UnicodeDecodeError as error:
            yield Line(number, None, f"not UTF-8 at byte {error.start + 1}{_perhaps(raw)}; save it as UTF-8", shown)
        except json.JSONDecodeError as error:
            yield Line(number, None, f"not JSON: {_trouble(error)} at character {error.pos + 1}", shown)
        except (ValueError, RecursionError) as error:
            yield Line(number, None, f"not JSON: {error}", shown)
        else:
            for row in _unwrapped(value) if isinstance(value, dict) else [value]:
                yield _line(number, row, shown)


def _of_value(value: Any) -> Iterator[Line]:
    for number, row in enumerate(_unwrapped(value), 1):
        yield _line(number, row, "" if isinstance(row, dict) else one_line(row))


def _line(number: int, row: Any, raw: str) -> Line:
    if isinstance(row, dict):
        return Line(number, row, raw=raw)
    return Line(number, None, f"{noun(row)} where an object is due", raw)


def _unwrapped(value: Any) -> list[Any]:
    """Return the rows of a value: a list's items, the list inside `{"data": [...]}`, or the object itself."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        for name in _WRAPPERS:
            inner = value.get(name)
            if isinstance(inner, list) and inner and all(isinstance(item, dict) for item in inner):
                return [item["row"] if isinstance(item.get("row"), dict) else item for item in inner]
    return [value]


def _hopeless(path: Path, error: Exception, lines: list[Line]) -> str:
    """Say why a file holds nothing: its JSON breaks off somewhere, or its first line shows the trouble."""
    if isinstance(error, json.JSONDecodeError) and (error.lineno > 1 or lines[0].raw.lstrip().startswith("[")):
        return (
            f"{path} is not whole JSON: {_trouble(error)} at line {error.lineno}, column {error.colno}; mend it there."
        )
    none = "The one line" if len(lines) == 1 else f"None of the {len(lines)} lines"
    cannot = "cannot" if len(lines) == 1 else "can"
    return (
        f"{none} of {path} {cannot} be read (line {lines[0].number}: {lines[0].reason}); give JSON, JSONL or Parquet."
    )


def _trouble(error: json.JSONDecodeError) -> str:
    """What json says, without the `at` that some of its sentences end with."""
    return error.msg.removesuffix(" at")


def _perhaps(raw: bytes) -> str:
    for codec in _ENCODINGS:
        try:
            raw.decode(codec)
        except UnicodeDecodeError:
            continue
        return f" (perhaps {codec})"
    return ""
