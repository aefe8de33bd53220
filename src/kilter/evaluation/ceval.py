"""C-Eval: 52 subjects in Chinese, four choices each; the answers of the test split are the organisers' secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from kilter.evaluation.result import Evaluation
from kilter.evaluation.statistics import summarize
from kilter.evaluation.tasks.form import shipped
from kilter.evaluation.tasks.suite import Way, measure
from kilter.files import due, write_json
from kilter.models.protocol import Model
from kilter.registry import Count, Whole, method


@method("ceval", wing="evaluation", paper="arXiv:2305.08322", survey="S1 §8.1, S2 §4.1")
async def ceval(
    model: Model,
    *,
    data: str | None = None,
    shots: Whole = 5,
    n: Count | None = None,
    subjects: str = "",
    way: Way = "likelihood",
    fit: Literal["cut", "shots"] = "cut",
    chat: bool = False,
    submission: str = "",
) -> Evaluation:
    """Measure knowledge in Chinese over C-Eval's 52 subjects (Huang et al. 2023).

    As CMMLU, on the validation split, whose answers are known. hard:acc is over its eight subjects of mathematics,
    physics and chemistry. With --submission the test split is asked instead, whose answers are not: the letters go to
    that file as the organisers want them, {subject: {id: letter}}, and share_X is how often the model says X.

    Rows: id, question, A, B, C, D, answer.

    Options:
        data: folder with the data; without, it comes from the hub
        shots: worked examples before each question
        n: of each subject only the first so many questions
        subjects: names of subjects, with commas; all that are there where empty
        way: compare the log-probs of the letters (likelihood), or read the letter that the model writes (generation)
        fit: of a context that is too long cut the left, as the harness does, or the last shots
        chat: ask through the model's chat template instead of in plain text
        submission: file to write the answers of the test split to
    """
    task = shipped("ceval")
    how: Any = {"shots": shots, "n": n, "subjects": subjects, "way": way, "fit": fit, "chat": chat}
    if not submission:
        return await measure(model, [task], suite="ceval", data=data, **how)
    out = due(Path(submission))
    # The test split has no answers; A stands for them, so that nothing is left out, and no accuracy is told.
    task = task.model_copy(
        update={"test_split": "test", "columns": {"gold": "0", "number": "this.id if this.id is defined else ''"}}
    )
    found = await measure(model, [task], suite="ceval", data=data, **how)
    letters: dict[str, dict[str, str]] = {}
    samples = []
    for sample in found.samples:
        of = letters.setdefault(sample["family"], {})
        of[str(sample.get("number") or len(of))] = sample["response"].strip()[:1]
        said = {f"share_{letter}": float(sample["response"].strip()[:1] == letter) for letter in "ABCD"}
        samples.append({key: value for key, value in sample.items() if key != "expected"} | {"outcomes": said})
    write_json(out, letters)
    told = f"The letters of {len(samples):,} questions of {len(letters)} subjects are in {submission}."
    return Evaluation(found.model, summarize(samples), samples, suite="ceval", notes=[*found.notes, told])
