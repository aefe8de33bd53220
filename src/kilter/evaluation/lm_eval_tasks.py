"""Any task of the Language Model Evaluation Harness, or a YAML file in its form, with Kilter's engine as the model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks import form
from kilter.evaluation.tasks.suite import measure
from kilter.models.protocol import Model
from kilter.registry import Count, Whole, method

LACKING = "lm-eval is not installed; run `pip install 'kilter[eval]'`"


@method("lm-eval", wing="evaluation", paper="arXiv:2405.14782", survey="S1 §8, S2 §4")
async def lm_eval(
    model: Model,
    *,
    task: str,
    data: str | None = None,
    shots: Whole | None = None,
    n: Count | None = None,
    chat: bool = False,
    tasks_in: str = "",
    ours: bool = True,
) -> Evaluation:
    """Run a task of the Language Model Evaluation Harness (Gao et al. 2021; Biderman et al. 2024).

    A YAML file, or a task that ships with Kilter (also by its name there, such as mmlu_anatomy), is read by Kilter
    itself: multiple_choice and generate_until, Jinja templates, filters, exact_match, acc and acc_norm. Anything else
    is run by the harness' own code (package lm-eval, extra eval): its prompts, filters and scoring, with the log-probs
    and texts of Kilter's engine. With --data a task that wants a data set of the hub reads local files instead:
    DIR/SPLIT.jsonl, DIR/SUBJECT_SPLIT.jsonl, DIR/SUBJECT/SPLIT-*.parquet and the like.

    Options:
        task: a name, several with commas, or the path of a YAML file
        data: folder with the data; without, it comes from the hub
        shots: worked examples before each question; the task's own number where not given
        n: of each task only the first so many documents
        chat: ask through the model's chat template
        tasks_in: a folder with further tasks in YAML, for the harness
        ours: read a task that ships with Kilter by Kilter; else by the harness too
    """
    names = [name.strip() for name in task.split(",") if name.strip()]
    if not names:
        raise KilterError("Name a task: --task mmlu_anatomy, or the path of a YAML file.")
    own = [_own(name) if ours else None for name in names]
    if all(own):
        read = [each for each in own if each is not None]
        return await measure(model, read, suite=",".join(names), data=data, shots=shots, n=n, chat=chat)
    if find_spec("lm_eval") is None:
        raise KilterError(f"Kilter ships no task '{names[own.index(None)]}', and {LACKING}.")
    from kilter.evaluation.harness import run_harness

    return await run_harness(model, names, data=data, shots=shots, n=n, chat=chat, tasks_in=tasks_in)


def _own(name: str) -> form.Task | None:
    """Return the task that Kilter reads itself, None where it ships none of that name."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise KilterError(f"There is no task file {name}; name a YAML file or a task.")
        return form.read(Path(name))
    known = set(shipped())
    if name in known:
        return form.shipped(name)
    # The harness' own names of tasks that are the same.
    if name.replace("_", "-") in known:
        return form.shipped(name.replace("_", "-"))
    for task in ("mmlu", "cmmlu", "ceval"):
        subject = re.sub(rf"^{task}(-valid)?_", "", name)
        whole = form.shipped(task)
        if subject != name and subject in (whole.subjects or {}):
            # There they have no shots but those that are asked for.
            only = {subject: (whole.subjects or {})[subject]}
            return whole.model_copy(update={"subjects": only, "num_fewshot": 0})
    return None


def shipped() -> Iterator[str]:
    """Yield the names of the tasks that ship with Kilter."""
    for path in sorted(form.FOLDER.glob("*.yaml")):
        yield path.stem
