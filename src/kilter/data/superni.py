"""Super-NaturalInstructions: tasks with a definition and examples, their instances as demonstrations."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from kilter.errors import KilterError, SetAside
from kilter.files import explaining
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin
from kilter.registry import method
from kilter.store import rejects

PROMPTS = Prompts(__file__)

TEST_TYPES = frozenset(
    {
        "Textual Entailment",
        "Cause Effect Classification",
        "Coreference Resolution",
        "Dialogue Act Recognition",
        "Answerability Classification",
        "Word Analogy",
        "Overlap Extraction",
        "Keyword Tagging",
        "Question Rewriting",
        "Title Generation",
        "Data to Text",
        "Grammar Error Correction",
    }
)
"""The types of the 119 English test tasks; no training task is of one of them."""


@method("superni", wing="data", paper="arXiv:2204.07705", survey="S2 §2.1", aliases=("super-natural-instructions",))
def superni(
    *,
    tasks: str,
    split: Literal["all", "train", "test"] = "all",
    positives: Annotated[int, Field(ge=0)] = 2,
    negatives: Annotated[int, Field(ge=0)] = 0,
    explanations: bool = False,
    instances: Annotated[int, Field(gt=0)] = 100,
    seed: int = 0,
) -> Iterator[Demonstration]:
    """Make demonstrations of the tasks of Super-NaturalInstructions (Wang et al. 2022).

    A request is the task's definition, some of its examples of right and wrong outputs (with the reasons, where
    wanted), and the instance's input; `positives=2` without negatives is the paper's best encoding. Of an instance's
    right outputs the first is the answer, meta["references"] has all. Training and test tasks are told apart by their
    type, so that no type is in both. meta also has task, type, input, and the submixture (niv2) for `flan`.

    Options:
        tasks: a task's JSON file, or a folder of them
        split: all, train or test, by the type of the task
        positives: examples of right outputs in a request, as far as there are
        negatives: examples of wrong outputs
        explanations: whether the examples' reasons are given
        instances: most instances of one task; the paper takes 100
        seed: seed of the choice of instances
    """
    source = Path(tasks)
    files = sorted(source.rglob("*.json")) if source.is_dir() else [source]
    if not files or not files[0].exists():
        raise KilterError(f"{tasks} holds no tasks; name a task's JSON file, or a folder of them.")
    for file in files:
        task = _read(file)
        if task is None:
            continue
        kind = _one(task["Categories"])
        if split == "all" or (split == "test") == (kind in TEST_TYPES):
            yield from _demonstrations(task, file.stem, kind, positives, negatives, explanations, instances, seed)


def _read(file: Path) -> dict[str, Any] | None:
    """Return a task, or None and an entry in the rejects for a file that is none."""
    try:
        with explaining(file, "read"):
            task = json.loads(file.read_text(encoding="utf-8"))
        lacking = [n for n in ("Definition", "Categories", "Positive Examples", "Instances") if n not in task]
        reason = f"it lacks {', '.join(lacking)}" if lacking else ""
    except (ValueError, TypeError) as error:
        task, reason = None, f"it is no JSON object ({error})"
    if not reason:
        return dict(task)
    kept = rejects.current()
    if kept is None:
        raise KilterError(f"{file} is no task of Super-NaturalInstructions: {reason}; take it away.")
    kept.set_aside({"file": str(file)}, SetAside(f"{file} is no task: {reason}.", "no task"))
    return None


def _demonstrations(
    task: dict[str, Any],
    name: str,
    kind: str,
    positives: int,
    negatives: int,
    explanations: bool,
    most: int,
    seed: int,
) -> Iterator[Demonstration]:
    definition = "\n".join([task["Definition"]] if isinstance(task["Definition"], str) else task["Definition"]).strip()
    right = _examples(task.get("Positive Examples"), positives, explanations)
    wrong = _examples(task.get("Negative Examples"), negatives, explanations)
    chosen = task["Instances"]
    if len(chosen) > most:
        places = random.Random(f"superni {seed} {name}").sample(range(len(chosen)), most)
        chosen = [chosen[i] for i in sorted(places)]
    for instance in chosen:
        outputs = [instance["output"]] if isinstance(instance["output"], str) else list(instance["output"])
        request = PROMPTS("encode", definition=definition, positives=right, negatives=wrong, input=instance["input"])
        meta = {
            "task": name,
            "type": kind,
            "input": instance["input"],
            "references": outputs,
            "submixture": "niv2",
        }
        origin = Origin("superni", "arXiv:2204.07705", parents=(str(instance.get("id", name)),), seed=seed)
        if outputs and outputs[0].strip():
            yield Demonstration([*request, Message("assistant", outputs[0])], str(instance.get("id", "")), origin, meta)


def _examples(given: Any, count: int, explanations: bool) -> list[dict[str, str]]:
    """Return the first `count` examples; an output that is a list is its first text."""
    return [
        {
            "input": str(example["input"]),
            "output": _one(example["output"]),
            "explanation": str(example.get("explanation") or "") if explanations else "",
        }
        for example in (given or [])[:count]
    ]


def _one(value: Any) -> str:
    return str(value[0] if isinstance(value, list) and value else value)
