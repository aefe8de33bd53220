"""What `kilter eval` does without a suite: it compares two result files, or computes published numbers again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kilter.cli.verbs import emit
from kilter.errors import KilterError

COMPARE, PUBLISHED = "--compare", "--published"
WITHOUT_A_SUITE = (COMPARE, PUBLISHED)
EXAMPLES = ["kilter eval --compare base.json sft.json", "kilter eval --published --data DIR"]


def enter(group: typer.Typer) -> None:
    """Make the options of `kilter eval` itself those of what is done without a suite."""

    @group.callback(invoke_without_command=True)
    def without_a_suite(
        context: typer.Context,
        compare: Annotated[
            tuple[Path, Path] | None,
            typer.Option(COMPARE, metavar="A B", help="Compare two result files on the items that both have."),
        ] = None,
        dimension: Annotated[
            str | None, typer.Option("--dimension", help="Compare in this dimension only.", metavar="NAME")
        ] = None,
        published: Annotated[
            bool, typer.Option(PUBLISHED, help="Compute published numbers again from their raw material.")
        ] = False,
        data: Annotated[
            Path | None, typer.Option("--data", metavar="DIR", help="The folder of that material.", show_default=False)
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        if context.invoked_subcommand is not None:
            return
        if compare is not None:
            _compare(compare, dimension, as_json)
        elif published:
            _published(data, as_json)
        elif dimension is not None or data is not None or as_json:
            raise KilterError("Say what to do: `kilter eval SUITE ...`, `kilter eval --compare A B` or --published.")
        else:
            print(context.get_help())


def _compare(paths: tuple[Path, Path], dimension: str | None, as_json: bool) -> None:
    from kilter.evaluation import result
    from kilter.report.versus import names_of, versus

    first, second = (result.read(path) for path in paths)
    found = versus(first, second, names_of(first, second, paths), dimension)
    if as_json:
        emit([one.to_json() for one in found])
        return
    for one in found:
        print(one.sentence)


def _published(data: Path | None, as_json: bool) -> None:
    from kilter.evaluation.published import recomputed
    from kilter.notes import tell

    if data is None:
        raise KilterError("Say where the published material is: kilter eval --published --data DIR.")
    figures, notes = recomputed(data)
    tell(notes)
    if as_json:
        emit({"rows": [figure.to_json() for figure in figures], "notes": notes})
        return
    width = max((len(figure.name) for figure in figures), default=0)
    print(f"{'figure':<{width}}  {'published':>12}  {'ours':>12}  {'difference':>10}")
    for f in figures:
        mark = "" if f.agrees else "  differs"
        print(f"{f.name:<{width}}  {f.published:>12.6g}  {f.ours:>12.6g}  {f.ours - f.published:>10.2g}{mark}")
    print(f"{sum(f.agrees for f in figures):,} of {len(figures):,} figures are as published.")
