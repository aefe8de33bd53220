"""The league of methods: `kilter league`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from kilter.cli.recipes import seed_numbers
from kilter.cli.verbs import emit, progress, verb
from kilter.errors import KilterError

PANEL = "Recipes"


def enter(app: typer.Typer) -> None:
    @verb(
        app,
        "league",
        panel=PANEL,
        examples=[
            "kilter league --out runs/league",
            "kilter league dpo rloo --seeds 0 --set data.prompts=200 --out runs/two",
        ],
        resumes=True,
    )
    def league(
        rows: Annotated[
            list[str] | None, typer.Argument(metavar="[ROW]...", help="Some rows of the settings (default: all).")
        ] = None,
        out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The league's folder.")] = Path("runs/league"),
        seeds: Annotated[str, typer.Option("--seeds", metavar="0,1,2", help="Every row is run once a seed.")] = "0,1,2",
        settings: Annotated[
            Path | None, typer.Option("--settings", metavar="FILE", help="Settings in the place of league.yaml.")
        ] = None,
        overrides: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="Override a setting (data.prompts=200); may be repeated."),
        ] = None,
        workers: Annotated[
            int | None, typer.Option("--workers", min=1, metavar="N", help="Rows at a time (default: one a core).")
        ] = None,
        page: Annotated[
            Path | None, typer.Option("--page", metavar="FILE", help="Write the page here too, such as docs/league.md.")
        ] = None,
        keep: Annotated[bool, typer.Option("--keep-models", help="Keep the weights of every row.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the numbers; progress goes to stderr.")] = False,
    ) -> None:
        """Train every method from the same start on the same data, and compare them by the truth."""
        from kilter.league import page as pages
        from kilter.league.run import league as run
        from kilter.league.settings import read, set_to
        from kilter.league.table import results

        told = dict(set_to(text) for text in overrides or [])
        found = read(settings, told)
        done = run(
            out,
            rows=rows,
            seeds=seed_numbers(seeds),
            settings=settings,
            set=told,
            workers=workers,
            keep=keep,
            say=progress(as_json),
        )
        command = shlex.join(["kilter", *sys.argv[1:]])
        for place in [out / "league.md", *([page] if page else [])]:
            written = pages.write(done, found, place, command=command)
        if as_json:
            emit({"page": str(written), "rows": results(done, found.methods)})
        else:
            print(f"The table: {written}")
        if failed := [outcome for outcome in done if outcome.error]:
            first = failed[0]
            raise KilterError(
                f"{len(failed)} of {len(done)} runs failed and stand so in the table; the first, {first.row} on seed "
                f"{first.seed}, said: {first.error} The same command tries them again."
            )
