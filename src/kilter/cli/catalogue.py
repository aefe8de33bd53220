"""The catalogue: methods, show; and `convert`, which is about files alone."""

from __future__ import annotations

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
        markdown: Annotated[bool, typer.Option("--markdown", help="Print the wing's page, or the index.")] = False,
    ) -> None:
        """List the methods: what there is, in which wing, from which paper."""
        from kilter import registry
        from kilter.cli.pages import index, page

        rows = [_row(method) for method in registry.methods(wing)]
        if as_json:
            emit(rows)
        elif markdown:
            print(page(wing) if wing else index())
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
    from kilter.cli.pages import example
    from kilter.recipe.options import told

    options = [{**row, "default": _default(row["default"])} for row in told(method)]
    documentation = method.documentation.partition("\nOptions:\n")[0].rstrip()
    return {**_row(method), "documentation": documentation, "options": options, "example": example(method)}


def _show(method: Any) -> None:
    told = _told(method)
    print(f"{method.wing}/{method.id}" + (f"  (also {', '.join(method.aliases)})" if method.aliases else ""))
    for label in ("paper", "survey"):
        if told[label]:
            print(f"{label}: {told[label]}")
    print(f"\n{told['documentation']}\n")
    if told["options"]:
        rows = [[str(value) for value in row.values()] for row in told["options"]]
        _table(["option", "type", "default", "what it does"], rows)
    print(f"\nExample:\n  {told['example']}")


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
