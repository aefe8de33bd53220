"""Training by name: records become trees, the method's objective and the loop do the rest."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, create_model

from kilter import formats, registry
from kilter.engine import adapters, held_out, loop
from kilter.engine.adapter_files import is_adapted
from kilter.engine.batch import Tree
from kilter.engine.loop import LoopOptions, TrainResult
from kilter.engine.template import Dropped
from kilter.engine.template import trees as as_trees
from kilter.engine.virtual import room
from kilter.errors import KilterError
from kilter.formats.kinds import ask
from kilter.formats.shape import Losses, Want
from kilter.models.load import folders, load_value_model, load_weights
from kilter.notes import tell
from kilter.records import Demonstration, Group, Prompt, Record
from kilter.registry import Method
from kilter.training.blank import without_blanks
from kilter.training.course import Task, course_of
from kilter.training.critic import CriticOptions, load_critic
from kilter.training.judged import check_scores, judged_trees, steps_of
from kilter.training.mask import MaskOptions
from kilter.training.objective import Kind, Role, kind_of, offline_of, online_of, role_of
from kilter.training.online import OnlineOptions
from kilter.training.online_setup import online_source

# What a tree must have for each kind of learning, and what to say when none has it.
LACKING: dict[Kind, str] = {
    "demonstrations": "no demonstration, a conversation with an assistant's turn",
    "pairs": "no pair of a better and a worse response to the same prompt",
    "scores": "no responses with scores, a ranking or labels",
    "labels": "no responses with labels",
    "steps": "no response in labelled steps (prompt, completions and labels)",
    "prompts": "no prompt that waits for an answer",
}


@cache
def options_of(method: Method) -> type[BaseModel]:
    """Return the pydantic model of all that `method` can be told: its objective's options and the loop's.

    A method that learns from its own samples can also be told about them, and has its own defaults for what it shares.
    """
    online, course = online_of(method.function), course_of(method.function)
    own, told = _fields(method), registry.described(method.documentation)
    shared = dict(LoopOptions.model_fields)
    if course:
        shared = {name: field for model in course.shared for name, field in model.model_fields.items()}
    if online:
        for hook in online.hooks:
            own |= _of_hook(method, hook)
        own |= {name: (dict[str, float] | str, Field(description=told.get(name, ""))) for name in online.judges}
        kinds: list[type[BaseModel]] = [OnlineOptions, *[CriticOptions] * online.critic, *[MaskOptions] * online.mask]
        shared = {name: field for model in kinds for name, field in model.model_fields.items()} | shared
    offline = offline_of(method.function)
    for hook in offline.hooks:
        # What all methods share, such as the seed, a hook may ask for: it is not the method's own by that.
        own |= {name: field for name, field in _of_hook(method, hook).items() if name not in shared}
    own_defaults = {**offline.defaults, **(online.defaults if online else {}), **(course.defaults if course else {})}
    for name, default in own_defaults.items():
        shared[name] = copy.copy(shared[name])
        shared[name].default = default
    settled = {name: (field.annotation, field) for name, field in shared.items() if name not in own}
    fields: dict[str, Any] = {**own, **settled}
    return create_model(f"{method.id}_training_options", __config__=registry.STRICT, **fields)


def _fields(method: Method, told: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the method's own options as pydantic takes them."""
    return {
        option.name: (
            option.type,
            Field(
                ... if option.default is inspect.Parameter.empty else option.default,
                description=option.help or (told or {}).get(option.name, ""),
            ),
        )
        for option in method.options.values()
    }


def _of_hook(method: Method, hook: Callable[..., Any]) -> dict[str, Any]:
    """Return the options of what prepares a method's data; its docstring may describe them, or the method's."""
    return _fields(Method(method.id, method.wing, hook, None, None, ()), registry.described(method.documentation))


def _called(hook: Callable[..., Any], what: Any, tokenizer: Any, model: Any, given: Mapping[str, Any]) -> Any:
    """Return what a hook makes of `what`, given the options that it takes."""
    taken = inspect.signature(hook).parameters
    known = {**given, "tokenizer": tokenizer, "model": model}
    told = {name: value for name, value in known.items() if name in taken}
    return hook(what, **told)


