"""BIG-Bench Hard: 23 tasks that language models found hard, with or without a chain of thought."""

from __future__ import annotations

import re
from pathlib import Path

from kilter.errors import KilterError
from kilter.evaluation.matching import after_answer_is
from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import Filters, Row, Task, shipped
from kilter.evaluation.tasks.suite import Item, Way, measure
from kilter.models.protocol import Model
from kilter.registry import Count, Whole, method

PROMPTS = ("{subject}.cot.txt", "cot-prompts/{subject}.txt", "../cot-prompts/{subject}.txt", "{subject}.txt")
CHAIN = "Let's think step by step."


@method("bbh", wing="evaluation", paper="arXiv:2210.09261", survey="S1 §8.1, S2 §4.1")
async def bbh(
    model: Model,
    *,
    data: str | None = None,
    shots: Whole = 3,
    n: Count | None = None,
    subjects: str = "",
    cot: bool = False,
    way: Way = "generation",
    max_tokens: Count = 512,
    chat: bool = False,
) -> Evaluation:
    """Measure reasoning over BIG-Bench Hard's 27 files of 23 tasks (Suzgun et al. 2022).

    exact_match: what the model writes is the answer; with a chain of thought what it writes after "the answer is ", up
    to the end of the line and without the final full stop. The 23 tasks count the same: the three sizes of logical
    deduction are one task, and so are those of tracking shuffled objects. By likelihood the choices that a question
    lists are compared (acc, acc_norm), and questions without any are left out. The shots, with their chains, are the
    authors' own, read from cot-prompts/FILE.txt (or FILE.cot.txt) beside the data.

    Rows: input, target.

    Options:
        data: folder with the data; without, it comes from the hub, and there are no shots
        shots: worked examples before each question
        n: of each file only the first so many questions
        subjects: names of files, with commas; all that are there where empty
        cot: let the model think step by step, as the examples then do
        way: read what the model writes (generation), or compare the choices' log-probs (likelihood)
        max_tokens: longest chain of thought in tokens
        chat: ask through the model's chat template instead of in plain text
    """
    task = shipped("bbh")
    task.fewshot_config.samples = {name: worked(task, name, data, cot) for name in task.subjects or {}}
    if way == "likelihood" and cot:
        raise KilterError("A chain of thought is written, not weighed; leave --cot or --way likelihood out.")
    if way == "likelihood":
        choices = {"choices": "input | options or (['True', 'False'] if target in ['True', 'False'] else [])"}
        update = {"output_type": "multiple_choice", "columns": choices, "doc_to_choice": "choices"}
        task = Task.model_validate(
            task.model_dump() | update | {"metric_list": [{"metric": m} for m in ("acc", "acc_norm")]}
        )
    if cot:
        task.doc_to_text = f"Q: {{{{input}}}}\nA: {CHAIN}"
        task.target_delimiter = ""
        task.generation_kwargs.max_gen_toks = max_tokens
        task.filter_list = [Filters(filter=[])]

    async def score(task: Task, items: list[Item], said: list[str | None]) -> tuple[list[dict | None], list[dict]]:
        found: list[dict | None] = []
        for item, text in zip(items, said, strict=True):
            told = None if text is None else after_answer_is(text) or ""
            found.append(None if told is None else {"exact_match": float(told == item.answers[0])})
        return found, [{} for _ in items]

    return await measure(
        model,
        [task],
        suite="bbh",
        data=data,
        shots=shots,
        n=n,
        subjects=subjects,
        chat=chat,
        way=way,
        score=score if cot else None,
    )


def worked(task: Task, subject: str, data: str | None, cot: bool) -> list[Row]:
    """Return the worked examples of a file as rows, with their chains of thought where wanted; none where none are."""
    folder = Path(data) if data is not None else None
    if folder is None:
        return []
    own = folder if folder.is_dir() else folder.parent
    paths = [base / place.format(subject=subject) for base in (own, own / "bbh") for place in PROMPTS]
    path = next((each for each in paths if each.is_file()), None)
    if path is None:
        return []
    body = path.read_text(encoding="utf-8").partition("-----")[2]
    rows = []
    for block in re.split(r"\n\n(?=Q: )", body)[1:]:
        asked, _, chain = block.removeprefix("Q: ").partition(f"\nA: {CHAIN}")
        answer = after_answer_is(chain)
        if answer is not None:
            rows.append({"input": asked, "target": chain.rstrip() if cot else answer})
    return rows
