"""Kilter's engine as a model of the Language Model Evaluation Harness, and the harness' result as an evaluation.

Needs the package lm-eval. The harness asks for everything of a run at once, from code that is not async; so it runs in
a thread of its own, and what it asks goes to the event loop that the model lives in.
"""

from __future__ import annotations

import asyncio
import logging
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from kilter.engine.weigher import Weight
from kilter.errors import KilterError, SetAside, first_line, nearest
from kilter.evaluation.result import Evaluation
from kilter.evaluation.statistics import summarize
from kilter.evaluation.tasks.documents import ENDINGS, USUAL, USUAL_ALONE
from kilter.models.drive import run
from kilter.models.protocol import Model, Sampling

SEED = 1234
READERS = {".jsonl": "json", ".json": "json", ".gz": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}


class Engine(LM):
    """What the harness asks. `weigh` and `complete` are the model's, awaited in `loop` while the harness waits."""

    def __init__(self, model: Model, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        for wanted in ("weigh", "complete"):
            if not hasattr(model, wanted):
                raise KilterError(
                    f"'{model.name}' reads no plain text, which the harness asks with; name a local model."
                )
        self._model: Any = model
        self._loop = loop
        self.trouble: list[str] = []

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return log-prob and whether greedy decoding says the same, of (context, continuation)."""
        return [(found.logprob, found.greedy) for found in self._weights([request.args for request in requests])]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return the log-prob of whole texts."""
        return [found.logprob for found in self._weights([(request.args[0], None) for request in requests])]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return what the model writes, up to the first of the texts that end it."""

        async def one(request: Instance) -> str:
            context, how = request.args
            until = how.get("until") or []
            sampling = Sampling(
                max_tokens=int(how.get("max_gen_toks") or how.get("max_new_tokens") or 256),
                temperature=float(how.get("temperature") or 0.0) if how.get("do_sample") else 0.0,
                top_p=float(how.get("top_p") or 1.0),
                stop=tuple(stop for stop in ([until] if isinstance(until, str) else until) if stop),
            )
            try:
                [answer] = await self._model.complete(context, sampling)
            except SetAside as why:
                self.trouble.append(str(why))
                return ""
            return str(answer.text)

        return self._wait(run(requests, one, quiet=True, concurrency=4096))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return a conversation as the model's chat template writes it."""
        tokenizer = self._tokenizer()
        text = tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return str(text)

    @property
    def tokenizer_name(self) -> str:
        return str(self._model.name)

    def _tokenizer(self) -> Any:
        return getattr(self._model, "tokenizer", None) or self._model.model.tokenizer

    def _weights(self, pairs: Sequence[tuple[str, str | None]]) -> list[Weight]:
        found = self._wait(self._model.weigh(pairs))
        self.trouble += [str(each) for each in found if isinstance(each, SetAside)]
        # What cannot be weighed is the least likely of all.
        return [Weight(float("-inf"), False, 0) if isinstance(each, SetAside) else each for each in found]

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def run_harness(
    model: Model,
    names: Sequence[str],
    *,
    data: str | None,
    shots: int | None,
    n: int | None,
    chat: bool,
    tasks_in: str,
) -> Evaluation:
    """Return what the harness measures of `model` on the tasks `names`."""
    engine = Engine(model, asyncio.get_running_loop())
    found = await asyncio.to_thread(_evaluate, engine, names, data, shots, n, chat, tasks_in)
    samples = []
    for name, some in found["samples"].items():
        samples += [_sample(name, each) for each in some]
    views: dict[str, dict[str, Any]] = {}
    for each in samples:  # each filter of a task makes a sample of its own
        known = views.setdefault(each["id"], each)
        known["outcomes"] |= each["outcomes"]
    samples = list(views.values())
    notes = []
    if engine.trouble:
        notes.append(f"{len(engine.trouble):,} requests could not be done, the first because: {engine.trouble[0]}")
    scored = [sample for sample in samples if sample["outcomes"]]
    if not scored:
        raise KilterError(f"The task {', '.join(names)} gives no number for a single document; kilter cannot show it.")
    measures = summarize(scored)
    families = list(dict.fromkeys(sample["family"] for sample in scored))
    for family in families if len(families) > 1 else ():
        own = summarize([sample for sample in scored if sample["family"] == family])
        measures |= {f"{family}:{metric}": value for metric, value in own.items()}
    return Evaluation(model.name, measures, samples, suite=",".join(names), seed=SEED, notes=notes)


def _evaluate(
    engine: Engine, names: Sequence[str], data: str | None, shots: int | None, n: int | None, chat: bool, tasks_in: str
) -> dict[str, Any]:
    """Run the harness, in this thread; raise KilterError for what it does not know or cannot get."""
    from lm_eval import evaluator

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = _manager(names, tasks_in)
    members = [each for name in names for each in _members(manager, name)]
    if any(_entry(manager, each).get("unsafe_code") for each in members):
        raise KilterError(
            f"{', '.join(names)} runs what the model writes on this very machine; Kilter's own humaneval, "
            "humaneval-plus, mbpp and ds1000 do so in a sandbox."
        )
    wanted: list[Any] = list(names) if data is None else [_local(manager, name, Path(data)) for name in members]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: dict[str, Any] = evaluator.simple_evaluate(
                model=engine,
                tasks=wanted,
                num_fewshot=shots,
                limit=n,
                apply_chat_template=chat,
                bootstrap_iters=0,
                log_samples=True,
                task_manager=manager,
            )
    except KilterError:
        raise
    except Exception as error:  # tasks are code of many hands, and the hub's client adds its own
        raise KilterError(
            f"The harness could not run {', '.join(names)} ({type(error).__name__}: {first_line(error)})"
            + ("; give the data with --data DIR." if data is None else ".")
        ) from error
    return found


def _manager(names: Sequence[str], tasks_in: str) -> Any:
    """Return the harness' table of tasks: of the folders of these only, for reading all 14,000 files takes long."""
    import lm_eval.tasks

    home = Path(lm_eval.tasks.__file__).parent
    own = [Path(tasks_in)] if tasks_in else []
    folders = [
        folder
        for name in names
        if not any(_says(path, name) for place in own for path in place.rglob("*.y*ml"))
        and (folder := _folder(home, name)) is not None
    ]
    manager = lm_eval.tasks.TaskManager(include_path=[*dict.fromkeys(folders), *own], include_defaults=False)
    try:
        whole = all(_members(manager, name) for name in names)
    except KeyError:
        whole = False
    if not whole:
        manager = lm_eval.tasks.TaskManager(include_path=own or None)
    for name in names:
        if name not in manager.all_tasks:
            raise KilterError(f"The harness has no task '{name}'.{nearest(name, manager.all_tasks)}")
    return manager


def _folder(home: Path, name: str) -> Path | None:
    """Return the folder, right below `home`, with a file that says `task: NAME` or `group: NAME`."""
    folders = [folder for folder in sorted(home.iterdir()) if folder.is_dir()]
    # A task mostly begins with the name of its folder.
    for folder in sorted(folders, key=lambda each: not name.startswith(each.name)):
        if any(_says(path, name) for path in folder.rglob("*.y*ml")):
            return folder
    return None


def _says(path: Path, name: str) -> bool:
    """Whether a file says `task: NAME`, `group: NAME` or `tag: NAME`."""
    key, value = rb"""^["']?(?:task|group|tag)["']?:\s*""", rb"""["']?""" + re.escape(name.encode()) + rb"""["']?\s*$"""
    return re.search(key + value, path.read_bytes(), re.MULTILINE) is not None


def _members(manager: Any, name: str) -> list[str]:
    """Return the tasks that a name stands for, itself or those of a group or tag; KeyError for an unknown one."""
    entry = manager.task_index[name]
    if name in manager.all_tags:
        inner = sorted(entry.tags)
    elif name in manager.all_groups:
        told = (entry.cfg or {}).get("task") or []
        inner = [each if isinstance(each, str) else str(each.get("task") or each.get("group")) for each in told]
    else:
        return [name]
    return [each for one in inner for each in _members(manager, one)]


def _entry(manager: Any, name: str) -> dict[str, Any]:
    return dict(manager.task_index[name].cfg or {})


def _local(manager: Any, name: str, data: Path) -> dict[str, Any]:
    """Return the task `name` as it reads files of `data` instead of a data set of the hub."""
    from lm_eval.tasks._yaml_loader import load_yaml

    known = _entry(manager, name)
    subject = str(known.get("dataset_name") or "")
    files: dict[str, list[str]] = {}
    for field in ("training_split", "validation_split", "test_split", "fewshot_split"):
        split = known.get(field)
        if isinstance(split, str) and split not in files and (paths := _files(data, name, subject, split)):
            files[split] = [str(path) for path in paths]
    asked = known.get("test_split") or known.get("validation_split")
    if asked not in files:
        shown = f"{subject}_{asked}" if subject else str(asked)
        raise KilterError(
            f"{data} holds nothing of the task '{name}'; its split '{asked}' is looked for as {shown}.jsonl."
        )
    for field in ("training_split", "validation_split", "fewshot_split"):
        if known.get(field) not in files:
            known[field] = None
    whole = load_yaml(manager.task_index[name].yaml_path)
    kept = {field: known.get(field) for field in ("training_split", "validation_split", "fewshot_split")}
    first = next(iter(files.values()))[0]
    reader = READERS[Path(first).suffix]
    source = {"dataset_path": reader, "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    return whole | kept | source


def _files(data: Path, name: str, subject: str, split: str) -> list[Path]:
    """Return the files of a split, in the first of the usual places where there are any."""
    if data.is_file():
        return [data]
    for folder in (data, data / name, *(data / part for part in name.split("_"))):
        for place in (*((*USUAL, "{subject}") if subject else ()), *USUAL_ALONE):
            pattern = place.format(subject=subject, split=split, task=name)
            for ending in ENDINGS:
                if found := sorted(folder.glob(pattern + ending)):
                    return found
    return []


def _sample(name: str, told: dict[str, Any]) -> dict[str, Any]:
    """Return a sample of the harness as one of ours: every metric that is one number for the document."""
    outcomes = {}
    view = "" if told.get("filter", "none") == "none" else f"_{told['filter'].replace('-', '_')}"
    for metric in told.get("metrics") or []:
        value = told.get(metric)
        if isinstance(value, bool | int | float):
            outcomes[f"{metric}{view}"] = float(value)
    arguments = list(told["arguments"].values()) if isinstance(told["arguments"], dict) else told["arguments"]
    first = list(arguments[0].values()) if isinstance(arguments[0], dict) else list(arguments[0])
    responses = told.get("resps") or [[""]]
    said = responses[0][0] if responses and responses[0] else ""
    weighed = isinstance(said, list | tuple)
    sample: dict[str, Any] = {
        "id": f"{name}/{told['doc_id']}",
        "prompt": [{"role": "user", "content": str(first[0])}],
        "response": "" if weighed else str(said),
        "family": name,
        "language": "",
        "expected": str(told.get("target", "")),
        "outcomes": outcomes,
    }
    if weighed:
        sample["logprobs"] = [float(each[0][0]) for each in responses]
    return sample
