"""Dialogues written as one text with a marker before each turn: Anthropic HH, WebGPT pairs, Prometheus prompts.

HH pairs share a beginning and part at one of the assistant's turns. What follows there is the response, to its end,
even where the model went on to write further turns itself: that text is what people compared.
"""

from __future__ import annotations

import re

from kilter.formats.cells import numbers, text
from kilter.formats.kinds import pair
from kilter.formats.shape import Losses, Row, Shape, Unreadable, Want
from kilter.formats.turns import Turns
from kilter.records import Group, Message, Record

_HUMAN, _ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
_MARKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def _unspaced(said: str) -> str:
    """Drop the one space that the format puts after a marker."""
    return said[1:] if said.startswith(" ") else said


def read_transcript(said: str) -> Turns:
    """Return the turns of an HH text; what stands before the first marker is the system's."""
    before, *parts = _MARKER.split(said)
    messages = [Message("system", before.strip())] if before.strip() else []
    for name, content in zip(parts[::2], parts[1::2], strict=True):
        messages.append(Message(_ROLES[name], _unspaced(content)))
    return messages


def write_transcript(messages: Turns) -> str:
    """Return turns as an HH text, so that `read_transcript` gives them again."""
    names = {"system": "", "user": f"{_HUMAN} ", "assistant": f"{_ASSISTANT} "}
    return "".join(names[m.role] + m.content for m in messages)


def _anchored(said: str) -> str:
    """Some copies have lost the two newlines before the first marker."""
    return "\n\n" + said.lstrip("\n") if re.match(r"\n*(Human|Assistant):", said) else said


def _read_hh(row: Row, want: Want | None) -> list[Record]:
    chosen, rejected = _anchored(text(row, "chosen")), _anchored(text(row, "rejected"))
    fork = _fork(chosen, rejected)
    prompt = read_transcript(chosen[:fork])[:-1]  # the last turn is the response's marker, with nothing after it
    return [Group(prompt, [_unspaced(chosen[fork:]), _unspaced(rejected[fork:])], ranking=[0, 1])]


def _fork(chosen: str, rejected: str) -> int:
    """Return where the responses begin: after the last assistant marker that both texts share after a human turn."""
    found = 0
    previous = ""
    for marker in _MARKER.finditer(chosen):
        end = marker.end()
        if chosen[:end] != rejected[:end]:
            break
        if marker[1] == "Assistant" and previous == "Human":
            found = end
        previous = marker[1]
    if not found:
        what = "do not begin with the same question" if previous or _MARKER.search(chosen) else "hold no 'Human:' turn"
        raise Unreadable(f"'chosen' and 'rejected' {what}, which HH pairs do")
    return found


def _write_hh(group: Group, losses: Losses) -> list[Row]:
    if not _holdable(group, "hh", losses):
        return []
    found = pair(group, "hh", losses)
    if found is None:
        return []
    if group.scores is not None:
        losses.add(group, "scores are not kept by hh")
    prompt = write_transcript(group.prompt)
    chosen, rejected = (f"{prompt}{_ASSISTANT} {group.responses[k]}" for k in found)
    if _fork(chosen, rejected) != len(prompt) + len(_ASSISTANT):
        losses.add(group, "the responses begin with the same turns, which hh takes for the prompt's; left out")
        return []
    return [{"chosen": chosen, "rejected": rejected}]


def _holdable(group: Group, shape: str, losses: Losses) -> bool:
    """Whether the text that is written will be read as the same turns."""
    turns = group.prompt
    roles = [m.role for m in turns]
    if not turns or roles[-1] != "user" or "tool" in roles or "system" in roles[1:]:
        losses.add(group, f"the prompt is not a dialogue of user and assistant, which {shape} needs; left out")
        return False
    if read_transcript(write_transcript(turns)) != turns:
        losses.add(group, f"a turn holds what {shape} takes for a marker; left out")
        return False
    return True


def _read_hh_prompt(row: Row, want: Want | None) -> list[Record]:
    prompt = read_transcript(_anchored(text(row, "prompt")))
    if not prompt or prompt[-1] != Message("assistant", ""):
        raise Unreadable("column 'prompt' does not end with 'Assistant:'")
    responses = [_unspaced(text(row, "chosen")), _unspaced(text(row, "rejected"))]
    return [Group(prompt[:-1], responses, ranking=[0, 1])]


