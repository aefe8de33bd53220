"""What a stage depends on as one short string: equal content, equal fingerprint, whatever its date or place."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from kilter.errors import KilterError
from kilter.files import explaining


def fingerprint(*parts: Any) -> str:
    """Return 16 hex digits that depend on the content of `parts` (JSON values) and on nothing else."""
    text = json.dumps(parts, ensure_ascii=True, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_path(path: str | Path) -> str:
    """Return 16 hex digits for the content of a file, or of a folder: the relative names and the content of its files.

    Hidden files (locks, temporary files) do not count. Raises KilterError where there is nothing to read.
    """
    path = Path(path)
    if not path.exists():
        raise KilterError(f"{path} does not exist; check the path.")
    if path.is_file():
        return _hash_file(path)
    with explaining(path, "read"):
        files = sorted(f for f in path.rglob("*") if f.is_file() and not _hidden(f.relative_to(path)))
    return fingerprint([[f.relative_to(path).as_posix(), _hash_file(f)] for f in files])


def _hash_file(path: Path) -> str:
    with explaining(path, "read"), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)
