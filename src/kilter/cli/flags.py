"""A method's options as flags: `learning_rate: float = 1e-3` becomes `--learning-rate FLOAT`.

Every value arrives as text and is checked by the method's own schema, so that a wrong one gives the same sentence here,
in a recipe and from Python.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
import yaml


def command(
    fixed: list[inspect.Parameter], rows: list[dict[str, Any]], call: Callable[[dict[str, Any], dict[str, Any]], None]
) -> Callable[..., None]:
    """Return a function that typer makes a command of.

    `fixed` are the verb's own parameters, `rows` the options (`kilter.recipe.options.told`); `call` is given the values
    of the first and those of the second that were set.
    """
    own = {parameter.name for parameter in fixed}
    flags = [_parameter(row) for row in rows if row["name"] not in own]
    types = {row["name"]: row["type"] for row in rows}

    def run(**given: Any) -> None:
        options = {n: _value(v, types[n]) for n, v in given.items() if n not in own and v is not None}
        call({name: given[name] for name in own}, options)

    run.__signature__ = inspect.Signature([*fixed, *flags])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in [*fixed, *flags]} | {"return": None}
    return run


def fixed(
    name: str, kind: Any, help: str, *, default: Any = inspect.Parameter.empty, flag: str = "", metavar: str = ""
) -> Any:
    """Return one of the verb's own parameters, such as `--model`; without a default it is required."""
    option = typer.Option(flag or f"--{name}", help=help, metavar=metavar or None, show_default=False)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def _parameter(row: dict[str, Any]) -> inspect.Parameter:
    """The flag of one option. Its default is absence: the method's own default then holds."""
    name, flag = row["name"], "--" + row["name"].replace("_", "-")
    default = "required" if row["default"] == "required" else f"default: {_shown(row['default'])}"
    help_ = f"{row['help'].rstrip('.')} ({default})" if row["help"] else default
    help_ = help_[:1].upper() + help_[1:]
    if row["type"] == "bool":
        kind: Any = Annotated[bool | None, typer.Option(f"{flag}/--no-{flag[2:]}", help=help_, show_default=False)]
    else:
        metavar = row["type"].upper() if "|" not in row["type"] or " | " in row["type"] else row["type"]
        kind = Annotated[
            str | None, typer.Option(flag, help=help_, metavar=metavar.replace(" | ", "|"), show_default=False)
        ]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def _shown(value: Any) -> str:
    return "none" if value is None else "''" if value == "" else str(value)


def _value(given: Any, kind: str) -> Any:
    """Text stays text, except `none` where an option may be None, and where the option is a list or a mapping."""
    if not isinstance(given, str):
        return given
    if "None" in kind and given.lower() in ("none", "null"):
        return None
    if any(kind.startswith(container) for container in ("list", "dict", "tuple", "Any")):
        try:
            return yaml.safe_load(given)
        except yaml.YAMLError:
            return given
    return given
