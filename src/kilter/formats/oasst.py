"""OpenAssistant message trees, whole (one tree a row) and flat (one message a row).

From a tree come the conversation along its best path, as a demonstration, and one group for every place at which
several answers were ranked. `want` chooses; without it both come.
"""

from __future__ import annotations

from typing import Any

from kilter.formats.cells import cell, objects, text
from kilter.formats.shape import Losses, Row, Shape, Unreadable, Want
from kilter.formats.turns import Turns
from kilter.records import Demonstration, Group, Message, Record

_ROLE = {"prompter": "user", "assistant": "assistant", "user": "user"}
_NAME = {"user": "prompter", "assistant": "assistant"}


def _read(row: Row, want: Want | None) -> list[Record]:
    root = cell(row, "prompt")
    if not isinstance(root, dict):
        raise Unreadable("column 'prompt' must be the first message of a tree, an object with text, role and replies")
    meta = {"tree": row["message_tree_id"]} if row.get("message_tree_id") else {}
    if root.get("lang"):
        meta["language"] = root["lang"]
    found: list[Record] = []
    path = _best_path(root)
    if want != "groups" and path:
        found.append(Demonstration(path, id=_id(root, "best"), meta=dict(meta)))
    if want in (None, "groups"):
        found += _groups(root, [], meta)
    if not found:
        due = "ranked answers" if want == "groups" else "an answer"
        raise Unreadable(f"the tree holds no {due}")
    return found


def _message(node: Row) -> Message:
    role = _ROLE.get(text(node, "role"))
    if role is None:
        raise Unreadable(f"a message of the tree is by '{node['role']}', which is neither prompter nor assistant")
    return Message(role, text(node, "text"))


def _replies(node: Row) -> list[Row]:
    """Return the replies that were not deleted, best first; those without a rank come last."""
    replies = [r for r in objects(node, "replies") if not r.get("deleted")] if node.get("replies") else []
    return sorted(replies, key=_rank)


def _rank(node: Row) -> float:
    return node["rank"] if node.get("rank") is not None else float("inf")


def _best_path(root: Row) -> Turns:
    path = [_message(root)]
    replies = _replies(root)
    while replies:
        path.append(_message(replies[0]))
        replies = _replies(replies[0])
    while path and path[-1].role != "assistant":
        path.pop()
    return path


def _groups(node: Row, before: Turns, meta: Row) -> list[Record]:
    """Return a group for this message if its answers were ranked, and those of every message below it."""
    found: list[Record] = []
    stack = [(node, before)]
    while stack:
        node, before = stack.pop()
        path = [*before, _message(node)]
        replies = _replies(node)
        ranked = [r for r in replies if r.get("rank") is not None and r.get("role") == "assistant"]
        if path[-1].role == "user" and len(ranked) > 1:
            responses = [text(r, "text") for r in ranked]
            ranks = [int(r["rank"]) for r in ranked]
            found.append(Group(path, responses, ranking=ranks, id=_id(node, "ranked"), meta=dict(meta)))
        stack += [(reply, path) for reply in reversed(replies)]
    return found


def _id(node: Row, what: str) -> str:
    identity = node.get("message_id")
    return f"{identity}/{what}" if isinstance(identity, str) else ""


def _write(record: Demonstration | Group, losses: Losses) -> list[Row]:
    """Return one tree: the conversation as a line, and the ranked responses as the leaves at its end."""
    path = record.prompt if isinstance(record, Group) else record.messages
    last = "user" if isinstance(record, Group) else "assistant"
    if not path or any(m.role not in _NAME for m in path) or path[-1].role != last:
        losses.add(record, "not a dialogue of user and assistant alone, which oasst needs; left out")
        return []
    leaves: list[Row] = []
    if isinstance(record, Group):
        order = record.order()
        if order is None or len(order) < 2:
            losses.add(record, "the responses are not ranked, which oasst needs; left out")
            return []
        levels = sorted(set(order), reverse=True)
        leaves = [
            {"text": response, "role": "assistant", "rank": levels.index(value), "replies": []}
            for response, value in zip(record.responses, order, strict=True)
        ]
        for name in ("scores", "labels", "critiques"):
            if getattr(record, name) is not None:
                losses.add(record, f"{name} are not kept by oasst")
    for message in reversed(path):
        leaves = [{"text": message.content, "role": _NAME[message.role], "replies": leaves}]
    root = leaves[0]
    if record.meta.get("language"):
        root["lang"] = record.meta["language"]
    tree = {"message_tree_id": record.meta["tree"]} if record.meta.get("tree") else {}
    return [{**tree, "prompt": root}]


def _gather(rows: list[Row]) -> list[Row]:
    """Return the trees of which the rows are the messages; a message whose parent is missing is left out."""
    nodes: dict[str, Row] = {}
    for row in rows:
        if isinstance(row.get("message_id"), str):
            nodes[row["message_id"]] = {k: v for k, v in row.items() if k not in ("parent_id", "message_tree_id")}
            nodes[row["message_id"]]["replies"] = []
    trees: list[Row] = []
    for row in rows:
        node = nodes.get(row.get("message_id", ""))
        parent: Any = row.get("parent_id")
        if node is None:
            continue
        if parent is None:
            trees.append({"message_tree_id": row.get("message_tree_id", row["message_id"]), "prompt": node})
        elif parent in nodes:
            nodes[parent]["replies"].append(node)
    return trees


SHAPES = (
    Shape(
        "oasst",
        "OpenAssistant trees: prompt with text, role, rank and replies",
        ("prompt",),
        (Demonstration, Group),
        _read,
        _write,
        detect=lambda row: isinstance(row.get("prompt"), dict) and "replies" in row["prompt"],
        knows=("message_tree_id", "tree_state"),
    ),
    Shape(
        "oasst-flat",
        "OpenAssistant messages, one a row: message_id, parent_id, text, role",
        ("message_id", "parent_id", "text", "role"),
        (Demonstration, Group),
        _read,
        knows=("prompt", "message_tree_id", "tree_state"),
        gather=_gather,
    ),
)
