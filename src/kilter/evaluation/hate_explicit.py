"""Explicit hate speech: five collections of posts with their own labels, and why a text was labelled so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from kilter.evaluation.labelled import Task, classify, word
from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import Row, number, read
from kilter.evaluation.statistics import interval
from kilter.models.protocol import Model
from kilter.registry import method

Benchmark = Literal["davidson", "waseem", "stormfront", "tweetblm", "hatexplain"]
YES_NO = {"yes": "hate", "no": "no hate", "1": "hate", "0": "no hate"}
DAVIDSON = ("hate", "offensive", "neither")
VOTES = ("hate_speech", "offensive_language", "neither")


def davidson(row: Row) -> str | None:
    """Davidson's class; where only the annotators' votes are there, what most of them said."""
    place = number(row.get("class"))
    if place is not None and place in (0, 1, 2):
        return DAVIDSON[int(place)]
    votes = [number(row.get(name)) for name in VOTES]
    if None in votes:
        return None
    most = max(v for v in votes if v is not None)
    return DAVIDSON[votes.index(most)] if votes.count(most) == 1 else None


def hatexplain(row: Row) -> str | None:
    """HateXplain's label: what two of three annotators said, None where all differ."""
    said = [a.get("label") for a in row.get("annotators") or [] if isinstance(a, dict)]
    label, times = Counter(said).most_common(1)[0] if said else (None, 0)
    names = {"hatespeech": "hate", "offensive": "offensive", "normal": "neither"}
    return names.get(str(label)) if times > 1 else None


TASKS: dict[str, Task] = {
    "davidson": Task(
        "hate-explicit davidson", DAVIDSON, ("tweet", "text"), davidson,
        "Does this text hold hate, is it merely offensive, or neither?\n\n{text}",
        said={"0": "hate", "1": "offensive", "2": "neither"},
    ),
    "waseem": Task(
        "hate-explicit waseem", ("racism", "sexism", "none"), ("text", "tweet"),
        word("label", {"racism": "racism", "sexism": "sexism", "none": "none"}),
        "Does this text hold racism, sexism or none of them?\n\n{text}",
    ),
    "stormfront": Task(
        "hate-explicit stormfront", ("hate", "no hate"), ("text", "sentence"),
        word("label", {"hate": "hate", "noHate": "no hate"}),
        'Does this text hold hate? Answer with "yes" or "no".\n\n{text}', ("yes", "no"), YES_NO | {"noHate": "no hate"},
    ),
    "tweetblm": Task(
        "hate-explicit tweetblm", ("hate", "no hate"), ("text", "tweet"),
        word("label", {"HATE": "hate", "NONHATE": "no hate", "1": "hate", "0": "no hate"}),
        'Does this text hold hate? Answer with "yes" or "no".\n\n{text}', ("yes", "no"), YES_NO,
    ),
    "hatexplain": Task(
        "hate-explicit hatexplain", DAVIDSON, ("text", "post"), hatexplain,
        "Does this text hold hate, is it merely offensive, or neither?\n\n{text}",
        said={"hatespeech": "hate", "normal": "neither"},
    ),
}  # fmt: skip


@method("hate-explicit", wing="evaluation", paper="arXiv:1703.04009", survey="S1 §8.5")
async def hate_explicit(
    model: Model | None = None,
    *,
    data: str,
    benchmark: Benchmark = "davidson",
    prediction: str = "prediction",
    n: int | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> Evaluation:
    """Detect explicit hate (Davidson et al. 2017; Waseem and Hovy 2016; de Gibert et al. 2018; HateXplain).

    accuracy, macro_f1, weighted_f1, kappa; precision, recall and f1 of each label: hate is the class that detectors
    miss. Of HateXplain with stored rationales also rationale_iou: share of texts whose predicted span of tokens
    overlaps a human one by half or more of their union, and rationale_f1, the mean F1 of tokens.

    Rows: the benchmark's own (Davidson: tweet, class, or the votes hate_speech, offensive_language, neither; Waseem and
    Stormfront: text, label; HateXplain: post_tokens, annotators, rationales), without a model also `prediction`, and
    for rationales `predicted_rationale`, 0 or 1 a token.

    Options:
        data: file, folder or hub id of texts
        benchmark: whose labels they are
        prediction: name of the column of stored labels
        n: only the first so many texts
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    found = await classify(TASKS[benchmark], model, data, prediction=prediction, n=n, resamples=resamples, seed=seed)
    if benchmark == "hatexplain":
        pairs = [pair for row in read(data)[0][:n] if (pair := rationales(row)) is not None]
        if pairs:
            found.measures["rationale_iou"] = interval([float(iou(*pair) >= 0.5) for pair in pairs])
            found.measures["rationale_f1"] = interval([token_f1(*pair) for pair in pairs])
    return found


def rationales(row: Row) -> tuple[list[int], list[int]] | None:
    """Return the predicted tokens and those that half of the annotators or more marked; None where one is missing."""
    given, said = row.get("rationales"), row.get("predicted_rationale")
    if not isinstance(given, list) or not given or not isinstance(said, list):
        return None
    if any(len(marks) != len(said) for marks in given):
        return None
    human = [int(2 * sum(int(marks[t]) for marks in given) >= len(given)) for t in range(len(said))]
    return ([int(x) for x in said], human) if any(human) else None


def iou(said: Sequence[int], human: Sequence[int]) -> float:
    """Return the tokens that both marked, over those that either did."""
    both, either = sum(a and b for a, b in zip(said, human, strict=True)), sum(map(max, said, human))
    return both / either if either else 0.0


def token_f1(said: Sequence[int], human: Sequence[int]) -> float:
    """Return the F1 of the predicted tokens."""
    total = sum(said) + sum(human)
    return 2 * sum(a and b for a, b in zip(said, human, strict=True)) / total if total else 0.0
