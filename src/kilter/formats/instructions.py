"""An instruction, perhaps with an input, and what answers it: Alpaca and its variants, dolly, Self-Instruct, SNI.

Instruction and input become one user turn, with an empty line between them; `meta["input"]` remembers the input, so
that the two come apart again when written.
"""

from __future__ import annotations

from typing import Any

from kilter.formats.cells import cell, flag, objects, text, texts
from kilter.formats.chat import labelled
from kilter.formats.kinds import alternating, lose_signals, pair, ranked
from kilter.formats.shape import Losses, Row, Shape, Unreadable, Want
from kilter.formats.turns import Turns
from kilter.records import Demonstration, Group, Message, Record

_ASKED = ("input", "system", "history")
_TAGS = ("kto_tag", "tag", "label")


def joined(instruction: str, more: str) -> str:
    """Return instruction and input as one text."""
    return "\n\n".join(part for part in (instruction, more) if part)


def apart(content: str, meta: Row) -> tuple[str, str]:
    """Return the instruction and the input that `joined` made into `content`."""
    more = meta.get("input") or ""
    if more and content == more:
        return "", more
    if more and content.endswith("\n\n" + more):
        return content[: -len(more) - 2], more
    return content, ""


def _asked(row: Row) -> tuple[Turns, Row]:
    """Return system, history, instruction and input as messages that end with the user."""
    instruction, more = text(row, "instruction"), text(row, "input", "")
    if not instruction and not more:
        raise Unreadable("columns 'instruction' and 'input' are both empty")
    messages = [Message("system", row["system"])] if text(row, "system", "") else []
    for turn in row.get("history") or []:
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(t, str) for t in turn):
            raise Unreadable("column 'history' must be a list of [question, answer]")
        messages += [Message("user", turn[0]), Message("assistant", turn[1])]
    return [*messages, Message("user", joined(instruction, more))], {"input": more} if more else {}


def _ask(prompt: Turns, meta: Row, record: Record, shape: str, losses: Losses) -> Row | None:
    """Return the columns that `_asked` reads, None where the prompt cannot be held."""
    if not alternating(prompt, "user"):
        losses.add(record, f"user and assistant do not take turns, which {shape} needs; left out")
        return None
    instruction, more = apart(prompt[-1].content, meta)
    row: Row = {"instruction": instruction, "input": more}
    if prompt[0].role == "system":
        row["system"] = prompt[0].content
        prompt = prompt[1:]
    said = [m.content for m in prompt[:-1]]
    if said:
        row["history"] = [[said[i], said[i + 1]] for i in range(0, len(said), 2)]
    return row


def _read_alpaca(row: Row, want: Want | None) -> list[Record]:
    answer = text(row, "output")
    prompt, meta = _asked(row)
    return [Demonstration([*prompt, Message("assistant", answer)], meta=meta)]


def _write_alpaca(record: Demonstration, losses: Losses) -> list[Row]:
    *prompt, answer = record.messages
    row = _ask(prompt, record.meta, record, "alpaca", losses) if answer.role == "assistant" else None
    if answer.role != "assistant":
        losses.add(record, "the last turn is not the assistant's, which alpaca needs; left out")
    return [{**row, "output": answer.content}] if row else []


def _read_ranked(row: Row, want: Want | None) -> list[Record]:
    answers = texts(row, "output")
    prompt, meta = _asked(row)
    return [Group(prompt, answers, ranking=list(range(len(answers))), meta=meta)]


def _write_ranked(group: Group, losses: Losses) -> list[Row]:
    row = _ask(group.prompt, group.meta, group, "alpaca-ranked", losses)
    order = group.order()
    if order is None and row:
        losses.add(group, "the responses are not ranked, which alpaca-ranked needs; left out")
    if order is None or row is None:
        return []
    lose_signals(group, "alpaca-ranked", losses, ("ranking",))
    if len(set(order)) < len(order):
        losses.add(group, "equal ranks are not kept by alpaca-ranked")
    return [{**row, "output": [group.responses[k] for k in ranked(group)]}]


def _read_preference(row: Row, want: Want | None) -> list[Record]:
    prompt, meta = _asked(row)
    return [Group(prompt, [text(row, "chosen"), text(row, "rejected")], ranking=[0, 1], meta=meta)]


def _write_preference(group: Group, losses: Losses) -> list[Row]:
    row = _ask(group.prompt, group.meta, group, "alpaca-preference", losses)
    found = pair(group, "alpaca-preference", losses) if row else None
    if row is None or found is None:
        return []
    if group.scores is not None:
        losses.add(group, "scores are not kept by alpaca-preference")
    return [{**row, "chosen": group.responses[found[0]], "rejected": group.responses[found[1]]}]


