"""The table of shapes, and finding the one that rows have."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable

from kilter.errors import KilterError, nearest
from kilter.formats import chat, instructions, oasst, own, questions, ranked, transcripts, trl
from kilter.formats.shape import Row, Shape, Unreadable, Want

# Where a row fits several shapes the first one is meant: the special before the general.
SHAPES: dict[str, Shape] = {
    shape.name: shape
    for family in (own, oasst, ranked, transcripts, trl, chat, instructions, questions)
    for shape in family.SHAPES
}


def find_shape(name: str, *, written: bool = False) -> Shape:
    """Return the shape called `name` (or an alias of it); with `written`, one that can be written."""
    known = {alias: shape for shape in SHAPES.values() for alias in (shape.name, *shape.aliases)}
    if written:
        known = {alias: shape for alias, shape in known.items() if shape.from_record}
    if name in known:
        return known[name]
    if name in SHAPES:
        raise KilterError(f"The shape '{name}' can be read but not written; write one of {_writable()}.")
    raise KilterError(f"Unknown shape '{name}'.{nearest(name, known) or f' Choose one of {_writable()}.'}")


def _writable() -> str:
    return ", ".join(shape.name for shape in SHAPES.values() if shape.from_record)


def detect(rows: Iterable[Row], *, want: Want | None = None, where: str = "The data") -> str:
    """Return the name of the shape that most of `rows` have.

    Raises KilterError where none fits: it names the columns that are there, the nearest shape and what that one misses.
    """
    rows = list(rows)
    votes: Counter[str] = Counter()
    for row in rows:
        name = next((s.name for s in SHAPES.values() if s.only_for in (None, want) and s.fits(row)), None)
        if name is not None:
            votes[name] += 1
    if votes:
        return votes.most_common(1)[0][0]
    raise KilterError(_no_shape(rows, where))


# What people most often mean; decides between shapes that a file is equally far from.
_COMMON = ("alpaca", "trl-preference", "messages", "sharegpt", "hh")


def _no_shape(rows: list[Row], where: str) -> str:
    columns = list(dict.fromkeys(str(name) for row in rows for name in row))
    if not columns:
        return (
            f"{where} holds objects without columns; give them instruction and output, or prompt, chosen and rejected."
        )
    there = ", ".join(columns[:12])
    best = max((s for s in SHAPES.values() if not s.only_for), key=lambda s: _likeness(s, columns))
    if _likeness(best, columns)[0] == 0:
        remedy = "rename them to instruction and output, or to prompt, chosen and rejected"
        return f"{where} has the columns {there}, which is no shape that Kilter reads; {remedy}."
    meant = _misspelt(best, columns)
    missing = [name for name in best.needs if name not in columns]
    if not missing:
        what = f"{best.name} but not its content ({_complaint(best, rows)})"
        return f"{where} has the columns of {what}; expected is {best.description}."
    listed = ("column " if len(missing) == 1 else "columns ") + " and ".join(f"'{name}'" for name in missing)
    hint = "".join(f" Did you mean '{name}'?" for name in meant.values())
    shape = f"{best.name} ({best.description})"
    return f"{where} lacks the {listed} of its nearest shape, {shape}; it has {there}.{hint}"


def _likeness(shape: Shape, columns: list[str]) -> tuple[int, int, int]:
    """Rank a shape that does not fit: only misspelt, nearly whole, whole but of other content, half there, nothing."""
    present = sum(name in columns for name in shape.needs)
    misspelt = len(_misspelt(shape, columns))
    missing = len(shape.needs) - present - misspelt
    balance = present + misspelt - missing
    if missing == 0:
        rank = 4 if misspelt else 2 if len(shape.needs) > 1 else 0
    else:
        rank = 3 if balance > 0 else 1 if balance == 0 and present else 0
    return rank, balance, -_COMMON.index(shape.name) if shape.name in _COMMON else -len(_COMMON)


def _misspelt(shape: Shape, columns: list[str]) -> dict[str, str]:
    """Return for each needed column that is missing the one that was perhaps meant; none is taken twice."""
    free = [name for name in columns if name not in shape.needs]
    found: dict[str, str] = {}
    for name in (name for name in shape.needs if name not in columns):
        folded = {other.lower(): other for other in free if abs(len(other) - len(name)) <= 2}
        close = difflib.get_close_matches(name.lower(), folded, 1, 0.8)
        if close:
            found[name] = folded[close[0]]
            free.remove(found[name])
    return found


def _complaint(shape: Shape, rows: list[Row]) -> str:
    try:
        shape.to_records(rows[0], None)
    except Unreadable as reason:
        return str(reason)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, KilterError):
        pass
    return "the first row has other types"
