"""Calls of functions as text: read as syntax trees, compared, and looked up in a list of interfaces."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kilter.data.table import cell, rows
from kilter.errors import KilterError
from kilter.formats.shape import Row

_FENCE = re.compile(r"```(?:\w+)?[ \t]*\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Interface:
    """One function: its name, what it does, its parameters in their order, and those that a call has to give."""

    name: str
    description: str
    parameters: tuple[str, ...]
    required: frozenset[str]
    about: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Call:
    """A call: the function's dotted name, its arguments by place, and by name."""

    name: str
    places: tuple[Any, ...] = ()
    names: Mapping[str, Any] = field(default_factory=dict, hash=False)


def parsed(text: str) -> Call | None:
    """Return the last call that stands in `text`, in a fence or on a line of its own; None where there is none.

    The text is read as Python's syntax and never run. A value that is no constant counts by how it is written.
    """
    for part in [*_FENCE.findall(text)[::-1], text]:
        for line in [part, *part.strip().splitlines()[::-1]]:
            try:
                tree = ast.parse(line.strip())
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
            calls = [
                s.value for s in tree.body if isinstance(s, ast.Expr | ast.Assign) and isinstance(s.value, ast.Call)
            ]
            if calls and not any(keyword.arg is None for keyword in calls[-1].keywords):
                return _call(calls[-1])
    return None


def fault(call: Call, known: Mapping[str, Interface]) -> tuple[str, str] | None:
    """Return the rule and the reason by which `call` is none of the `known` interfaces, None where it is one.

    A name that is not known is a hallucination. The order of named arguments counts for nothing.
    """
    interface = known.get(call.name)
    if interface is None:
        return "hallucination", f"There is no function '{call.name}'."
    if len(call.places) > len(interface.parameters):
        return (
            "arguments",
            f"'{call.name}' takes {len(interface.parameters)} arguments and is given {len(call.places)}.",
        )
    given = dict(zip(interface.parameters, call.places, strict=False))
    for name in call.names:
        if name not in interface.parameters:
            return "arguments", f"'{call.name}' has no argument '{name}'."
        if name in given:
            return "arguments", f"'{call.name}' is given '{name}' twice."
    missing = sorted(interface.required - set(given) - set(call.names))
    if missing:
        return "arguments", f"'{call.name}' needs the argument '{missing[0]}'."
    return None


def same(one: Call, other: Call, known: Mapping[str, Interface]) -> bool:
    """Whether two calls that are both of the `known` interfaces are the same, however their arguments are written."""
    if one.name != other.name or fault(one, known) or fault(other, known):
        return False
    return _bound(one, known[one.name]) == _bound(other, known[other.name])


def interfaces(source: str) -> dict[str, Interface]:
    """Return the interfaces of a file by name: rows of name, description and parameters.

    Parameters are JSON Schema (as in the chat format of tools, with or without its `function` around it), an object of
    name and description or {description, required}, or a list of names. Raises KilterError for any other.
    """
    found: dict[str, Interface] = {}
    for place, row in rows(source):
        inner = row.get("function")
        function: Row = inner if isinstance(inner, dict) else row
        name = cell(function, "name", "api", "api_name")
        if not name:
            raise KilterError(f"{place} is no function: it has no name; give rows of name, description, parameters.")
        if name in found:
            raise KilterError(f"{place} describes '{name}', which another row has described; keep one of them.")
        found[name] = _interface(name, function, place)
    return found


def _interface(name: str, row: Row, place: str) -> Interface:
    given = row.get("parameters", row.get("arguments")) or {}
    if isinstance(given, dict) and isinstance(given.get("properties"), dict):
        required = set(map(str, given.get("required") or ()))
        given = given["properties"]
    elif isinstance(given, dict):
        required = {n for n, p in given.items() if not isinstance(p, dict) or p.get("required", True)}
    elif isinstance(given, list) and all(isinstance(n, str) for n in given):
        required, given = set(given), dict.fromkeys(given, "")
    else:
        raise KilterError(f"{place}: the parameters of '{name}' are neither an object nor a list of names.")
    about = {n: cell(p, "description") if isinstance(p, dict) else str(p) for n, p in given.items()}
    return Interface(name, cell(row, "description", "desc"), tuple(given), frozenset(required), about)


def _call(node: ast.Call) -> Call:
    return Call(
        ast.unparse(node.func),
        tuple(_value(argument) for argument in node.args),
        {keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg},
    )


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ast.unparse(node)


def _bound(call: Call, interface: Interface) -> dict[str, Any]:
    return {**dict(zip(interface.parameters, call.places, strict=False)), **call.names}


def listing(functions: Sequence[Interface]) -> list[dict[str, Any]]:
    """Return interfaces as prompts and records have them: plain objects."""
    return [
        {"name": f.name, "description": f.description, "parameters": dict(f.about), "required": sorted(f.required)}
        for f in functions
    ]
