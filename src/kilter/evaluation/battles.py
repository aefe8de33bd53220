"""Battles: two models, one verdict. Read from any of the forms they are stored in, held as arrays of numbers.

A verdict is a number in [0, 1], the share of the win that goes to the first model: 1, 0, one half for a tie, anything
between where a judge's preference is a probability. A verdict that cannot be read is no verdict: the battle is counted
among those left out, and is neither a tie nor a loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kilter.errors import KilterError
from kilter.evaluation.rows import LeftOut, Row, number, stream
from kilter.evaluation.style import features

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# The two columns that name the models, in the forms of Chatbot Arena, MT-Bench and AlpacaEval.
SIDES = (("model_a", "model_b"), ("model_1", "model_2"), ("generator_1", "generator_2"), ("a", "b"))
WORDS: dict[str, float] = {
    **dict.fromkeys(("model_a", "model_1", "generator_1", "a", "[[a]]", "left", "first"), 1.0),
    **dict.fromkeys(("model_b", "model_2", "generator_2", "b", "[[b]]", "right", "second"), 0.0),
    **dict.fromkeys(("tie", "tie (bothbad)", "both_bad", "bothbad", "[[c]]", "draw"), 0.5),
}


@dataclass(slots=True)
class Battles:
    """N battles among the models in `models`: sides `a` and `b` [N] are places in it, `outcome` [N] is a's share.

    `style` [N, F] holds what is said of the two responses beside their worth, `names` [F] what each column is;
    `questions` [N] says which battles were fought over the same prompt. `notes` count what was left out.
    """

    models: list[str]
    a: Ints
    b: Ints
    outcome: Floats
    style: Floats | None = None
    names: tuple[str, ...] = ()
    questions: list[str] | None = None
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.outcome)

    def fought(self) -> Ints:
        """Return the number of battles of each model."""
        n = len(self.models)
        return np.asarray(np.bincount(self.a, minlength=n) + np.bincount(self.b, minlength=n), dtype=np.int64)

    def cells(self) -> tuple[Ints, Ints, Floats, Floats]:
        """Return the distinct battles (i < j, outcome of i) and how often each was fought: what a likelihood needs."""
        swap = self.a > self.b
        i, j = np.where(swap, self.b, self.a), np.where(swap, self.a, self.b)
        y = np.where(swap, 1 - self.outcome, self.outcome)
        values, place = np.unique(y, return_inverse=True)
        code = (i * len(self.models) + j) * len(values) + place
        codes, counts = np.unique(code, return_counts=True)
        pair, outcome = codes // len(values), values[codes % len(values)]
        return pair // len(self.models), pair % len(self.models), outcome, counts.astype(np.float64)


def read(
    data: str | Path, *, style: Sequence[str] = (), dimension: str | None = None, questions: bool = False
) -> Battles:
    """Return the battles of a file; `style` names the features that are wanted (see style.py).

    With `dimension`, the verdict is the one under that name in the row's `verdicts`; with `questions` it is told which
    battles share one. Raises KilterError where no battle is left.
    """
    if not style and dimension is None and not questions:
        plain = _columns(Path(data))
        if plain is not None:
            return plain
    left_out = LeftOut()
    battles = collect(stream(data, left_out), style=style, dimension=dimension, left_out=left_out)
    if not len(battles):
        why = "; ".join(battles.notes) or "the file has no rows"
        raise KilterError(
            f"{data} holds no battle that can be used ({why.rstrip('.')}); "
            "a battle has model_a, model_b and winner (model_a, model_b or tie)."
        )
    return battles


def _columns(path: Path) -> Battles | None:
    """Read a JSONL file of Chatbot Arena's form by column, ten times as fast as by row; None where a row is odd."""
    import pyarrow as pa
    from pyarrow import json as reader

    if path.suffix != ".jsonl" or not path.is_file():
        return None
    schema = pa.schema([(name, pa.string()) for name in ("model_a", "model_b", "winner")])
    options = reader.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        table = reader.read_json(path, parse_options=options)
        columns = [table[name].combine_chunks().dictionary_encode() for name in schema.names]
    except (pa.ArrowException, OSError):
        return None
    names: list[list[str]] = [column.dictionary.to_pylist() for column in columns]
    models = sorted({*names[0], *names[1]})
    if (
        not models
        or any(c.null_count for c in columns)
        or any(w not in WORDS for w in names[2])
        or {*models} & {*WORDS}
    ):
        return None
    place = {name: i for i, name in enumerate(models)}
    a, b = (np.array([place[n] for n in names[k]])[columns[k].indices.to_numpy()] for k in (0, 1))
    if (a == b).any():
        return None
    return Battles(models, a, b, np.array([WORDS[w] for w in names[2]])[columns[2].indices.to_numpy()])


