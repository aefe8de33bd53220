"""Implicit hate: what is meant and not said; whether it is there, of which kind, and what it implies."""

from __future__ import annotations

from typing import Literal

from kilter.evaluation.auto_metrics import bleu
from kilter.evaluation.labelled import Task, classify, word
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, read, sample
from kilter.evaluation.statistics import bootstrap
from kilter.models.protocol import Model
from kilter.registry import method

Stage = Literal["binary", "three", "taxonomy", "implied"]
KINDS = ("white_grievance", "incitement", "inferiority", "irony", "stereotypical", "threatening")
CLASSES = ("implicit_hate", "explicit_hate", "not_hate")
TASKS: dict[str, Task] = {
    "binary": Task(
        "implicithate binary", ("implicit_hate", "not_hate"), ("post", "text"),
        word("class", {"implicit_hate": "implicit_hate", "not_hate": "not_hate"}),
        'Does this text imply hate? Answer with "yes" or "no".\n\n{text}', ("yes", "no"),
        {"yes": "implicit_hate", "no": "not_hate"},
    ),
    "three": Task(
        "implicithate three", CLASSES, ("post", "text"), word("class", {name: name for name in CLASSES}),
        "Does this text imply hate, express it, or neither?\n\n{text}", ("imply", "express", "neither"),
    ),
    "taxonomy": Task(
        "implicithate taxonomy", KINDS, ("post", "text"), word("implicit_class", {name: name for name in KINDS}),
        "Which is this text: grievance of whites, incitement, inferiority, irony, stereotype or threat?\n\n{text}",
        ("grievance", "incitement", "inferiority", "irony", "stereotype", "threat"),
    ),
}  # fmt: skip


@method("implicithate", wing="evaluation", paper="arXiv:2109.05322", survey="S1 §8.5")
async def implicithate(
    model: Model | None = None,
    *,
    data: str,
    stage: Stage = "binary",
    prediction: str = "prediction",
    n: int | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> Evaluation:
    """Detect and explain implicit hate (ElSherief et al. 2021).

    binary and three: implicit against none, and explicit too; taxonomy: six kinds of implicit hate; implied: the stored
    statements of what a post implies against people's, by BLEU (0 to 100; needs the extra `eval`). The first three have
    accuracy, macro_f1, weighted_f1 and each label's precision, recall and f1.

    Rows: post and class, implicit_class or implied_statement (several for one post are several references); without a
    model also `prediction`.

    Options:
        data: file, folder or hub id of posts
        stage: what is to be told
        prediction: name of the column of stored labels or statements
        n: only the first so many posts
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    if stage != "implied":
        return await classify(TASKS[stage], model, data, prediction=prediction, n=n, resamples=resamples, seed=seed)
    rows, notes = read(data, ("post", "implied_statement", prediction))
    left_out = LeftOut()
    references: dict[str, list[str]] = {}
    said: dict[str, str] = {}
    for row in rows[:n]:
        statement, text = row.get("implied_statement"), row.get(prediction)
        if not isinstance(statement, str) or not isinstance(text, str):
            left_out.add("it has no statement or no prediction", row.get("post"))
            continue
        references.setdefault(str(row["post"]), []).append(statement)
        said.setdefault(str(row["post"]), text)
    posts = list(said)

    def corpus(places: object) -> float:
        chosen = [posts[int(at)] for at in places]  # type: ignore[attr-defined]
        return bleu([said[post] for post in chosen], [references[post] for post in chosen])

    measures: dict[str, Measure] = {}
    if posts:
        spread = bootstrap(list(range(len(posts))), statistic=corpus, resamples=min(resamples, 200), seed=seed)
        measures["bleu"] = Measure(corpus(range(len(posts))), spread.low, spread.high, len(posts))
    samples = [sample(post, {"bleu": bleu([said[post]], [references[post]])}, response=said[post]) for post in posts]
    notes += left_out.notes("posts", len(rows))
    return Evaluation("", measures, samples, suite="implicithate implied", seed=seed, notes=notes)
