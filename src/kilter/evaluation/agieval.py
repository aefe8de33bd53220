"""AGIEval: examinations that people sit, in English and Chinese."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kilter.errors import KilterError, nearest
from kilter.evaluation.result import Evaluation
from kilter.evaluation.statistics import summarize
from kilter.evaluation.tasks.form import shipped
from kilter.evaluation.tasks.suite import measure
from kilter.models.protocol import Model
from kilter.registry import Count, method


@method("agieval", wing="evaluation", paper="arXiv:2304.06364", survey="S1 §8.1, S2 §4.1")
async def agieval(
    model: Model,
    *,
    data: str,
    n: Count | None = None,
    subjects: str = "",
    chat: bool = False,
) -> Evaluation:
    """Measure a model by people's examinations, twenty files of AGIEval (Zhong et al. 2023).

    Files with one right choice compare log-probs (acc, acc_norm); the three with several (gaokao-physics, jec-qa-kd,
    jec-qa-ca) want the very set of letters that is written first; the two without choices (gaokao-mathcloze, math)
    compare answers as MATH does. Each file counts the same in acc. sat-en-without-passage holds the questions of sat-en
    once more.

    Rows: passage, question, options ("(A)..."), label (letter or letters) or answer.

    Options:
        data: folder with the data, FILE.jsonl each
        n: of each file only the first so many questions
        subjects: names of files, with commas; all that are there where empty
        chat: ask through the model's chat template instead of in plain text
    """
    wanted = [name.strip() for name in subjects.split(",") if name.strip()]
    tasks = [shipped(name) for name in ("agieval", "agieval-many", "agieval-cloze")]
    known = [name for task in tasks for name in task.subjects or {}]
    for name in wanted:
        if name not in known:
            raise KilterError(f"AGIEval has no file '{name}'.{nearest(name, known)}")
    parts = []
    for task in tasks:
        own = [name for name in wanted or list(task.subjects or {}) if name in (task.subjects or {})]
        there = [name for name in own if any(Path(data).rglob(f"{name}.jsonl"))]
        if there:
            part = await measure(
                model, [task], suite="agieval", data=data, shots=0, n=n, subjects=",".join(there), chat=chat
            )
            parts.append(part)
    if not parts:
        raise KilterError(f"{data} holds none of AGIEval's files, such as sat-math.jsonl; name their folder.")
    samples = [_one(sample) for part in parts for sample in part.samples]
    notes = [note for part in parts for note in part.notes]
    lacking = [name for name in known if name not in {str(sample["family"]) for sample in samples}]
    if lacking and not wanted:
        notes.append(f"{len(lacking)} of {len(known)} files are not there ({', '.join(lacking[:4])} ...).")
    measures = summarize(samples)
    for name in dict.fromkeys(str(sample["family"]) for sample in samples):
        measures[f"{name}:acc"] = summarize([sample for sample in samples if sample["family"] == name])["acc"]
    return Evaluation(model.name, measures, samples, suite="agieval", notes=notes)


def _one(sample: dict[str, Any]) -> dict[str, Any]:
    """Call what was measured acc, however it was, so that all files stand in one mean."""
    acc = sample["outcomes"].get("acc", sample["outcomes"].get("exact_match", 0.0))
    outcomes = {**{k: v for k, v in sample["outcomes"].items() if k != "exact_match"}, "acc": acc}
    weight = next(iter(sample["weights"].values()))
    return {**sample, "outcomes": outcomes, "weights": dict.fromkeys(outcomes, weight)}
