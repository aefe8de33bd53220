"""Options that several suites have: the fields of a dataclass, which a suite takes as one argument.

    @dataclass(frozen=True, kw_only=True)
    class Draws:
        n: Annotated[Count | None, Field(description="only the first so many problems")] = None
        samples: Annotated[Count, Field(description="programs of each problem")] = 1

    @method("ds1000", wing="evaluation")
    @spread(samples=40)
    async def ds1000(model: Model, *, data: str, draws: Draws, seconds: Amount = 120.0) -> Evaluation: ...

Its options are data, n, samples (40 here) and seconds, in this order, for whoever calls it and whoever looks it up; it
is given a Draws that is made of them.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable
from inspect import Parameter
from typing import Annotated, Any, TypeVar

from kilter.errors import KilterError, nearest

Result = TypeVar("Result")
PART = "\nOptions:\n"


def spread(**defaults: Any) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Let each keyword argument of a suite that is annotated with a dataclass stand for the fields of it, in its place.

    `defaults` are those of the suite where the dataclass has another or none. What a field is, its description says,
    or the suite's docstring where the suite calls it otherwise. An option that the suite has itself as well is not
    entered twice, and both are given its value. Raises KilterError, as the suite is defined, for a default of no field.
    """

    def enter(suite: Callable[..., Result]) -> Callable[..., Result]:
        own = inspect.signature(suite)
        hints = typing.get_type_hints(suite, include_extras=True)
        whole = {p.name: hints[p.name] for p in own.parameters.values() if _stands_for_fields(p, hints)}
        known = [field.name for kind in whole.values() for field in dataclasses.fields(kind)]
        for name in defaults:
            if name not in known:
                raise KilterError(f"There is no shared option '{name}' to give a default to.{nearest(name, known)}")
        options: list[Parameter] = []
        told: dict[str, str] = {}
        for p in own.parameters.values():
            if p.name not in whole:
                options.append(p.replace(annotation=hints.get(p.name, p.annotation)))
                continue
            for field, text in _fields(whole[p.name], defaults):
                if field.name not in own.parameters:
                    options.append(field)
                    told[field.name] = text
        needed = [p.name for p in options if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
        usual = {p.name: p.default for p in options if p.name in known and p.default is not p.empty}
        # What has no default goes first, as the command line shows it.
        order = sorted(options, key=lambda p: (p.kind, p.kind is p.KEYWORD_ONLY and p.default is not p.empty))
        signature = own.replace(parameters=order)

        @functools.wraps(suite)
        def called(*inputs: Any, **given: Any) -> Result:
            missing = [name for name in needed if name not in given]
            if missing:
                raise KilterError(f"The suite needs the option {missing[0]}; see `kilter show` for what it is.")
            signature.bind(*inputs, **given)  # a TypeError for what it does not know, as of any function
            values = usual | given
            made = {
                name: kind(**{f.name: values[f.name] for f in dataclasses.fields(kind) if f.name in values})
                for name, kind in whole.items()
            }
            return suite(*inputs, **made, **{name: value for name, value in given.items() if name in own.parameters})

        called.__signature__ = signature  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in order} | {"return": hints.get("return")}
        called.__doc__ = _documented(inspect.getdoc(suite) or "", [p.name for p in options], told)
        return called

    return enter


def _stands_for_fields(parameter: Parameter, hints: dict[str, Any]) -> bool:
    return parameter.kind is Parameter.KEYWORD_ONLY and dataclasses.is_dataclass(hints.get(parameter.name))


def _fields(kind: Any, defaults: dict[str, Any]) -> list[tuple[Parameter, str]]:
    """Return a dataclass' fields as parameters, with what each of them is."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = []
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        given = Parameter.empty if field.default is dataclasses.MISSING else field.default
        default = defaults.get(field.name, given)
        if default is None and given is Parameter.empty:
            hint = Annotated[hint.__origin__ | None, *hint.__metadata__]
        option = Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        found.append((option, str(hint.__metadata__[-1].description)))
    return found


def _documented(text: str, names: list[str], told: dict[str, str]) -> str:
    """Return a docstring whose part on options has a line for each of `names`: its own, else the one in `told`."""
    before, _, part = text.partition(PART)
    lines = {name: f"    {name}: {text}" for name, text in told.items()}
    for block in re.split(r"\n(?=    \S)", part):
        lines[block.strip().partition(":")[0]] = block
    return f"{before.rstrip()}\n{PART}" + "\n".join(lines[name] for name in names if name in lines)
