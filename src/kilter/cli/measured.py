"""What `kilter eval` does without a suite: it compares two result files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kilter.cli.verbs import emit
from kilter.errors import KilterError

COMPARE = "--compare"
WITHOUT_A_SUITE = (COMPARE,)
EXAMPLES = ["kilter eval --compare base.json sft.json"]


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
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        if context.invoked_subcommand is not None:
            return
        if compare is not None:
            _compare(compare, dimension, as_json)
        elif dimension is not None or as_json:
            raise KilterError("Say what to do: `kilter eval SUITE ...`, or `kilter eval --compare A B`.")
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
