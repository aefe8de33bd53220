"""Conversations as lists of turns: OpenAI's role/content and ShareGPT's from/value, there and back.

A `Message` holds a role and a text. What else a turn has (tool calls, a name, content in parts, an unusual role name)
is kept in `meta["turns"]`, by the turn's index as a string, and written back as long as the text is still the same.
Tool calls are also put into the text, as `<tool_call>` blocks, because there a model can learn them.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from kilter.formats.cells import noun
from kilter.formats.shape import Row, Unreadable
from kilter.records import Message

_ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter", "instruction", "question", "customer"),
    "assistant": ("assistant", "gpt", "chatgpt", "bing", "bard", "claude", "model", "bot", "ai", "function_call"),
    "tool": ("tool", "observation", "function", "function_response", "ipython", "environment"),
}
_ROLE_OF = {name: role for role, names in _ROLES.items() for name in names}
_SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}

Turns = list[Message]


def read_turns(value: Any, column: str) -> tuple[Turns, Row]:
    """Return the messages of a list of turns (role/content or from/value) and the meta they need to be written back."""
    if not isinstance(value, list) or not value:
        raise Unreadable(f"column '{column}' is {noun(value) if value != [] else 'empty'} and a list of turns is due")
    messages, rests = [], {}
    for index, turn in enumerate(value):
        message, rest = read_turn(turn, f"turn {index + 1} of '{column}'")
        messages.append(message)
        if rest:
            rests[str(index)] = rest
    return messages, {"turns": rests} if rests else {}


def read_turn(turn: Any, where: str) -> tuple[Message, Row]:
    """Return one turn as a message, and what the message does not hold."""
    if not isinstance(turn, dict):
        raise Unreadable(f"{where} is {noun(turn)} and an object with role and content is due")
    speaker, said = ("from", "value") if "from" in turn else ("role", "content")
    for key in (speaker, said):
        if key not in turn and not (key == "content" and turn.get("tool_calls")):
            raise Unreadable(f"{where} has no '{key}', only {', '.join(turn) or 'nothing'}")
    role = _ROLE_OF.get(str(turn[speaker]).lower())
    if role is None:
        raise Unreadable(f"{where} is by '{turn[speaker]}', which is no known role")
    rest = {k: v for k, v in turn.items() if k not in (speaker, said) and v is not None}
    if turn[speaker] != (role if speaker == "role" else _SHAREGPT[role]):
        rest[speaker] = turn[speaker]
    content = _text(turn.get(said), where)
    if turn.get(said) != content and (turn.get(said) is not None or not turn.get("tool_calls")):
        rest[said] = turn.get(said)
    if turn.get("tool_calls"):
        content = "\n".join(filter(None, [content, *map(_call, turn["tool_calls"])]))
    return Message(role, content), rest


def write_openai(messages: Turns, meta: Row, start: int = 0) -> list[Row]:
    """Return messages as role/content turns; `start` is the index of the first one in the conversation of `meta`."""
    return [_write(m, meta, start + i, "role", "content", m.role) for i, m in enumerate(messages)]


def write_sharegpt(messages: Turns, meta: Row, start: int = 0) -> list[Row]:
    """Return messages as from/value turns (human, gpt, system, observation)."""
    return [_write(m, meta, start + i, "from", "value", _SHAREGPT[m.role]) for i, m in enumerate(messages)]


def _write(message: Message, meta: Row, index: int, speaker: str, said: str, name: str) -> Row:
    plain: Row = {speaker: name, said: message.content}
    rest = dict(meta.get("turns", {}).get(str(index), {}))
    if not rest:
        return plain
    # A foreign dialect's own names for the same things say nothing here.
    foreign = {"from": ("role", "content"), "role": ("from", "value")}[speaker]
    rest = {k: v for k, v in rest.items() if k not in foreign}
    if rest.get("tool_calls") and said not in rest:
        rest[said] = _before_calls(message.content, rest["tool_calls"])
    try:
        if read_turn({**plain, **rest}, "")[0] == message:
            return {**plain, **rest}
    except Unreadable:
        pass
    # The text was changed since it was read: the original calls and parts are no longer what was said.
    return {**plain, **{k: v for k, v in rest.items() if k not in (said, "tool_calls")}}


def read_prompt(value: Any, column: str) -> tuple[Turns, Row]:
    """Return a prompt that is a text (one user turn) or a list of turns."""
    if isinstance(value, str):
        return [Message("user", value)], {}
    messages, meta = read_turns(value, column)
    return waiting(messages, column), meta


def waiting(messages: Turns, column: str) -> Turns:
    """Return a prompt's messages if they wait for the assistant."""
    if not messages or messages[-1].role == "assistant":
        raise Unreadable(f"the prompt in '{column}' is empty or ends with the assistant's own turn")
    return messages


def read_response(value: Any, column: str) -> tuple[str, Row]:
    """Return a response that is a text, one turn, or a list of one assistant turn."""
    if isinstance(value, str):
        return value, {}
    turns = [value] if isinstance(value, dict) else value
    messages, meta = read_turns(turns, column)
    if len(messages) != 1 or messages[0].role != "assistant":
        raise Unreadable(f"column '{column}' must be a text or one turn of the assistant")
    return messages[0].content, meta.get("turns", {}).get("0", {})


def _text(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(p, dict) for p in content):
        kinds = {p.get("type", "text") for p in content} - {"text"}
        if kinds:
            raise Unreadable(f"{where} holds {', '.join(sorted(map(str, kinds)))}; only text is read")
        return "".join(str(p.get("text", "")) for p in content)
    raise Unreadable(f"the content of {where} is {noun(content)} and text is due")


def _call(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, dict) else {"name": str(call)}
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError):
            arguments = json.loads(arguments)
    content = {"name": function.get("name"), "arguments": arguments}
    return f"<tool_call>\n{json.dumps(content, ensure_ascii=False)}\n</tool_call>"


def _before_calls(content: str, calls: list[Any]) -> str | None:
    """Return the text that stood before the calls, null where there was none."""
    tail = "\n".join(map(_call, calls))
    return content.removesuffix(tail).removesuffix("\n") or None
