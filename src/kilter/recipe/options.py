"""The options a stage may set: a method's own, and for training those of the loop that it runs in."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from kilter import registry
from kilter.formats.shape import KINDS, Want
from kilter.registry import Method


def schema_of(method: Method) -> type[BaseModel]:
    """Return the pydantic model of everything that `method` takes as an option, here and on the command line."""
    if method.wing == "training":
        from kilter.training.run import options_of

        return options_of(method)
    return method.schema


def names(method: Method) -> list[str]:
    return list(schema_of(method).model_fields)


def complete(method: Method, given: dict[str, Any], seed: int | None = None) -> dict[str, Any]:
    """Return `given` validated and completed; `seed` goes in where the method takes one and none was given.

    Raises KilterError for an option that is not there, one with an impossible value, and ones that exclude each other.
    """
    if seed is not None and "seed" not in given and "seed" in names(method):
        given = {**given, "seed": seed}
    found = registry.validate(schema_of(method), given, f"method '{method.id}'")
    if method.wing == "training" and "adapter" in found:
        from kilter.engine import adapters

        adapters.check(adapters.AdapterOptions(**{n: found[n] for n in adapters.AdapterOptions.model_fields}))
    return found


def required(method: Method) -> set[str]:
    """Return the inputs (model, records) without which a data or evaluation method cannot be called."""
    parameters = inspect.signature(method.function).parameters
    return {name for name in method.inputs if parameters[name].default is inspect.Parameter.empty}


def wanted(method: Method) -> Want | None:
    """Return the kind of records that the method reads, None where any will do."""
    if method.wing == "training":
        from kilter.training import run
        from kilter.training.objective import kind_of

        return run.wanted(kind_of(method.function))
    told = str(typing.get_type_hints(method.function).get("records", ""))
    kinds = [kind for kind, record in KINDS.items() if record.__name__ in told]
    return typing.cast(Want, kinds[0]) if len(kinds) == 1 else None


def streams(method: Method) -> bool:
    """Whether the method takes its records one after the other (`Iterable[...]`) rather than as a list."""
    annotation = typing.get_type_hints(method.function).get("records")
    return typing.get_origin(annotation) in (Iterable, Iterator)


def told(method: Method) -> list[dict[str, Any]]:
    """Return the options as rows (name, type, default, help) for `kilter show`, `--help` and the docs."""
    rows = []
    for name, field in schema_of(method).model_fields.items():
        own = method.options.get(name)
        rows.append(
            {
                "name": name,
                "type": _plain(field.annotation),
                "default": "required" if field.is_required() else field.get_default(call_default_factory=True),
                "help": (own.help if own else "") or field.description or "",
            }
        )
    return rows


def _plain(annotation: Any) -> str:
    """`float | None` for what Python calls `Optional[float]`; `a|b` for a choice of words."""
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return "|".join(str(word) for word in typing.get_args(annotation))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_plain(part) for part in typing.get_args(annotation))
    if annotation is type(None):
        return "None"
    if origin is typing.Annotated:
        return _plain(typing.get_args(annotation)[0])
    if origin in (list, dict, tuple):
        return f"{origin.__name__}[{', '.join(_plain(part) for part in typing.get_args(annotation))}]"
    if origin is not None:
        return str(annotation).replace("typing.", "")
    return getattr(annotation, "__name__", str(annotation))