def _hooked(hooks: Sequence[Callable[..., Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of hooks by name, which the run is known by beside the objective's."""
    return {name: given[name] for hook in hooks for name in inspect.signature(hook).parameters if name in given}


def train(
    method: str,
    *,
    model: str | Path,
    data: str | Path | Sequence[Record],
    out: str | Path,
    overwrite: bool = False,
    say: Callable[[Sequence[str]], None] = tell,
    **options: Any,
) -> TrainResult:
    """Train `model` (a name, folder or hub id) on `data` (a file, folder, hub id or records) by the method so named.

    `out` becomes a Hugging Face checkpoint with metrics.jsonl beside it; while it is unfinished the same call
    continues it, and once it is finished returns what it found. A folder that holds another run or model is trained
    over only with `overwrite`. Lines of a file that cannot be read go to `<out>.rejects.jsonl`. `options` are those of
    `options_of(method)`; `say` is given the notes on the data before training starts.

    Raises KilterError, before training starts, for an unknown method or option, a model or data that cannot be read,
    data that the method cannot learn from, and a folder that is taken.
    """
    found = registry.find(method, "training")
    given = registry.validate(options_of(found), options, f"method '{found.id}'")
    kind, role = kind_of(found.function), role_of(found.function)
    if Path(out).exists() and Path(out).resolve() in [folder.resolve() for folder in folders(str(model))]:
        raise KilterError(f"{out} is the model that training starts from; choose another folder for the result.")
    if course_of(found.function):
        records, notes = read(data, kind, found.id, formats.rejects_beside(out))
        task = Task(found.id, str(model), records, Path(out), given, notes, overwrite, say)
        taken: TrainResult = found.function(task, **{name: given[name] for name in found.options})
        return taken
    settings = LoopOptions(**{name: given[name] for name in LoopOptions.model_fields})
    objective = partial(found.function, **{name: given[name] for name in found.options})
    adapters.check(settings)
    held_out.check(settings, samples=online_of(found.function) is not None)
    records, notes = read(data, kind, found.id, formats.rejects_beside(out))
    loaded = load_value_model if role == "judge" else load_weights
    weights, tokenizer = loaded(str(model), torch.float32, adapter=settings.adapter)
    places = room(weights) - (0 if is_adapted(weights) else settings.tokens_ahead())
    if places < settings.max_length:
        notes.append(f"Sequences are cut to {places} tokens, all that the model has positions for.")
    length = min(places, settings.max_length)
    offline = offline_of(found.function)
    prepared = _hooked(offline.hooks, given)
    kept: dict[str, Any] = {"tokenizer": tokenizer, "overwrite": overwrite, "prepared": prepared}
    if offline.records:
        records, more = _called(offline.records, records, tokenizer, weights, given)
        notes += more
    if (online := online_of(found.function)) is not None:
        prompts = [record for record in records if isinstance(record, Prompt)]
        source, more = online_source(prompts, weights, tokenizer, online, given, method=found.id, max_length=length)
        settings = settings.model_copy(update={"steps": settings.steps or source.steps(settings.epochs)})
        kept["entropy"] = given["entropy"] or bool(given.get("entropy_coef"))
        kept |= load_critic(str(model), tokenizer, given) if online.critic else {}
        trees: loop.Source = source
    else:
        trees, more = make_trees(tokenizer, records, offline.becomes or kind, length, found.id, role)
        trees = _called(offline.trees, trees, tokenizer, weights, given) if offline.trees else trees
    notes += more
    say(notes)
    done = loop.train(weights, trees, objective, settings, out, notes=notes, **kept)
    if not done.kept and len(done.notes) > len(notes):
        say(done.notes[len(notes) :])  # what was left out on the way
    return done


def wanted(kind: Kind) -> Want:
    """Return the kind of record that an objective of this kind reads."""
    return "demonstrations" if kind == "demonstrations" else "prompts" if kind == "prompts" else "groups"


def read(
    data: str | Path | Sequence[Record], kind: Kind, method: str, rejects: Path | None = None
) -> tuple[list[Record], list[str]]:
    """Return the records that `method` can learn from, and sentences about the others.

    Lines of a file that cannot be read go to `rejects`. Raises KilterError where there are no such records.
    """
    want = wanted(kind)
    if isinstance(data, str | Path):
        reading = formats.read(data, want=want, rejects=rejects)
        records, notes, where = reading.records, list(reading.notes), str(data)
    else:
        records, notes, where = list(data), list(getattr(data, "notes", [])), "The data"
    if want == "prompts":
        found = [record if isinstance(record, Prompt) else ask(record, Losses()) for record in records]
        records = [record for record in found if record is not None]
    if want == "groups":
        check_scores(record for record in records if isinstance(record, Group))
    if kind not in ("prompts", "steps"):
        records, blank = without_blanks(records)
        notes += blank
    usable = [record for record in records if _teaches(record, kind)]
    if not usable:
        raise KilterError(f"{where} has {LACKING[kind]}, which '{method}' learns from; give it other data.")
    if left := len(records) - len(usable):
        notes.append(f"{left} of {len(records)} records left out: {LACKING[kind]}.")
    return usable, notes


def make_trees(
    tokenizer: Any, records: Sequence[Record], kind: Kind, max_length: int, method: str, role: Role = "policy"
) -> tuple[list[Tree], list[str]]:
    """Return the trees of `records` that still teach `kind` at `max_length` tokens, and sentences about the others.

    Raises KilterError where none is left.
    """
    dropped = Dropped()
    if role == "judge":
        groups = [record for record in records if isinstance(record, Group)]
        made = judged_trees(tokenizer, groups, kind, max_length=max_length, dropped=dropped)
    else:
        made = as_trees(tokenizer, records, max_length=max_length, dropped=dropped)
    trees = [tree for tree in made if tree is not None and (kind != "pairs" or tree.info.get("pairs"))]
    long, others = dropped.split()
    if not trees:
        remedy = "raise max_length" if long.total else "give other data, or another chat template in the model's folder"
        raise KilterError(f"Nothing is left that '{method}' could learn from: {dropped}; {remedy}.")
    # What is too long has another remedy than what the template refuses: they are told apart.
    notes = [f"{part}." for part in (long, others) if part.total]
    if dropped.cut:
        one = dropped.cut == 1
        notes.append(f"{dropped.cut} prompt{'' if one else 's'} cut from the left to fit into {max_length} tokens.")
    if left := len(made) - len(trees):
        notes.append(f"{left} of {len(made)} records give nothing to learn from and are left out.")
    return trees, notes


def _teaches(record: Record, kind: Kind) -> bool:
    """Whether there is something of this kind to learn in `record`."""
    if kind == "demonstrations":
        return isinstance(record, Demonstration) and any(m.role == "assistant" for m in record.messages)
    if kind == "prompts":
        return isinstance(record, Prompt)
    if not isinstance(record, Group) or not record.responses:
        return False
    if kind == "pairs":
        return bool(record.pairs())
    if kind == "steps":
        return steps_of(record) is not None
    return record.labels is not None if kind == "labels" else record.order() is not None
