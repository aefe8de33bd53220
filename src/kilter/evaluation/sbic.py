"""Social bias frames: is a post offensive, meant so, lewd, against a group, and what does it imply of the group?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from kilter.evaluation.labelled import Task, classify
from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import Row, number
from kilter.models.protocol import Model
from kilter.registry import method

Variable = Literal["offensive", "intent", "lewd", "group", "in-group"]
COLUMNS = {
    "offensive": "offensiveYN", "intent": "intentYN", "lewd": "sexYN", "group": "whoTarget",
    "in-group": "speakerMinorityYN",
}  # fmt: skip
QUESTIONS = {
    "offensive": "Could this text be offensive to anybody?", "intent": "Was this text meant to offend?",
    "lewd": "Does this text speak of sex?", "group": "Is this text offensive to a group rather than to one person?",
    "in-group": "Does the writer of this text belong to the group it speaks of?",
}  # fmt: skip
FRAME = ("lewd", "offensive", "intent", "group", "target", "implied", "in-group")
START, END, MARK = "[STR]", "[END]", "[SEP]"


def binary(column: str) -> Callable[[Row], str | None]:
    """Return a reader of a variable: the mean of the annotators' answers in 0..1, yes from one half on."""

    def read_gold(row: Row) -> str | None:
        value = number(row.get(column))
        return None if value is None else "yes" if value >= 0.5 else "no"

    return read_gold


@method("sbic", wing="evaluation", paper="arXiv:1911.03891", survey="S1 §8.5")
async def sbic(
    model: Model | None = None,
    *,
    data: str,
    variable: Variable = "offensive",
    prediction: str = "prediction",
    n: int | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> Evaluation:
    """Tell the variables of social bias frames (Sap et al. 2020).

    f1:yes is the paper's measure of a variable, with precision and recall; accuracy, macro_f1 and kappa beside it. A
    variable is yes where the annotators' mean is one half or more. The statement of what a post implies is text: score
    it with `auto-metrics` (BLEU-2 and ROUGE-L in the paper). `linearise` and `parse` in Python put a whole frame on one
    line and read it again.

    Rows: post, offensiveYN, intentYN, sexYN, whoTarget, speakerMinorityYN; without a model also `prediction`.

    Options:
        data: file, folder or hub id of posts
        variable: what is to be told
        prediction: name of the column of stored answers
        n: only the first so many posts
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    question = QUESTIONS[variable] + ' Answer with "yes" or "no".\n\n{text}'
    said = {"1": "yes", "0": "no", "true": "yes", "false": "no", "1.0": "yes", "0.0": "no"}
    gold = binary(COLUMNS[variable])
    task = Task(f"sbic {variable}", ("yes", "no"), ("post", "text"), gold, question, said=said)
    return await classify(task, model, data, prediction=prediction, n=n, resamples=resamples, seed=seed)


def linearise(post: str, frame: Mapping[str, str]) -> str:
    """Return a post with its frame as one line, in the order of `FRAME`, as a generator is taught it."""
    return f"{START} {post} {MARK} " + f" {MARK} ".join(f"[{name}] {frame.get(name, '')}" for name in FRAME) + f" {END}"


def parse(line: str) -> tuple[str, dict[str, str]] | None:
    """Return the post and the frame of a line; None where the line is not whole."""
    text = line.strip()
    if not text.startswith(START) or not text.endswith(END):
        return None
    post, *fields = [part.strip() for part in text[len(START) : -len(END)].split(MARK)]
    found: dict[str, str] = {}
    for part in fields:
        name, closed, value = part.partition("]")
        if not closed or not name.startswith("[") or name[1:] not in FRAME:
            return None
        found[name[1:]] = value.strip()
    return (post, {name: value for name, value in found.items() if value}) if list(found) == list(FRAME) else None


def agreed(annotations: Sequence[Row], column: str) -> float | None:
    """Return the mean of several annotators' answers to one post, None where nobody answered."""
    values = [value for row in annotations if (value := number(row.get(column))) is not None]
    return sum(values) / len(values) if values else None
