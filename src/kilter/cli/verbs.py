"""How a verb is declared: its name, panel and examples, and what becomes of Ctrl-C in it."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import Any

EXAMPLES: dict[str, list[str]] = {}
"""Every example that a `--help` prints, by verb; a test runs those that are quick."""


class Interrupted(Exception):
    """Ctrl-C within a verb; the message says how to go on. (Typer would make of it an exit without a word.)"""


def verb_of(words: list[str]) -> str:
    """Return the verb that a command line calls, empty where it calls none."""
    return next((word for word in words if not word.startswith("-")), "")


def verb(
    app: Any, name: str, *, panel: str, examples: list[str], resumes: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Enter the decorated function as `kilter NAME`; its docstring is the help, `examples` are printed below it."""
    EXAMPLES[name] = examples

    def enter(function: Callable[..., None]) -> Callable[..., None]:
        app.command(name, rich_help_panel=panel, epilog=epilog(examples))(interruptible(function, resumes))
        return function

    return enter


def epilog(examples: list[str]) -> str:
    return "\n\n".join(["Example:" if len(examples) == 1 else "Examples:", *examples])


def interruptible(function: Callable[..., None], resumes: bool) -> Callable[..., None]:
    """Return `function` such that Ctrl-C says what to do next."""

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> None:
        try:
            function(*args, **options)
        except KeyboardInterrupt:
            go_on = "Stopped; give the same command again and it goes on from here, nothing finished is lost."
            raise Interrupted(go_on if resumes else "Stopped.") from None

    return wrapped


def emit(value: Any) -> None:
    """Print `value` as JSON, for a program to read."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n")


def progress(as_json: bool) -> Callable[[str], None]:
    """Return what prints a line of progress: on stdout, or on stderr where stdout is a program's."""

    def say(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    return say
