"""Whole conversations: OpenAI messages (also TRL's), ShareGPT with its preference and thumbs variants, LIMA's lists."""

from __future__ import annotations

from typing import Any

from kilter.formats.cells import cell, flag, texts
from kilter.formats.kinds import alternating, pair
from kilter.formats.shape import Losses, Row, Shape, Unreadable, Want
from kilter.formats.turns import Turns, read_response, read_turns, waiting, write_openai, write_sharegpt
from kilter.records import Demonstration, Group, Message, Prompt, Record


def conversation(messages: Turns, meta: Row) -> Demonstration | Prompt:
    """Return a conversation as a demonstration, or as a prompt where it waits for the assistant at its end."""
    answered = messages[-1].role == "assistant"
    return Demonstration(messages, meta=meta) if answered else Prompt(messages, meta=meta)


def _note_open_end(record: Demonstration | Prompt, shape: str, losses: Losses) -> None:
    if isinstance(record, Demonstration) and record.messages[-1].role != "assistant":
        losses.add(record, f"ends without an answer, so {shape} holds it as a prompt")


def _tools(row: Row) -> Row:
    return {"tools": row["tools"]} if row.get("tools") else {}


def _read_messages(row: Row, want: Want | None) -> list[Record]:
    messages, meta = read_turns(cell(row, "messages"), "messages")
    return [conversation(messages, {**_tools(row), **meta})]


def _write_messages(record: Demonstration | Prompt, losses: Losses) -> list[Row]:
    _note_open_end(record, "messages", losses)
    return [{"messages": write_openai(record.messages, record.meta), **_tools(record.meta)}]


def _turns(row: Row) -> tuple[Turns, Row]:
    """Return ShareGPT's turns; a `system` column becomes the first turn."""
    messages, meta = read_turns(cell(row, "conversations"), "conversations")
    if row.get("system"):
        messages = [Message("system", str(row["system"])), *messages]
        meta = {"turns": {str(int(i) + 1): rest for i, rest in meta["turns"].items()}} if meta else {}
    return messages, {**_tools(row), **meta}


def _read_sharegpt(row: Row, want: Want | None) -> list[Record]:
    return [conversation(*_turns(row))]


def _write_sharegpt(record: Demonstration | Prompt, losses: Losses) -> list[Row]:
    _note_open_end(record, "sharegpt", losses)
    return [{"conversations": write_sharegpt(record.messages, record.meta), **_tools(record.meta)}]


def _read_sharegpt_preference(row: Row, want: Want | None) -> list[Record]:
    prompt, meta = _turns(row)
    waiting(prompt, "conversations")
    chosen, _ = read_response(cell(row, "chosen"), "chosen")
    rejected, _ = read_response(cell(row, "rejected"), "rejected")
    return [Group(prompt, [chosen, rejected], ranking=[0, 1], meta=meta)]


def _write_sharegpt_preference(group: Group, losses: Losses) -> list[Row]:
    found = pair(group, "sharegpt-preference", losses)
    if found is None:
        return []
    if group.scores is not None:
        losses.add(group, "scores are not kept by sharegpt-preference")
    chosen, rejected = ({"from": "gpt", "value": group.responses[k]} for k in found)
    row: Row = {"conversations": write_sharegpt(group.prompt, group.meta), "chosen": chosen, "rejected": rejected}
    return [{**row, **_tools(group.meta)}]


def _read_sharegpt_kto(row: Row, want: Want | None) -> list[Record]:
    messages, meta = _turns(row)
    if messages[-1].role != "assistant":
        raise Unreadable("the last turn of 'conversations' is not the assistant's, so there is nothing to label")
    good = flag(cell(row, "kto_tag"), "kto_tag")
    prompt = waiting(messages[:-1], "conversations")
    return [Group(prompt, [messages[-1].content], labels=[good], meta=meta)]


def _write_sharegpt_kto(group: Group, losses: Losses) -> list[Row]:
    return [
        {"conversations": write_sharegpt([*group.prompt, Message("assistant", response)], group.meta), "kto_tag": good}
        for response, good in labelled(group, "sharegpt-kto", losses)
    ]


def labelled(group: Group, shape: str, losses: Losses) -> list[tuple[str, bool]]:
    """Return each response with its verdict: its label, or good for the best and bad for the worst of a ranking."""
    if group.labels is not None:
        if len(group.responses) > 1:
            losses.add(group, f"each response becomes a row of its own in {shape}")
        return list(zip(group.responses, group.labels, strict=True))
    found = pair(group, shape, losses)
    if found is None:
        return []
    losses.add(group, f"the best response is labelled good, the worst bad, and the comparison is not kept by {shape}")
    return [(group.responses[found[0]], True), (group.responses[found[1]], False)]


def _read_lima(row: Row, want: Want | None) -> list[Record]:
    said = texts(row, "conversations")
    if not said:
        raise Unreadable("column 'conversations' is empty")
    return [conversation([Message(("user", "assistant")[i % 2], text) for i, text in enumerate(said)], {})]


def _write_lima(record: Demonstration | Prompt, losses: Losses) -> list[Row]:
    ends = "assistant" if isinstance(record, Demonstration) else "user"
    if record.messages[0].role == "system" or not alternating(record.messages, ends):
        losses.add(record, "user and assistant do not take turns, which lima needs; left out")
        return []
    return [{"conversations": [m.content for m in record.messages]}]


def _is_lima(row: Row) -> bool:
    value: Any = row.get("conversations")
    return isinstance(value, list) and bool(value) and isinstance(value[0], str)


_CHAT = (Demonstration, Prompt)
_MORE = ("system", "tools")

SHAPES = (
    Shape(
        "lima",
        "conversations: a list of texts, user and assistant in turn",
        ("conversations",),
        _CHAT,
        _read_lima,
        _write_lima,
        detect=_is_lima,
    ),
    Shape(
        "sharegpt-preference",
        "conversations (the prompt), chosen, rejected",
        ("conversations", "chosen", "rejected"),
        (Group,),
        _read_sharegpt_preference,
        _write_sharegpt_preference,
        knows=_MORE,
    ),
    Shape(
        "sharegpt-kto",
        "conversations and a verdict on the last turn (kto_tag)",
        ("conversations", "kto_tag"),
        (Group,),
        _read_sharegpt_kto,
        _write_sharegpt_kto,
        knows=_MORE,
    ),
    Shape(
        "sharegpt",
        "conversations: turns with from (human, gpt, system, ...) and value",
        ("conversations",),
        _CHAT,
        _read_sharegpt,
        _write_sharegpt,
        knows=_MORE,
    ),
    Shape(
        "messages",
        "messages: turns with role and content, as OpenAI and TRL have them; tools and tool_calls are kept",
        ("messages",),
        _CHAT,
        _read_messages,
        _write_messages,
        knows=("tools",),
        aliases=("openai", "chatml", "trl-messages"),
    ),
)
