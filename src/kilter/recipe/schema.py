"""What a recipe may say: its pydantic schema, and the JSON schema that editors complete and check it with.

A recipe is YAML: a name, inputs, and stages that run in the order in which they are written. Each stage names one
method (`data:`, `train:` or `eval:`) and what it reads: the name of an earlier stage, `${an input}`, or a model or file
by its own name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from kilter import registry
from kilter.errors import KilterError, nearest
from kilter.recipe.options import schema_of
from kilter.report.settings import Settings

Kind = Literal["data", "train", "eval"]
WING: dict[Kind, str] = {"data": "data", "train": "training", "eval": "evaluation"}
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Scalar = str | int | float | bool | None


class Stage(BaseModel):
    """One step of a recipe: a method, what it reads, its options."""

    model_config = ConfigDict(extra="forbid")

    data: str | None = Field(None, description="A method that makes or manages records.")
    train: str | None = Field(None, description="A method that trains `model` on `records`.")
    eval: str | None = Field(None, description="A method that measures each of `models`.")
    model: str | None = Field(None, description="An earlier train stage, ${input}, folder, hub id or server URL.")
    models: dict[Name, str] | None = Field(None, description="Of an eval stage: a label and a model each, base first.")
    records: str | None = Field(None, description="An earlier data stage, ${input}, file, folder or hub id.")
    feedback: str | dict[str, float] | None = Field(
        None,
        description="What rewards samples: world, a rule, a reward model or an earlier stage; or weights of several.",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="The method's options; see `kilter show METHOD`.")

    @property
    def kind(self) -> Kind:
        return "data" if self.data else "train" if self.train else "eval"

    @property
    def method(self) -> str:
        return self.data or self.train or self.eval or ""

    @model_validator(mode="after")
    def _one_method(self) -> Stage:
        if sum(bool(name) for name in (self.data, self.train, self.eval)) != 1:
            raise ValueError("a stage names one method, with 'data:', 'train:' or 'eval:'")
        if self.models is not None and (self.kind != "eval" or self.model is not None):
            raise ValueError("'models:' belongs to an eval stage, in the place of 'model:'")
        return self


class Recipe(BaseModel):
    """A whole recipe, as its file says it."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(description="Names the run's folder.")
    description: str = Field("", description="One line on what it is for.")
    seed: int = Field(0, ge=0, description="Goes to every method that takes a seed.")
    inputs: dict[Name, Scalar] = Field(
        default_factory=dict, description="What `--set NAME=VALUE` fills and `${NAME}` reads; null must be filled."
    )
    stages: dict[Name, Stage] = Field(min_length=1, description="They run in this order.")
    report: Settings = Field(
        default_factory=lambda: Settings.model_validate({}), description="What the report compares and promises."
    )


@contextmanager
def within(stage: str) -> Iterator[None]:
    """Have a KilterError of the block say in which stage it arose."""
    try:
        yield
    except KilterError as error:
        raise KilterError(f"Stage '{stage}': {error}") from error


def check(raw: Any, where: str) -> Recipe:
    """Return `raw` as a Recipe; KilterError says in one sentence which key is wrong, and offers the nearest one."""
    if not isinstance(raw, dict):
        raise KilterError(
            f"{where} is not a recipe; write it as 'name:', 'inputs:' and 'stages:' (`kilter run --schema`)."
        )
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise KilterError(_sentence(error, where)) from None


def _sentence(error: ValidationError, where: str) -> str:
    """The first thing that is wrong, without pydantic's vocabulary."""
    # An unknown key is the likeliest slip and explains the others ('trian:' also leaves the stage without a method).
    found = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
    path = [str(part) for part in found["loc"] if part != "[key]"]
    place = ".".join(path)
    if found["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        hint = nearest(path[-1], known) or f" Known are: {', '.join(known)}."
        return f"{where} has an unknown key '{place}'.{hint}"
    if found["type"] == "missing":
        return f"{where} lacks '{place}'; add it."
    if found["type"] == "string_pattern_mismatch":
        return f"{where} has the name {found['input']!r} at '{place}'; use letters, digits, '-' and '_' alone."
    text = found["msg"].removeprefix("Value error, ")
    return f"{where} is wrong at '{place}': {text}."


def _known_keys(path: list[str]) -> list[str]:
    """The keys that may stand at `path`, as far as they are fixed."""
    if not path:
        return list(Recipe.model_fields)
    if path[0] == "stages":
        return list(Stage.model_fields)
    if path == ["report"]:
        return list(Settings.model_fields)
    return []


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe, for editors; every method's own options are in it."""
    schema = Recipe.model_json_schema()
    schema["title"] = "Kilter recipe"
    stage = schema["$defs"]["Stage"]
    rules = []
    for kind, wing in WING.items():
        known = registry.methods(wing)
        stage["properties"][kind] = {
            "enum": [m.id for m in known],
            "description": stage["properties"][kind]["description"],
        }
        for m in known:
            rules.append(
                {
                    "if": {"properties": {kind: {"const": m.id}}, "required": [kind]},
                    "then": {"properties": {"options": _options(m)}},
                }
            )
    stage["allOf"] = rules
    stage["oneOf"] = [{"required": [kind]} for kind in WING]
    return schema


def _options(method: registry.Method) -> dict[str, Any]:
    schema = schema_of(method).model_json_schema()
    # It may stand beside the options.
    schema["required"] = [name for name in schema.get("required", []) if name != "feedback"]
    for option in schema.get("properties", {}).values():
        # An option may also be written `${input}`.
        told = {key: option.pop(key) for key in ("title", "description", "default") if key in option}
        option["anyOf"] = [dict(option), {"type": "string", "pattern": r"^\$\{"}]
        for key in list(option):
            if key != "anyOf":
                del option[key]
        option.update(told)
    return schema
