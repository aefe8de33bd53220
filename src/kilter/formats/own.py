"""Kilter's own shape, which holds everything, and its plain sibling for groups of scored responses."""

from __future__ import annotations

import json
from typing import Any

from kilter.formats.cells import cell, numbers, objects, text, texts
from kilter.formats.shape import Losses, Row, Shape, Unreadable, Want
from kilter.formats.turns import read_prompt, write_openai
from kilter.records import Demonstration, Group, Message, Origin, Prompt, Record

_SIGNALS = ("scores", "ranking", "labels", "critiques")


def _messages(row: Row, name: str) -> list[Message]:
    return [Message(text(turn, "role"), text(turn, "content")) for turn in objects(row, name)]


def _parsed(value: Any) -> Any:
    """Parquet has one type a column: there, meta and origin are JSON texts."""
    return json.loads(value) if isinstance(value, str) else value


def _origin(row: Row) -> Origin | None:
    value = _parsed(row.get("origin"))
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("method"), str):
        raise Unreadable("column 'origin' must be an object with a 'method'")
    parents = tuple(value.get("parents") or ())
    seed, prompt = value.get("seed"), value.get("prompt")
    return Origin(value["method"], value.get("paper"), value.get("model"), parents, seed, prompt)


def _read(row: Row, want: Want | None) -> list[Record]:
    kind = text(row, "kind")
    common: dict[str, Any] = {
        "id": text(row, "id", ""),
        "origin": _origin(row),
        "meta": _parsed(row.get("meta")) or {},
    }
    if kind == "group":
        return [Group(_messages(row, "prompt"), texts(row, "responses"), **_signals(row), **common)]
    if kind == "demonstration":
        return [Demonstration(_messages(row, "messages"), **common)]
    if kind == "prompt":
        return [Prompt(_messages(row, "messages"), **common)]
    raise Unreadable(f"column 'kind' is '{kind}' and prompt, demonstration or group is due")


def _write(record: Record, losses: Losses) -> list[Row]:
    row: Row = {"kind": type(record).__name__.lower(), "id": record.id}
    if isinstance(record, Group):
        row["prompt"] = [m.to_json() for m in record.prompt]
        row["responses"] = record.responses
        row.update({name: value for name in _SIGNALS if (value := getattr(record, name)) is not None})
    else:
        row["messages"] = [m.to_json() for m in record.messages]
    if record.origin is not None:
        row["origin"] = record.origin.to_json()
    if record.meta:
        row["meta"] = record.meta
    return [row]


def _signals(row: Row) -> Row:
    found: Row = {}
    if row.get("scores") is not None:
        found["scores"] = numbers(row, "scores")
    if row.get("ranking") is not None:
        found["ranking"] = [int(rank) for rank in numbers(row, "ranking")]
    if row.get("labels") is not None:
        labels = cell(row, "labels")
        if not isinstance(labels, list) or not all(isinstance(v, bool) or v in (0, 1) for v in labels):
            raise Unreadable("column 'labels' must be a list of true and false")
        found["labels"] = [bool(v) for v in labels]
    if row.get("critiques") is not None:
        found["critiques"] = texts(row, "critiques")
    return found


def _read_responses(row: Row, want: Want | None) -> list[Record]:
    prompt, meta = read_prompt(cell(row, "prompt"), "prompt")
    return [Group(prompt, texts(row, "responses"), **_signals(row), meta=meta)]


def _write_responses(group: Group, losses: Losses) -> list[Row]:
    row: Row = {"prompt": write_openai(group.prompt, group.meta), "responses": group.responses}
    return [{**row, **{name: value for name in _SIGNALS if (value := getattr(group, name)) is not None}}]


SHAPES = (
    Shape(
        "kilter",
        "Kilter's own: every record with its id, origin and meta; loses nothing",
        ("kind",),
        (Prompt, Demonstration, Group),
        _read,
        _write,
        detect=lambda row: row.get("kind") in ("prompt", "demonstration", "group"),
        whole=True,
    ),
    Shape(
        "responses",
        "prompt, responses and what is known of them: scores, ranking, labels or critiques",
        ("prompt", "responses"),
        (Group,),
        _read_responses,
        _write_responses,
        knows=_SIGNALS,
    ),
)
