"""The catalogue: methods, show; and `convert`, which is about files alone."""

from __future__ import annotations

import inspect
import re
import typing
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from kilter.cli.verbs import emit, verb
from kilter.errors import KilterError

PANEL = "Catalogue and files"


def enter(app: typer.Typer) -> None:
    @verb(app, "methods", panel=PANEL, examples=["kilter methods", "kilter methods training --json"])
    def methods(
        wing: Annotated[str | None, typer.Argument(help="Only this wing: data, training, evaluation ...")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
        markdown: Annotated[bool, typer.Option("--markdown", help="Print the documentation's page.")] = False,
    ) -> None:
        """List the methods: what there is, in which wing, from which paper."""
        from kilter import registry

        rows = [_row(method) for method in registry.methods(wing)]
        if as_json:
            emit(rows)
        elif markdown:
            print(_page(registry.methods(wing)))
        else:
            _table(
                ["method", "wing", "paper", "what it does"],
                [[r["id"], r["wing"], r["paper"] or "", r["summary"]] for r in rows],
            )

    @verb(app, "show", panel=PANEL, examples=["kilter show dpo", "kilter show evaluation/world --json"])
    def show(
        method: Annotated[str, typer.Argument(help="A method's name, or WING/NAME.")],
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Show one method: its paper, formula, options and an example. A name that several wings have shows each."""
        from kilter import registry

        found = registry.find_all(method)
        if as_json:
            pages = [_told(one) for one in found]
            emit(pages[0] if len(pages) == 1 else pages)
            return
        for i, one in enumerate(found):
            if i:
                print(f"\n{'-' * 80}\n")
            _show(one)

    @verb(
        app,
        "convert",
        panel=PANEL,
        examples=["kilter convert d.jsonl d.parquet --to messages", "kilter convert --shapes"],
    )
    def convert(
        source: Annotated[
            str | None, typer.Argument(metavar="IN", help="A file, folder or hub id in any known shape.")
        ] = None,
        target: Annotated[
            Path | None, typer.Argument(metavar="OUT", help="The file to write: .jsonl, .json or .parquet.")
        ] = None,
        to: Annotated[str, typer.Option("--to", metavar="SHAPE", help="The shape to write.")] = "kilter",
        shapes: Annotated[bool, typer.Option("--shapes", help="List the shapes that are read and written.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Convert a file from one shape to another, saying what the target cannot hold."""
        if shapes:
            _shapes(as_json)
        elif source is None or target is None:
            raise KilterError("Give a file to read and one to write: kilter convert IN OUT --to SHAPE.")
        else:
            _convert(source, target, to, as_json)


def _told(method: Any) -> dict[str, Any]:
    """Return all that is to be said of a method."""
    from kilter.recipe.options import told

    options = [{**row, "default": _default(row["default"])} for row in told(method)]
    documentation = method.documentation.partition("\nOptions:\n")[0].rstrip()
    return {**_row(method), "documentation": documentation, "options": options, "example": example(method)}


def _show(method: Any) -> None:
    page = _told(method)
    print(f"{method.wing}/{method.id}" + (f"  (also {', '.join(method.aliases)})" if method.aliases else ""))
    for label in ("paper", "survey"):
        if page[label]:
            print(f"{label}: {page[label]}")
    print(f"\n{page['documentation']}\n")
    if page["options"]:
        rows = [[str(value) for value in row.values()] for row in page["options"]]
        _table(["option", "type", "default", "what it does"], rows)
    print(f"\nExample:\n  {page['example']}")


def _convert(source: str, target: Path, to: str, as_json: bool) -> None:
    from kilter import formats

    done = formats.convert(source, target, to)
    if as_json:
        emit({name: getattr(done, name) for name in ("shape_in", "shape_out", "records", "rejected", "lost", "notes")})
        return
    print(f"{done.records:,} records, {done.shape_in} -> {done.shape_out}: {target}")
    for note in [*done.notes, *(f"Not held: {what}." for what in done.lost)]:
        print(f"  {note}")


def _shapes(as_json: bool) -> None:
    from kilter import formats

    rows = [(s.name, "yes" if s.from_record else "no", s.description) for s in formats.SHAPES.values()]
    if as_json:
        emit([dict(zip(("shape", "written", "what"), row, strict=True)) for row in rows])
    else:
        _table(["shape", "written", "what it is"], [list(row) for row in rows])


def _row(method: Any) -> dict[str, Any]:
    return {
        "id": method.id,
        "wing": method.wing,
        "summary": method.summary,
        "paper": method.paper,
        "survey": method.survey,
        "aliases": list(method.aliases),
    }


def _default(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list) or value is None else str(value)


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


def _page(methods: list[Any]) -> str:
    """The documentation's page: the table, then each method with its options and an example."""
    from kilter.recipe.options import told

    parts = ["# Methods", "", _markdown([_row(method) for method in methods])]
    for wing in dict.fromkeys(method.wing for method in methods):
        pages = [(method, {row["name"]: row for row in told(method)}) for method in methods if method.wing == wing]
        shared = _shared([options for _, options in pages])
        if shared:
            parts += ["", f"## Options that {wing} methods share", "", *_options(shared.values())]
        for method, options in pages:
            text = method.documentation.partition("\nOptions:\n")[0].rstrip()
            parts += ["", f"## {wing}/{method.id}", "", text, "", "```", example(method), "```", ""]
            lacks = [f"`{name}`" for name in shared if name not in options]
            common = len(lacks) < len(shared) / 2
            own = [row for name, row in options.items() if not (common and row == shared.get(name))]
            parts += _options(own) if own else []
            if common:
                but = f" but {', '.join(lacks)}" if lacks else ""
                parts += ["", f"Also [the options that {wing} methods share](#options-that-{wing}-methods-share){but}."]
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


def _markdown(rows: list[dict[str, Any]]) -> str:
    def link(paper: str | None) -> str:
        if paper and paper.startswith("arXiv:"):
            return f"[{paper}](https://arxiv.org/abs/{paper.removeprefix('arXiv:')})"
        return paper or ""

    lines = ["| method | wing | what it does | paper | survey |", "|---|---|---|---|---|"]
    for row in rows:
        anchor = re.sub(r"[^a-z0-9_-]", "", row["wing"] + row["id"])
        cells = [f"[`{row['id']}`](#{anchor})", row["wing"], row["summary"], link(row["paper"]), row["survey"] or ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _table(head: list[str], rows: list[list[str]]) -> None:
    """Print rows under a head; the last column wraps on a terminal and is left whole in a pipe."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, name in enumerate(head):
        table.add_column(name, no_wrap=i == 0, overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console.print(table)
