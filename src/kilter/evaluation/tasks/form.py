"""The YAML form of a task, as the Language Model Evaluation Harness has it, with a few fields of our own.

Ours are `files` (where a split lies in a folder, by glob; {subject} stands for the subject), `header` (the columns of
a CSV file without any), `columns` (a Jinja expression for a column that some copy of the data set names otherwise),
`keep` (by split, a Jinja expression for the rows that belong to it), `subjects` (each a data set of its own under
`dataset_name`, with the words that the prompt has for it), `categories` (subjects by category), `macro` (categories,
and subjects in them, count the same, however many items they have) and `language`. Templates see `subject` and its
`words`. A field that nobody knows is refused.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kilter.errors import KilterError, nearest
from kilter.files import explaining

FOLDER = Path(__file__).parent
Row = dict[str, Any]
OUTPUTS = Literal["multiple_choice", "generate_until"]


class Shots(BaseModel):
    """`fewshot_config`: how shots are drawn, and where they stand in the file itself."""

    model_config = ConfigDict(extra="forbid")
    sampler: Literal["default", "first_n"] = "default"
    samples: list[Row] | dict[str, list[Row]] | None = None
    doc_to_text: str | None = None
    doc_to_target: str | None = None


class Metric(BaseModel):
    """One of `metric_list`."""

    model_config = ConfigDict(extra="forbid")
    metric: str
    aggregation: str = "mean"
    higher_is_better: bool = True
    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_numbers: bool = False
    regexes_to_ignore: list[str] = Field(default_factory=list)


class Filters(BaseModel):
    """One of `filter_list`: what is done, in turn, to what the model wrote."""

    model_config = ConfigDict(extra="forbid")
    name: str = "none"
    filter: list[dict[str, Any]]


class Generation(BaseModel):
    """`generation_kwargs`."""

    model_config = ConfigDict(extra="forbid")
    until: list[str] = Field(default_factory=lambda: ["\n\n"])
    max_gen_toks: int = 256
    do_sample: bool = False
    temperature: float = 0.0
    top_p: float = 1.0


class Task(BaseModel):
    """A task as its file has it."""

    model_config = ConfigDict(extra="forbid")
    task: str
    dataset_path: str | None = None
    dataset_name: str | None = None
    dataset_kwargs: dict[str, Any] = Field(default_factory=dict)
    training_split: str | None = None
    validation_split: str | None = None
    test_split: str | None = None
    fewshot_split: str | None = None
    fewshot_config: Shots = Field(default_factory=Shots)
    num_fewshot: int = 0
    description: str = ""
    output_type: OUTPUTS = "generate_until"
    doc_to_text: str
    doc_to_target: str | int
    doc_to_choice: str | list[str] | None = None
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    generation_kwargs: Generation = Field(default_factory=Generation)
    filter_list: list[Filters] = Field(default_factory=list)
    metric_list: list[Metric] = Field(default_factory=list)
    process_results: str | None = None
    repeats: int = 1
    unsafe_code: bool = False
    should_decontaminate: bool = False
    doc_to_decontamination_query: str | None = None
    task_alias: str | None = None
    tag: str | list[str] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    # Ours.
    files: dict[str, list[str]] = Field(default_factory=dict)
    header: list[str] | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    subjects: dict[str, str] | None = None
    categories: dict[str, list[str]] = Field(default_factory=dict)
    keep: dict[str, str] = Field(default_factory=dict)
    macro: bool = False
    language: str = "en"

    @property
    def asked(self) -> str:
        """The split that is asked: test, else validation."""
        return self.test_split or self.validation_split or self.training_split or "test"

    @property
    def shown(self) -> str:
        """The split that shots are drawn from."""
        return self.fewshot_split or self.training_split or self.validation_split or self.asked

    def category(self, subject: str) -> str:
        """Return the category of a subject; itself where it is in none."""
        return next((name for name, some in self.categories.items() if subject in some), subject)


def shipped(name: str) -> Task:
    """Return the task of this name that ships with Kilter; raise KilterError that offers the nearest."""
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = sorted(each.stem for each in FOLDER.glob("*.yaml") if not each.stem.startswith("_"))
        raise KilterError(f"Kilter ships no task '{name}'.{nearest(name, known) or ' It has: ' + ', '.join(known)}")
    return read(path)


def read(path: Path) -> Task:
    """Return the task in a YAML file; what it includes stands below what it says itself.

    Raises KilterError for what is no YAML, for an unknown field, with the nearest known one, and for Python code.
    """
    values = _values(path, ())
    try:
        return Task.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = list(Task.model_fields) if len(first["loc"]) == 1 else []
            hint = nearest(where, known) or ""
            raise KilterError(f"The task {path} has the unknown field '{where}'.{hint}") from None
        if first["type"] == "missing":
            raise KilterError(f"The task {path} lacks the field '{where}'; add it.") from None
        raise KilterError(f"The field '{where}' of the task {path} is wrong: {first['msg']}.") from None


def _values(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path in above:
        raise KilterError(f"The task {path} includes itself; take the include out.")
    with explaining(path, "read"):
        text = path.read_text(encoding="utf-8")
    try:
        found = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise KilterError(f"The task {path} cannot be read{where}: {problem}.") from None
    if not isinstance(found, dict):
        raise KilterError(f"The task {path} holds no fields; see `kilter show lm-eval` for one that does.")
    below = found.pop("include", [])
    whole: dict[str, Any] = {}
    for name in [below] if isinstance(below, str) else below:
        whole |= _values(path.parent / name, (*above, path))
    return whole | found


class _Loader(yaml.SafeLoader):
    """Safe, and with a sentence for the harness' `!function`."""


