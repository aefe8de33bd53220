"""The catalogue: a method is a function, and its decorator is its row.

Keyword-only arguments with defaults are the options, the docstring is the documentation. The command line, the recipe
schema, `kilter methods` and the docs are all generated from here. Wings and outside packages register through the entry
point group `kilter.methods`: each entry names a module whose import registers its methods.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from kilter.errors import KilterError, nearest

# Types of options, for methods to name: a value out of range is refused in a sentence before anything runs.
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]

WINGS = ("data", "training", "evaluation", "oversight", "inner", "interpret", "attacks")


@dataclass(frozen=True, slots=True)
class Option:
    """One keyword argument of a method. `type` is its annotation, `help` its line in the docstring's Options part."""

    name: str
    type: Any
    default: Any
    help: str


@dataclass(frozen=True)
class Method:
    """One row of the catalogue; calling it calls the function."""

    id: str
    wing: str
    function: Callable[..., Any]
    paper: str | None
    survey: str | None
    aliases: tuple[str, ...]

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.function(*args, **options)

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return self.documentation.split("\n", 1)[0]

    @property
    def documentation(self) -> str:
        """The docstring, without its indentation."""
        return inspect.getdoc(self.function) or ""

    @functools.cached_property
    def options(self) -> dict[str, Option]:
        """The keyword-only arguments by name, in their order."""
        hints = typing.get_type_hints(self.function, include_extras=True)
        told = described(self.documentation)
        return {
            name: Option(name, hints.get(name, Any), p.default, told.get(name, ""))
            for name, p in inspect.signature(self.function).parameters.items()
            if p.kind is p.KEYWORD_ONLY
        }

    @functools.cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the positional arguments, which the driver of the wing supplies (policy, reference, model ...)."""
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return tuple(n for n, p in inspect.signature(self.function).parameters.items() if p.kind in kinds)

    @functools.cached_property
    def schema(self) -> type[BaseModel]:
        """A pydantic model of the options that refuses unknown keys."""
        fields: dict[str, Any] = {
            o.name: (o.type, ... if o.default is inspect.Parameter.empty else o.default) for o in self.options.values()
        }
        return create_model(f"{self.id}_options", __config__=STRICT, **fields)

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return `options` validated and completed with defaults; raise KilterError naming the nearest known option."""
        return validate(self.schema, options, f"method '{self.id}'")


# Nobody means an option that is infinite or no number.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def validate(schema: type[BaseModel], values: dict[str, Any], where: str) -> dict[str, Any]:
    """Return `values` as `schema` completes them, or raise KilterError: one sentence, with the nearest known key."""
    try:
        filled = schema.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = list(schema.model_fields)
            hint = nearest(key, known) or f" Known are: {', '.join(known) or 'none'}."
            raise KilterError(f"Unknown option '{key}' for {where}.{hint}") from None
        if first["type"] == "missing":
            raise KilterError(f"Option '{key}' of {where} is required; give it a value.") from None
        raise KilterError(f"Option '{key}' of {where} is {first['input']!r}: {first['msg']}.") from None
    return {name: getattr(filled, name) for name in schema.model_fields}


_registered: dict[tuple[str, str], Method] = {}


def method(
    id: str, *, wing: str, paper: str | None = None, survey: str | None = None, aliases: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter the decorated function in the catalogue as `id` of `wing`; the function itself is returned unchanged."""
    if wing not in WINGS:
        raise KilterError(f"Unknown wing '{wing}' for method '{id}'.{nearest(wing, WINGS)}")

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        known = _registered.get((wing, id))
        same = known and (known.function.__module__, known.function.__qualname__) == (
            function.__module__,
            function.__qualname__,
        )
        if known and not same:
            raise KilterError(f"Two methods call themselves '{id}' in {wing}; rename the one in {function.__module__}.")
        _registered[wing, id] = Method(id, wing, function, paper, survey, aliases)
        return function

    return enter


@functools.cache
def _load() -> None:
    for entry in entry_points(group="kilter.methods"):
        entry.load()


def methods(wing: str | None = None) -> list[Method]:
    """Return the catalogue, or one wing of it, by wing and then id."""
    if wing is not None and wing not in WINGS:
        raise KilterError(f"Unknown wing '{wing}'.{nearest(wing, WINGS) or ' Wings: ' + ', '.join(WINGS) + '.'}")
    _load()
    found = [m for m in _registered.values() if wing in (None, m.wing)]
    return sorted(found, key=lambda m: (WINGS.index(m.wing), m.id))


def find(name: str, wing: str | None = None) -> Method:
    """Return the method called `name` (id, alias or `wing/id`); raise KilterError that offers the nearest.

    An id may be taken in several wings: one says which, by `wing` or in the name.
    """
    hits = find_all(name, wing)
    if len(hits) > 1:
        raise KilterError(f"'{name}' is in several wings; say {' or '.join(f'{m.wing}/{m.id}' for m in hits)}.")
    return hits[0]


def find_all(name: str, wing: str | None = None) -> list[Method]:
    """Return every method called `name`, by wing; there is at least one, or KilterError is raised.

    Methods of that id come before, and hide, those that have it as an alias.
    """
    if "/" in name and wing is None:
        wing, name = name.split("/", 1)
    known = methods(wing)
    hits = [m for m in known if name == m.id] or [m for m in known if name in m.aliases]
    if hits:
        return hits
    hint = nearest(name, [n for m in known for n in (m.id, *m.aliases)]) or " See `kilter methods`."
    raise KilterError(f"Unknown {wing + ' ' if wing else ''}method '{name}'.{hint}")


def described(documentation: str) -> dict[str, str]:
    """Return what a docstring says of options: `name: text` lines of its `Options:` part, by name.

    A deeper-indented line continues the one above.
    """
    _, _, part = documentation.partition("\nOptions:\n")
    told: dict[str, str] = {}
    name = ""
    for line in part.splitlines():
        if not line.startswith("    "):
            if line.strip():
                break
            continue
        head, colon, text = line.strip().partition(": ")
        if line.startswith("        ") and name:
            told[name] += " " + line.strip()
        elif colon:
            name = head
            told[name] = text
    return told
