"""The shapes of TRL's trainers. Texts and lists of turns are both read; lists of turns are written.

https://huggingface.co/docs/trl/dataset_formats
"""

from __future__ import annotations

import difflib

from kilter.formats.cells import cell, flag, is_number, texts
from kilter.formats.chat import labelled
from kilter.formats.kinds import pair
from kilter.formats.shape import Losses, Row, Shape, Unreadable, Want
from kilter.formats.turns import Turns, read_prompt, read_response, read_turns, write_openai
from kilter.records import Demonstration, Group, Message, Prompt, Record

# Pairs of score columns in the wild; the first is written.
_SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
)
_SCORE_COLUMNS = tuple(name for names in _SCORES for name in names)


def _compared(prompt: Turns, chosen: str, rejected: str, row: Row, meta: Row) -> list[Record]:
    """Return the pair; scores are taken only where they agree with which one was chosen."""
    kept = {name: row[name] for name in _SCORE_COLUMNS if name in row}
    scores: list[float] | None = None
    for names in _SCORES:
        values = [row.get(name) for name in names]
        if all(is_number(v) for v in values) and values[0] > values[1]:  # type: ignore[operator]
            scores = values  # type: ignore[assignment]
            kept = {name: value for name, value in kept.items() if name not in names}
            break
    if kept:
        meta = {**meta, "extra": kept}
    return [Group(prompt, [chosen, rejected], scores, None if scores else [0, 1], meta=meta)]


def _responses(first: Row, second: Row) -> Row:
    return {"responses": [first, second]} if first or second else {}


def _read_preference(row: Row, want: Want | None) -> list[Record]:
    sides = [cell(row, "chosen"), cell(row, "rejected")]
    if all(isinstance(side, list) and len(side) > 1 for side in sides):
        return _read_implicit(row, want)  # whole conversations, which say more of the prompt than `prompt` does
    prompt, meta = read_prompt(cell(row, "prompt"), "prompt")
    (chosen, first), (rejected, second) = (
        read_response(s, n) for s, n in zip(sides, ("chosen", "rejected"), strict=True)
    )
    return _compared(prompt, chosen, rejected, row, {**meta, **_responses(first, second)})


