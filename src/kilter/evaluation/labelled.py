"""Texts with labels, and a model or stored predictions against them: what the detection suites have in common.

A suite says how a row's gold label is read and what the labels are; here they are scored, over all and by group. Labels
that people disagree about, or that are missing, leave their text out, counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from kilter.errors import KilterError
from kilter.evaluation.classification import scores
from kilter.evaluation.likelihood import best, of_choices, tolerant, unscored
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, read, sample
from kilter.models.drive import run
from kilter.models.protocol import Model
from kilter.records import identify

KEPT = ("accuracy", "parsed", "macro_f1", "weighted_f1", "kappa")


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be told of a text. `gold` reads a row's label, one of `labels`, None where it has none.

    `text` are the columns that may hold the text; `said` maps words of a prediction to labels, beside the labels
    themselves; `group` names columns whose values are also scored apart; `answers` are what a model chooses from.
    """

    suite: str
    labels: tuple[str, ...]
    text: tuple[str, ...]
    gold: Callable[[Row], str | None]
    question: str
    answers: tuple[str, ...] = ()
    said: Mapping[str, str] = field(default_factory=dict)
    group: tuple[str, ...] = ()


async def classify(
    task: Task,
    model: Model | None,
    data: str,
    *,
    prediction: str = "prediction",
    n: int | None = None,
    resamples: int = 500,
    seed: int = 0,
    text: Callable[[Row], str | None] | None = None,
) -> Evaluation:
    """Score `model`, or the predictions stored in the column `prediction`, on the texts of `data`.

    Measures: accuracy, macro_f1, weighted_f1, kappa, each label's precision, recall and f1, and COLUMN=VALUE:macro_f1
    for the task's groups. `text` reads a row's text where that is not a column of its own. A model's label is the
    answer that it finds likeliest, by the mean log-prob of its tokens.
    """
    rows, notes = read(data)
    rows = rows[:n]
    left_out = LeftOut()
    kept: list[tuple[Row, str, str]] = []
    for row in rows:
        said_text, gold = text(row) if text else text_of(row, task.text), task.gold(row)
        if said_text is None:
            left_out.add("it has no text", list(row))
        elif gold is None:
            left_out.add("it has no gold label", said_text)
        else:
            kept.append((row, said_text, gold))
    if not kept:
        why = " ".join(left_out.notes("texts", len(rows)))
        raise KilterError(f"{data} holds no text with a label of {task.suite}; {why}")
    if model is None:
        said = [label_of(row.get(prediction), task) for row, _, _ in kept]
        if not any(said):
            raise KilterError(f"{data} has no labels under '{prediction}'; give a model, or name their column.")
    else:
        trouble: list[str] = []
        ask = tolerant(partial(_asked, task, model), trouble)
        said = list(await run([one for _, one, _ in kept], ask, label=f"{task.suite} · {model.name}"))
        notes += unscored(trouble, len(kept))
    gold_labels = [gold for _, _, gold in kept]
    measures = scores(gold_labels, said, task.labels, resamples=resamples, seed=seed)
    measures |= by_group(task, kept, said, resamples, seed)
    counted = Counter(gold_labels)
    notes.append("Gold labels: " + ", ".join(f"{name} {counted[name]:,}" for name in task.labels) + ".")
    missing = sum(label is None for label in said)
    if missing:
        notes.append(f"{missing:,} of {len(said):,} predictions are none of the labels and count as wrong.")
    notes += left_out.notes("texts", len(rows))
    samples = [
        sample(identify(task.suite, at, one), {"accuracy": float(gold == label)}, response=label or "", expected=gold)
        | {"family": gold, "prompt": [{"role": "user", "content": one}]}
        for at, ((_, one, gold), label) in enumerate(zip(kept, said, strict=True))
    ]
    return Evaluation(model.name if model else "", measures, samples, task.suite, seed, notes)


def by_group(
    task: Task,
    kept: Sequence[tuple[Row, str, str]],
    said: Sequence[str | None],
    resamples: int = 500,
    seed: int = 0,
) -> dict[str, Measure]:
    """Return macro F1 and accuracy of each value of the task's group columns."""
    found: dict[str, Measure] = {}
    for column in task.group:
        values = sorted({str(row[column]) for row, _, _ in kept if row.get(column) not in (None, "")})
        for value in values if len(values) > 1 else []:
            part = [at for at, (row, _, _) in enumerate(kept) if str(row.get(column)) == value]
            gold, predicted = [kept[at][2] for at in part], [said[at] for at in part]
            there = [label for label in task.labels if label in {*gold, *predicted}]
            one = scores(gold, predicted, there, resamples=resamples, seed=seed, each=False)
            found |= {f"{column}={value}:{name}": one[name] for name in ("macro_f1", "accuracy")}
    return found


def text_of(row: Row, columns: Sequence[str]) -> str | None:
    """Return the first of the columns that holds a text."""
    return next((row[name] for name in columns if isinstance(row.get(name), str) and row[name].strip()), None)


def label_of(value: object, task: Task) -> str | None:
    """Return the label that a prediction stands for, whatever its case; None for anything else."""
    word = str(value).strip().lower()
    known = {label.lower(): label for label in task.labels} | {k.lower(): v for k, v in task.said.items()}
    return known.get(word)


def word(column: str, labels: Mapping[str, str]) -> Callable[[Row], str | None]:
    """Return a reader of gold labels from one column, whose words `labels` maps to labels."""
    known = {key.lower(): label for key, label in labels.items()}

    def read_gold(row: Row) -> str | None:
        value = row.get(column)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return known.get(str(value).strip().lower())

    return read_gold


async def _asked(task: Task, model: Model, text: str) -> str:
    answers = task.answers or task.labels
    return task.labels[best(await of_choices(model, task.question.replace("{text}", text), answers, "tokens"))]
