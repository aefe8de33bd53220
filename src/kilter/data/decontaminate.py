"""Records that hold what benchmarks test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from kilter.data.grams import grams, whole
from kilter.data.sieve import Part, Record, batches, leave_out, said
from kilter.data.tokens import Hashes, Places, tokenise
from kilter.errors import KilterError
from kilter.files import explaining
from kilter.formats.sources import tables
from kilter.registry import method

DATA = (".json", ".jsonl", ".ndjson", ".parquet", ".gz")


@method("decontaminate", wing="data", paper="arXiv:2005.14165", survey="S2 §2.4", aliases=("decontamination",))
def decontaminate(
    records: Iterable[Record],
    *,
    benchmarks: str,
    n: Annotated[int, Field(ge=1)] = 13,
    shortest: Annotated[int, Field(ge=1)] = 5,
    part: Part = "all",
) -> Iterator[Record]:
    """Leave out each record that has `n` tokens in a row in common with a benchmark (Brown et al. 2020, appendix C).

    Every text in every row of the benchmarks' files counts, questions and answers alike. One of fewer than n tokens,
    but of at least `shortest`, counts where a record's instruction or whole prompt is that text. Words are tokens, and
    single characters where a script has no spaces. Rejects name the file that was met.

    Options:
        benchmarks: a file or folder of benchmarks: JSON, JSONL, Parquet, or plain text with a line an item
        n: tokens in a row that must not be shared
        shortest: tokens of a benchmark's text that is too short for n of them in a row and still tells
        part: where to look for n tokens in a row: all, prompt, instruction or response
    """
    known = Benchmarks(benchmark_texts(Path(benchmarks)), n, shortest)
    for held, texts in batches(records, part):
        met = known.met(texts)
        asked = known.met_whole([said(record, "instruction") for record in held])
        prompts = known.met_whole([said(record, "prompt") for record in held])
        met = np.where(met >= 0, met, np.where(asked >= 0, asked, prompts))
        for record, file in zip(held, met.tolist(), strict=True):
            if file < 0:
                yield record
            else:
                reason = f"It has {n} tokens in a row, or a whole prompt, in common with {known.files[file]}."
                leave_out(record, f"in {Path(known.files[file]).name}", reason)


class Benchmarks:
    """The n-grams of benchmark texts, given as (name of the file, its texts), and the whole texts that are shorter."""

    def __init__(self, texts: Iterable[tuple[str, list[str]]], n: int = 13, shortest: int = 5) -> None:
        """Raise KilterError where there is nothing that could be met."""
        self.n = n
        self.files: list[str] = []
        self._long, self._short = _Known(), _Known()
        for file, these in texts:
            # A character is a token at most, so that most texts that are too short (labels, names) are told by length.
            tokens = tokenise([text for text in these if len(text) >= min(n, shortest)])
            self._long.add(grams(tokens, n, short=False).hashes, len(self.files))
            self._short.add(whole(tokens)[(tokens.lengths < n) & (tokens.lengths >= shortest)], len(self.files))
            self.files.append(file)
        if not self._long.size and not self._short.size:
            raise KilterError(f"The benchmarks hold no text of {min(n, shortest)} tokens; name other files.")

    def met(self, texts: Sequence[str]) -> Places:
        """Return for each text the number of a file that an n-gram of it is in, or -1 [N]."""
        found = grams(tokenise(texts), self.n, short=False)
        places, files = self._long.find(found.hashes)
        met = np.full(len(texts), -1)
        # Of several that are met the first is written last.
        met[(np.searchsorted(found.starts, places, "right") - 1)[::-1]] = files[::-1]
        return met

    def met_whole(self, texts: Sequence[str]) -> Places:
        """Return for each text the number of a file in which it is a whole short text, or -1 [N]."""
        met = np.full(len(texts), -1)
        places, files = self._short.find(whole(tokenise(texts)))
        met[places] = files
        return met


class _Known:
    """Hashes and what file each is of. They are not sorted: few are ever asked for, and those are soon found."""

    def __init__(self) -> None:
        self._parts: list[Hashes] = []
        self._numbers: list[Places] = []
        self.size = 0
        self._among: _Bits | None = None

    def add(self, hashes: Hashes, number: int) -> None:
        self._parts.append(hashes)
        self._numbers.append(np.full(len(hashes), number))
        self.size += len(hashes)

    def find(self, hashes: Hashes) -> tuple[Places, Places]:
        """Return the places of those of `hashes` that are known, and the first file that each is of."""
        if self._among is None:
            self._parts, self._numbers = [np.concatenate(self._parts)], [np.concatenate(self._numbers)]
            self._among = _Bits(self._parts[0])
        places = self._among.maybe(hashes)
        asked = np.sort(hashes[places])
        [known], [numbers] = self._parts, self._numbers
        there = _Bits(asked).maybe(known)[::-1]
        place = np.minimum(np.searchsorted(asked, known[there]), len(asked) - 1)
        same = asked[place] == known[there] if len(asked) else np.zeros(0, bool)
        files = np.full(len(asked), -1)
        files[place[same]] = numbers[there[same]]
        found = files[np.searchsorted(asked, hashes[places])]
        return places[found >= 0], found[found >= 0]


class _Bits:
    """A table of bits that says of most numbers at once that they are not among some hashes."""

    def __init__(self, hashes: Hashes) -> None:
        # Sixteen bits a hash: of the numbers that are not among them one in sixteen remains.
        self._shift = np.uint64(64 - max(16, len(hashes).bit_length() + 4))
        bits = np.zeros(1 << (64 - int(self._shift)), bool)
        bits[hashes >> self._shift] = True
        self._bits = np.packbits(bits, bitorder="little")

    def maybe(self, hashes: Hashes) -> Places:
        """Return the places of those that may be among them."""
        slots = hashes >> self._shift
        bits = self._bits[slots >> np.uint64(3)] >> (slots & np.uint64(7)).astype(np.uint8)
        return np.flatnonzero(bits & 1)


def benchmark_texts(source: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (file, texts) with every text in every row of a file, or of all files of a folder."""
    if not source.exists():
        raise KilterError(f"{source} does not exist; name a file or folder of benchmarks.")
    with explaining(source, "read"):
        files = sorted(f for f in source.rglob("*") if f.is_file()) if source.is_dir() else [source]
    for file in files:
        name = str(file.relative_to(source)) if source.is_dir() else file.name
        if not any(part.startswith(".") for part in Path(name).parts):
            yield name, list(_rows(file) if file.suffix in DATA else _lines(file))


def _rows(file: Path) -> Iterator[str]:
    for table in tables(file):
        for line in table.lines():
            yield from _leaves(line.row) if line.row is not None else [line.raw]


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)


def _lines(file: Path) -> Iterator[str]:
    """Yield the lines of a text file; a file that is no text (an archive, a picture) has none."""
    with explaining(file, "read"), file.open("rb") as stream:
        for raw in stream:
            if b"\0" in raw:
                return
            yield raw.decode("utf-8", "replace")
