"""Files that are whole or not there: every write goes to a temporary file beside the target and is moved over it.

What the system refuses (a full disk, a read-only folder, a directory where a file is due) becomes one sentence.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from kilter.errors import KilterError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "your quota of disk space is used up; free some space and run the same command again",
    errno.EROFS: "that place is read-only; choose another",
    errno.EACCES: "you have no permission there; choose another place or change its permissions",
    errno.EPERM: "you have no permission there; choose another place or change its permissions",
    errno.EISDIR: "it is a directory and a file is due; name a file in it",
    errno.ENOTDIR: "a part of that path is a file, not a directory; choose another place",
    errno.ENOENT: "it does not exist; check the path",
    errno.EFBIG: "a file that large is not allowed there; choose another place",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EIO: "the disk reports an input/output error; check the disk",
}


def explain(error: OSError, path: str | Path, doing: str) -> NoReturn:
    """Raise KilterError saying that `doing` ("write", "read") `path` failed, why, and what to do."""
    reason = _REASONS.get(error.errno or 0, f"{error.strerror or error}; check the path and the disk")
    raise KilterError(f"Cannot {doing} {path}: {reason}.") from error


@contextlib.contextmanager
def explaining(path: str | Path, doing: str) -> Iterator[None]:
    """Turn an OSError of the block into the sentence of `explain`."""
    try:
        yield
    except OSError as error:
        explain(error, path, doing)


def make_folder(path: str | Path) -> Path:
    """Return `path` as an existing directory, made with its parents; raise KilterError where that is refused."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise KilterError(f"{path} is a file and a directory is due; choose another name.")
    with explaining(path, "make the directory"):
        path.mkdir(parents=True, exist_ok=True)
    return path


def due(path: str | Path) -> Path:
    """Return `path` if a file could be written there, as far as can be told before; called before work is put into it.

    Raises KilterError where it is a directory, below a file, or in a place without permission.
    """
    path = Path(path)
    if path.is_dir():
        raise KilterError(f"Cannot write {path}: it is a directory and a file is due; name a file in it.")
    with explaining(path, "write"):
        place = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(path if path.exists() else place, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it becomes `path`, otherwise it is removed.

    A reader sees the old file or the new one, never a part, also after kill -9 or a power cut. A link stays one, and
    what is no regular file (a pipe, a device) is written to as it is.
    """
    path = due(path)
    if path.is_symlink():
        path = path.resolve()
    if path.exists() and not path.is_file():
        with explaining(path, "write"):
            yield path
        return
    make_folder(path.parent)
    # The suffix stays, so that writers which choose a format by it see the real one.
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    with explaining(path, "write"):
        try:
            yield temporary
            _to_disk(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def sweep(path: str | Path) -> None:
    """Remove the temporary files beside `path` that killed processes have left of it; those of living ones stay."""
    path = Path(path)
    for left in path.parent.glob(f".tmp-*-{glob.escape(path.name)}"):
        pid = left.name.removeprefix(".tmp-").split("-", 1)[0]
        if left.name != f".tmp-{pid}-{path.name}" or not pid.isdigit():
            continue
        with contextlib.suppress(OSError):
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                left.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def one_line(value: Any) -> str:
    """Return `value` as JSON on one line, readable text where UTF-8 has it."""
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8; the escape has
        return json.dumps(value, ensure_ascii=True)
    return line


def need_space(folder: str | Path, size: int, purpose: str) -> None:
    """Raise KilterError unless the disk that holds `folder` has `size` bytes free for `purpose` ("a checkpoint")."""
    place = Path(folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    with explaining(place, "look at the disk of"):
        free = shutil.disk_usage(place).free
    if free < size:
        raise KilterError(
            f"{purpose} needs {_amount(size)} in {folder} but only {_amount(free)} are free; "
            "free some space or choose another disk."
        )


def _amount(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB" if size >= 2**20 else f"{size / 2**10:,.0f} KiB"


def _to_disk(path: Path) -> None:
    """Flush a closed file to the disk: only then may it take the place of the old one."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