def _function(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    raise yaml.MarkedYAMLError(
        problem=f"it runs Python code ({node.value}), which only `kilter eval lm-eval --task NAME` does",
        problem_mark=node.start_mark,
    )


_Loader.add_constructor("!function", _function)


def _replace(text: str, pattern: str, by: str, count: int = 0) -> str:
    return re.sub(pattern, by, text, count=count)


ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)


def _options(text: str) -> list[str]:
    """The choices that a question of BIG-Bench Hard lists, as its answers name them: (A), (B) …, or Yes, No …"""
    listed = text.partition("Options:")[2]
    return re.findall(r"^\s*(\([A-Z]\))", listed, re.MULTILINE) or re.findall(r"^- (.+?)\s*$", listed, re.MULTILINE)


def _swapped(text: str) -> bool:
    """Whether the two scenes of an item of ETHICS' utilitarianism change places, which its first scene decides."""
    order = [0, 1]
    random.Random(text).shuffle(order)
    return order[0] == 1


ENVIRONMENT.filters |= {
    "regex_replace": _replace,
    "options": _options,
    "swapped": _swapped,
    "parts": lambda text: [part.strip() for part in str(text or "").split(";") if part.strip()],
    "places": lambda labels: [at for at, label in enumerate(labels) if label],
}


@cache
def _template(text: str) -> Any:
    try:
        return ENVIRONMENT.from_string(text)
    except TemplateError as error:
        raise KilterError(f"The template {text[:60]!r} of a task cannot be read: {error}.") from None


@cache
def _expression(text: str) -> Any:
    try:
        return ENVIRONMENT.compile_expression(text, undefined_to_none=False)
    except TemplateError as error:
        raise KilterError(f"The expression {text[:60]!r} of a task cannot be read: {error}.") from None


def render(text: str, row: Mapping[str, Any]) -> Any:
    """Return what a field of a task is for a row: the column of that name as it is, else the template filled in.

    Raises jinja2's UndefinedError where the row lacks what the template wants.
    """
    return row[text] if text in row else _template(text).render(**row)


def evaluate(expression: str, row: Mapping[str, Any]) -> Any:
    """Return the value of a Jinja expression for a row, as whatever it is; `this` is the row itself."""
    return _expression(expression)(**row, this=row)


def listed(value: Any) -> Sequence[str]:
    """Return choices: a list as it is, text that is one as the list that it writes."""
    if isinstance(value, str):
        value = yaml.safe_load(value)
    return [str(each) for each in value]
