"""LLaMA-Factory's `dataset_info.json`: which files a folder holds, and under which names their columns go.

Rows are brought to the names that the Alpaca and ShareGPT shapes use; from there they are read as those shapes.
https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kilter.errors import KilterError, nearest
from kilter.files import explaining
from kilter.formats.shape import Row

INDEX = "dataset_info.json"

# The names LLaMA-Factory gives to columns, ours, and what a column is called where the index does not say.
_ALPACA = {
    "prompt": ("instruction", "instruction"),
    "query": ("input", "input"),
    "response": ("output", "output"),
    "history": ("history", None),
    "system": ("system", None),
    "tools": ("tools", None),
    "chosen": ("chosen", "chosen"),
    "rejected": ("rejected", "rejected"),
    "kto_tag": ("kto_tag", None),
}
_SHAREGPT = {
    "messages": ("conversations", "conversations"),
    "system": ("system", None),
    "tools": ("tools", None),
    "chosen": ("chosen", "chosen"),
    "rejected": ("rejected", "rejected"),
    "kto_tag": ("kto_tag", None),
}
_OPTIONAL = ("query", "history", "system", "tools", "response", "chosen", "rejected", "kto_tag")
_TAGS = {"role_tag": "from", "content_tag": "value"}
_ROLES = {
    "user_tag": "human",
    "assistant_tag": "gpt",
    "system_tag": "system",
    "observation_tag": "observation",
    "function_tag": "function_call",
}


def entries(folder: Path, name: str = "") -> list[tuple[Path, Callable[[Row], Row]]]:
    """Return the files of the index that are there (or the one called `name`), each with its renaming of rows."""
    index = _load(folder / INDEX)
    if name and name not in index:
        raise KilterError(f"{folder / INDEX} has no data set '{name}'.{nearest(name, index) or _known(index)}")
    chosen = {name: index[name]} if name else index
    found: list[tuple[Path, Callable[[Row], Row]]] = []
    missing = []
    for key, info in chosen.items():
        path = folder / str(info.get("file_name", "")) if isinstance(info, dict) else folder
        if not isinstance(info, dict) or not info.get("file_name"):
            missing.append(key)
        elif path.is_dir():
            files = sorted(f for f in path.rglob("*.json*") if f.is_file()) + sorted(path.rglob("*.parquet"))
            found += [(file, partial(_renamed, info)) for file in files]
        elif path.exists():
            found.append((path, partial(_renamed, info)))
        else:
            missing.append(key)
    if not found:
        raise KilterError(
            f"{folder / INDEX} names no file that is there ({', '.join(missing[:5])}); put the files beside it."
        )
    return found


def _known(index: dict[str, Any]) -> str:
    return f" It has {', '.join(list(index)[:10])}."


def _load(path: Path) -> dict[str, Any]:
    with explaining(path, "read"):
        content = path.read_text(encoding="utf-8-sig")
    try:
        index = json.loads(content)
    except ValueError as error:
        raise KilterError(f"{path} is not valid JSON: {error}; mend it.") from error
    if not isinstance(index, dict):
        raise KilterError(f"{path} must be an object that names data sets; see LLaMA-Factory's data/README.md.")
    return index


def _renamed(info: dict[str, Any], row: Row) -> Row:
    """Return `row` under our names; raise KeyError with a column that the index names and the row lacks."""
    sharegpt = info.get("formatting", "alpaca") == "sharegpt"
    named = info.get("columns", {})
    renamed = {}
    for key, (ours, usual) in (_SHAREGPT if sharegpt else _ALPACA).items():
        theirs = named.get(key, usual)
        if theirs in row:
            renamed[theirs] = ours
        elif key in named and key not in _OPTIONAL:
            raise KeyError(theirs)
    result = {renamed.get(name, name): value for name, value in row.items() if name in renamed}
    result = {**{name: value for name, value in row.items() if name not in renamed}, **result}
    if not sharegpt:
        return result
    tags = info.get("tags", {})
    for column in ("conversations", "chosen", "rejected"):
        if column in result:
            result[column] = _retagged(result[column], tags)
    return result


def _retagged(value: Any, tags: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_retagged(turn, tags) for turn in value]
    if not isinstance(value, dict):
        return value
    columns = {tags.get(key, ours): ours for key, ours in _TAGS.items()}
    turn = {columns.get(key, key): said for key, said in value.items()}
    roles = {tags[key]: ours for key, ours in _ROLES.items() if key in tags}
    if turn.get("from") in roles:
        turn["from"] = roles[turn["from"]]
    return turn
