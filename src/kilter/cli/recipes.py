"""Recipes and their reports: quickstart, run, report."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kilter.cli.verbs import emit, progress, verb
from kilter.errors import KilterError

PANEL = "Recipes"
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override an input, 'seed', or STAGE.OPTION; may be repeated."),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The run's folder (default: runs/NAME).")]
Seeds = Annotated[
    str | None, typer.Option("--seeds", metavar="0,1,2", help="Run once a seed, and report on them together.")
]
Open = Annotated[
    bool | None, typer.Option("--open/--no-open", help="Open the report in a browser (default: on a terminal).")
]
Json = Annotated[bool, typer.Option("--json", help="Print what a program may read; progress goes to stderr.")]


def enter(app: typer.Typer) -> None:
    @verb(
        app,
        "quickstart",
        panel=PANEL,
        examples=["kilter quickstart", "kilter quickstart --set seed=1 --no-open"],
        resumes=True,
    )
    def quickstart(
        overrides: Set = None, out: Out = None, seeds: Seeds = None, open_: Open = None, as_json: Json = False
    ) -> None:
        """Align the bundled model, evaluate it before and after, write and open the report."""
        _run("quickstart", overrides, out, seeds, open_, as_json)

    @verb(
        app,
        "run",
        panel=PANEL,
        examples=[
            "kilter run quickstart --set dpo.beta=0.2 --out runs/beta-0.2",
            "kilter run recipe.yaml --seeds 0,1,2",
            "kilter run --schema > recipe.schema.json",
        ],
        resumes=True,
    )
    def run(
        recipe: Annotated[
            str | None, typer.Argument(help="A YAML file, or a recipe that ships: quickstart, hh.")
        ] = None,
        overrides: Set = None,
        out: Out = None,
        seeds: Seeds = None,
        open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the report in a browser.")] = False,
        as_json: Json = False,
        schema: Annotated[
            bool, typer.Option("--schema", help="Print the JSON schema of recipes, for editors.")
        ] = False,
        check: Annotated[bool, typer.Option("--check", help="Only look whether the recipe would run.")] = False,
    ) -> None:
        """Run a recipe's stages in order; those that are finished are kept."""
        if schema:
            from kilter.recipe.schema import json_schema

            emit(json_schema())
            return
        if recipe is None:
            from kilter.recipe.resolve import shipped

            raise KilterError(f"No recipe was named; give a YAML file or one that ships: {', '.join(shipped())}.")
        if check:
            _check(recipe, overrides)
            return
        _run(recipe, overrides, out, seeds, open_, as_json)

    @verb(app, "report", panel=PANEL, examples=["kilter report runs/quickstart --open"])
    def report(
        folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or one of several seeds' runs.")],
        open_: Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser.")] = False,
        as_json: Json = False,
    ) -> None:
        """Build a run's report anew, from what its stages found."""
        from kilter.report import build, combine

        if not folder.exists():
            raise KilterError(f"{folder} does not exist; name a folder that `kilter run` made.")
        runs = sorted(path.parent for path in folder.glob("seed-*/run.json"))
        if not (folder / "run.json").exists() and not runs:
            raise KilterError(f"{folder} is not a run (it has no run.json); name a folder that `kilter run` made.")
        page = build(folder) if (folder / "run.json").exists() else combine(runs, folder)
        _show(page, open_, as_json)


def _overrides(given: list[str] | None) -> dict[str, Any]:
    from kilter.recipe.resolve import parse

    return dict(parse(text) for text in given or [])


def _check(recipe: str, given: list[str] | None) -> None:
    from kilter.recipe.plan import check_literals, plan
    from kilter.recipe.resolve import resolve

    steps = plan(resolve(recipe, _overrides(given)))
    check_literals(steps)
    print(f"The recipe is in order; its stages are {', '.join(step.name for step in steps)}.")


def _run(
    recipe: str, given: list[str] | None, out: Path | None, seeds: str | None, open_: bool | None, as_json: bool
) -> None:
    from kilter.recipe import run as runner

    overrides, say = _overrides(given), progress(as_json)
    command = shlex.join(["kilter", *sys.argv[1:]])
    if seeds is None:
        page = runner.run(recipe, set=overrides, out=out, say=say, command=command)
    else:
        page = runner.run_seeds(recipe, seed_numbers(seeds), set=overrides, out=out, say=say, command=command)
    _show(page, sys.stdout.isatty() and not as_json if open_ is None else open_, as_json)


def seed_numbers(text: str) -> list[int]:
    """Return what `--seeds 0,1,2` says."""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise KilterError(f"'--seeds {text}' is not a list of numbers; write for example --seeds 0,1,2.") from None


def _show(page: Path, open_: bool, as_json: bool) -> None:
    """Say what the report says, and open it where that is wanted."""
    found = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    if as_json:
        emit(
            {"run": str(page.parent), "report": str(page), "verdict": found.get("verdict"), "results": found["results"]}
        )
    else:
        print(f"\n{_verdict(found)}\nReport: {page}")
    if open_:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def _verdict(found: dict[str, Any]) -> str:
    verdict = found.get("verdict", "")
    return verdict if isinstance(verdict, str) else str(verdict.get("sentence", verdict))
