"""OpenAssistant's message trees: demonstrations along the best path, and ranked groups of siblings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from kilter.data.ranked_pairs import merged
from kilter.data.sieve import leave_out
from kilter.errors import KilterError
from kilter.formats import SHAPES
from kilter.formats.sources import tables
from kilter.records import Demonstration, Group, Message, Origin, Prompt
from kilter.registry import method

_ROLES = {"prompter": "user", "assistant": "assistant"}
_UNWANTED = ("spam", "lang_mismatch", "pii", "not_appropriate", "hate_speech", "sexual_content")

Node = dict[str, Any]


@method("oasst", wing="data", paper="arXiv:2304.07327", survey="S1 §4.2, S2 §2.1", aliases=("openassistant",))
def oasst(
    *,
    trees: str,
    what: Literal["demonstrations", "groups", "paths"] = "demonstrations",
    states: str = "ready_for_export",
    languages: str = "",
    labels: float = 0.5,
    quality: float = 0.0,
) -> Iterator[Demonstration | Group]:
    """Export message trees as people use them (Köpf et al. 2023).

    demonstrations: a conversation a tree, from its root along the best-ranked reply of each message; paths: one for
    every reply of the assistant that ends a branch; groups: the ranked answers to one message. Where a message has its
    annotators' rankings, they are merged by ranked pairs (Tideman); else the ranks of its replies count. A message goes
    with all below it where it was deleted or refused by its reviewers, where spam, a wrong language, personal data,
    hate or sex is labelled `labels` or higher or its quality lower than `quality`, and where it is by the same side as
    the one it answers.

    Options:
        trees: a file of trees, or of messages that form trees
        what: demonstrations, groups or paths
        states: states that a tree may be in, with commas between; trees that say none are taken
        languages: languages of the trees that are taken, as en,zh; without it all are
        labels: value from which an unwanted label counts, 0 to 1
        quality: lowest quality that a message's label may say
    """
    wanted = {state.strip() for state in states.split(",") if state.strip()}
    spoken = {name.strip() for name in languages.split(",") if name.strip()}
    for tree in _trees(trees):
        root = tree["prompt"]
        if tree.get("tree_state") and wanted and tree["tree_state"] not in wanted:
            leave_out(_as_prompt(root), "state", f"Its tree is in the state {tree['tree_state']}.")
        elif spoken and root.get("lang") not in spoken:
            leave_out(_as_prompt(root), "language", f"Its tree is in {root.get('lang') or 'no language'}.")
        else:
            yield from _exported(tree, _sound(root, None, labels, quality), what)


def _trees(source: str) -> Iterator[Node]:
    flat = SHAPES["oasst-flat"]
    for table in tables(source):
        rows: list[Node] = []
        for line in table.lines():
            if line.row is None:
                continue
            if isinstance(line.row.get("prompt"), dict):
                yield line.row
            else:
                rows.append(line.row)
        if rows and not all(name in rows[0] for name in flat.needs):
            raise KilterError(f"{table.name} holds no message trees; give OpenAssistant's trees or messages.")
        if rows and flat.gather:
            yield from flat.gather(rows)


def _sound(node: Node, before: Node | None, labels: float, quality: float) -> Node | None:
    """Return the node with those replies that are sound, best first, or None where it is not sound itself."""
    fault = _fault(node, before, labels, quality)
    if fault is not None:
        leave_out(_as_prompt(node), *fault)
        return None
    replies = [sound for reply in node.get("replies") or [] if (sound := _sound(reply, node, labels, quality))]
    return {**node, "replies": _ranked(node, replies)}


def _fault(node: Node, before: Node | None, labels: float, quality: float) -> tuple[str, str] | None:
    if node.get("deleted"):
        return "deleted", "It was deleted."
    if node.get("review_result") is False:
        return "refused", "Its reviewers refused it."
    if before is not None and node.get("role") == before.get("role"):
        return "roles", "It is by the same side as the message before it."
    given = {name: label.get("value") for name, label in (node.get("labels") or {}).items() if isinstance(label, dict)}
    said = {name: float(value) for name, value in given.items() if value is not None}
    for name in _UNWANTED:
        if said.get(name, 0.0) >= labels and name in said:
            return name, f"It is labelled {name} with {said[name]:.2f}."
    if said.get("quality", 1.0) < quality:
        return "quality", f"Its quality is labelled {said['quality']:.2f}."
    return None


def _ranked(node: Node, replies: list[Node]) -> list[Node]:
    """Return the replies best first, each with its merged rank where there is any; those without one come last."""
    given = (node.get("events") or {}).get("ranking") or []
    votes = [
        vote["ranked_message_ids"] for vote in given if vote.get("ranked_message_ids") and not vote.get("not_rankable")
    ]
    if votes:
        order = {identity: rank for rank, identity in enumerate(merged(votes))}
        replies = [{**reply, "rank": order.get(reply.get("message_id"))} for reply in replies]
    return sorted(replies, key=lambda reply: reply["rank"] if reply.get("rank") is not None else float("inf"))


def _exported(tree: Node, root: Node | None, what: str) -> Iterator[Demonstration | Group]:
    if root is None:
        return
    meta = {"tree": tree.get("message_tree_id"), "language": root.get("lang")}
    meta = {name: value for name, value in meta.items() if value}
    if what == "groups":
        yield from _groups(root, [], meta)
        return
    for path in _paths(root, best=what == "demonstrations"):
        while path and path[-1]["role"] != "assistant":
            path.pop()
        if path:
            ids = tuple(str(node.get("message_id", "")) for node in path)
            yield Demonstration(
                [_message(node) for node in path], f"{ids[-1]}/path" if ids[-1] else "", _origin(ids), dict(meta)
            )


def _paths(root: Node, best: bool) -> Iterator[list[Node]]:
    """Yield the best path from the root, or every path to a message by the assistant without a better end."""
    stack = [[root]]
    while stack:
        path = stack.pop()
        replies = path[-1]["replies"][:1] if best else path[-1]["replies"]
        if not replies:
            yield path
        stack += [[*path, reply] for reply in reversed(replies)]


def _groups(node: Node, before: list[Message], meta: dict[str, Any]) -> Iterator[Group]:
    path = [*before, _message(node)]
    ranked = [reply for reply in node["replies"] if reply.get("rank") is not None and reply["role"] == "assistant"]
    if len(ranked) > 1:
        ids = tuple(str(node_.get("message_id", "")) for node_ in (node, *ranked))
        ranks = [int(reply["rank"]) for reply in ranked]
        yield Group(
            path,
            [reply["text"] for reply in ranked],
            ranking=[sorted(set(ranks)).index(rank) for rank in ranks],
            id=f"{ids[0]}/ranked" if ids[0] else "",
            origin=_origin(ids),
            meta=dict(meta),
        )
    for reply in node["replies"]:
        yield from _groups(reply, path, meta)


def _origin(ids: tuple[str, ...]) -> Origin:
    return Origin("oasst", "arXiv:2304.07327", parents=ids)


def _message(node: Node) -> Message:
    if node.get("role") not in _ROLES:
        raise KilterError(
            f"A message of the trees is by '{node.get('role')}', neither prompter nor assistant; mend it."
        )
    return Message(_ROLES[node["role"]], str(node.get("text") or ""))


def _as_prompt(node: Node) -> Prompt:
    return Prompt([Message(_ROLES.get(node.get("role", ""), "user"), str(node.get("text") or ""))])
