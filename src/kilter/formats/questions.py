"""Files that are no alignment data: questions with their answers, and lists of questions where prompts are wanted."""

from __future__ import annotations

from kilter.formats.cells import text
from kilter.formats.instructions import joined
from kilter.formats.shape import Row, Shape, Unreadable, Want
from kilter.formats.turns import read_prompt
from kilter.records import Demonstration, Message, Prompt, Record

_ANSWERED = (
    ("prompt", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("input", "output"),
    ("problem", "solution"),
)
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


def _answered(row: Row) -> tuple[str, str] | None:
    pairs = (p for p in _ANSWERED if all(isinstance(row.get(name), str) for name in p))
    return next(pairs, None)


def _read_answered(row: Row, want: Want | None) -> list[Record]:
    names = _answered(row)
    if names is None:
        asked, answer = next((p for p in _ANSWERED if p[0] in row), _ANSWERED[0])
    else:
        asked, answer = names
    messages = [Message("user", text(row, asked)), Message("assistant", text(row, answer))]
    identity = row["id"] if isinstance(row.get("id"), str) else ""
    rest = {k: v for k, v in row.items() if k not in (asked, answer) and not (k == "id" and identity)}
    return [Demonstration(messages, identity, meta={"extra": rest} if rest else {})]


SHAPES = (
    Shape(
        "question-answer",
        "two columns of text: prompt and response, question and answer, query, input and output, problem and solution",
        ("question", "answer"),
        (Demonstration,),
        _read_answered,
        detect=lambda row: _answered(row) is not None,
        whole=True,
    ),
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