def _write_hh_prompt(group: Group, losses: Losses) -> list[Row]:
    found = pair(group, "hh-prompt", losses) if _holdable(group, "hh-prompt", losses) else None
    if found is None:
        return []
    if group.scores is not None:
        losses.add(group, "scores are not kept by hh-prompt")
    chosen, rejected = (f" {group.responses[k]}" for k in found)
    return [{"prompt": write_transcript(group.prompt) + _ASSISTANT, "chosen": chosen, "rejected": rejected}]


_WEBGPT = re.compile(r"\A\s*## Human:\n(.*?)\n\n## Assistant:\n(.*)\Z", re.DOTALL)


def _read_webgpt(row: Row, want: Want | None) -> list[Record]:
    """The scores say which answer is better: in these files `chosen` is only the first of two, tied ones included."""
    found = [_WEBGPT.match(text(row, name)) for name in ("chosen", "rejected")]
    if found[0] is None or found[1] is None or found[0][1] != found[1][1]:
        raise Unreadable("'chosen' and 'rejected' are not '## Human:' and '## Assistant:' with the same question")
    scores = numbers(row, "score") if "score" in row else None
    ranking = [0, 1] if scores is None else None
    return [Group([Message("user", found[0][1].strip())], [m[2].strip() for m in found if m], scores, ranking)]


_PROMETHEUS = re.compile(
    r"###The instruction to evaluate:\n(.*?)\n+###Response to evaluate:\n(.*?)\n+###(?:Score Rubrics|Reference)",
    re.DOTALL,
)


def _read_prometheus(row: Row, want: Want | None) -> list[Record]:
    columns = ("chosen_instruction", "rejected_instruction")
    found = [_PROMETHEUS.search(text(row, name)) for name in columns]
    if found[0] is None or found[1] is None or found[0][1] != found[1][1]:
        raise Unreadable("the columns do not hold one instruction to evaluate with a response each")
    prompt = read_transcript(_anchored(found[0][1]))
    if not prompt or prompt[-1].role != "user":
        prompt = [Message("user", found[0][1])]
    return [Group(prompt, [m[2] for m in found if m], ranking=[0, 1])]


def _is_webgpt(row: Row) -> bool:
    return isinstance(row.get("chosen"), str) and row["chosen"].lstrip().startswith("## Human:") and "rejected" in row


_OTHER_PROMPTS = ("prompt", "instruction", "question", "conversations", "messages")


def _is_hh(row: Row) -> bool:
    texts_there = isinstance(row.get("chosen"), str) and isinstance(row.get("rejected"), str)
    return texts_there and not any(name in row for name in _OTHER_PROMPTS)


def _is_hh_prompt(row: Row) -> bool:
    prompt = row.get("prompt")
    pair_there = "chosen" in row and "rejected" in row
    return (
        pair_there and isinstance(prompt, str) and bool(re.match(r"\n*Human:.*\n\nAssistant:\s*\Z", prompt, re.DOTALL))
    )


SHAPES = (
    Shape(
        "webgpt",
        "chosen and rejected: texts with '## Human:' and '## Assistant:', and the score of each",
        ("chosen", "rejected"),
        (Group,),
        _read_webgpt,
        detect=_is_webgpt,
        knows=("score",),
    ),
    Shape(
        "hh-prompt",
        "HH with its prompt apart: prompt ('... Assistant:'), chosen, rejected",
        ("prompt", "chosen", "rejected"),
        (Group,),
        _read_hh_prompt,
        _write_hh_prompt,
        detect=_is_hh_prompt,
    ),
    Shape(
        "hh",
        "Anthropic HH: chosen and rejected, each one text with 'Human:' and 'Assistant:' turns",
        ("chosen", "rejected"),
        (Group,),
        _read_hh,
        _write_hh,
        detect=_is_hh,
    ),
    Shape(
        "prometheus-pairs",
        "chosen_instruction and rejected_instruction: a judge's prompts with one instruction and a response each",
        ("chosen_instruction", "rejected_instruction"),
        (Group,),
        _read_prometheus,
    ),
)
