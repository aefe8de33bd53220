"""From a recipe's file and `--set` to the recipe that runs: found, overridden, its `${inputs}` filled in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kilter import registry
from kilter.errors import KilterError, nearest
from kilter.recipe import options
from kilter.recipe.schema import WING, Recipe, Stage, check, within
from kilter.report.numbers import several

SHIPPED = Path(__file__).parents[1] / "assets" / "recipes"
_INPUT = re.compile(r"\$\{([^}]*)\}")


def shipped() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def resolve(recipe: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe (a path, the name of one that ships, or its content), overridden and with its inputs filled in.

    The keys of `overrides` are an input, `seed`, `STAGE.OPTION`, `STAGE.model` and the like, or a whole path such as
    `stages.dpo.options.beta`. Raises KilterError, with the nearest known key, for whatever the recipe does not have.
    """
    if isinstance(recipe, Mapping):
        raw, where, home = dict(recipe), "The recipe", Path()
    else:
        path = _find(recipe)
        raw, where, home = read_yaml(path), f"Recipe {path.name}", path.parent
    plain = check(raw, where).model_dump(exclude_unset=True)
    for key, value in (overrides or {}).items():
        _override(plain, key, value)
    inputs = plain.get("inputs", {})
    empty = [name for name, value in inputs.items() if value is None]
    if empty:
        how = " ".join(f"--set {name}=VALUE" for name in empty)
        raise KilterError(f"Recipe '{plain['name']}' needs {several(empty)}; add {how} to the command.")
    for stage in plain["stages"].values():
        for key, value in stage.items():
            stage[key] = _fill(value, inputs)
        _as_text(stage)
        _beside(stage, home, plain["stages"])
    return check(plain, where)


def _find(recipe: str | Path) -> Path:
    """The file meant by a path or by the name of a shipped recipe."""
    path = Path(recipe)
    if path.is_file():
        return path
    if path.is_dir():
        raise KilterError(f"{path} is a folder where a recipe's file is due; name the YAML file in it.")
    if (SHIPPED / f"{recipe}.yaml").is_file():
        return SHIPPED / f"{recipe}.yaml"
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise KilterError(
            f"The recipe {path} does not exist; check the path, or name one that ships: {', '.join(shipped())}."
        )
    hint = nearest(str(recipe), shipped()) or f" Those that ship are: {', '.join(shipped())}."
    raise KilterError(f"No recipe is called '{recipe}', and no file either.{hint}")


def read_yaml(path: Path) -> Any:
    """Return what the YAML file holds; KilterError names the line on which it is not YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise KilterError(f"{path} is not YAML at line {line}: {error.problem}; mend that line.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise KilterError(f"{path} is not a YAML text ({type(error).__name__}); save it as UTF-8 YAML.") from None
    except OSError as error:
        raise KilterError(f"{path} cannot be read ({error.strerror}); check its permissions.") from None


def parse(assignment: str) -> tuple[str, Any]:
    """Split `key=value` of the command line; the value is read as YAML where that gives a plain value, else as text."""
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise KilterError(f"'--set {assignment}' has no '='; write it as --set key=value.")
    try:
        value = yaml.safe_load(text) if text else ""
    except yaml.YAMLError:
        value = text
    # "a: b" and dates are YAML too, but whoever types them means text.
    return key, value if isinstance(value, str | int | float | bool | list) or value is None else text


def _override(plain: dict[str, Any], key: str, value: Any) -> None:
    """Put `value` where `key` says, in place."""
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    stages, inputs = plain["stages"], plain.get("inputs", {})
    head, _, rest = key.partition(".")
    if key in inputs:
        inputs[key] = value
    elif key in ("seed", "description", "name"):
        plain[key] = value
    elif head == "inputs" and rest in inputs:
        inputs[rest] = value
    elif head == "report":
        _put(plain, key.split("."), value)
    elif head in stages and rest:
        _put(stages[head], _in_stage(stages[head], rest), value)
    elif head == "stages" and rest.partition(".")[0] in stages and "." in rest:
        name, _, inner = rest.partition(".")
        _put(stages[name], _in_stage(stages[name], inner), value)
    else:
        raise KilterError(f"'--set {key}': the recipe has no such key.{_offer(key, plain)}")


def _in_stage(stage: dict[str, Any], key: str) -> list[str]:
    """The path within a stage that `key` means: one of its fields, else an option of its method."""
    parts = key.split(".")
    if parts[0] in Stage.model_fields:
        return parts
    return ["options", *parts]


def _put(mapping: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        inner = mapping.get(part)
        mapping[part] = dict(inner) if isinstance(inner, dict) else {}
        mapping = mapping[part]
    mapping[path[-1]] = value


def _offer(key: str, plain: dict[str, Any]) -> str:
    """The nearest of everything that `--set` could name in this recipe."""
    known = [*plain.get("inputs", {}), "seed"]
    for name, stage in plain["stages"].items():
        known += [f"{name}.{field}" for field in stage if field != "options"]
        kind = next(kind for kind in WING if stage.get(kind))
        with within(name):
            method = registry.find(stage[kind], WING[kind])
        known += [f"{name}.{option}" for option in options.names(method)]
    return (
        nearest(key, known)
        or f" It has the inputs {', '.join(plain.get('inputs', {})) or '(none)'} and 'seed', and STAGE.OPTION."
    )


def _fill(value: Any, inputs: dict[str, Any]) -> Any:
    """Replace `${name}` by the input: a whole string becomes the input's own value, a part becomes its text."""
    if isinstance(value, dict):
        return {key: _fill(inner, inputs) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, inputs) for inner in value]
    if not isinstance(value, str):
        return value
    for name in _INPUT.findall(value):
        if name not in inputs:
            hint = nearest(name, inputs) or f" Its inputs are: {', '.join(inputs) or 'none'}."
            raise KilterError(f"The recipe reads '${{{name}}}', which is not one of its inputs.{hint}")
    whole = _INPUT.fullmatch(value)
    return inputs[whole[1]] if whole else _INPUT.sub(lambda found: str(inputs[found[1]]), value)


def _as_text(stage: dict[str, Any]) -> None:
    """A folder called 2024 is a name, whatever YAML makes of it."""
    for key in ("model", "records"):
        if isinstance(stage.get(key), int | float):
            stage[key] = str(stage[key])
    if isinstance(stage.get("models"), dict):
        stage["models"] = {label: str(name) for label, name in stage["models"].items()}


def _beside(stage: dict[str, Any], home: Path, stages: Mapping[str, Any]) -> None:
    """Find files that are named relative to the recipe's own folder, where the working directory has none such."""

    def found(name: Any) -> Any:
        if not isinstance(name, str) or name in stages or Path(name).exists() or not (home / name).exists():
            return name
        return str(home / name)

    for key in ("model", "records", "feedback"):
        if key in stage:
            stage[key] = found(stage[key])
    if isinstance(stage.get("models"), dict):
        stage["models"] = {label: found(name) for label, name in stage["models"].items()}
