"""The pages of methods: one a wing, and an index; and a command that calls a method, as one would first type it."""

from __future__ import annotations

import inspect
import re
import typing
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from kilter import registry

# What the methods of a wing are, after their number.
ABOUT = {
    "data": "that make data and manage it: `kilter data NAME --out FILE`",
    "training": "that train a model: `kilter train NAME --model MODEL --data FILE --out DIR`",
    "evaluation": "that measure a model, or score what is stored: `kilter eval NAME --model MODEL --out FILE`",
}
FOR_EXAMPLE = {
    "data": "data.jsonl", "judge": "kilter/teacher", "questions": "questions.jsonl", "rows": "rows.jsonl",
    "student": "models/student", "trees": "trees.jsonl", "templates": "templates",
    "labels": "positive,negative", "tokens": "1000000", "parameters": "100000000", "run": "0", "feedback": "world",
}  # fmt: skip


def example(method: Any) -> str:
    """Return a command that calls the method, as one would first type it."""
    from kilter.recipe import options

    reads = {name: f" --{name} {value}" for name, value in (("model", "kilter/nano"), ("records", "records.jsonl"))}
    given = "".join(text for name, text in reads.items() if name in method.inputs)
    if method.wing == "training":
        samples = "feedback" in options.names(method)
        data = "prompts.jsonl --feedback world" if samples else "records.jsonl"
        return f"kilter train {method.id} --model kilter/nano --data {data} --out models/{method.id}"
    needed = [o for o in method.options.values() if o.default is inspect.Parameter.empty]
    given += "".join(f" --{o.name.replace('_', '-')} {_for_example(o)}" for o in needed)
    if method.wing == "data":
        return f"kilter data {method.id}{given} --out {method.id}.jsonl"
    return f"kilter eval {method.id}{given} --out {method.id}.json"


def _for_example(option: Any) -> str:
    """Return a value that a required option may have: the first of its words, or what is usual for its name."""
    words = typing.get_args(option.type) if typing.get_origin(option.type) is typing.Literal else ()
    return str(words[0]) if words else FOR_EXAMPLE.get(option.name, option.name)


def index() -> str:
    """Return the page that leads to those of the wings, naming every method."""
    methods = registry.methods()
    parts = [
        "# Methods",
        "",
        f"There are {len(methods)}. Each is run by its name: on the command line, as a stage of a recipe, from Python. "
        "`kilter show NAME` says what its page says.",
    ]
    for wing in dict.fromkeys(method.wing for method in methods):
        names = [method.id for method in methods if method.wing == wing]
        told = f"[{len(names)} methods](methods/{wing}.md) {ABOUT.get(wing, '')}".rstrip()
        listed = " · ".join(f"[`{name}`](methods/{wing}.md#{_anchor(name)})" for name in names)
        parts += ["", f"## {wing.capitalize()}", "", f"{told}.", "", listed]
    return "\n".join(parts)


def page(wing: str) -> str:
    """Return the page of a wing: a table of its methods, then each with its options and an example.

    Raises KilterError for a wing that there is not.
    """
    from kilter.recipe.options import told

    methods = registry.methods(wing)
    parts = [f"# {wing.capitalize()} methods", "", *_listed(methods)]
    pages = [(method, {row["name"]: row for row in told(method)}) for method in methods]
    shared = _shared([options for _, options in pages])
    title = f"Options that {wing} methods share"
    if shared:
        parts += ["", f"## {title}", "", *_options(shared.values())]
    for method, options in pages:
        text = method.documentation.partition("\nOptions:\n")[0].rstrip()
        parts += ["", f"## {method.id}", "", text, "", "```", example(method), "```", ""]
        lacks = [f"`{name}`" for name in shared if name not in options]
        common = len(lacks) < len(shared) / 2
        own = [row for name, row in options.items() if not (common and row == shared.get(name))]
        parts += _options(own) if own else []
        if common:
            but = f" but {', '.join(lacks)}" if lacks else ""
            parts += ["", f"Also [the options that {wing} methods share](#{_anchor(title)}){but}."]
    return "\n".join(parts)


def _shared(pages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the options that most methods of a wing have alike, from one dictionary of options by name a method."""
    counts: Counter[tuple[str, ...]] = Counter(tuple(map(str, row.values())) for page in pages for row in page.values())
    rows = {tuple(map(str, row.values())): row for page in pages for row in page.values()}
    return {rows[key]["name"]: rows[key] for key, count in counts.items() if count > max(4, len(pages) / 2)}


def _options(rows: Iterable[dict[str, Any]]) -> list[str]:
    lines = ["| option | type | default | what it does |", "|---|---|---|---|"]
    for row in rows:
        kind = row["type"].replace("|", "\\|")
        lines.append(f"| `{row['name']}` | {kind} | {row['default']} | {row['help']} |")
    return lines


def _listed(methods: Sequence[registry.Method]) -> list[str]:
    lines = ["| method | what it does | paper | survey |", "|---|---|---|---|"]
    for method in methods:
        paper = method.paper or ""
        if paper.startswith("arXiv:"):
            paper = f"[{paper}](https://arxiv.org/abs/{paper.removeprefix('arXiv:')})"
        cells = [f"[`{method.id}`](#{_anchor(method.id)})", method.summary, paper, method.survey or ""]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _anchor(heading: str) -> str:
    """The name that a heading has in the address of its page, on the site and in a repository's viewer."""
    return re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")
