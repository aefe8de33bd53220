"""Rows of any data set as requests and answers, by PromptSource's templates."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import jinja2
import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field

from kilter.errors import KilterError, nearest
from kilter.files import explaining
from kilter.formats.sources import tables
from kilter.records import Demonstration, Message, Origin, identify
from kilter.registry import method
from kilter.store import rejects

_BAR = "|||"
# Stands for the bar where it is in the data, which must not cut the text.
_BAR_IN_DATA = "\ue000\ue001\ue000"


@dataclass(frozen=True)
class Template:
    """One template: `jinja` renders to "request ||| answer", `answer_choices` to "a ||| b ||| c"."""

    id: str
    name: str
    jinja: str
    answer_choices: str | None = None
    reference: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


@method("promptsource", wing="data", paper="arXiv:2202.01279", survey="S2 §2.1", aliases=("p3",))
def promptsource(
    *,
    rows: str,
    templates: str,
    only: str = "",
    original: bool = False,
    per_row: Annotated[int, Field(gt=0)] | None = None,
    n: Annotated[int, Field(gt=0)] | None = None,
    seed: int = 0,
) -> Iterator[Demonstration]:
    """Turn the rows of a data set into requests and answers by Jinja templates (Bach et al. 2022).

    A template's text up to the first ||| is the request, each part after it an answer; the first is given, and
    meta["references"] has all. Its answer choices, a template of their own, are there as `answer_choices` and kept in
    meta["options"]. A row for which the request or the answer is empty is skipped by that template. Rendering depends
    on the row, the template and the seed alone, the filters `choice` and `random` included. meta has task (data set and
    subset), template, metrics and original_task; `mix` and `flan` take it from there.

    Options:
        rows: the data set: JSON, JSONL or Parquet, a folder, or a hub id
        templates: a file of templates in PromptSource's YAML
        only: names of the templates that are used, with commas between; without it all are
        original: use only templates of the data set's original task
        per_row: templates that are drawn for each row; without it each row is rendered by all
        n: most rows that are read
        seed: seed of the draws
    """
    task, known = read_templates(Path(templates))
    chosen = _chosen(known, only, original)
    count = 0
    for table in tables(rows):
        for line in table.lines():
            if line.row is None:
                _unread(table.name, line.number, line.reason, line.raw)
                continue
            if n is not None and count == n:
                return
            count += 1
            draw = random.Random(f"promptsource {seed} {identify(line.row)}")
            few = chosen if per_row is None or per_row >= len(chosen) else draw.sample(chosen, per_row)
            for template in few:
                found = _demonstration(line.row, template, task, seed)
                if found is not None:
                    yield found


def _unread(file: str, number: int, reason: str, raw: str) -> None:
    kept = rejects.current()
    if kept is not None:
        kept.unreadable({"file": file, "line": number, "reason": reason, "text": raw})


def _chosen(known: list[Template], only: str, original: bool) -> list[Template]:
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    names = [template.name for template in known]
    for name in wanted:
        if name not in names:
            hint = nearest(name, names) or f" There are {', '.join(names)}."
            raise KilterError(f"No template is called '{name}'.{hint}")
    found = [t for t in known if (not wanted or t.name in wanted) and (not original or t.metadata.get("original_task"))]
    if not found:
        raise KilterError("No template is left; say original=false, or name others.")
    return found


def _demonstration(row: dict[str, Any], template: Template, task: str, seed: int) -> Demonstration | None:
    choices = render_choices(template, row, seed)
    request, answers = render(template, row, seed)
    if not request or not answers or not answers[0]:
        return None
    meta: dict[str, Any] = {"task": task, "template": template.name, "references": answers}
    if choices:
        meta["options"] = choices
    for name in ("metrics", "original_task", "languages"):
        if template.metadata.get(name) not in (None, []):
            meta[name] = template.metadata[name]
    origin = Origin("promptsource", "arXiv:2202.01279", parents=(template.id,), seed=seed)
    return Demonstration([Message("user", request), Message("assistant", answers[0])], "", origin, meta)


def render(template: Template, row: dict[str, Any], seed: int = 0) -> tuple[str, list[str]]:
    """Return the request and the answers of a row; raise KilterError for a template that is none."""
    choices = render_choices(template, row, seed)
    whole = _rendered(template.jinja, template.name, row, choices, seed)
    request, *answers = (_unbarred(part).strip() for part in whole.split(_BAR))
    return request, answers


def render_choices(template: Template, row: dict[str, Any], seed: int = 0) -> list[str]:
    """Return the answers that a row's request lets one choose from; none where the template has none."""
    if not template.answer_choices:
        return []
    whole = _rendered(template.answer_choices, template.name, row, None, seed)
    return [_unbarred(part).strip() for part in whole.split(_BAR)]


def _rendered(source: str, name: str, row: dict[str, Any], choices: list[str] | None, seed: int) -> str:
    values = _barred(row)
    if choices is not None:
        values["answer_choices"] = [choice.replace(_BAR, _BAR_IN_DATA) for choice in choices]
    draw = random.Random(f"{seed} {name} {identify(row)}")
    try:
        return _compiled(source).render(**values, __draw=draw)
    except (
        jinja2.TemplateError,
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        ArithmeticError,
    ) as error:
        raise KilterError(f"The template '{name}' cannot render a row ({error}); mend it, or leave it out.") from None


@functools.lru_cache(maxsize=4096)
def _compiled(source: str) -> jinja2.Template:
    return _environment().from_string(source)


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    """What PromptSource's templates expect; of the random filters each draws from what the row gives."""
    environment = ImmutableSandboxedEnvironment()
    environment.globals["zip"] = zip

    @jinja2.pass_context
    def choice(context: jinja2.runtime.Context, items: Any) -> Any:
        return context["__draw"].choice(list(items))

    environment.filters["choice"] = environment.filters["random"] = choice
    return environment


def _barred(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(_BAR, _BAR_IN_DATA)
    if isinstance(value, dict):
        return {key: _barred(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_barred(inner) for inner in value]
    return value


def _unbarred(text: str) -> str:
    return text.replace(_BAR_IN_DATA, _BAR)


class _Loader(yaml.SafeLoader):
    """YAML in which PromptSource's own tags are plain mappings."""


def _mapping(loader: yaml.SafeLoader, node: yaml.Node) -> dict[str, Any]:
    assert isinstance(node, yaml.MappingNode)
    return {str(key): value for key, value in loader.construct_mapping(node, deep=True).items()}


for _tag in ("!Template", "!TemplateMetadata"):
    _Loader.add_constructor(_tag, _mapping)


def read_templates(path: Path) -> tuple[str, list[Template]]:
    """Return the name of the data set (with its subset) that a file of templates is for, and the templates."""
    with explaining(path, "read"):
        text = path.read_text(encoding="utf-8")
    try:
        value = yaml.load(text, _Loader)
        found = [_template(identity, given) for identity, given in value["templates"].items()]
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        first = str(error).splitlines()[0]
        raise KilterError(f"{path} is no file of PromptSource's templates ({first}); name a templates.yaml.") from None
    name = "/".join(str(value[part]) for part in ("dataset", "subset") if value.get(part))
    return name or path.stem, found


def _template(identity: str, given: dict[str, Any]) -> Template:
    return Template(
        str(given.get("id", identity)),
        str(given["name"]),
        str(given["jinja"]),
        given.get("answer_choices"),
        str(given.get("reference") or ""),
        dict(given.get("metadata") or {}),
    )
