"""The command tree: the verbs that are always there, and those that the catalogue of methods makes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kilter.cli import ask, catalogue, doctor, generated, league, recipes, score
from kilter.cli.verbs import verb_of

GENERATED = ("data", "train", "eval", "pretrain")


def command(words: list[str]) -> Any:
    """Return the click command for this command line. The methods are looked up only if a verb of theirs is called."""
    called = verb_of(words)
    rest = words[words.index(called) + 1 :] if called else []
    app = typer.Typer(
        name="kilter",
        help="Takes a language model and a recipe, gives back a measurably better aligned model, with the evidence.",
        epilog="Start with:\n\nkilter quickstart\n\nkilter doctor",
        add_completion=False,
        # The panels of rich cut a method's long flags off at the width of a terminal.
        rich_markup_mode=None if called in GENERATED else "rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", help="Print the version and exit.", callback=_version)
        ] = False,
        debug: Annotated[
            bool, typer.Option("--debug", help="Show the traceback of an error (with any command).")
        ] = False,
    ) -> None:
        pass

    recipes.enter(app)
    league.enter(app)
    for name in GENERATED:
        generated.enter(app, name, rest if name == called else None)
    ask.enter(app)
    score.enter(app)
    catalogue.enter(app)
    doctor.enter(app)
    return typer.main.get_command(app)


def _version(wanted: bool) -> None:
    if wanted:
        import kilter

        print(f"kilter {kilter.__version__}")
        raise typer.Exit()
