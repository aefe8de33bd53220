"""Chains of edits: what turns one text into another, found by dynamic programming, written down, read and applied.

A text is cut into units, words with the space before them or single characters of a script without spaces, so that the
units joined are the text again. A chain is a list of edits of stretches of units:

    [Edit("keep", "the sky is"), Edit("replace", " red", " blue"), Edit("delete", " always")]

written as `<keep>the sky is<replace> red<by> blue<delete> always<answer>the sky is blue`, the text that comes out last.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

Kind = Literal["keep", "delete", "insert", "replace"]
KINDS: tuple[Kind, ...] = ("keep", "replace", "delete", "insert")
_UNIT = re.compile(r"\s*(?:[぀-ヿ㐀-鿿가-힯]|[^\W_぀-ヿ㐀-鿿가-힯]+|[^\w\s]|_)|\s+")
_MARK = re.compile(r"<(keep|delete|insert|replace|by|answer)>")


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit: the `text` is kept, deleted or inserted, or replaced `by` another."""

    kind: Kind
    text: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class Costs:
    """What it costs to insert, delete and replace one unit. Keeping costs nothing."""

    insert: float = 1.0
    delete: float = 1.0
    replace: float = 2.0


def units(text: str) -> list[str]:
    """Return the units of `text`; joined they are the text."""
    return _UNIT.findall(text)


def align(source: Sequence[str], target: Sequence[str], costs: Costs = Costs()) -> tuple[float, list[Edit]]:
    """Return the least cost of turning `source` into `target`, and the edits of single units that do it.

    Of chains that cost the same the one is taken that, from the end, keeps before it replaces, replaces before it
    deletes, and deletes before it inserts.
    """
    rows, columns = len(source), len(target)
    best = [[j * costs.insert for j in range(columns + 1)]]
    for i in range(1, rows + 1):
        row = [i * costs.delete]
        for j in range(1, columns + 1):
            across = best[-1][j - 1] + (0.0 if source[i - 1] == target[j - 1] else costs.replace)
            row.append(min(across, best[-1][j] + costs.delete, row[-1] + costs.insert))
        best.append(row)
    edits: list[Edit] = []
    i, j = rows, columns
    while i or j:
        here = best[i][j]
        same = i and j and source[i - 1] == target[j - 1]
        if same and here == best[i - 1][j - 1]:
            i, j = i - 1, j - 1
            edits.append(Edit("keep", source[i]))
        elif i and j and not same and here == best[i - 1][j - 1] + costs.replace:
            i, j = i - 1, j - 1
            edits.append(Edit("replace", source[i], target[j]))
        elif i and here == best[i - 1][j] + costs.delete:
            i -= 1
            edits.append(Edit("delete", source[i]))
        else:
            j -= 1
            edits.append(Edit("insert", target[j]))
    return best[rows][columns], edits[::-1]


def chain(source: str, target: str, costs: Costs = Costs()) -> list[Edit]:
    """Return the edits that turn one text into another at the least cost, neighbours of a kind put together."""
    _, single = align(units(source), units(target), costs)
    return [
        Edit(kind, "".join(edit.text for edit in run), "".join(edit.by for edit in run))
        for kind, run in ((kind, list(found)) for kind, found in groupby(single, key=lambda edit: edit.kind))
    ]


def apply(edits: Sequence[Edit], source: str) -> str | None:
    """Return what the edits make of `source`, None where it does not say what they keep, delete or replace."""
    at, made = 0, []
    for edit in edits:
        if edit.kind == "insert":
            made.append(edit.text)
            continue
        if not source.startswith(edit.text, at):
            return None
        at += len(edit.text)
        made.append({"keep": edit.text, "replace": edit.by, "delete": ""}[edit.kind])
    return "".join(made) if at == len(source) else None


def has_marks(text: str) -> bool:
    """Whether `text` holds what a written chain is marked with."""
    return _MARK.search(text) is not None


def write(edits: Sequence[Edit], target: str) -> str:
    """Return a chain as text, with what comes out of it last."""
    parts = [f"<{edit.kind}>{edit.text}" + (f"<by>{edit.by}" if edit.kind == "replace" else "") for edit in edits]
    return "".join(parts) + f"<answer>{target}"


def read(text: str) -> tuple[list[Edit], str | None] | None:
    """Return the edits of a written chain and what it says comes out, None where that is left out.

    None altogether where the text is no chain.
    """
    pieces = _MARK.split(text)
    if pieces[0].strip() or len(pieces) < 3:
        return None
    edits: list[Edit] = []
    answer: str | None = None
    marks = list(zip(pieces[1::2], pieces[2::2], strict=True))
    for place, (mark, said) in enumerate(marks):
        if mark == "answer":
            return (edits, said) if place == len(marks) - 1 else None
        if mark == "by":
            if place == 0 or marks[place - 1][0] != "replace":
                return None
            edits[-1] = Edit("replace", edits[-1].text, said)
        elif mark == "replace" and marks[place + 1 : place + 2] and marks[place + 1][0] != "by":
            return None
        else:
            edits.append(next(Edit(kind, said) for kind in KINDS if kind == mark))
    return edits, answer


def outcome(text: str, source: str) -> str | None:
    """Return what a written chain makes of `source`; where its edits do not fit, what it says comes out, if it does."""
    found = read(text)
    if found is None:
        return None
    made = apply(found[0], source)
    return found[1] if made is None else made


def is_valid(text: str, source: str) -> bool:
    """Whether a written chain fits `source` and comes out as it says."""
    found = read(text)
    return found is not None and found[1] is not None and apply(found[0], source) == found[1]
