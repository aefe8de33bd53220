"""What the league runs: its start, its data, its budget, and one line a row (`assets/league.yaml`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kilter import registry
from kilter.errors import KilterError, nearest
from kilter.recipe import options as told
from kilter.recipe.resolve import parse, read_yaml
from kilter.registry import Count, Method, Share
from kilter.training.course import course_of
from kilter.training.objective import online_of, role_of

SHIPPED = Path(__file__).parents[1] / "assets" / "league.yaml"
START = "{start}"  # the fine-tuned model of the seed, in the name of a row's model
DATA = "{data}"  # the folder of what all learn from, in an option
STRICT = ConfigDict(extra="forbid")


class Start(BaseModel):
    """The model that every method starts from: two stages of a recipe, its demonstrations and its fine-tuning."""

    model_config = STRICT

    recipe: str = "quickstart"
    demonstrations: str = "demonstrations"
    sft: str = "sft"
    set: dict[str, Any] = Field(default_factory=dict)  # overrides of the recipe, as `kilter run --set`


class Data(BaseModel):
    """What every method learns from: prompts, and as many answers to each, judged by the world."""

    model_config = STRICT

    prompts: Count = 1000
    values_share: Share = 0.55
    answers: Count = 4
    max_tokens: Count = 48
    temperature: float = Field(default=1.0, gt=0)


class Measuring(BaseModel):
    """How every model is measured: held-out prompts of the world, and prompts whose answers tell the KL divergence."""

    model_config = STRICT

    n: Count = 500
    kl_prompts: Count = 120
    max_tokens: Count = 48


class Made(BaseModel):
    """Records that a row's method learns from, where the shared ones have to be turned into others first."""

    model_config = STRICT

    data: str  # a data method
    model: str | None = None  # whom it asks, where that is not the fine-tuned model
    reads: str = "groups"
    options: dict[str, Any] = Field(default_factory=dict)


class Judge(BaseModel):
    """A model that a row's method needs beside its data, trained from the same start on the same groups."""

    model_config = STRICT

    method: str
    options: dict[str, Any] = Field(default_factory=dict)


class Line(BaseModel):
    """One row. `method` is by default the row's own name; `note` is said below the table and changes nothing."""

    model_config = STRICT

    method: str | None = None
    model: str | None = None  # a row that trains nothing: a model's name, in which {start} is the fine-tuned model
    learns: str | None = None  # shared records that it learns from, where they are not those of its kind
    make: Made | None = None
    first: dict[str, Judge] = Field(default_factory=dict)  # options that name such models, which are trained first
    options: dict[str, Any] = Field(default_factory=dict)
    note: str = ""


class Settings(BaseModel):
    """All of a league."""

    model_config = STRICT

    start: Start = Field(default_factory=Start)
    data: Data = Field(default_factory=Data)
    measuring: Measuring = Field(default_factory=Measuring)
    shared: dict[str, Any] = Field(default_factory=dict)
    online: dict[str, Any] = Field(default_factory=dict)
    methods: dict[str, Line] = Field(min_length=1)

    @field_validator("methods", mode="before")
    @classmethod
    def _empty_lines(cls, lines: Any) -> Any:
        """A line that says nothing is a row with the shared settings."""
        return {row: line or {} for row, line in lines.items()} if isinstance(lines, dict) else lines


def read(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings in `path` (default: those that ship) with `overrides` such as {"data.prompts": 100}.

    Raises KilterError for what cannot be read, and for a key that there is not.
    """
    place = Path(path) if path else SHIPPED
    raw = read_yaml(place)
    for key, value in (overrides or {}).items():
        part = raw
        *path_, last = key.split(".") if not key.startswith("start.set.") else ["start", "set", key[10:]]
        for name in path_:
            part = part.setdefault(name, {})
            if not isinstance(part, dict):
                raise KilterError(f"'{key}' names nothing that a league's settings have; look into {place.name}.")
        part[last] = value
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        hint = nearest(str(first["loc"][-1]), Settings.model_fields) if first["type"] == "extra_forbidden" else ""
        raise KilterError(f"{place.name} is wrong at '{where}': {first['msg']}.{hint}") from None


def set_to(text: str) -> tuple[str, Any]:
    """Return what `--set KEY=VALUE` says."""
    return parse(text)


def trains_a_policy(method: Method) -> bool:
    """Whether a method of the training wing leaves a policy, which then has a row in the league."""
    writes = "policy" in method.inputs or course_of(method.function) is not None
    return role_of(method.function) == "policy" and writes


def unlisted(settings: Settings) -> list[str]:
    """Return the methods that train a policy and have no line."""
    listed = {line.method or row for row, line in settings.methods.items()}
    return [m.id for m in registry.methods("training") if trains_a_policy(m) and m.id not in listed]


def chosen(settings: Settings, names: list[str] | None) -> dict[str, Line]:
    """Return the lines of the rows called `names`, all where none is; raise KilterError for one that there is not."""
    if not names:
        return settings.methods
    for name in names:
        if name not in settings.methods:
            raise KilterError(
                f"The league has no row '{name}'.{nearest(name, settings.methods) or ' See league.yaml for its rows.'}"
            )
    return {name: settings.methods[name] for name in names}


def options_for(settings: Settings, row: str, line: Line, seed: int) -> dict[str, Any]:
    """Return the options of a row's method, complete: the shared ones that it takes, then those of its own line.

    Raises KilterError for one that it does not take.
    """
    method = registry.find(line.method or row, "training")
    known = set(told.names(method))
    given = {name: value for name, value in settings.shared.items() if name in known}
    if online_of(method.function) is not None:
        given |= {name: value for name, value in settings.online.items() if name in known}
    given |= line.options | {name: f"the model of {judge.method}" for name, judge in line.first.items()}
    if "seed" in known:
        given.setdefault("seed", seed)
    try:
        # Not whether this machine can do it: a row that cannot stands as failed in the table.
        return registry.validate(told.schema_of(method), given, f"method '{method.id}'")
    except KilterError as error:
        raise KilterError(f"Row '{row}' of the league: {error}") from error
