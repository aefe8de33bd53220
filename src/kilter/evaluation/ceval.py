"""C-Eval: 52 subjects in Chinese, four choices each; the answers of the test split are the organisers' secret."""

from __future__ import annotations

from pathlib import Path

from kilter.evaluation.options import spread
from kilter.evaluation.result import Evaluation
from kilter.evaluation.statistics import summarize
from kilter.evaluation.tasks.form import shipped
from kilter.evaluation.tasks.suite import Exam, measure
from kilter.files import due, write_json
from kilter.models.protocol import Model
from kilter.registry import method


@method("ceval", wing="evaluation", paper="arXiv:2305.08322", survey="S1 §8.1, S2 §4.1")
@spread()
async def ceval(model: Model, *, exam: Exam, submission: str = "") -> Evaluation:
    """Measure knowledge in Chinese over C-Eval's 52 subjects (Huang et al. 2023).

    As CMMLU, on the validation split, whose answers are known. hard:acc is over its eight subjects of mathematics,
    physics and chemistry. With --submission the test split is asked instead, whose answers are not: the letters go to
    that file as the organisers want them, {subject: {id: letter}}, and share_X is how often the model says X.

    Rows: id, question, A, B, C, D, answer.

    Options:
        submission: file to write the answers of the test split to
    """
    task = shipped("ceval")
    if not submission:
        return await measure(model, [task], suite="ceval", **vars(exam))
    out = due(Path(submission))
    # The test split has no answers; A stands for them, so that nothing is left out, and no accuracy is told.
    task = task.model_copy(
        update={"test_split": "test", "columns": {"gold": "0", "number": "this.id if this.id is defined else ''"}}
    )
    found = await measure(model, [task], suite="ceval", **vars(exam))
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
