"""Prompts out of files that are no alignment data: benchmarks and lists of questions, where only prompts are wanted."""

from __future__ import annotations

from kilter.formats.instructions import joined
from kilter.formats.shape import Row, Shape, Unreadable, Want
from kilter.formats.turns import read_prompt
from kilter.records import Prompt, Record

_COLUMNS = ("prompt", "instruction", "question", "query", "turns", "text", "input")


def _column(row: Row) -> str | None:
    """Return the first column that holds a question, whatever its capitals."""
    folded = {str(name).lower(): name for name in reversed(row)}
    return next((folded[name] for name in _COLUMNS if name in folded and row[folded[name]]), None)


def _read(row: Row, want: Want | None) -> list[Record]:
    name = _column(row)
    if name is None:
        raise Unreadable(f"none of the columns {', '.join(_COLUMNS)} is there, only {', '.join(map(str, row))}")
    value = row[name]
    if isinstance(value, list) and value and isinstance(value[0], str):
        value = value[0]  # MT-Bench: the turns that follow wait for an answer to the first
    rest = {k: v for k, v in row.items() if k != name and not (k == "id" and isinstance(v, str))}
    more = row.get("input")
    if isinstance(value, str) and name != "input" and isinstance(more, str) and more:
        prompt, meta = read_prompt(joined(value, more), name)
        meta = {"input": more}
        rest.pop("input")
    else:
        prompt, meta = read_prompt(value, name)
    identity = row["id"] if isinstance(row.get("id"), str) else ""
    return [Prompt(prompt, identity, meta={**meta, "extra": rest} if rest else meta)]


SHAPES = (
    Shape(
        "questions",
        "any file with a column prompt, instruction, question, query, turns, text or input, where prompts are wanted",
        ("question",),
        (Prompt,),
        _read,
        detect=lambda row: _column(row) is not None,
        only_for="prompts",
        whole=True,
    ),
)
