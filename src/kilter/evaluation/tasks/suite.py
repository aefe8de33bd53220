"""Running a task: its documents become requests, the model's answers become samples, and these a result."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from jinja2 import TemplateError
from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kilter.errors import KilterError, SetAside, first_line
from kilter.evaluation.likelihood import best
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut
from kilter.evaluation.statistics import summarize
from kilter.evaluation.tasks import asking
from kilter.evaluation.tasks.documents import Documents, documents
from kilter.evaluation.tasks.form import Row, Task, listed, render
from kilter.evaluation.tasks.scoring import CHOICES, of_text
from kilter.models.protocol import Model
from kilter.records import identify
from kilter.registry import Count, Whole

Way = Literal["likelihood", "generation"]
SEED = 1234  # of the shots, as the harness has it
Fit = Literal["cut", "shots"]
LETTERS = "Answer with the letter of the right choice only."


@dataclass(frozen=True, kw_only=True)
class Exam:
    """How a model sits an examination of many subjects: arguments of `measure`, and options of each such suite."""

    data: Annotated[str | None, Field(description="folder with the data; without, it comes from the hub")] = None
    shots: Annotated[Whole, Field(description="worked examples before each question")] = 5
    n: Annotated[Count | None, Field(description="of each subject only the first so many questions")] = None
    subjects: Annotated[str, Field(description="names of subjects, with commas; all that are there where empty")] = ""
    way: Annotated[
        Way,
        Field(
            description="compare the log-probs of the letters (likelihood), "
            "or read the letter that the model writes (generation)"
        ),
    ] = "likelihood"
    fit: Annotated[
        Fit,
        Field(description="of a context that is too long cut the left, as the harness does, or the last shots"),
    ] = "cut"
    chat: Annotated[bool, Field(description="ask through the model's chat template instead of in plain text")] = False


@dataclass(slots=True)
class Item:
    """One document, ready to be asked: shots, question, choices (none where text is written), right answers."""

    id: str
    subject: str
    head: str
    shots: list[str]
    question: str
    choices: list[str]
    gold: list[int]
    answers: list[str]
    row: Row

    @property
    def context(self) -> str:
        return self.head + "".join(self.shots) + self.question


async def measure(
    model: Model,
    tasks: Sequence[Task],
    *,
    suite: str,
    data: str | None,
    shots: int | None = None,
    n: int | None = None,
    subjects: str = "",
    chat: bool = False,
    way: Way = "likelihood",
    fit: Fit = "cut",
    rows: Mapping[str, list[Row]] | None = None,
    score: Callable[[Task, list[Item], list[str | None]], Any] | None = None,
) -> Evaluation:
    """Measure `model` on `tasks`; the samples of all of them are one result.

    `shots` stand before each question, of each subject the first `n` documents are asked. `chat` asks through the chat
    template instead of plain text. By `way` "generation" the model writes the letter of a choice. `fit` says what is
    cut of a context that is too long: its left, or the last shots. `rows` are the documents by subject, where they are
    no file's. `score` is awaited for the outcomes of written texts
    in the place of the task's own scoring: it is given the task, items and texts, and returns outcomes and details.
    """
    wanted = [name.strip() for name in subjects.split(",") if name.strip()] or None
    notes: list[str] = []
    samples: list[dict[str, Any]] = []
    for task in tasks:
        items, told = items_of(task, data, shots=shots, n=n, subjects=wanted, rows=rows)
        notes += told
        if fit == "shots":
            notes += _fitted(model, task, items)
        if task.output_type == "multiple_choice" and way == "likelihood":
            samples += await _weighed(model, task, items, chat, notes)
        else:
            samples += await _written(model, task, items, chat, way, notes, score)
    if not samples:
        raise KilterError(f"Nothing of '{suite}' could be measured. {' '.join(notes)}")
    _weights(samples, tasks)
    measures = summarize(samples) | _parts(samples, tasks)
    return Evaluation(model.name, measures, samples, suite=suite, seed=SEED, notes=list(dict.fromkeys(notes)))


def items_of(
    task: Task,
    data: str | None,
    *,
    shots: int | None = None,
    n: int | None = None,
    subjects: list[str] | None = None,
    rows: Mapping[str, list[Row]] | None = None,
) -> tuple[list[Item], list[str]]:
    """Return the items of a task, ready to be asked, and what there is to say of documents that were left out."""
    count = task.num_fewshot if shots is None else shots
    items: list[Item] = []
    notes: list[str] = []
    for found in _given(task, rows) if rows else documents(task, data, subjects=subjects, shots=count > 0):
        some, told = _items(task, found, count, n)
        items += some
        notes += [*found.notes, *told]
    if not items:
        raise KilterError(f"{data or task.dataset_path} has no item of '{task.task}' to ask. {' '.join(notes)}")
    return items, notes


def _given(task: Task, rows: Mapping[str, list[Row]]) -> list[Documents]:
    shown = task.fewshot_config.samples
    return [
        Documents(name, some, shown.get(name, []) if isinstance(shown, dict) else shown or [])
        for name, some in rows.items()
    ]


def _items(task: Task, found: Documents, count: int, n: int | None) -> tuple[list[Item], list[str]]:
    """Return the items of one subject, and sentences on documents without question or right answer."""
    left_out = LeftOut()
    draw = random.Random(SEED)
    items = []
    rows = found.asked[:n]
    for at, row in enumerate(rows):
        shown = _drawn(task, found, count, draw, row)
        try:
            text, choices, gold = _read(task, row)
            examples = [_shot(task, each) for each in shown]
            head = render(task.description, row) if task.description else ""
        except (TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
            left_out.add("it lacks what the task reads", first_line(error))
            continue
        if not gold:
            left_out.add("it has no right answer", str(text)[-60:])
            continue
        places = [g for g in gold if isinstance(g, int)]
        name = identify(task.task, found.subject, at, text)
        answers = [choices[g] for g in places] or [str(g) for g in gold]
        items.append(Item(name, found.subject, head, examples, text, choices, places, answers, row))
    what = f"documents of {found.subject or task.task}"
    notes = left_out.notes(what, len(rows))
    if len(found.shown) < count:
        notes.append(f"{found.subject or task.task} has only {len(found.shown)} of the {count} shots.")
    return items, notes


def _drawn(task: Task, found: Documents, count: int, draw: random.Random, row: Row) -> list[Row]:
    """Return the shots of a document: the first ones, or drawn anew for each as the harness does; never itself."""
    same = found.shown is found.asked
    pool = found.shown
    if count == 0:
        return []
    if task.fewshot_config.sampler == "first_n" or task.fewshot_config.samples is not None:
        return [each for each in pool[: count + same] if not same or each is not row][:count]
    some = draw.sample(pool, min(count + same, len(pool)))
    return [each for each in some if not same or each is not row][:count]


def _read(task: Task, row: Row) -> tuple[str, list[str], list[Any]]:
    """Return question, choices and what is right: places of choices, or texts."""
    text = str(render(task.doc_to_text, row))
    told = task.doc_to_choice
    choices = [] if told is None else list(told) if isinstance(told, list) else list(listed(render(told, row)))
    target = task.doc_to_target
    gold = render(target, row) if isinstance(target, str) else target
    some = gold if isinstance(gold, list) else [gold]
    found: list[Any] = []
    for each in some:
        if each is None:
            continue
        if choices:
            place = int(each) if not isinstance(each, str) or each.isdigit() else -1
            place = choices.index(each) if place < 0 and each in choices else place
            found += [place] if 0 <= place < len(choices) else []
        elif str(each).strip():
            found.append(str(each))
    return text, choices, found


def _shot(task: Task, row: Row) -> str:
    own = task.fewshot_config
    changed = task.model_copy(
        update={
            "doc_to_text": own.doc_to_text or task.doc_to_text,
            "doc_to_target": own.doc_to_target or task.doc_to_target,
        }
    )
    text, choices, gold = _read(changed, row)
    if not gold:
        raise ValueError("a shot has no right answer")
    answer = choices[gold[0]] if choices else str(gold[0])
    return f"{text}{task.target_delimiter}{answer}{task.fewshot_delimiter}"


def _fitted(model: Model, task: Task, items: list[Item]) -> list[str]:
    """Take shots away, the last one first, from contexts that the model has too few positions for."""
    length, positions = asking.lengths(model)
    room = positions - (task.generation_kwargs.max_gen_toks if task.output_type == "generate_until" else 16)
    cut = 0
    for item in items:
        before = len(item.shots)
        while item.shots and length(item.context) > room:
            item.shots = item.shots[:-1]
        cut += len(item.shots) < before
    return [f"{cut:,} of {len(items):,} items lost shots, for the model has {positions:,} positions."] if cut else []


async def _weighed(model: Model, task: Task, items: list[Item], chat: bool, notes: list[str]) -> list[dict[str, Any]]:
    """Return the samples of multiple choice by log-probs."""
    requests = [(item.context, task.target_delimiter + choice) for item in items for choice in item.choices]
    with progress(f"{task.task} · {model.name}", len(requests)) as tell:
        weights = await asking.weigh(model, requests, chat=chat, tell=tell)
    values = iter(weights)
    left_out = LeftOut()
    samples = []
    scored = CHOICES.get(task.process_results, CHOICES[None])
    for item in items:
        some = [next(values) for _ in item.choices]
        wrong = next((each for each in some if isinstance(each, SetAside)), None)
        if wrong is not None:
            left_out.add("the model could not weigh it", str(wrong))
            continue
        logprobs = [each.logprob for each in some if not isinstance(each, SetAside)]
        if not all(value == value for value in logprobs):
            raise KilterError(
                f"The model {model.name} gives log-probs that are no numbers; its weights may be damaged."
            )
        outcomes = scored(task, item.choices, logprobs, item.gold)
        picked = item.choices[best(logprobs)]
        samples.append(_sample(task, item, picked, outcomes) | {"given": True, "logprobs": logprobs})
    notes += left_out.notes("items", len(items))
    return samples


async def _written(
    model: Model, task: Task, items: list[Item], chat: bool, way: Way, notes: list[str], score: Any
) -> list[dict[str, Any]]:
    """Return the samples of what the model writes."""
    by_letter = task.output_type == "multiple_choice"
    with progress(f"{task.task} · {model.name}", len(items)) as tell:
        texts, told = await asking.write(
            model, [item.context for item in items], task.generation_kwargs, chat=chat, tell=tell, letters=by_letter
        )
    said = [some[0] if some else None for some in texts]
    notes += told
    if score is not None:
        outcomes, details = await score(task, items, said)
    else:
        if by_letter:
            task = task.model_copy(update={"process_results": "letter"})
        details = [{} for _ in items]
        outcomes = [
            of_text(task, text, item.answers, item.row) if text is not None else None
            for text, item in zip(said, items, strict=True)
        ]
    unread = sum(found is not None and "acc" in found and "acc_valid" not in found for found in outcomes)
    if by_letter and unread:
        notes.append(f"{unread:,} of {len(items):,} answers name no choice: wrong in acc, left out of acc_valid.")
    return [
        _sample(task, item, text or "", found) | more
        for item, text, found, more in zip(items, said, outcomes, details, strict=True)
        if found is not None
    ]


def _sample(task: Task, item: Item, response: str, outcomes: dict[str, float]) -> dict[str, Any]:
    return {
        "id": item.id,
        "prompt": [{"role": "user", "content": item.context}],
        "response": response,
        "family": item.subject or task.task,
        "language": task.language,
        "expected": item.answers[0],
        "outcomes": outcomes,
        **({"number": item.row["number"]} if "number" in item.row else {}),
    }


def _weights(samples: list[dict[str, Any]], tasks: Sequence[Task]) -> None:
    """Where categories and their subjects count the same, give each sample the weight that makes them so."""
    task = tasks[0]
    if not task.macro:
        return
    size: dict[str, int] = {}
    for sample in samples:
        size[sample["family"]] = size.get(sample["family"], 0) + 1
    kin: dict[str, int] = {}
    for name in size:
        kin[task.category(name)] = kin.get(task.category(name), 0) + 1
    for sample in samples:
        name = sample["family"]
        weight = 1 / (size[name] * kin[task.category(name)])
        sample["weights"] = dict.fromkeys(sample["outcomes"], weight)


def _parts(samples: list[dict[str, Any]], tasks: Sequence[Task]) -> dict[str, Measure]:
    """Return the first measure for each category and each subject, as `subject:acc`."""
    families = list(dict.fromkeys(sample["family"] for sample in samples))
    if len(families) < 2:
        return {}
    task = tasks[0]
    found: dict[str, Measure] = {}
    groups = {name: [f for f in families if task.category(f) == name] for name in task.categories}
    for name, some in (*groups.items(), *((family, [family]) for family in families)):
        own = [sample for sample in samples if sample["family"] in some]
        if own:
            metric = next(iter(own[0]["outcomes"]))
            found[f"{name}:{metric}"] = summarize([s | {"outcomes": {metric: s["outcomes"][metric]}} for s in own])[
                metric
            ]
    return found


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; what is given says how many are done."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        bar = shown.add_task(label, total=total)
        yield lambda done: shown.update(bar, completed=done)