def _read_kto(row: Row, want: Want | None) -> list[Record]:
    prompt, meta = _asked(row)
    tag = next(name for name in _TAGS if isinstance(row.get(name), bool))
    others = {name: row[name] for name in _TAGS if name in row and name != tag}
    meta = {**meta, "extra": others} if others else meta
    return [Group(prompt, [text(row, "output")], labels=[flag(row[tag], tag)], meta=meta)]


def _write_kto(group: Group, losses: Losses) -> list[Row]:
    row = _ask(group.prompt, group.meta, group, "alpaca-kto", losses)
    return (
        [{**row, "output": said, "kto_tag": good} for said, good in labelled(group, "alpaca-kto", losses)]
        if row
        else []
    )


def _is_kto(row: Row) -> bool:
    return (
        "instruction" in row and isinstance(row.get("output"), str) and any(isinstance(row.get(t), bool) for t in _TAGS)
    )


def _read_dolly(row: Row, want: Want | None) -> list[Record]:
    context, answer = text(row, "context", ""), text(row, "response")
    content = joined(text(row, "instruction"), context)
    meta = {"input": context} if context else {}
    return [Demonstration([Message("user", content), Message("assistant", answer)], meta=meta)]


def _write_dolly(record: Demonstration, losses: Losses) -> list[Row]:
    if [m.role for m in record.messages] != ["user", "assistant"]:
        losses.add(record, "not one question and one answer, which dolly needs; left out")
        return []
    instruction, context = apart(record.messages[0].content, record.meta)
    return [{"instruction": instruction, "context": context, "response": record.messages[1].content}]


def _example(instruction: str, instance: Row, output: str, more: Row | None = None) -> Record:
    given = text(instance, "input", "")
    meta = {**({"input": given} if given else {}), **(more or {})}
    identity = instance.get("id")
    return Demonstration(
        [Message("user", joined(instruction, given)), Message("assistant", output)],
        id=identity if isinstance(identity, str) else "",
        meta=meta,
    )


def _read_self_instruct(row: Row, want: Want | None) -> list[Record]:
    instruction = text(row, "instruction")
    return [_example(instruction, instance, text(instance, "output")) for instance in objects(row, "instances")]


def _read_super_natural(row: Row, want: Want | None) -> list[Record]:
    """The definition is the instruction; of several right outputs the first is the answer, all are references."""
    definition = cell(row, "Definition")
    instruction = definition if isinstance(definition, str) else "\n".join(texts(row, "Definition"))
    found: list[Record] = []
    for instance in objects(row, "Instances"):
        output: Any = cell(instance, "output")
        right = [output] if isinstance(output, str) else texts(instance, "output")
        if not right:
            raise Unreadable("an instance has no output")
        found.append(_example(instruction, instance, right[0], {"references": right} if len(right) > 1 else None))
    return found


SHAPES = (
    Shape(
        "alpaca-preference",
        "instruction, input, chosen, rejected (LLaMA-Factory)",
        ("instruction", "chosen", "rejected"),
        (Group,),
        _read_preference,
        _write_preference,
        knows=_ASKED,
    ),
    Shape(
        "alpaca-ranked",
        "instruction, input, output: a list of responses, best first",
        ("instruction", "output"),
        (Group,),
        _read_ranked,
        _write_ranked,
        detect=lambda row: "instruction" in row and isinstance(row.get("output"), list),
        knows=_ASKED,
    ),
    Shape(
        "alpaca-kto",
        "instruction, input, output and a verdict (kto_tag, tag or label)",
        ("instruction", "output", "kto_tag"),
        (Group,),
        _read_kto,
        _write_kto,
        detect=_is_kto,
        knows=(*_ASKED, *_TAGS),
    ),
    Shape(
        "alpaca",
        "instruction, input, output; also system and history",
        ("instruction", "output"),
        (Demonstration,),
        _read_alpaca,
        _write_alpaca,
        knows=_ASKED,
    ),
    Shape(
        "dolly",
        "instruction, context, response",
        ("instruction", "response"),
        (Demonstration,),
        _read_dolly,
        _write_dolly,
        knows=("context",),
    ),
    Shape(
        "self-instruct",
        "instruction with instances of input and output",
        ("instruction", "instances"),
        (Demonstration,),
        _read_self_instruct,
    ),
    Shape(
        "super-natural-instructions",
        "one task a file: Definition and Instances of input and output",
        ("Definition", "Instances"),
        (Demonstration,),
        _read_super_natural,
        knows=("Positive Examples", "Negative Examples"),
    ),
)
