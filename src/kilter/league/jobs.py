"""What a worker of the league does: make the start of a seed with its data, or train and measure one row."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kilter.errors import KilterError, first_line
from kilter.league.settings import DATA, START, Line, Settings, options_for

KINDS = {"demonstrations": "demonstrations", "prompts": "prompts"}  # of what is learned from; all others: groups
MODEL, RESULT = "model", "result.json"


def begin(threads: int, log: str) -> None:
    """Make a fresh process a worker: so many threads, and what would be printed goes to a file."""
    sys.stdout.flush()
    stream = open(log, "a", encoding="utf-8")  # noqa: SIM115 - stays open as long as the process
    for number in (1, 2):
        os.dup2(stream.fileno(), number)
    import torch

    import kilter.engine  # noqa: F401 - sets what has to be set before the first tensor work

    torch.set_num_threads(threads)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process where the one that started it is gone: what it finds has nowhere to go."""
    while os.getppid() == parent:
        time.sleep(5)
    os._exit(1)


def tried(work: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    """Return what `work` returns, or {"error": a sentence}: whatever goes wrong in one row, the others go on."""
    try:
        return work(*given)
    except Exception as error:
        traceback.print_exc()
        own = isinstance(error, KilterError)
        return {"error": str(error) if own else f"{type(error).__name__}: {first_line(error)}."}


def start(settings: Settings, seed: int, folder: Path) -> dict[str, Any]:
    """Train the model that all start from, let it answer the prompts that all learn from, judge it and them.

    Leaves model/, demonstrations.jsonl (of the prompts with a right answer the first of these), groups.jsonl (answers
    with the truth's scores and labels), prompts.jsonl and result.json in `folder`.
    """
    from kilter import formats
    from kilter.files import write_json
    from kilter.league.measure import measure
    from kilter.recipe import api
    from kilter.recipe.resolve import resolve
    from kilter.training.run import train

    begun, computed = time.perf_counter(), time.process_time()
    own = settings.start
    recipe = resolve(own.recipe, {**own.set, "seed": seed})
    shown, tuned = recipe.stages[own.demonstrations], recipe.stages[own.sft]
    model = folder / MODEL
    done = train(
        tuned.method,
        model=str(tuned.model),
        data=api.make(shown.method, **{"seed": seed, **shown.options}),
        out=model,
        say=_aside,
        **{"seed": seed, **tuned.options},
    )
    records = answered(str(model), settings, seed)
    for name, some in records.items():
        formats.write(some, folder / f"{name}.jsonl")
    found = measure(str(model), None, settings.measuring)
    write_json(folder / RESULT, found.to_json())
    counts = {name: len(some) for name, some in records.items()}
    return {**_spent(begun, computed), "tokens": done.tokens, "steps": done.steps, **counts}


def answered(model: str, settings: Settings, seed: int) -> dict[str, list[Any]]:
    """Return the records that all learn from, by name: `model`'s own answers with the truth about them."""
    from kilter.feedback import WorldTruth
    from kilter.models import drive
    from kilter.models.load import load
    from kilter.models.protocol import Sampling
    from kilter.recipe import api
    from kilter.recipe.wait import wait
    from kilter.records import Demonstration, Group, Message, Origin, Prompt

    data, truth, asked = settings.data, WorldTruth(), load(model)
    made = api.make("world-prompts", n=data.prompts, values_share=data.values_share, seed=seed)
    prompts = [record for record in made if isinstance(record, Prompt)]

    async def one(item: tuple[int, Prompt]) -> Group:
        index, prompt = item
        sampling = Sampling(
            max_tokens=data.max_tokens, temperature=data.temperature, n=data.answers, seed=seed * 1_000_003 + index
        )
        responses = list(dict.fromkeys(answer.text for answer in await asked.ask(prompt.messages, sampling)))
        signals = await truth(prompt, responses)
        scores, labels = [float(s.score or 0) for s in signals], [bool(s.verdict) for s in signals]
        return Group(
            prompt.messages,
            responses,
            scores=scores,
            labels=labels,
            origin=Origin("league", model="start", parents=(prompt.id,), seed=seed),
            meta=prompt.meta,
        )

    groups: list[Group] = wait(drive.run(list(enumerate(prompts)), one, quiet=True))
    best = []
    for group in groups:
        if any(right := group.labels or []):
            messages = [*group.prompt, Message("assistant", group.responses[right.index(True)])]
            best.append(Demonstration(messages, origin=group.origin, meta=group.meta))
    return {"prompts": prompts, "groups": groups, "demonstrations": best}


def row(settings: Settings, name: str, line: Line, seed: int, begun: Path, folder: Path, keep: bool) -> dict[str, Any]:
    """Train the row `name` from the model in `begun` on the data there, measure it, leave result.json in `folder`.

    Its weights are removed then, unless `keep`. Returns what it cost. Raises KilterError for whatever cannot be done.
    """
    from kilter.files import write_json
    from kilter.league.measure import measure

    origin = str(begun / MODEL)
    cost: dict[str, Any] = {"seconds": 0.0, "core_seconds": 0.0, "tokens": 0, "steps": 0, "notes": []}
    if line.model is not None:
        made = line.model.replace(START, origin)
    else:
        cost = _trained(settings, name, line, seed, begun, folder)
        made = str(folder / MODEL)
    found = measure(made, origin, settings.measuring)
    write_json(folder / RESULT, found.to_json())
    if not keep:
        for made_here in (folder / MODEL, *folder.glob("first-*")):
            shutil.rmtree(made_here, ignore_errors=True)
    return cost


def _trained(settings: Settings, name: str, line: Line, seed: int, begun: Path, folder: Path) -> dict[str, Any]:
    """Train a row's model into `folder`/model; return the seconds and tokens that took, its steps and its notes."""
    from kilter import formats, registry
    from kilter.recipe import api
    from kilter.training.objective import kind_of
    from kilter.training.run import train

    method = registry.find(line.method or name, "training")
    options = options_for(settings, name, line, seed)
    since, computed = time.perf_counter(), time.process_time()
    if line.make is not None:
        inputs = {"model": line.make.model or str(begun / MODEL), "records": str(begun / f"{line.make.reads}.jsonl")}
        takes = registry.find(line.make.data, "data").inputs
        records = folder / "records.jsonl"
        made = api.make(line.make.data, **{k: v for k, v in inputs.items() if k in takes}, **line.make.options)
        formats.write(made, records)
    else:
        records = begun / f"{line.learns or KINDS.get(kind_of(method.function), 'groups')}.jsonl"
    options |= {key: value.replace(DATA, str(begun)) for key, value in options.items() if isinstance(value, str)}
    cost = 0
    for option, judge in line.first.items():
        place = folder / f"first-{option}"
        told = {"seed": seed, **_known(settings.shared, judge.method), **judge.options}
        groups = str(begun / "groups.jsonl")
        cost += train(judge.method, model=str(begun / MODEL), data=groups, out=place, say=_aside, **told).tokens
        options[option] = str(place)
    done = train(method.id, model=str(begun / MODEL), data=str(records), out=folder / MODEL, say=_aside, **options)
    return {**_spent(since, computed), "tokens": done.tokens + cost, "steps": done.steps, "notes": done.notes}


def _known(shared: dict[str, Any], method: str) -> dict[str, Any]:
    """Return those of the shared options that a method takes."""
    from kilter import registry
    from kilter.recipe import options

    known = options.names(registry.find(method, "training"))
    return {name: value for name, value in shared.items() if name in known}


def _spent(since: float, computed: float) -> dict[str, float]:
    """Return the seconds since then by the clock, and those that a core computed for this process."""
    return {
        "seconds": round(time.perf_counter() - since, 1),
        "core_seconds": round(time.process_time() - computed, 1),
    }


def _aside(notes: Any) -> None:
    """Notes on the data are kept with the result."""
