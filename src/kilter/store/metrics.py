"""Numbers logged while a stage runs: one JSON object a line, appended whole, readable after a kill at any moment."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kilter.files import explaining, make_folder, write_text


class Metrics:
    """An append-only `metrics.jsonl`. A line torn by a kill is cut off when the file is opened again."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        make_folder(self.path.parent)
        _mend(self.path)

    def append(self, values: dict[str, Any]) -> None:
        """Write one line in one system call, so that it is there whole or, at the worst, torn at the file's end."""
        line = (json.dumps(values, ensure_ascii=False) + "\n").encode()
        with explaining(self.path, "write"):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                while line:
                    line = line[os.write(descriptor, line) :]
            finally:
                os.close(descriptor)

    def rewind(self, step: int) -> None:
        """Drop the lines whose `step` is greater than `step`: a resumed run logs those again."""
        kept = [values for values in read_metrics(self.path) if values.get("step", 0) <= step]
        write_text(self.path, "".join(json.dumps(values, ensure_ascii=False) + "\n" for values in kept))


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Return the lines of `path` in order, without a torn last one; an absent file gives an empty list."""
    path = Path(path)
    if not path.exists():
        return []
    with explaining(path, "read"):
        lines = path.read_bytes().split(b"\n")
    found = []
    for line in lines:
        try:
            values = json.loads(line)
        except ValueError:  # torn, or the empty rest after the last newline
            continue
        if isinstance(values, dict):
            found.append(values)
    return found


def _mend(path: Path) -> None:
    if not path.exists():
        return
    with explaining(path, "write"), path.open("rb+") as stream:
        content = stream.read()
        if content and not content.endswith(b"\n"):
            stream.truncate(content.rfind(b"\n") + 1)
