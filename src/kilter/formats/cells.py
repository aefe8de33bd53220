"""Taking typed values out of a row; what is missing or of another type is an `Unreadable` that names the column."""

from __future__ import annotations

from typing import Any

from kilter.errors import nearest
from kilter.formats.shape import Row, Unreadable

_NOUNS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


def noun(value: object) -> str:
    """Return what a JSON value is, in words."""
    return "null" if value is None else _NOUNS.get(type(value), type(value).__name__)


def cell(row: Row, name: str) -> Any:
    """Return `row[name]`, or say which columns there are and which of them was perhaps meant."""
    if name not in row:
        raise Unreadable(f"there is no column '{name}', only {', '.join(map(str, row)) or 'none'}.{nearest(name, row)}")
    return row[name]


def text(row: Row, name: str, default: str | None = None) -> str:
    """Return a column of text; `default` stands for an absent or null one, where it is given."""
    value = row.get(name) if default is not None else cell(row, name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise Unreadable(f"column '{name}' is {noun(value)} and text is due")
    return value


def texts(row: Row, name: str) -> list[str]:
    """Return a column that is a list of texts."""
    value = cell(row, name)
    if not isinstance(value, list):
        raise Unreadable(f"column '{name}' is {noun(value)} and a list of texts is due")
    for item in value:
        if not isinstance(item, str):
            raise Unreadable(f"column '{name}' holds {noun(item)} and a list of texts is due")
    return value


def numbers(row: Row, name: str) -> list[float]:
    """Return a column that is a list of numbers."""
    value = cell(row, name)
    if not isinstance(value, list) or not all(is_number(v) for v in value):
        raise Unreadable(f"column '{name}' must be a list of numbers")
    return value


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def flag(value: object, name: str) -> bool:
    """Return a verdict written as true/false or as 1/0."""
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise Unreadable(f"column '{name}' is {value!r} and true or false is due")


def objects(row: Row, name: str) -> list[Row]:
    """Return a column that is a list of objects."""
    value = cell(row, name)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Unreadable(f"column '{name}' must be a list of objects")
    return value


def pruned(value: Any) -> Any:
    """Drop the nulls of objects: a column store has every key in every row, and null where a row had none."""
    if isinstance(value, dict):
        return {k: pruned(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [pruned(v) for v in value]
    return value
