"""The documents of a task: rows of a local folder or file, or of the hub, with their columns under one name."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from kilter import hub
from kilter.errors import KilterError, first_line, nearest
from kilter.evaluation.rows import SEPARATORS, LeftOut, stream
from kilter.evaluation.tasks.form import Row, Task, evaluate

ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".json.gz")
# Where a split of a subject lies, in the layouts that these data sets are handed around in.
USUAL = (
    "{subject}_{split}",
    "{split}/{subject}_{split}",
    "{split}/{subject}",
    "{subject}/{split}",
    "{subject}/{split}-*",
)
USUAL_ALONE = ("{task}_{split}", "{split}", "{split}-*", "*/{split}-*", "{task}")


@dataclass(slots=True)
class Documents:
    """What a task asks and what it shows before, for one subject ("" where there are none)."""

    subject: str
    asked: list[Row]
    shown: list[Row]
    notes: list[str] = field(default_factory=list)


def documents(
    task: Task, data: str | None, *, subjects: list[str] | None = None, shots: bool = True
) -> list[Documents]:
    """Return the documents of each subject that is there. `data` is a folder or file; without, it is the hub.

    Raises KilterError where nothing is there, and for a subject that the task does not know.
    """
    known = list(task.subjects or _discovered(task, data))
    for name in subjects or []:
        if name not in known:
            raise KilterError(f"The task '{task.task}' has no subject '{name}'.{nearest(name, known)}")
    wanted = subjects or known or [""]
    found = [one for name in wanted if (one := _subject(task, name, data, shots)) is not None]
    if not found:
        lacks = f"the split '{task.asked}' of " + (f"'{wanted[0]}'" if wanted != [""] else f"'{task.task}'")
        places = list(dict.fromkeys(re.sub(r"\.[a-z.]+$", "", each) for each in _places(task, task.asked, wanted[0])))
        where = " or ".join(places[:5])
        raise KilterError(f"{data} holds nothing of the task '{task.task}': {lacks} is looked for as {where}.")
    if len(found) < len(wanted):
        lacking = [name for name in wanted if name not in {one.subject for one in found}]
        shown = ", ".join(lacking[:4]) + (" …" if len(lacking) > 4 else "")
        found[0].notes.append(f"{len(lacking)} of {len(wanted)} subjects are not in {data} ({shown}).")
    return found


def _subject(task: Task, subject: str, data: str | None, shots: bool) -> Documents | None:
    left_out = LeftOut()
    asked = _rows(task, subject, task.asked, data, left_out)
    if asked is None:
        return None
    shown: list[Row] = []
    given = task.fewshot_config.samples
    if shots and given is not None:
        own = given.get(subject, []) if isinstance(given, dict) else given
        shown = [_ready(task, row, subject) for row in own]
    elif shots and task.shown == task.asked:
        shown = asked
    elif shots:
        shown = _rows(task, subject, task.shown, data, left_out) or []
    notes = left_out.notes(f"lines{' of ' + subject if subject else ''}", len(asked) + len(shown) + left_out.total)
    return Documents(subject, asked, shown, notes)


def _rows(task: Task, subject: str, split: str, data: str | None, left_out: LeftOut) -> list[Row] | None:
    about: Row = _about(task, subject)
    rows: list[Row] = []
    source = _hub(task, subject, split) if data is None else _local(task, subject, split, Path(data), left_out)
    if source is None:
        return None
    for each in source:
        try:
            if split not in task.keep or evaluate(task.keep[split], {**each, **about}):
                rows.append(_ready(task, each, subject))
        except (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            left_out.add("it lacks what the task reads", first_line(error))
    return rows


def _ready(task: Task, row: Row, subject: str) -> Row:
    """Return a row with its subject and with the columns of the task under their names."""
    whole: Row = {**row, **_about(task, subject)}
    return whole | {name: evaluate(text, whole) for name, text in task.columns.items()}


def _discovered(task: Task, data: str | None) -> list[str]:
    """Return the subjects of which there are files, for a task that does not list its own."""
    folder = Path(data) if data is not None else None
    if folder is None or not folder.is_dir():
        return []
    found: dict[str, None] = {}
    for pattern in task.files.get(task.asked, []):
        known = re.compile(re.escape(pattern).replace(re.escape("{subject}"), "([^/]+)").replace(r"\*", "[^/]*"))
        for own in (folder, folder / task.task) if "{subject}" in pattern else ():
            for path in sorted(own.glob(pattern.format(subject="*"))):
                match = known.fullmatch(path.relative_to(own).as_posix())
                if match:
                    found[match.group(1)] = None
    return list(found)


def _about(task: Task, subject: str) -> Row:
    if not subject:
        return {}
    return {"subject": subject, "words": (task.subjects or {}).get(subject) or subject.replace("_", " ")}


def _local(task: Task, subject: str, split: str, data: Path, left_out: LeftOut) -> Iterator[Row] | None:
    if data.is_file():
        own = split == task.asked or split in task.keep
        return _read(task, data, left_out) if own and (not subject or data.stem.startswith(subject)) else None
    if not data.is_dir():
        raise KilterError(f"There is no folder or file {data}; name where the data of '{task.task}' is.")
    for folder in (data, *(data / name for name in (task.task, task.task.split("-")[0]))):
        for place in _places(task, split, subject):
            files = [path for path in sorted(folder.glob(place)) if path.name.endswith(ENDINGS)]
            if files:
                return chain.from_iterable(_read(task, path, left_out) for path in files)
    return None


def _places(task: Task, split: str, subject: str) -> list[str]:
    usual = USUAL if subject else USUAL_ALONE
    names = task.files.get(split) or [f"{place}{ending}" for place in usual for ending in ENDINGS]
    return [name.format(subject=subject, split=split, task=task.task) for name in names]


def _read(task: Task, path: Path, left_out: LeftOut) -> Iterator[Row]:
    """The rows of a file; a CSV whose first line is a row already has the task's columns."""
    if task.header and path.suffix in SEPARATORS:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=SEPARATORS[path.suffix])
            first = next(lines, [])
            if not set(task.header) <= set(first):
                for line in (first, *lines):
                    yield dict(zip(task.header, line, strict=False))
                return
    yield from stream(path, left_out)


def _hub(task: Task, subject: str, split: str) -> Iterator[Row] | None:
    name = task.dataset_name or subject or None
    told = f"'{task.dataset_path}'" + (f" ({name})" if name else "")
    if task.dataset_path is None:
        raise KilterError(f"The task '{task.task}' is on no hub; say where its data is with --data DIR.")
    if not hub.answers():
        raise KilterError(f"{told} is on the hub, which cannot be reached; give a local copy with --data DIR.")
    import datasets

    try:
        found: Any = datasets.load_dataset(task.dataset_path, name, split=split, **task.dataset_kwargs)
    except Exception as error:  # the hub's client lets through whatever the network does to it
        raise KilterError(
            f"{told} cannot be had from the hub ({first_line(error)}); give a local copy with --data DIR."
        ) from None
    return (dict(row) for row in found)