def collect(
    rows: Iterable[Row], *, style: Sequence[str] = (), dimension: str | None = None, left_out: LeftOut | None = None
) -> Battles:
    """Return `rows` as battles. What cannot be used is counted in the notes."""
    left_out = left_out if left_out is not None else LeftOut()
    places: dict[str, int] = {}
    a: list[int] = []
    b: list[int] = []
    outcome: list[float] = []
    given: list[list[float]] = []
    questions: list[Any] = []
    seen = 0
    for row in rows:
        seen += 1
        pair = sides(row)
        if pair is None:
            left_out.add("the two models are not named", list(row))
            continue
        if pair[0] == pair[1]:
            left_out.add("a model meets itself", pair[0])
            continue
        share = verdict(row, dimension)
        if share is None:
            left_out.add("there is no verdict that can be read", _told(row, dimension))
            continue
        if style:
            found = features(row, style)
            if found is None:
                left_out.add(f"the responses' {' or '.join(style)} is not told", list(row))
                continue
            given.append(found)
        a.append(places.setdefault(str(pair[0]), len(places)))
        b.append(places.setdefault(str(pair[1]), len(places)))
        outcome.append(share)
        question = row.get("question_id")
        questions.append(row.get("question", row.get("instruction")) if question is None else question)
    return _arranged(places, a, b, outcome, given, tuple(style), questions, left_out, seen)


def _arranged(
    places: dict[str, int],
    a: list[int],
    b: list[int],
    outcome: list[float],
    style: list[list[float]],
    names: tuple[str, ...],
    questions: list[Any],
    left_out: LeftOut,
    seen: int,
) -> Battles:
    """Put the models in the order of their names: then nothing depends on the order of the rows."""
    models = sorted(places)
    place = np.empty(len(models), dtype=np.int64)
    place[[places[name] for name in models]] = np.arange(len(models))
    side = [place[np.asarray(x, dtype=np.int64)] for x in (a, b)]
    notes = left_out.notes("battles", seen)
    told = None
    if None not in questions:
        texts = [str(question) for question in questions]
        told = texts if len(set(texts)) < len(texts) else None
    given = np.asarray(style, dtype=np.float64) if style else None
    return Battles(models, side[0], side[1], np.asarray(outcome, dtype=np.float64), given, names, told, notes)


def sides(row: Row) -> tuple[Any, Any] | None:
    """Return the two models of a row, or None where it does not name them."""
    for x, y in SIDES:
        if x in row and y in row:
            return row[x], row[y]
    return None


def verdict(row: Row, dimension: str | None = None) -> float | None:
    """Return the first model's share of the win, or None where the row does not say.

    Read are `winner` (a side, a model's name, a tie), `verdicts` {dimension: winner}, `preference` (AlpacaEval's, 1 for
    the first model to 2 for the second) and MT-Bench's `g1_winner` and `g2_winner`, the two orders of one pair: a side
    wins where it wins in both, anything else is a tie.
    """
    if dimension is not None:
        verdicts = row.get("verdicts")
        return word(verdicts.get(dimension), row) if isinstance(verdicts, dict) else None
    if "g1_winner" in row and "g2_winner" in row:
        first, second = word(row["g1_winner"], row), word(row["g2_winner"], row)
        if first is None or second is None:
            return None
        return first if first == second else 0.5
    if "winner" in row:
        return word(row["winner"], row)
    preference = number(row.get("preference"))
    if preference is None:
        return None
    if preference in (0.0, 1.5):  # AlpacaEval's two ways of writing a draw
        return 0.5
    return 2 - preference if 1 <= preference <= 2 else None


def word(value: Any, row: Row) -> float | None:
    """Return the first model's share that a word such as `model_a`, `tie` or the winner's own name stands for."""
    if not isinstance(value, str):
        return None
    pair = sides(row)
    if pair is not None and pair[0] != pair[1]:  # a name goes before a word: a model may be called "first"
        if value == pair[0]:
            return 1.0
        if value == pair[1]:
            return 0.0
    known = WORDS.get(value)
    return WORDS.get(value.strip().lower()) if known is None else known


def _told(row: Row, dimension: str | None) -> str:
    names = ("verdicts",) if dimension else ("winner", "preference", "g1_winner", "g2_winner")
    return ", ".join(f"{name} {row[name]!r}" for name in names if name in row) or f"columns {', '.join(row)}"
