"""Training by name: records become trees, the method's objective and the loop do the rest."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, create_model

from kilter import formats, registry
from kilter.engine import loop
from kilter.engine.batch import Tree
from kilter.engine.loop import LoopOptions, TrainResult
from kilter.engine.template import Dropped
from kilter.engine.template import trees as as_trees
from kilter.errors import KilterError
from kilter.formats.shape import Want
from kilter.models.load import checkpoint, load_value_model, load_weights
from kilter.notes import tell
from kilter.records import Demonstration, Group, Record
from kilter.registry import Method
from kilter.training.judged import check_scores, judged_trees, steps_of
from kilter.training.objective import Kind, Role, kind_of, role_of

# What a tree must have for each kind of learning, and what to say when none has it.
LACKING: dict[Kind, str] = {
    "demonstrations": "no demonstration, a conversation with an assistant's turn",
    "pairs": "no pair of a better and a worse response to the same prompt",
    "scores": "no responses with scores, a ranking or labels",
    "labels": "no responses with labels",
    "steps": "no response in labelled steps (prompt, completions and labels)",
}


@cache
def options_of(method: Method) -> type[BaseModel]:
    """Return the pydantic model of all that `method` can be told: its objective's options and the loop's."""
    own: dict[str, Any] = {}
    for option in method.options.values():
        default = ... if option.default is inspect.Parameter.empty else option.default
        own[option.name] = (option.type, Field(default, description=option.help))
    shared: dict[str, Any] = {
        name: (field.annotation, field) for name, field in LoopOptions.model_fields.items() if name not in own
    }
    return create_model(f"{method.id}_training_options", __config__=ConfigDict(extra="forbid"), **own, **shared)


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
    settings = LoopOptions(**{name: given[name] for name in LoopOptions.model_fields})
    objective = partial(found.function, **{name: given[name] for name in found.options})
    kind, role = kind_of(found.function), role_of(found.function)

    if Path(out).exists() and checkpoint(str(model)).resolve() == Path(out).resolve():
        raise KilterError(f"{out} is the model that training starts from; choose another folder for the result.")
    records, notes = read(data, kind, found.id, formats.rejects_beside(out))
    weights, tokenizer = (load_value_model if role == "judge" else load_weights)(str(model), torch.float32)
    places = getattr(weights.config.get_text_config(), "max_position_embeddings", None) or settings.max_length
    if places < settings.max_length:
        notes.append(f"Sequences are cut to {places} tokens, all that the model has positions for.")
    trees, more = make_trees(tokenizer, records, kind, min(places, settings.max_length), found.id, role)
    notes += more
    say(notes)
    return loop.train(weights, trees, objective, settings, out, tokenizer=tokenizer, notes=notes, overwrite=overwrite)


def read(
    data: str | Path | Sequence[Record], kind: Kind, method: str, rejects: Path | None = None
) -> tuple[list[Record], list[str]]:
    """Return the records that `method` can learn from, and sentences about the others.

    Lines of a file that cannot be read go to `rejects`. Raises KilterError where there are no such records.
    """
    want: Want = "demonstrations" if kind == "demonstrations" else "groups"
    if isinstance(data, str | Path):
        reading = formats.read(data, want=want, rejects=rejects)
        records, notes, where = reading.records, list(reading.notes), str(data)
    else:
        records, notes, where = list(data), list(getattr(data, "notes", [])), "The data"
    if kind != "demonstrations":
        check_scores(record for record in records if isinstance(record, Group))
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
    if not isinstance(record, Group) or not record.responses:
        return False
    if kind == "pairs":
        return bool(record.pairs())
    if kind == "steps":
        return steps_of(record) is not None
    return record.labels is not None if kind == "labels" else record.order() is not None