def _read_implicit(row: Row, want: Want | None) -> list[Record]:
    """The prompt is what both conversations share before the last turn."""
    chosen, meta = read_turns(cell(row, "chosen"), "chosen")
    rejected, other = read_turns(cell(row, "rejected"), "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise Unreadable("'chosen' and 'rejected' part before their last turn")
    if chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise Unreadable("'chosen' and 'rejected' must end with the assistant's turn")
    if len(chosen) < 2:
        raise Unreadable("'chosen' and 'rejected' hold no prompt")
    last = str(len(chosen) - 1)
    ends = [m.get("turns", {}).get(last, {}) for m in (meta, other)]
    turns = {i: rest for i, rest in meta.get("turns", {}).items() if i != last}
    meta = {"turns": turns} if turns else {}
    return _compared(chosen[:-1], chosen[-1].content, rejected[-1].content, row, {**meta, **_responses(*ends)})


def _response(group: Group, k: int) -> list[Row]:
    rests = group.meta.get("responses") or [{}] * len(group.responses)
    return write_openai([Message("assistant", group.responses[k])], {"turns": {"0": rests[k]}})


def _write_pair(group: Group, losses: Losses, shape: str) -> tuple[Row, Row] | None:
    """Return the responses of a pair as columns, and its scores as columns."""
    found = pair(group, shape, losses)
    if found is None:
        return None
    sides = dict(zip(("chosen", "rejected"), (_response(group, k) for k in found), strict=True))
    scores = [] if group.scores is None else [group.scores[k] for k in found]
    return sides, dict(zip(_SCORES[0], scores, strict=False))


def _write_preference(group: Group, losses: Losses) -> list[Row]:
    found = _write_pair(group, losses, "trl-preference")
    return [{"prompt": write_openai(group.prompt, group.meta), **found[0], **found[1]}] if found else []


def _write_implicit(group: Group, losses: Losses) -> list[Row]:
    found = _write_pair(group, losses, "trl-implicit")
    if found is None:
        return []
    prompt = write_openai(group.prompt, group.meta)
    return [{**{name: [*prompt, *said] for name, said in found[0].items()}, **found[1]}]


def _read_completion(row: Row, want: Want | None) -> list[Record]:
    prompt, meta = read_prompt(cell(row, "prompt"), "prompt")
    answer, rest = read_response(cell(row, "completion"), "completion")
    if rest:
        meta = {"turns": {**meta.get("turns", {}), str(len(prompt)): rest}}
    return [Demonstration([*prompt, Message("assistant", answer)], meta=meta)]


def _write_completion(record: Demonstration, losses: Losses) -> list[Row]:
    *prompt, answer = record.messages
    if answer.role != "assistant" or not prompt:
        losses.add(record, "not a prompt and the assistant's answer, which trl-completion needs; left out")
        return []
    if any(m.role == "assistant" for m in prompt):
        losses.add(record, "only the last turn of the assistant is learned from trl-completion")
    completion = write_openai([answer], record.meta, len(prompt))
    return [{"prompt": write_openai(prompt, record.meta), "completion": completion}]


def _read_kto(row: Row, want: Want | None) -> list[Record]:
    prompt, meta = read_prompt(cell(row, "prompt"), "prompt")
    answer, rest = read_response(cell(row, "completion"), "completion")
    meta = {**meta, "responses": [rest]} if rest else meta
    return [Group(prompt, [answer], labels=[flag(cell(row, "label"), "label")], meta=meta)]


def _write_kto(group: Group, losses: Losses) -> list[Row]:
    prompt = write_openai(group.prompt, group.meta)
    return [
        {"prompt": prompt, "completion": _response(group, group.responses.index(said)), "label": good}
        for said, good in labelled(group, "trl-kto", losses)
    ]


def _read_stepwise(row: Row, want: Want | None) -> list[Record]:
    """The steps are one response, good if every step is; the steps themselves are kept in meta.

    A label is a verdict, or the share of continuations from there that came out right (Math-Shepherd's soft labels).
    """
    steps = texts(row, "completions")
    labels = cell(row, "labels")
    if not isinstance(labels, list) or len(labels) != len(steps) or not steps:
        raise Unreadable("'completions' and 'labels' must be lists of the same length, not empty")
    verdicts = [v if isinstance(v, float) and 0 <= v <= 1 else flag(v, "labels") for v in labels]
    prompt, meta = read_prompt(cell(row, "prompt"), "prompt")
    meta = {**meta, "steps": steps, "step_labels": verdicts}
    return [Group(prompt, ["\n".join(steps)], labels=[all(v >= 0.5 for v in verdicts)], meta=meta)]


def _write_stepwise(group: Group, losses: Losses) -> list[Row]:
    steps, labels = group.meta.get("steps"), group.meta.get("step_labels")
    if not steps or group.responses != ["\n".join(steps)] or [m.role for m in group.prompt] != ["user"]:
        losses.add(group, "not one response in labelled steps to one question, which trl-stepwise needs; left out")
        return []
    return [{"prompt": group.prompt[0].content, "completions": steps, "labels": labels}]


def _read_prompt(row: Row, want: Want | None) -> list[Record]:
    prompt, meta = read_prompt(cell(row, "prompt"), "prompt")
    return [Prompt(prompt, meta=meta)]


def _write_prompt(record: Prompt, losses: Losses) -> list[Row]:
    return [{"prompt": write_openai(record.messages, record.meta)}]


_ANSWERS = ("completion", "completions", "chosen", "rejected", "response", "responses", "output", "answer")


def _is_prompt(row: Row) -> bool:
    """A prompt alone: a column like an answer's, even misspelt, says that something else was meant."""
    return "prompt" in row and not any(difflib.get_close_matches(str(c).lower(), _ANSWERS, 1, 0.75) for c in row)


def _is_kto(row: Row) -> bool:
    return "prompt" in row and "completion" in row and row.get("label") in (True, False)


def _is_implicit(row: Row) -> bool:
    return isinstance(row.get("chosen"), list) and isinstance(row.get("rejected"), list) and "prompt" not in row


SHAPES = (
    Shape(
        "trl-stepwise",
        "prompt, completions (the steps of one response) and labels, one a step",
        ("prompt", "completions", "labels"),
        (Group,),
        _read_stepwise,
        _write_stepwise,
    ),
    Shape(
        "trl-preference",
        "prompt, chosen, rejected: texts or lists of turns; with scores where there are any",
        ("prompt", "chosen", "rejected"),
        (Group,),
        _read_preference,
        _write_preference,
        knows=_SCORE_COLUMNS,
        aliases=("trl", "preference", "dpo"),
    ),
    Shape(
        "trl-implicit",
        "chosen and rejected: whole conversations as lists of turns, the prompt is what they share",
        ("chosen", "rejected"),
        (Group,),
        _read_implicit,
        _write_implicit,
        detect=_is_implicit,
        knows=_SCORE_COLUMNS,
    ),
    Shape(
        "trl-kto",
        "prompt, completion and label (good or not)",
        ("prompt", "completion", "label"),
        (Group,),
        _read_kto,
        _write_kto,
        detect=_is_kto,
        aliases=("kto", "trl-unpaired"),
    ),
    Shape(
        "trl-completion",
        "prompt and completion: texts or lists of turns",
        ("prompt", "completion"),
        (Demonstration,),
        _read_completion,
        _write_completion,
        aliases=("prompt-completion",),
    ),
    Shape(
        "trl-prompt",
        "prompt alone: a text or a list of turns",
        ("prompt",),
        (Prompt,),
        _read_prompt,
        _write_prompt,
        detect=_is_prompt,
        aliases=("prompts",),
    ),
)
