"""Files of JSON lines, as tests write and read them."""

import json
from pathlib import Path


def write(path: Path, rows: list) -> str:
    """Write one row a line, and return the file's name as a user would give it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(path: Path) -> list:
    """Return the rows of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def metrics(folder: Path) -> list:
    """Return the lines that a training run wrote as it went."""
    return read(folder / "metrics.jsonl")
