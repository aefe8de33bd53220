"""Instructions for data sets that nobody wrote any for: from the names of their fields alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kilter.data.drafts import sound
from kilter.data.replies import in_json
from kilter.data.sieve import leave_out
from kilter.data.table import cell, rows
from kilter.errors import KilterError, SetAside
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2305.14327"
_SHOWN = 80  # characters of a field's example


@dataclass(frozen=True)
class Task:
    """An instruction, the fields that are its input, and the field that is its output."""

    instruction: str
    input_fields: tuple[str, ...]
    output_field: str
    version: str


@method("dynosaur", wing="data", paper=PAPER, survey="S3 §imitation")
async def dynosaur(
    model: Model,
    *,
    rows: str,
    description: str = "",
    tasks: Count = 6,
    a_task: int | None = None,
    max_tokens: Count = 1024,
    temperature: Amount = 0.7,
    seed: int = 0,
) -> Iterator[Demonstration]:
    """Tasks out of a data set's metadata, filled in from its rows (Yin et al. 2023, Dynosaur).

    The model sees the names of the fields, an example of each and, once with and once without it, the description; it
    proposes `tasks` tasks: an instruction, input fields, an output field. Left out are those whose fields are not the
    data set's, whose output is among the input, without an instruction, and repetitions. Each task is then filled from
    the rows: instruction, the input fields by name, and the output field as the answer. Rows that lack one of the
    fields are left out of that task. Two requests a data set, however many rows it has; the paper made 800k records for
    about $12. meta: instruction, input_fields, output_field, dataset.

    Options:
        rows: file, folder or hub id of the data set
        description: what the data set is about
        tasks: how many tasks a request asks for
        a_task: most records of one task; without it all rows
        max_tokens: longest reply
        temperature: sampling temperature
        seed: seed of the replies
    """
    fields = _fields(rows)
    found: list[Task] = []
    for told in dict.fromkeys(("", description)):
        asked = PROMPTS("propose", fields=list(fields.items()), description=told, n=tasks)
        reply = await sound(model, asked, Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed))
        for proposal in _proposals(reply.text):
            try:
                task = checked(proposal, set(fields), asked.version)
                if task in found:
                    raise SetAside("The same task was proposed before.", "duplicate")
                found.append(task)
            except SetAside as why:
                leave_out(Prompt([Message("user", str(proposal)[:500])]), why.rule, str(why))
    if not found:
        raise KilterError(f"No task of the model fits the fields of '{rows}' ({', '.join(fields)}); ask another model.")
    return _filled(rows, found, a_task, model.name, seed)


def checked(proposal: Any, fields: set[str], version: str = "") -> Task:
    """Return a proposal as a task; raise SetAside where its fields are not the data set's, or overlap."""
    if not isinstance(proposal, dict):
        raise SetAside("A proposal is no object with an instruction and fields.", "form")
    given, output = proposal.get("input_fields"), proposal.get("output_field")
    instruction = proposal.get("instruction")
    inputs = [given] if isinstance(given, str) else given
    if not isinstance(instruction, str) or not instruction.strip():
        raise SetAside("A proposal has no instruction.", "form")
    if not isinstance(inputs, list) or not all(isinstance(name, str) for name in inputs) or not isinstance(output, str):
        raise SetAside("A proposal does not name its input fields and one output field.", "form")
    unknown = [name for name in (*inputs, output) if name not in fields]
    if unknown:
        raise SetAside(f"A proposal uses the field '{unknown[0]}', which the data set has not.", "unknown field")
    if output in inputs:
        raise SetAside(f"A proposal has '{output}' as its input and as its output.", "overlap")
    return Task(instruction.strip(), tuple(dict.fromkeys(inputs)), output, version)


def _proposals(text: str) -> list[Any]:
    found = in_json(text)
    return found if isinstance(found, list) else [found]


def _fields(source: str) -> dict[str, str]:
    """Return the fields of the data set's first rows, each with the first value that it has."""
    found: dict[str, str] = {}
    for number, (_, row) in enumerate(rows(source)):
        if number == 20:
            break
        for name in row:
            value = cell(row, name).replace("\n", " ")
            if value and name not in found:
                found[name] = value[:_SHOWN]
    return found


def _filled(source: str, tasks: list[Task], most: int | None, writer: str, seed: int) -> Iterator[Demonstration]:
    made = dict.fromkeys(tasks, 0)
    for place, row in rows(source):
        for task in tasks:
            if most is not None and made[task] >= most:
                continue
            parts = {name: cell(row, name) for name in task.input_fields}
            answer = cell(row, task.output_field)
            given = "\n".join(f"{name}: {text}" for name, text in parts.items())
            if not answer or not all(parts.values()):
                missing = task.output_field if not answer else next(name for name, text in parts.items() if not text)
                leave_out(Prompt([Message("user", task.instruction)]), "empty field", f"{place} has no '{missing}'.")
                continue
            made[task] += 1
            yield Demonstration(
                [Message("user", "\n\n".join(filter(None, (task.instruction, given)))), Message("assistant", answer)],
                origin=Origin("dynosaur", PAPER, writer, (), seed, task.version),
                meta={
                    "instruction": task.instruction,
                    "input_fields": list(task.input_fields),
                    "output_field": task.output_field,
                    "dataset": source,
                    "row": place,
                    **({"input": given} if given else {}),
                },
            )  # fmt: skip
